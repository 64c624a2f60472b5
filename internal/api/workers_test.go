package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// workers drives the operations of Workers versions to a success each.
func workers(t *testing.T, p *platform) {
	const script = "/workers/scripts/code"
	v := p.deployWorker(t, "code", `{"main_module": "index.js", "bindings": [{"name": "KEY", "type": "secret_text", "text": "x"}]}`)
	p.send(t, http.MethodPut, script+"/content", `{"main_module": "index.js"}`, index).ok(t)
	for _, path := range []string{"", "/content", "/content/v2?version=" + v.ID, "/settings", "/usage-model", "/secrets", "/secrets/KEY"} {
		p.call(t, http.MethodGet, script+path, "").ok(t)
	}
	p.call(t, http.MethodPatch, script+"/settings", `{"compatibility_date": "2026-02-02"}`).ok(t, `"compatibility_date":"2026-02-02"`, `"name":"KEY"`)
	p.call(t, http.MethodPut, script+"/usage-model", `{"usage_model": "standard"}`).ok(t)
	p.call(t, http.MethodPut, script+"/secrets", `{"name": "OTHER", "text": "y", "type": "secret_text"}`).ok(t, `"result":{"name":"OTHER","type":"secret_text"}`)
	p.call(t, http.MethodPatch, script+"/secrets-bulk", `{"secrets": {"KEY": {"name": "KEY", "text": "z", "type": "secret_text"}, "NONE": null}}`).ok(t)
	p.call(t, http.MethodDelete, script+"/secrets/OTHER?url_encoded=true", "").ok(t, `"result":null`)
	if _, err := p.Bundle(t.Context(), account, v.ID); err != nil {
		t.Error(err)
	}
	if _, err := p.Module(t.Context(), account, v.Worker.Modules[0].SHA256); err != nil {
		t.Error(err)
	}

	const workers = "/workers/workers"
	p.call(t, http.MethodPost, workers, `{"name": "beta", "tags": ["a"], "subdomain": {"enabled": true, "previews_enabled": false}, "observability": {"enabled": true}}`).
		ok(t, `"previews_enabled":false`, `"deployed_on":null`, `"observability":{"enabled":true}`)
	p.call(t, http.MethodGet, workers+"?order_by=name&order=asc&per_page=1", "").ok(t, `"name":"beta"`, `"total_count":`)
	p.call(t, http.MethodPatch, workers+"/beta", `{"subdomain": {"previews_enabled": true}}`).ok(t, `"previews_enabled":true`, `"tags":["a"]`)
	p.call(t, http.MethodPut, workers+"/beta", `{"name": "beta"}`).ok(t, `"tags":[]`)
	p.call(t, http.MethodPost, workers+"/beta/versions", `{"main_module": "a.js", "modules": [{"name": "a.js", "content_type": "application/javascript+module", "content_base64": "ZXhwb3J0IGRlZmF1bHQge30="}]}`).
		ok(t, `"main_module":"a.js"`, `"urls":["http://`)
	made := p.newest(t, "beta")
	p.call(t, http.MethodGet, workers+"/beta/versions", "").ok(t, made.ID)
	p.call(t, http.MethodGet, workers+"/beta/versions/"+made.ID+"?include=modules", "").ok(t, `"content_base64":"ZXhwb3J0IGRlZmF1bHQge30="`)
	p.call(t, http.MethodPatch, workers+"/beta/versions/latest", `{"env": {"K": {"type": "secret_text", "text": "x"}}}`).ok(t, `"workers/triggered_by":"secret"`)
	p.call(t, http.MethodDelete, workers+"/beta/versions/"+made.ID, "").ok(t)
	p.call(t, http.MethodGet, workers+"/beta", "").ok(t)
	p.call(t, http.MethodDelete, workers+"/beta", "").ok(t)
}

