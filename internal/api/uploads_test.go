package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

func TestDeployOfANewWorker(t *testing.T) {
	p := newPlatform(t)
	a := p.send(t, http.MethodPut, "/workers/scripts/shop?excludeScript=true&bindings_inherit=strict", `{
		"main_module": "src/index.js", "compatibility_date": "2026-01-01", "compatibility_flags": ["nodejs_compat"],
		"bindings": [
			{"name": "TEXT", "type": "plain_text", "text": ""}, {"name": "CONF", "type": "json", "json": {"a": [1, null]}},
			{"name": "KEY", "type": "secret_text", "text": "hunter2"}, {"name": "META", "type": "version_metadata"},
			{"name": "API", "type": "service", "service": "api", "entrypoint": "Admin", "props": {"a": 1}}
		],
		"annotations": {"workers/message": "first", "workers/tag": "v1"}, "limits": {"cpu_ms": 50}, "tags": ["team-a"],
		"observability": {"enabled": false}, "tail_consumers": [], "placement": {"mode": "smart"}, "invented": 1,
		"code_update_strategy": {"mode": "deferred", "max_delay": 60}, "keep_assets": true, "migrations": null, "assets": null, "usage_model": "bundled"
	}`, file{"src/index.js", esm, "export default {}"}, file{"index.js.map", "application/source-map", "{}"}, file{"data/a.bin", "application/octet-stream", "\x00\x01"},
		file{"empty.txt", "text/plain; charset=utf-8", ""})
	a.ok(t, `"id":"shop"`, `"startup_time_ms":7`, `"has_modules":true`, `"tags":["team-a"]`, `"usage_model":"bundled"`)
	a.lacks(t, "hunter2")

	v := p.newest(t, "shop")
	a.ok(t, `"deployment_id":"`+strings.ReplaceAll(v.ID, "-", "")+`"`, `"etag":"`+v.Worker.ETag+`"`)
	if v.Annotations != (deploy.Annotations{Message: "first", Tag: "v1", TriggeredBy: "upload"}) {
		t.Errorf("annotations %+v", v.Annotations)
	}
	w := v.Worker
	if len(w.Modules) != 4 || w.Modules[3].ContentType != "text/plain" || w.Limits.CPUMs != 50 || string(w.Kept["invented"]) != "1" || len(w.Kept) != 2 ||
		w.CompatibilityFlags[0] != "nodejs_compat" || w.Exports.Handlers[0] != "fetch" {
		t.Errorf("worker %+v", w)
	}
	list, err := p.store.Deployments(t.Context(), account, "shop")
	if err != nil || len(list) != 1 || list[0].Versions[0] != (deploy.Split{VersionID: v.ID, Percentage: deploy.Full}) ||
		list[0].Annotations != (deploy.Annotations{Message: "Automatic deployment on upload.", TriggeredBy: "upload"}) || *list[0].CodeUpdate.MaxDelaySeconds != 60 {
		t.Fatalf("deployments %+v, error %v", list, err)
	}

	// What the clients read back.
	got := p.call(t, http.MethodGet, "/workers/scripts/shop/versions/"+v.ID, "")
	got.ok(t, `"handlers":["fetch"]`, `"named_handlers":[{"name":"Admin","handlers":["reset"]}]`, `"startup_time_ms":7`, `"compatibility_date":"2026-01-01"`,
		`"limits":{"cpu_ms":50}`, `"placement_mode":"smart"`, `"has_preview":true`, `"bindings":[{"name":"API","type":"service","service":"api","entrypoint":"Admin","props":{"a":1}},{"name":"CONF","type":"json","json":{"a":[1,null]}},`+
			`{"name":"KEY","type":"secret_text"},{"name":"META","type":"version_metadata"},{"name":"TEXT","type":"plain_text","text":""}]`)
	got.lacks(t, "hunter2")
	p.call(t, http.MethodGet, "/workers/scripts/shop/settings", "").ok(t, `"observability":{"enabled":false}`, `"placement":{"mode":"smart"}`, `"name":"KEY"`)
	p.call(t, http.MethodGet, "/workers/scripts/shop/script-settings", "").ok(t, `"observability":{"enabled":false}`, `"tail_consumers":[]`)
	p.call(t, http.MethodGet, "/workers/scripts/shop/secrets", "").ok(t, `"result":[{"name":"KEY","type":"secret_text"}]`)
	p.call(t, http.MethodGet, "/workers/scripts/shop/versions?deployable=true", "").ok(t, `"workers/tag":"v1"`)
	p.call(t, http.MethodGet, "/workers/workers/shop", "").ok(t, `"url":"http://shop.dev.localhost:8080"`, `"preview_url_suffix":"-shop.dev.localhost:8080"`, `"enabled":true`)
	everything := p.picture(t)
	if strings.Contains(everything, "hunter2") {
		t.Error("an answer has the text of a secret")
	}
}

