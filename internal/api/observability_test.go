package api_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
)

// TestObservabilityIsShownWhole: wrangler leaves out switches that typed clients
// require in an answer.
func TestObservabilityIsShownWhole(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "shop", `{"main_module": "index.js"}`)
	const settings = "/workers/scripts/shop/script-settings"
	for sent, want := range map[string]string{
		`{}`: `{"enabled": false}`,
		`{"enabled": true, "head_sampling_rate": 0.1}`:                   `{"enabled": true, "head_sampling_rate": 0.1}`,
		`{"head_sampling_rate": null, "invented": 12345678901234567890}`: `{"enabled": false, "invented": 12345678901234567890}`,
		`{"logs": {}}`: `{"enabled": false, "logs": {"enabled": false, "invocation_logs": true}}`,
		`{"logs": {"enabled": true, "invocation_logs": false, "persist": true}, "traces": {}}`: `{"enabled": false, "logs": {"enabled": true, "invocation_logs": false, "persist": true}, "traces": {}}`,
		`{"enabled": null, "logs": null}`: `{"enabled": false}`,
	} {
		p.call(t, http.MethodPatch, settings, `{"observability": `+sent+`}`).ok(t)
		for _, path := range []string{settings, "/workers/scripts/shop/settings", "/workers/workers/shop"} {
			shown := result[struct{ Observability json.RawMessage }](t, p, http.MethodGet, path, "").Observability
			if !sameJSON(t, string(shown), want) {
				t.Errorf("%s was sent; %s shows %s, want %s", sent, path, shown, want)
			}
		}
	}
	for sent, part := range map[string]string{
		`{"enabled": "yes"}`:                     "observability.enabled must be true or false, not string",
		`{"head_sampling_rate": "all"}`:          "observability.head_sampling_rate must be a number, not string",
		`{"logs": {"invocation_logs": 1}}`:       "observability.logs.invocation_logs must be true or false, not number",
		`{"traces": []}`:                         "observability.traces must be an object, not array",
		`{"logs": {"destinations": ["a", 1.5]}}`: "observability.logs.destinations must be a string, not number",
		`[]`:                                     "observability is []: it must be an object",
	} {
		a := p.call(t, http.MethodPatch, settings, `{"observability": `+sent+`}`)
		a.want(t, http.StatusBadRequest, 10001, part)
	}
	p.send(t, http.MethodPut, "/workers/scripts/shop", `{"main_module": "index.js", "usage_model": "free"}`, index).
		want(t, http.StatusBadRequest, 10001, "free", "standard, bundled, unbound")
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	decode := func(text string) (value any) {
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return value
	}
	return reflect.DeepEqual(decode(a), decode(b))
}
