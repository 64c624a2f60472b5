package api_test

import (
	"net/http"
	"strings"
	"testing"

	"tidegate/internal/api"
	"tidegate/internal/deploy"
)

// exporting makes the runtime find classes of Durable Objects.
func (p *platform) exporting(classes ...string) {
	p.runtime.mu.Lock()
	defer p.runtime.mu.Unlock()
	p.runtime.check = func(*deploy.Worker, map[string][]byte) (deploy.Exports, int64, error) {
		e := deploy.Exports{Handlers: []string{"fetch"}}
		for _, class := range classes {
			e.Named = append(e.Named, deploy.NamedExport{Name: class, Kind: deploy.ExportDurableObject, Handlers: []string{"fetch"}})
		}
		return e, 7, nil
	}
}

const counterBinding = `{"name": "COUNTER", "type": "durable_object_namespace", "class_name": "Counter"}`

func TestDurableObjectUploads(t *testing.T) {
	p := newPlatform(t)
	p.exporting("Counter")
	const path, namespaces = "/workers/scripts/shop", "/workers/durable_objects/namespaces"
	upload := func(method, path, members string) answer {
		t.Helper()
		return p.send(t, method, path, `{"main_module": "index.js", `+members+`}`, index)
	}
	// As wrangler sends it the first time.
	upload(http.MethodPut, path, `"bindings": [`+counterBinding+`], "migrations": {"new_tag": "v1", "steps": [{"new_sqlite_classes": ["Counter"]}]}`).ok(t)
	first := p.newest(t, "shop")
	id := first.Worker.DurableObjects[0].ID
	p.call(t, http.MethodGet, namespaces+"?per_page=1000&page=1", "").
		ok(t, `[{"id":"`+id+`","name":"shop_Counter","script":"shop","class":"Counter","use_sqlite":true}]`, `"total_count":1`)
	p.call(t, http.MethodGet, namespaces+"/"+id+"/objects", "").want(t, http.StatusBadRequest, 10001, id, "router")
	p.call(t, http.MethodGet, namespaces+"/none/objects", "").want(t, http.StatusNotFound, 10007, "none")
	p.call(t, http.MethodGet, "/workers/services/shop", "").ok(t, `"migration_tag":"v1"`)
	p.call(t, http.MethodGet, "/workers/scripts", "").ok(t, `"id":"shop"`, `"migration_tag":"v1"`)
	p.call(t, http.MethodGet, path+"/versions/"+first.ID, "").
		ok(t, `"migration_tag":"v1"`, `"has_preview":false`, `"hasPreview":false`, `"class_name":"Counter","namespace_id":"`+id+`"`)
	p.call(t, http.MethodGet, path+"/settings", "").ok(t, `"migration_tag":"v1"`, `"namespace_id":"`+id+`"`)
	p.call(t, http.MethodGet, "/workers/workers/shop/versions/"+first.ID, "").ok(t, `"urls":[]`)

	// Later uploads have no migration; a secret is a version too.
	upload(http.MethodPost, path+"/versions", `"bindings": [`+counterBinding+`]`).ok(t, `"has_preview":false`, `"namespace_id":"`+id+`"`)
	next := p.newest(t, "shop")
	split := func(a, b string) answer {
		t.Helper()
		return p.call(t, http.MethodPost, path+"/deployments", `{"strategy": "percentage", "versions": [{"version_id": "`+a+`", "percentage": 50}, {"version_id": "`+b+`", "percentage": 50}]}`)
	}
	split(first.ID, next.ID).ok(t)
	p.call(t, http.MethodPost, path+"/deployments", `{"strategy": "percentage", "versions": [{"version_id": "`+next.ID+`", "percentage": 100}]}`).ok(t)
	p.call(t, http.MethodPut, path+"/secrets", `{"name": "KEY", "text": "x", "type": "secret_text"}`).ok(t)
	if v := p.newest(t, "shop"); len(v.Worker.DurableObjects) != 1 || v.Worker.DurableObjects[0].ID != id {
		t.Errorf("after a secret the version implements %+v", v.Worker.DurableObjects)
	}
	upload(http.MethodPut, path, `"bindings": [{"name": "COUNTER", "type": "inherit", "version_id": "`+first.ID+`"}]`).ok(t)

	upload(http.MethodPost, path+"/versions", `"migrations": {"old_tag": "v1", "new_tag": "v2", "new_classes": ["B"]}`).want(t, http.StatusBadRequest, 10211, "migrations")
	upload(http.MethodPut, path, `"migrations": {"new_tag": "v2", "new_classes": ["B"]}`).want(t, http.StatusBadRequest, 10079, "v1")
	upload(http.MethodPut, path, `"migrations": {"old_tag": "v1", "new_tag": "v2", "new_classes": ["B"]}`).want(t, http.StatusBadRequest, 10070, "'B'")
	upload(http.MethodPut, path, `"migrations": {"old_tag": "v1", "new_tag": "v2", "new_classes": ["Counter"]}`).want(t, http.StatusBadRequest, 10074, "'Counter'")
	upload(http.MethodPut, path, `"bindings": [`+counterBinding+`], "migrations": {"old_tag": "v1", "new_tag": "v2", "deleted_classes": ["Counter"]}`).
		want(t, http.StatusBadRequest, 10061, "delete-class", "'Counter'")
	p.exporting()
	upload(http.MethodPut, path, `"bindings": []`).want(t, http.StatusBadRequest, 10064, "'Counter'")

	// The one step that other clients send.
	p.exporting("Tally")
	upload(http.MethodPut, path, `"migrations": {"old_tag": "v1", "new_tag": "v2", "renamed_classes": [{"from": "Counter", "to": "Tally"}]}`).ok(t)
	if v := p.newest(t, "shop"); v.Worker.DurableObjects[0] != (deploy.DurableObjectNamespace{ID: id, Class: "Tally", SQLite: true}) {
		t.Errorf("after the renaming the version implements %+v", v.Worker.DurableObjects)
	}
	p.call(t, http.MethodPost, path+"/deployments?force=true", `{"strategy": "percentage", "versions": [{"version_id": "`+next.ID+`", "percentage": 100}]}`).
		want(t, http.StatusBadRequest, 10001, next.ID, "lifecycle change", "Counter", "Tally")
	split(p.newest(t, "shop").ID, next.ID).want(t, http.StatusBadRequest, 100405, next.ID, "split", "Counter", "Tally")
}

func TestDurableObjectsNeedARouter(t *testing.T) {
	p := newPlatformWith(t, api.Config{})
	p.exporting("Counter")
	for members, parts := range map[string][]string{
		`"bindings": [` + counterBinding + `]`:                        {"binding COUNTER", "durable_object_namespace", "--durable-objects"},
		`"migrations": {"new_tag": "v1", "new_classes": ["Counter"]}`: {"migrations", "Durable Objects need", "--durable-objects"},
	} {
		p.send(t, http.MethodPut, "/workers/scripts/shop", `{"main_module": "index.js", `+members+`}`, index).want(t, http.StatusBadRequest, 10001, parts...)
	}
	if a := p.call(t, http.MethodGet, "/workers/scripts", ""); strings.Contains(a.text, "shop") {
		t.Error(a.text)
	}
}