func TestContentComesBackAsItWasSent(t *testing.T) {
	p := newPlatform(t)
	files := []file{{"src/index.js", esm, "export default {}"}, {`a"b ü.txt`, "text/plain", ""}, {"data.bin", "application/octet-stream", "\x00\xff"}}
	sent := slices.Clone(files)
	sent[1].name = `a\"b ü.txt`
	p.send(t, http.MethodPut, "/workers/scripts/shop", `{"main_module": "src/index.js"}`, sent...).ok(t)
	v := p.newest(t, "shop")
	for _, path := range []string{"", "/content", "/content/v2", "/content/v2?version=" + v.ID} {
		a := p.call(t, http.MethodGet, "/workers/scripts/shop"+path, "")
		kind, parameters, err := mime.ParseMediaType(a.header.Get("Content-Type"))
		if err != nil || kind != "multipart/form-data" || a.header.Get("cf-entrypoint") != "src/index.js" {
			t.Fatalf("%s answered %d with %v", path, a.status, a.header)
		}
		reader := multipart.NewReader(strings.NewReader(a.text), parameters["boundary"])
		var got []file
		for {
			part, err := reader.NextRawPart()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(part)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, file{strings.ReplaceAll(part.FormName(), "%22", `"`), part.Header.Get("Content-Type"), string(content)})
		}
		if !slices.Equal(got, files) {
			t.Errorf("%s answered %q", path, got)
		}
	}
	p.call(t, http.MethodGet, "/workers/scripts/shop/content/v2?version=%ff", "").want(t, http.StatusBadRequest, 10001, "version")
	p.call(t, http.MethodGet, "/workers/scripts/shop/content/v2?version=11111111-1111-4111-8111-111111111111", "").want(t, http.StatusNotFound, 10007, "11111111")
	p.upload(t, "origin", "v1")
	p.call(t, http.MethodGet, "/workers/scripts/origin", "").want(t, http.StatusBadRequest, 10001, "origin")
}

func TestVersionUpload(t *testing.T) {
	p := newPlatform(t)
	const versions = "/workers/scripts/shop/versions?bindings_inherit=strict"
	p.send(t, http.MethodPost, versions, `{"main_module": "index.js"}`, index).want(t, http.StatusNotFound, 10007, "shop")
	v1 := p.deployWorker(t, "shop", `{"main_module": "index.js", "bindings": [
		{"name": "KEY", "type": "secret_text", "text": "s1"}, {"name": "VAR", "type": "plain_text", "text": "a"}, {"name": "OLD", "type": "json", "json": 1}]}`)
	a := p.send(t, http.MethodPost, versions, `{"main_module": "index.js", "keep_bindings": ["secret_text", "secret_key", "plain_text"],
		"bindings": [{"name": "RENAMED", "type": "inherit", "old_name": "OLD"}], "annotations": {"workers/alias": "next", "workers/tag": "v2"}, "tags": ["ignored"]}`, index)
	a.ok(t, `"startup_time_ms":7`, `"has_preview":true`, `"workers/triggered_by":"version_upload"`, `"workers/alias":"next"`)
	v2 := p.newest(t, "shop")
	want := []deploy.Binding{
		{Name: "KEY", Type: "secret_text", Text: "s1"}, {Name: "RENAMED", Type: "json", JSON: json.RawMessage("1")}, {Name: "VAR", Type: "plain_text", Text: "a"},
	}
	if fmt.Sprint(v2.Worker.Bindings) != fmt.Sprint(want) || v2.Number != 2 || v2.Worker.ETag != v1.Worker.ETag {
		t.Errorf("version %+v", v2.Worker)
	}
	if list, err := p.store.Deployments(t.Context(), account, "shop"); err != nil || len(list) != 1 || list[0].Versions[0].VersionID != v1.ID {
		t.Errorf("deployments %+v, error %v", list, err)
	}
	if script, err := p.store.Script(t.Context(), account, "shop"); err != nil || len(script.Tags) != 0 {
		t.Errorf("an upload of a version set the tags %v, error %v", script.Tags, err)
	}
	// Over two versions, from one that is named.
	p.send(t, http.MethodPost, versions, `{"main_module": "index.js", "bindings": [{"name": "OLD", "type": "inherit", "version_id": "`+v1.ID+`"}]}`, index).ok(t)
	if got := p.newest(t, "shop").Worker.Bindings; len(got) != 2 || got[0].Text != "s1" || got[1].Name != "OLD" {
		t.Errorf("bindings %+v", got)
	}
}