func TestSecretChangesAreVersions(t *testing.T) {
	p := newPlatform(t)
	const secrets = "/workers/scripts/shop/secrets"
	put := func(name, text string) answer {
		return p.call(t, http.MethodPut, secrets, fmt.Sprintf(`{"name": %q, "text": %q, "type": "secret_text"}`, name, text))
	}
	put("A", "1").want(t, http.StatusNotFound, 10007, "shop")
	first := p.deployWorker(t, "shop", `{"main_module": "index.js", "bindings": [{"name": "V", "type": "plain_text", "text": "v"}], "annotations": {"workers/tag": "v1"}}`)
	checks := p.runtime.checks
	put("A", "1").ok(t)
	p.call(t, http.MethodPatch, "/workers/scripts/shop/secrets-bulk", `{"secrets": {"B": {"type": "secret_text", "text": "2"}, "A": {"type": "secret_text", "text": "3"}}}`).
		ok(t, `"result":{"A":{"name":"A","type":"secret_text"},"B":{"name":"B","type":"secret_text"}}`)
	p.call(t, http.MethodDelete, secrets+"/B", "").ok(t)
	v := p.newest(t, "shop")
	if got := v.Worker.Secrets(); len(got) != 1 || got["A"] != "3" || v.Number != 4 || v.Annotations != (deploy.Annotations{TriggeredBy: "secret"}) || v.Worker.ETag != first.Worker.ETag {
		t.Errorf("version %+v with the secrets %v", v, got)
	}
	if p.runtime.checks != checks {
		t.Error("the same code was run again")
	}
	list, err := p.store.Deployments(t.Context(), account, "shop")
	if err != nil || len(list) != 4 || list[0].Versions[0].VersionID != v.ID || list[0].Annotations.TriggeredBy != "secret" {
		t.Fatalf("deployments %+v, error %v", list, err)
	}

	p.call(t, http.MethodGet, secrets+"/B", "").want(t, http.StatusNotFound, 10056, `"B"`)
	p.call(t, http.MethodDelete, secrets+"/B", "").want(t, http.StatusNotFound, 10056, `"B"`)
	p.call(t, http.MethodDelete, secrets+"/V", "").want(t, http.StatusNotFound, 10056, `"V"`)
	put("V", "1").want(t, http.StatusBadRequest, 10053, "V", "plain_text")
	p.call(t, http.MethodPut, secrets, `{"name": "V", "text": "x", "type": "plain_text"}`).want(t, http.StatusBadRequest, 10001, "plain_text")
	p.call(t, http.MethodPut, secrets, `{"name": "K", "type": "secret_key"}`).want(t, http.StatusBadRequest, 10001, "binding K: type secret_key is not supported yet")
	p.call(t, http.MethodPut, secrets, `{"name": "K", "type": "secret_text"}`).want(t, http.StatusBadRequest, 10001, "text")
	// The name in the body was ignored: one of two names was not what the sender meant.
	p.call(t, http.MethodPatch, "/workers/scripts/shop/secrets-bulk", `{"secrets": {"A": {"name": "B", "text": "x", "type": "secret_text"}}}`).
		want(t, http.StatusBadRequest, 10001, `secrets.A.name is "B"`)

	// A newer version that is not deployed, or only in part, must not be released by a secret.
	p.send(t, http.MethodPost, "/workers/scripts/shop/versions", `{"main_module": "index.js"}`, index).ok(t)
	next := p.newest(t, "shop")
	refused := func() {
		t.Helper()
		for _, a := range []answer{put("A", "4"), p.call(t, http.MethodDelete, secrets+"/A", "")} {
			a.want(t, http.StatusConflict, 10215, next.ID)
			if a.header.Get("x-should-retry") != "false" {
				t.Errorf("headers %v", a.header)
			}
		}
		p.call(t, http.MethodPatch, "/workers/scripts/shop/settings", `{"compatibility_date": "2026-01-01"}`).want(t, http.StatusConflict, 10214, next.ID)
	}
	refused()
	if _, err := p.Deploy(t.Context(), account, "shop", []deploy.Split{split(next, 10), split(v, 90)}, ""); err != nil {
		t.Fatal(err)
	}
	refused()
	if got := p.newest(t, "shop"); got.ID != next.ID {
		t.Errorf("a refused change made version %d", got.Number)
	}
	if _, err := p.Deploy(t.Context(), account, "shop", []deploy.Split{split(next, 100)}, ""); err != nil {
		t.Fatal(err)
	}
	put("A", "4").ok(t)
	p.upload(t, "origin", "v1")
	p.call(t, http.MethodPut, "/workers/scripts/origin/secrets", `{"name": "A", "text": "x", "type": "secret_text"}`).want(t, http.StatusBadRequest, 10001, "origin")
}

