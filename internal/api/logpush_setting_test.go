package api_test

import (
	"net/http"
	"strings"
	"testing"

	"tidegate/internal/deploy"
)

// wantLogpush expects the setting in the store, in the snapshot, and in every answer that
// shows it.
func (p *platform) wantLogpush(t *testing.T, what string, want deploy.Logpush) {
	t.Helper()
	script, err := p.store.Script(t.Context(), account, "shop")
	if err != nil || script.Logpush != want {
		t.Errorf("%s: stored %v, error %v; want %v", what, script.Logpush, err, want)
	}
	snap, err := p.store.SnapshotAll(t.Context(), 0)
	if err != nil || len(snap.Scripts) != 1 || snap.Scripts[0].LogpushDisabled == want.Enabled() {
		t.Errorf("%s: the snapshot is %+v, error %v", what, snap, err)
	}
	shown := `"logpush":false`
	if want.Enabled() {
		shown = `"logpush":true`
	}
	for _, path := range []string{"/workers/scripts", "/workers/scripts/shop/script-settings", "/workers/scripts/shop/settings", "/workers/workers", "/workers/workers/shop"} {
		a := p.call(t, http.MethodGet, path, "")
		if a.ok(t, shown); strings.Count(a.text, `"logpush":`) != 1 {
			t.Errorf("%s: GET %s answers %s", what, path, a.text)
		}
	}
}

// Logpush is a setting of the script, and every way to set it leads to the same one.
func TestLogpushIsSetAndShownEverywhere(t *testing.T) {
	p := newPlatform(t)
	const scriptSettings, settings, worker = "/workers/scripts/shop/script-settings", "/workers/scripts/shop/settings", "/workers/workers/shop"
	const unset, on, off = deploy.LogpushUnset, deploy.LogpushEnabled, deploy.LogpushDisabled
	upload := func(metadata, shown string) {
		t.Helper()
		p.send(t, http.MethodPut, "/workers/scripts/shop", metadata, index).ok(t, shown)
	}
	upload(`{"main_module": "index.js"}`, `"logpush":true`)
	p.wantLogpush(t, "nobody said anything", unset)
	upload(`{"main_module": "index.js", "logpush": false}`, `"logpush":false`)
	p.wantLogpush(t, "an upload with false", off)
	upload(`{"main_module": "index.js"}`, `"logpush":false`)
	p.wantLogpush(t, "an upload that says nothing", off)
	upload(`{"main_module": "index.js", "logpush": null}`, `"logpush":false`)
	p.wantLogpush(t, "an upload with null", off)
	upload(`{"main_module": "index.js", "logpush": true}`, `"logpush":true`)
	p.wantLogpush(t, "an upload with true", on)
	p.send(t, http.MethodPost, "/workers/scripts/shop/versions", `{"main_module": "index.js", "logpush": false}`, index).ok(t)
	p.wantLogpush(t, "a version upload, which leaves the script alone", on)

	p.call(t, http.MethodPatch, scriptSettings, `{"logpush": false}`).ok(t, `"logpush":false`)
	p.wantLogpush(t, "a patch of the script's settings", off)
	p.call(t, http.MethodPatch, scriptSettings, `{"tags": ["a"], "logpush": null}`).ok(t, `"logpush":false`, `"tags":["a"]`)
	p.wantLogpush(t, "a patch of other settings", off)
	p.call(t, http.MethodPatch, scriptSettings, `{"logpush": true}`).ok(t, `"logpush":true`)
	p.wantLogpush(t, "a patch back", on)

	p.call(t, http.MethodPatch, worker, `{"logpush": false}`).ok(t, `"logpush":false`)
	p.wantLogpush(t, "a patch of the worker", off)
	p.call(t, http.MethodPatch, worker, `{"tags": ["b"]}`).ok(t, `"logpush":false`)
	p.wantLogpush(t, "a patch of the worker's tags", off)
	p.call(t, http.MethodPut, worker, `{"name": "shop"}`).ok(t, `"logpush":true`)
	p.wantLogpush(t, "a worker that is replaced without it", unset)
	p.call(t, http.MethodPut, worker, `{"name": "shop", "logpush": false}`).ok(t, `"logpush":false`)
	p.wantLogpush(t, "a worker that is replaced with it", off)

	p.call(t, http.MethodPost, "/workers/workers/shop/versions?deploy=true", `{"main_module": "a.js",
		"modules": [{"name": "a.js", "content_type": "application/javascript+module", "content_base64": ""}]}`).ok(t)
	p.wantLogpush(t, "another deployment", off)
	p.call(t, http.MethodPatch, settings, `{"logpush": true}`).ok(t, `"logpush":true`)
	p.wantLogpush(t, "a patch of all settings", on)
	p.call(t, http.MethodDelete, "/workers/scripts/shop", "").ok(t)

	p.call(t, http.MethodPost, "/workers/workers", `{"name": "shop", "logpush": false}`).ok(t, `"logpush":false`)
	p.wantLogpush(t, "a worker that is made with it, as Terraform does", off)
	p.call(t, http.MethodGet, "/routing/snapshot", "").ok(t, `"logpush_disabled":true`)
}