func TestSecretsSurviveUploads(t *testing.T) {
	p := newPlatform(t)
	f := func(metadata string, want ...string) {
		t.Helper()
		p.deployWorker(t, "shop", `{"main_module": "index.js", "bindings": [{"name": "A", "type": "secret_text", "text": "a"}, {"name": "B", "type": "secret_text", "text": "b"}, {"name": "V", "type": "plain_text", "text": "v"}]}`)
		p.send(t, http.MethodPost, "/workers/scripts/shop/versions", metadata, index).ok(t)
		var got []string
		for _, b := range p.newest(t, "shop").Worker.Bindings {
			got = append(got, b.Name+"="+b.Text)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", metadata, got, want)
		}
	}
	f(`{"main_module": "index.js"}`, "A=a", "B=b") // wrangler 4.86 deploys so
	f(`{"main_module": "index.js", "keep_bindings": ["plain_text", "json"]}`, "A=a", "B=b", "V=v")
	f(`{"main_module": "index.js", "keep_bindings": ["secret_text", "secret_key"], "bindings": [{"name": "B", "type": "secret_text", "text": "b2"}]}`, "A=a", "B=b2")
	f(`{"main_module": "index.js", "bindings": [{"name": "B", "type": "plain_text", "text": "no secret"}]}`, "A=a", "B=no secret")
	// So does wrangler 4.86 delete B.
	f(`{"main_module": "index.js", "keep_bindings": ["secret_key"], "bindings": [{"name": "A", "type": "inherit"}, {"name": "V", "type": "inherit"}]}`, "A=a", "V=v")
}

func TestInheritOfWhatIsNotThere(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "shop", `{"main_module": "index.js"}`)
	const metadata = `{"main_module": "index.js", "bindings": [{"name": "X", "type": "inherit"}, {"name": "Y", "type": "inherit", "version_id": "nope"}]}`
	p.send(t, http.MethodPost, "/workers/scripts/shop/versions", metadata, index).ok(t)
	if got := p.newest(t, "shop").Worker.Bindings; len(got) != 0 {
		t.Errorf("bindings %+v", got)
	}
	a := p.send(t, http.MethodPost, "/workers/scripts/shop/versions?bindings_inherit=strict", metadata, index)
	if a.status != http.StatusBadRequest || len(a.Errors) != 2 || a.Errors[0].Code != 10057 || a.Errors[1].Code != 10057 ||
		!strings.Contains(a.Errors[0].Message, "inherit binding 'X' is invalid") || !strings.Contains(a.Errors[1].Message, "inherit binding 'Y' is invalid") {
		t.Errorf("answered %d %s", a.status, a.text)
	}
}

func TestServiceWorkerSyntax(t *testing.T) {
	p := newPlatform(t)
	script := file{"script", "application/javascript", "addEventListener('fetch', () => {})"}
	p.send(t, http.MethodPut, "/workers/scripts/shop", `{"body_part": "script", "bindings": [{"name": "WASM", "type": "wasm_module", "part": "m"}, {"name": "T", "type": "text_blob", "part": "t"}]}`,
		script, file{"m", "application/wasm", "\x00asm"}, file{"t", "text/plain", "x"}).ok(t, `"has_modules":false`)
	if a := p.call(t, http.MethodGet, "/workers/scripts/shop", ""); a.header.Get("cf-entrypoint") != "script" {
		t.Errorf("content %v", a.header)
	}
	p.send(t, http.MethodPost, "/workers/scripts/shop/versions", `{"body_part": "script"}`, script).want(t, http.StatusBadRequest, 10021, "body_part")
	p.send(t, http.MethodPut, "/workers/scripts/shop", `{"body_part": "script", "bindings": [{"name": "WASM", "type": "wasm_module", "part": "m"}]}`, script).
		want(t, http.StatusBadRequest, 10021, "WASM", `"m"`)
}

func TestContentIsReplacedAlone(t *testing.T) {
	p := newPlatform(t)
	p.send(t, http.MethodPut, "/workers/scripts/shop/content", `{"main_module": "index.js"}`, index).want(t, http.StatusNotFound, 10007)
	before := p.deployWorker(t, "shop", `{"main_module": "index.js", "compatibility_date": "2026-01-01", "bindings": [{"name": "A", "type": "plain_text", "text": "a"}]}`)
	p.send(t, http.MethodPut, "/workers/scripts/shop/content", `{"main_module": "b.js"}`, file{"b.js", esm, "export default { }"}).ok(t)
	after := p.newest(t, "shop")
	if after.Worker.MainModule != "b.js" || after.Worker.CompatibilityDate != "2026-01-01" || len(after.Worker.Bindings) != 1 || after.Worker.ETag == before.Worker.ETag {
		t.Errorf("worker %+v", after.Worker)
	}
}