// Each new version had all bindings of the one before and one megabyte more, so a
// few hundred small requests made versions that nobody could read any more.
func TestVersionsDoNotGrowWithoutEnd(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "shop", `{"main_module": "index.js"}`)
	half := strings.Repeat("x", 600<<10)
	secret := func(name string) answer {
		return p.call(t, http.MethodPut, "/workers/scripts/shop/secrets", `{"name": "`+name+`", "type": "secret_text", "text": "`+half+`"}`)
	}
	secret("A").ok(t)
	before := p.newest(t, "shop")
	secret("B").want(t, http.StatusRequestEntityTooLarge, 10027, "the configuration of this version", "1048576")
	p.call(t, http.MethodPatch, "/workers/workers/shop/versions/latest", `{"env": {"B": {"type": "secret_text", "text": "`+half+`"}}}`).
		want(t, http.StatusRequestEntityTooLarge, 10027)
	p.call(t, http.MethodPatch, "/workers/scripts/shop/settings", `{"invented": "`+half+`"}`).want(t, http.StatusRequestEntityTooLarge, 10027)
	p.send(t, http.MethodPut, "/workers/scripts/shop", `{"main_module": "index.js", "invented": "`+half+`"}`, index).want(t, http.StatusRequestEntityTooLarge, 10027)
	if after := p.newest(t, "shop"); after.ID != before.ID {
		t.Errorf("a refused change made version %d", after.Number)
	}
	secret("A").ok(t) // in place of the one there
}

func TestRollbackToOtherSecrets(t *testing.T) {
	p := newPlatform(t)
	old := p.deployWorker(t, "shop", `{"main_module": "index.js", "bindings": [{"name": "A", "type": "secret_text", "text": "1"}, {"name": "C", "type": "secret_text", "text": "1"}]}`)
	p.call(t, http.MethodPatch, "/workers/scripts/shop/secrets-bulk", `{"secrets": {"B": {"type": "secret_text", "text": "2"}, "A": {"type": "secret_text", "text": "3"}}}`).ok(t)
	current := p.newest(t, "shop")
	body := func(id string) string {
		return `{"strategy": "percentage", "versions": [{"version_id": "` + id + `", "percentage": 100}], "annotations": {"workers/message": "Rollback"}}`
	}
	const deployments = "/workers/scripts/shop/deployments"
	a := p.call(t, http.MethodPost, deployments, body(old.ID))
	a.want(t, http.StatusBadRequest, 10220)
	if !strings.HasSuffix(a.Errors[0].Message, "The following secrets have changed: A, B") {
		t.Errorf("the sentence is %q", a.Errors[0].Message)
	}
	p.call(t, http.MethodPost, deployments+"?force=true", body(old.ID)).ok(t, `"workers/message":"Rollback"`)
	p.call(t, http.MethodPost, deployments, body(current.ID)).ok(t) // forward again
}

func TestSettingsMakeAVersion(t *testing.T) {
	p := newPlatform(t)
	const settings = "/workers/scripts/shop/settings"
	p.call(t, http.MethodGet, settings, "").want(t, http.StatusNotFound, 10007)
	p.deployWorker(t, "shop", `{"main_module": "index.js", "compatibility_date": "2026-01-01", "limits": {"cpu_ms": 10}, "placement": {"mode": "smart"},
		"bindings": [{"name": "A", "type": "secret_text", "text": "1"}, {"name": "V", "type": "plain_text", "text": "v"}]}`)
	contentType, text := formBody(t, "settings", `{"bindings": [{"name": "A", "type": "inherit"}, {"name": "W", "type": "plain_text", "text": "w"}], "tags": ["team-a"], "annotations": {"workers/message": "m"}}`)
	header := bearer(p.token)
	header.Set("Content-Type", contentType)
	p.do(t, http.MethodPatch, "/client/v4/accounts/"+account+settings, header, text).
		ok(t, `"bindings":[{"name":"A","type":"secret_text"},{"name":"W","type":"plain_text","text":"w"}]`, `"tags":["team-a"]`, `"limits":{"cpu_ms":10}`, `"placement":{"mode":"smart"}`)
	v := p.newest(t, "shop")
	if v.Number != 2 || v.Annotations.Message != "m" || v.Worker.Secrets()["A"] != "1" {
		t.Errorf("version %+v", v)
	}
	// So does wrangler 4.86 set secrets in bulk.
	p.call(t, http.MethodPatch, settings, `{"bindings": [{"name": "W", "type": "plain_text"}, {"name": "A", "type": "secret_text"}, {"name": "B", "type": "secret_text", "text": "2"}]}`).
		ok(t, `"bindings":[{"name":"A","type":"secret_text"},{"name":"B","type":"secret_text"},{"name":"W","type":"plain_text","text":"w"}]`)
	if got := p.newest(t, "shop").Worker.Secrets(); got["A"] != "1" || got["B"] != "2" {
		t.Errorf("secrets %v", got)
	}
	p.call(t, http.MethodPatch, settings, `{"bindings": [1]}`).want(t, http.StatusBadRequest, 10001, "bindings[0]")
	p.call(t, http.MethodPatch, settings, `{"main_module": "index.js"}`).want(t, http.StatusBadRequest, 10001, "main_module")
	p.runtime.check = func(w *deploy.Worker, _ map[string][]byte) (deploy.Exports, int64, error) {
		return deploy.Exports{}, 0, errs.New(errs.Invalid, 10021, "Uncaught Error: %s", w.CompatibilityDate)
	}
	p.call(t, http.MethodPatch, settings, `{"compatibility_date": "2020-01-01"}`).want(t, http.StatusBadRequest, 10021, "Uncaught Error: 2020-01-01")
}

func TestScriptSettingsAreNotVersioned(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "shop", `{"main_module": "index.js"}`)
	const settings = "/workers/scripts/shop/script-settings"
	p.call(t, http.MethodPatch, settings, `{"observability": {"enabled": false}, "tags": ["a"], "logpush": true, "tail_consumers": null}`).
		ok(t, `"observability":{"enabled":false}`, `"tags":["a"]`)
	p.call(t, http.MethodPatch, settings, `{"tail_consumers": []}`).ok(t, `"observability":{"enabled":false}`, `"tags":["a"]`)
	p.call(t, http.MethodPatch, settings, `{"tail_consumers": [{"service": "t"}]}`).want(t, http.StatusBadRequest, 10001, "tail_consumers", "not supported yet")
	p.call(t, http.MethodPatch, settings, `{"streaming_tail_consumers": [{"service": "t"}]}`).want(t, http.StatusBadRequest, 10001, "streaming_tail_consumers")
	p.call(t, http.MethodPatch, settings, `{"observability": 1}`).want(t, http.StatusBadRequest, 10001, "observability is 1")
	if v := p.newest(t, "shop"); v.Number != 1 {
		t.Errorf("there is version %d", v.Number)
	}
}

func TestPatchOfTheLatestVersion(t *testing.T) {
	p := newPlatform(t)
	const latest = "/workers/workers/shop/versions/latest"
	patch := func(body string) answer { return p.call(t, http.MethodPatch, latest, body) }
	patch(`{"env": {}}`).want(t, http.StatusNotFound, 10007, "shop")
	p.call(t, http.MethodPost, "/workers/workers", `{"name": "shop"}`).ok(t)
	patch(`{"env": {}}`).want(t, http.StatusNotFound, 10222, "shop")
	deployed := p.deployWorker(t, "shop", `{"main_module": "index.js", "bindings": [{"name": "A", "type": "secret_text", "text": "1"}, {"name": "V", "type": "plain_text", "text": "v"}]}`)
	patch(`{"env": {"A": {"type": "secret_text", "text": "2"}, "B": {"type": "secret_text", "text": "3"}}, "annotations": {"workers/message": "Updated secret \"A\"", "workers/tag": "t"}}`).
		ok(t, `"workers/tag":"t"`, `"workers/triggered_by":"secret"`)
	patch(`{"env": {"A": null, "V": null}}`).ok(t, `"workers/triggered_by":"version_upload"`, `"bindings":[{"name":"B","type":"secret_text"}]`)
	if list, err := p.store.Deployments(t.Context(), account, "shop"); err != nil || list[0].Versions[0].VersionID != deployed.ID {
		t.Errorf("deployments %+v, error %v", list, err)
	}
	patch(`{"env": {"A": {"type": "inherit"}}}`).want(t, http.StatusBadRequest, 10057, "'A'")
	patch(`{"env": {"A": {"type": "d1", "id": "x"}}}`).want(t, http.StatusBadRequest, 10001, "binding A: type d1 is not supported yet")
	patch(`{"env": {"A": {"type": "wasm_module", "part": "x"}}}`).want(t, http.StatusBadRequest, 10021, "A", "x")
	patch(`{"main_module": "x"}`).want(t, http.StatusBadRequest, 10001, "main_module is unknown")

	// Bindings that the runtime refuses were found out when the version was deployed.
	newest := p.newest(t, "shop")
	p.runtime.check = func(*deploy.Worker, map[string][]byte) (deploy.Exports, int64, error) {
		return deploy.Exports{}, 0, errs.New(errs.Invalid, 10021, "Wasm bindings are not allowed")
	}
	patch(`{"env": {"W": {"type": "wasm_module", "part": "index.js"}}}`).want(t, http.StatusBadRequest, 10021, "Wasm bindings are not allowed")
	if after := p.newest(t, "shop"); after.ID != newest.ID {
		t.Errorf("a refused patch made version %d", after.Number)
	}
	patch(`{"env": {"A": {"type": "secret_text", "text": "4"}}}`).ok(t)
}