// TestTheSDKsForm: cloudflare-go sends each member of the metadata as a part of its
// own, and modules as files.0, files.1, ...
func TestTheSDKsForm(t *testing.T) {
	p := newPlatform(t)
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for name, value := range map[string]string{
		"metadata.main_module": "lib/a.js", "metadata.bindings.0.name": "V", "metadata.bindings.0.type": "plain_text", "metadata.bindings.0.text": "true",
		"metadata.compatibility_flags.0": "nodejs_compat", "metadata.limits.cpu_ms": "30", "metadata.annotations.workers/tag": "v1",
	} {
		if err := form.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	part, err := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="files.0"; filename="lib/a.js"`}, "Content-Type": {esm}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(part, "export default {}"); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	header := bearer(p.token)
	header.Set("Content-Type", form.FormDataContentType())
	p.do(t, http.MethodPut, "/client/v4/accounts/"+account+"/workers/scripts/shop", header, b.String()).ok(t)
	v := p.newest(t, "shop")
	if w := v.Worker; w.MainModule != "lib/a.js" || w.Bindings[0].Text != "true" || w.Limits.CPUMs != 30 || w.CompatibilityFlags[0] != "nodejs_compat" || v.Annotations.Tag != "v1" {
		t.Errorf("version %+v of %+v", v, w)
	}
}

func TestRoutersFetchVersions(t *testing.T) {
	p := newPlatform(t)
	v := p.deployWorker(t, "shop", `{"main_module": "index.js", "bindings": [{"name": "KEY", "type": "secret_text", "text": "hunter2"}], "annotations": {"workers/tag": "v1"}}`)
	b, err := p.Bundle(t.Context(), account, v.ID)
	if err != nil || b.Script != "shop" || b.Tag != "v1" || b.Worker.Bindings[0].Text != "hunter2" || !b.CreatedOn.Equal(v.CreatedOn) || b.AccountID != account || b.VersionID != v.ID {
		t.Fatalf("bundle %+v, error %v", b, err)
	}
	content, err := p.Module(t.Context(), account, b.Worker.Modules[0].SHA256)
	if err != nil || string(content) != index.content {
		t.Fatalf("module %q, error %v", content, err)
	}
	_, err = p.Module(t.Context(), account, strings.Repeat("0", 64))
	wantKind(t, err, errs.NotFound)
	_, err = p.Bundle(t.Context(), account, p.upload(t, "origin", "v1").ID)
	wantKind(t, err, errs.NotFound)
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Module(t.Context(), other.ID, b.Worker.Modules[0].SHA256)
	wantKind(t, err, errs.NotFound)
	_, admin, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "admin", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	theirs := client.New(p.url, admin, p.http)
	_, err = theirs.Bundle(t.Context(), account, v.ID)
	wantKind(t, err, errs.Forbidden)
	_, err = theirs.Module(t.Context(), account, b.Worker.Modules[0].SHA256)
	wantKind(t, err, errs.Forbidden)
	snap, err := p.SnapshotAll(t.Context(), 0)
	if err != nil || snap.Validate() != nil || snap.Scripts[1].Versions[0].Worker.Exports.Named[0].Kind != deploy.ExportEntrypoint {
		t.Fatalf("snapshot %+v, error %v", snap, err)
	}
}

// TestUploadsDoNotLoseEachOther: an upload was made from the newest version, which
// another one replaced before it was stored.
func TestUploadsDoNotLoseEachOther(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "shop", `{"main_module": "index.js"}`)
	once := sync.OnceFunc(func() {
		u := deploy.Upload{Version: p.newest(t, "shop")}
		w := *u.Version.Worker
		w.Bindings = []deploy.Binding{{Name: "KEY", Type: deploy.BindingSecretText, Text: "new"}}
		u.Version.Worker = &w
		if _, err := p.store.Upload(t.Context(), account, "shop", u); err != nil {
			t.Error(err)
		}
	})
	p.runtime.check = func(*deploy.Worker, map[string][]byte) (deploy.Exports, int64, error) {
		once()
		return deploy.Exports{Handlers: []string{"fetch"}}, 1, nil
	}
	v := p.deployWorker(t, "shop", `{"main_module": "index.js"}`)
	if len(v.Worker.Bindings) != 1 || v.Worker.Bindings[0].Text != "new" || v.Number != 3 {
		t.Errorf("version %d has the bindings %+v", v.Number, v.Worker.Bindings)
	}
}

// A script whose entry point is metadata.js could not be deployed: its code was
// taken for a member of the description.
func TestModulesMayBeCalledLikeTheDescription(t *testing.T) {
	p := newPlatform(t)
	p.send(t, http.MethodPut, "/workers/scripts/shop", `{"main_module": "metadata.js"}`, file{"metadata.js", esm, "export default {}"},
		file{"metadata.wasm", "application/wasm", "x"}).ok(t)
	if w := p.newest(t, "shop").Worker; len(w.Modules) != 2 || w.Modules[1].Name != "metadata.wasm" {
		t.Errorf("modules %+v", w.Modules)
	}
}