func TestWorkersByIdAndName(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "shop", `{"main_module": "index.js", "annotations": {"workers/alias": "next"}}`)
	script, err := p.store.Script(t.Context(), account, "shop")
	if err != nil {
		t.Fatal(err)
	}
	byName, byID := p.call(t, http.MethodGet, "/workers/workers/shop", ""), p.call(t, http.MethodGet, "/workers/workers/"+script.Tag, "")
	byName.ok(t, `"id":"`+script.Tag+`"`, `"deployed_on":"20`)
	if byName.text != byID.text {
		t.Errorf("by name %s, by id %s", byName.text, byID.text)
	}
	v := p.newest(t, "shop")
	version := p.call(t, http.MethodGet, "/workers/workers/"+script.Tag+"/versions/"+v.ID, "")
	version.ok(t, `"urls":["http://`+v.ID[:8]+`-shop.dev.localhost:8080","http://next-shop.dev.localhost:8080"]`)
	version.lacks(t, "content_base64")
	p.call(t, http.MethodPatch, "/workers/workers/shop", `{"subdomain": {"previews_enabled": false}}`).ok(t)
	p.call(t, http.MethodGet, "/workers/workers/shop/versions/"+v.ID, "").ok(t, `"urls":[]`)

	p.call(t, http.MethodPost, "/workers/workers/shop/versions?deploy=true", `{"main_module": "a.js", "bindings": [{"name": "Z", "type": "plain_text", "text": "z"}, {"name": "A", "type": "plain_text", "text": "a"}],
		"modules": [{"name": "a.js", "content_type": "application/javascript+module", "content_base64": ""}]}`).ok(t, `"bindings":[{"name":"A"`)
	list, err := p.store.Deployments(t.Context(), account, "shop")
	if err != nil || len(list) != 2 || list[0].Versions[0].VersionID != p.newest(t, "shop").ID || list[0].Annotations.TriggeredBy != "upload" {
		t.Fatalf("deployments %+v, error %v", list, err)
	}
	p.call(t, http.MethodDelete, "/workers/workers/shop/versions/"+v.ID, "").want(t, http.StatusBadRequest, 10001, v.ID, list[1].ID)
	p.call(t, http.MethodPatch, "/workers/workers/shop", `{"name": "other"}`).want(t, http.StatusBadRequest, 10001, "other", "renamed")
	p.call(t, http.MethodPost, "/workers/workers", `{"name": "shop"}`).want(t, http.StatusConflict, 10001, "shop")
	p.call(t, http.MethodPost, "/workers/workers", `{"name": "Shop"}`).want(t, http.StatusBadRequest, 10001, "Shop")
	p.call(t, http.MethodGet, "/workers/workers?order_by=size", "").want(t, http.StatusBadRequest, 10001, "size")
	p.call(t, http.MethodPost, "/workers/workers/shop/versions", `{"main_module": "a.js", "modules": [{"name": "a.js", "content_type": "text/plain", "content_base64": "%"}]}`).
		want(t, http.StatusBadRequest, 10001, "modules[0].content_base64", "base64")
}

func TestBadUploadsAreRefusedByName(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "shop", `{"main_module": "index.js"}`)
	before := p.picture(t)
	const put, post = http.MethodPut, http.MethodPost
	binding := func(members string) string { return `{"main_module": "index.js", "bindings": [` + members + `]}` }
	named := func(name string) []file { return []file{index, {name, "text/plain", ""}} }
	files := []file{index}
	for name, c := range map[string]struct {
		method, metadata string
		files            []file
		status, code     int
		parts            []string
	}{
		"no JSON":         {put, `{`, files, 400, 10001, []string{"not valid JSON"}},
		"repeated member": {put, `{"main_module": "index.js", "main_module": "b"}`, files, 400, 10001, []string{"main_module appears twice"}},
		"deep repetition": {put, `{"main_module": "index.js", "placement": {"a": 1, "a": 2}}`, files, 400, 10001, []string{"placement.a appears twice"}},
		"deep NUL":        {put, `{"main_module": "index.js", "placement": ["a\u0000"]}`, files, 400, 10001, []string{"placement[0]", "NUL"}},
		"wrong type":      {put, `{"main_module": 1}`, files, 400, 10001, []string{"main_module is 1"}},
		"no entry":        {put, `{}`, files, 400, 10021, []string{"main_module", "body_part"}},
		"two entries":     {put, `{"main_module": "index.js", "body_part": "index.js"}`, files, 400, 10021, []string{"exactly one"}},
		"missing entry":   {put, `{"main_module": "b.js"}`, files, 400, 10021, []string{`"b.js"`, "not among the modules"}},
		"entry of a type": {put, `{"main_module": "index.js"}`, []file{{"index.js", "application/javascript", ""}}, 400, 10021, []string{"index.js", esm}},
		"entry as script": {put, `{"body_part": "index.js"}`, files, 400, 10021, []string{"index.js", "application/javascript"}},
		"no modules":      {put, `{"main_module": "index.js"}`, nil, 400, 10021, []string{"index.js"}},
		"date":            {put, `{"main_module": "index.js", "compatibility_date": "soon"}`, files, 400, 10021, []string{"soon"}},
		"limit":           {put, `{"main_module": "index.js", "limits": {"cpu_ms": -1}}`, files, 400, 10001, []string{"limits.cpu_ms is -1"}},
		"trigger":         {put, `{"main_module": "index.js", "annotations": {"workers/triggered_by": "me"}}`, files, 400, 10001, []string{"workers/triggered_by"}},
		"tag":             {put, `{"main_module": "index.js", "annotations": {"workers/tag": "` + strings.Repeat("t", 101) + `"}}`, files, 400, 10001, []string{"101 bytes"}},
		"script tags":     {put, `{"main_module": "index.js", "tags": [""]}`, files, 400, 10001, []string{"tags[0]"}},
		"update delay":    {put, `{"main_module": "index.js", "code_update_strategy": {"max_delay": -1}}`, files, 400, 10001, []string{"max_delay"}},
		"migrations":      {put, `{"main_module": "index.js", "migrations": {"new_tag": "v1", "colour": 1}}`, files, 400, 10001, []string{"migrations.colour"}},
		"transfer":        {put, `{"main_module": "index.js", "migrations": {"new_tag": "v1", "steps": [{"transferred_classes": [{"from": "A", "from_script": "b", "to": "C"}]}]}}`, files, 400, 10074, []string{"transfer-class", "'A'", "'b'", "does not exist"}},
		"two forms":       {put, `{"main_module": "index.js", "migrations": {"new_tag": "v1", "new_classes": ["A"], "steps": [{"new_classes": ["A"]}]}}`, files, 400, 10001, []string{"migrations.steps"}},
		"late migrations": {post, `{"main_module": "index.js", "migrations": {"new_tag": "v1"}}`, files, 400, 10211, []string{"migrations"}},
		"assets":          {put, `{"main_module": "index.js", "assets": {"jwt": "x"}}`, files, 400, 10001, []string{"assets is not supported yet"}},
		"exports":         {put, `{"main_module": "index.js", "exports": {"A": {"type": "worker"}, "B": {"type": "durable-object"}}}`, files, 400, 10001, []string{"export B: type durable-object is not supported yet"}},
		"exports' case":   {put, `{"main_module": "index.js", "exports": {"A": {"type": "durable-object", "TYPE": "worker"}}}`, files, 400, 10001, []string{"export A: type durable-object is not supported yet"}},
		"exports' shape":  {put, `{"main_module": "index.js", "exports": {"A": 1}}`, files, 400, 10001, []string{"exports.A"}},
		"containers":      {put, `{"main_module": "index.js", "containers": [{"class_name": "C"}]}`, files, 400, 10001, []string{"containers is not supported yet"}},
		"tail consumers":  {put, `{"main_module": "index.js", "tail_consumers": [{"service": "t"}]}`, files, 400, 10001, []string{"tail_consumers is not supported yet"}},
		// wrangler says of a deployment that failed at them no more than that tags could not be applied.
		"late consumers":    {post, `{"main_module": "index.js", "tail_consumers": [{"service": "t"}]}`, files, 400, 10001, []string{"tail_consumers is not supported yet"}},
		"late streams":      {post, `{"main_module": "index.js", "streaming_tail_consumers": [{"service": "t"}]}`, files, 400, 10001, []string{"streaming_tail_consumers is not supported yet"}},
		"late observations": {post, `{"main_module": "index.js", "observability": {"enabled": "yes"}}`, files, 400, 10001, []string{"observability.enabled", "true or false"}},
		"late tags":         {post, `{"main_module": "index.js", "tags": [""]}`, files, 400, 10001, []string{"tags[0]"}},
		"schema":            {put, `{"main_module": "index.js", "capnp_schema": "a.compiled"}`, files, 400, 10001, []string{"capnp_schema is not supported yet"}},
		"logpush":           {put, `{"main_module": "index.js", "logpush": "no"}`, files, 400, 10001, []string{"logpush", "true or false"}},
		"no class":          {put, binding(`{"name": "COUNTER", "type": "durable_object_namespace"}`), files, 400, 10001, []string{"bindings[0].class_name is missing", "COUNTER"}},
		"no namespace":      {put, binding(`{"name": "COUNTER", "type": "durable_object_namespace", "class_name": "C"}`), files, 400, 10061, []string{"COUNTER", "'C'", "new_sqlite_classes"}},
		"other script":      {put, binding(`{"name": "COUNTER", "type": "durable_object_namespace", "class_name": "C", "script_name": "other"}`), files, 400, 10061, []string{"binding COUNTER", "'C'", "'other'", "does not exist"}},
		"its environment":   {put, binding(`{"name": "COUNTER", "type": "durable_object_namespace", "class_name": "C", "script_name": "other", "environment": "staging"}`), files, 400, 10001, []string{"binding COUNTER", `environment "staging"`, "production"}},
		"KV":                {post, binding(`{"name": "KV", "type": "kv_namespace", "namespace_id": "x"}`), files, 400, 10001, []string{"binding KV: type kv_namespace is not supported yet"}},
		"no binding type":   {put, binding(`{"name": "A"}`), files, 400, 10001, []string{"binding A has no type"}},
		"no binding name":   {put, binding(`{"type": "plain_text", "text": ""}`), files, 400, 10001, []string{"bindings[0].name"}},
		"no object":         {put, binding(`1`), files, 400, 10001, []string{"bindings[0] must be an object"}},
		"binding member":    {put, binding(`{"name": "A", "type": "plain_text", "text": "a", "colour": 1}`), files, 400, 10001, []string{"bindings[0].colour"}},
		"no text":           {put, binding(`{"name": "A", "type": "plain_text"}`), files, 400, 10001, []string{"bindings[0].text is missing", "A", "plain_text"}},
		"binding twice":     {put, binding(`{"name": "A", "type": "version_metadata"}, {"name": "A", "type": "version_metadata"}`), files, 400, 10001, []string{"A appears twice"}},
		"environment":       {put, binding(`{"name": "A", "type": "service", "service": "b", "environment": "staging"}`), files, 400, 10001, []string{"binding A: environment", "staging"}},
		"grant":             {put, binding(`{"name": "A", "type": "service", "service": "b", "cross_account_grant": "x"}`), files, 400, 10001, []string{"cross_account_grant"}},
		"service":           {put, binding(`{"name": "A", "type": "service", "service": "../b"}`), files, 400, 10001, []string{"../b"}},
		"props":             {put, binding(`{"name": "A", "type": "service", "service": "b", "props": 1}`), files, 400, 10001, []string{"props"}},
		"parent folder":     {put, `{"main_module": "index.js"}`, named("a/../../b"), 400, 10001, []string{"a/../../b", ".."}},
		"root folder":       {put, `{"main_module": "index.js"}`, named("/etc/passwd"), 400, 10001, []string{"/etc/passwd", "slash"}},
		"backslash":         {put, `{"main_module": "index.js"}`, named(`a\\b`), 400, 10001, []string{"backslash"}},
		"control":           {put, `{"main_module": "index.js"}`, named("a\u0085b"), 400, 10001, []string{"control"}},
		"long name":         {put, `{"main_module": "index.js"}`, named(strings.Repeat("a", 1025)), 400, 10001, []string{"1025 bytes"}},
		"no UTF-8":          {put, `{"main_module": "index.js"}`, named("a\xff"), 400, 10001, []string{"UTF-8"}},
		"module twice":      {put, `{"main_module": "index.js"}`, named("index.js"), 400, 10001, []string{"index.js", "twice"}},
		"module type":       {put, `{"main_module": "index.js"}`, []file{index, {"a", "image/png", ""}}, 400, 10001, []string{`"a"`, "image/png"}},
		"Python":            {put, `{"main_module": "index.js"}`, []file{index, {"a.py", "text/x-python", ""}}, 400, 10001, []string{"a.py", "Python"}},
		"Python flag":       {put, `{"main_module": "index.js", "compatibility_flags": ["nodejs_compat", "python_workers"]}`, files, 400, 10001, []string{"compatibility_flags[1]", "Python"}},
		"too many modules":  {put, `{"main_module": "index.js"}`, many(400), 400, 10027, []string{"401 modules"}},
		"far too many":      {put, `{"main_module": "index.js"}`, many(900), 400, 10027, []string{"more than 400"}},
		"too large":         {put, `{"main_module": "index.js"}`, []file{index, {"a.txt", "text/plain", strings.Repeat("x", 64<<20)}}, 413, 10027, []string{"67108864"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := "/workers/scripts/shop"
			if c.method == post {
				path += "/versions"
			}
			p.send(t, c.method, path, c.metadata, c.files...).want(t, c.status, c.code, c.parts...)
		})
	}
	contentType, body := formBody(t, "metadata", `{"main_module": "index.js"}`, index)
	header := bearer(p.token)
	header.Set("Content-Type", contentType)
	p.do(t, put, "/client/v4/accounts/"+account+"/workers/scripts/shop", header, body[:len(body)-10]).want(t, 400, 10001, "ends too early")
	p.send(t, put, "/workers/scripts/Shop", `{"main_module": "index.js"}`, index).want(t, 400, 10001, "Shop")
	p.runtime.check = func(*deploy.Worker, map[string][]byte) (deploy.Exports, int64, error) {
		return deploy.Exports{}, 0, errs.New(errs.Invalid, 10021, "Uncaught SyntaxError: Unexpected token '}'")
	}
	p.send(t, put, "/workers/scripts/shop", `{"main_module": "index.js"}`, index).want(t, 400, 10021, "Uncaught SyntaxError: Unexpected token '}'")
	p.send(t, post, "/workers/scripts/shop/versions", `{"main_module": "index.js"}`, index).want(t, 400, 10021, "Uncaught SyntaxError")
	// Every gateway is told what versions export: some hundred megabytes of names would
	// have kept all of them from the next snapshot.
	p.runtime.check = func(*deploy.Worker, map[string][]byte) (deploy.Exports, int64, error) {
		return deploy.Exports{Handlers: []string{"fetch"}, Named: []deploy.NamedExport{{Name: "A", Handlers: []string{strings.Repeat("x", 32<<10)}}}}, 0, nil
	}
	p.send(t, put, "/workers/scripts/shop", `{"main_module": "index.js"}`, index).want(t, 400, 10021, "what the script exports", "32768")
	if after := p.picture(t); after != before {
		t.Errorf("refused uploads left something:\n%s\nbefore:\n%s", after, before)
	}
}

// many returns n modules beside the main one.
func many(n int) []file {
	files := []file{index}
	for i := range n {
		files = append(files, file{fmt.Sprintf("m%d.txt", i), "text/plain", ""})
	}
	return slices.Clip(files)
}
