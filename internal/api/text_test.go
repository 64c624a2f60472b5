package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestNoStringHoldsNUL: PostgreSQL refuses a NUL in text, so that a version id with
// one was an internal error there. Each string of each body is sent with one.
func TestNoStringHoldsNUL(t *testing.T) {
	p := newPlatform(t)
	v := p.upload(t, "shop", "v1")
	p.deployWorker(t, "code", `{"main_module": "index.js"}`)
	if a := p.call(t, http.MethodPost, "/logpush/jobs", published); a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	job := published[:strings.LastIndex(published, "}")] + `, "kind": "", "filter": "", "frequency": "high", "logpull_options": "", "ownership_challenge": ""}`
	const (
		script  = "/accounts/{account}/workers/scripts/{script}"
		workers = "/accounts/{account}/workers/workers"
	)
	// A body of these has parts; their JSON is tested with the uploads.
	multipart := []string{"PUT " + script, "PUT " + script + "/content"}
	refuses := func(operation string) bool { // whatever the body
		return strings.Contains(operation, "/transformers") || strings.Contains(operation, "/zones/{zone}/logpush/ownership") ||
			operation == "PUT /zones/{zone}/logpush/jobs/{id}"
	}
	bodies := map[string]string{
		"POST /accounts":                                                          `{"name": "Second", "type": "standard"}`,
		"PATCH /accounts/{account}":                                               `{"settings": {"max_jobs": 10}}`,
		"POST /accounts/{account}/tokens":                                         `{"name": "ci", "email": "ci@example.com", "scopes": ["admin"], "expires_on": "2100-01-01T00:00:00Z"}`,
		"POST /user/tokens":                                                       `{"name": "ann", "email": "ann@example.com", "scopes": ["admin"], "expires_on": "2100-01-01T00:00:00Z"}`,
		"PUT /user/tokens/{id}/value":                                             `{}`,
		"PATCH " + script + "/script-settings":                                    `{"tags": ["team-a"]}`,
		"PATCH " + script + "/settings":                                           `{"bindings": [{"name": "A", "type": "plain_text", "text": "a"}], "compatibility_date": "2026-01-01", "unknown": ["x"]}`,
		"PUT " + script + "/usage-model":                                          `{"usage_model": "standard"}`,
		"PUT " + script + "/secrets":                                              `{"name": "KEY", "type": "secret_text", "text": "x"}`,
		"PATCH " + script + "/secrets-bulk":                                       `{"secrets": {"KEY": {"type": "secret_text", "text": "x"}}, "version_tags": {"a": "b"}}`,
		"POST " + workers:                                                         `{"name": "third", "tags": ["a"]}`,
		"PATCH " + workers + "/{worker}":                                          `{"tags": ["a"]}`,
		"PUT " + workers + "/{worker}":                                            `{"tags": ["a"]}`,
		"POST " + workers + "/{worker}/versions":                                  `{"main_module": "a.js", "modules": [{"name": "a.js", "content_type": "application/javascript+module", "content_base64": ""}]}`,
		"PATCH " + workers + "/{worker}/versions/latest":                          `{"env": {"KEY": {"type": "secret_text", "text": "x"}}}`,
		"PUT " + script + "/routes":                                               `[{"pattern": "shop.example.com/*", "zone_id": "z", "zone_name": "example.com"}]`,
		"POST " + script + "/versions":                                            `{"metadata": {"origin": {"url": "http://a"}, "annotations": {"workers/message": "m", "workers/tag": "t", "workers/alias": "a"}}}`,
		"POST " + script + "/deployments":                                         `{"strategy": "percentage", "versions": [{"version_id": "` + v.ID + `", "percentage": 100}], "annotations": {"workers/message": "m"}, "code_update_strategy": {"mode": "deferred"}}`,
		"PUT " + script + "/affinity":                                             `{"rules": [{"source": "path", "prefix": "/a/"}, {"source": "cookie", "name": "a", "forward": true, "set": {"same_site": "lax", "domain": "a.example.com", "path": "/a", "secure": "always"}}]}`,
		"PUT " + script + "/redaction":                                            `{"headers": ["x-a"], "query_parameters": ["a"], "paths": ["/a/*"], "patterns": ["a"], "built_ins": ["emails"]}`,
		"PUT /accounts/{account}/redaction":                                       `{"headers": ["x-a"], "query_parameters": ["a"], "paths": ["/a/*"], "patterns": ["a"], "built_ins": ["emails"]}`,
		"POST /accounts/{account}/deletions":                                      `{"script": "shop", "before": "2026-11-01T00:00:00Z"}`,
		"PUT " + script + "/sampling":                                             `{"head_sampling_rate": 0.5}`,
		"PUT " + script + "/rollback-policy":                                      `{"enabled": true, "max_failure_ratio": 2, "count": "any", "evidence": "requests", "action": "pause", "ramp": [{"percentage": 5, "gate": "proven"}], "notify": [{"type": "webhook", "url": "https://ok.example.com/", "secret": "sixteen or more characters", "on": ["fail"]}, {"type": "email", "to": ["a@example.com"]}], "promote": [{"days": ["mon"], "from": "09:00", "until": "17:00", "time_zone": "Europe/Berlin"}], "freeze": [{"from": "2026-12-20T00:00:00Z", "until": "2027-01-02T00:00:00Z", "reason": "a"}]}`,
		"PUT /accounts/{account}/workers/rollback-policy":                         `{"enabled": true, "action": "pause"}`,
		"POST " + script + "/rollback-policy/ramp":                                `{"action": "pause"}`,
		"PUT /accounts/{account}/workers/subdomain":                               `{"subdomain": "dev"}`,
		"PUT /accounts/{account}/workers/domains":                                 `{"hostname": "shop.example.com", "service": "shop", "environment": "production", "zone_id": "z", "zone_name": "example.com"}`,
		"POST " + script + "/subdomain":                                           `{"enabled": true}`,
		"PUT " + script + "/schedules":                                            `[{"cron": "* * * * *"}]`,
		"POST " + script + "/domains/changeset":                                   `[{"hostname": "shop.example.com", "zone_id": "z", "zone_name": "example.com"}]`,
		"PUT " + script + "/domains/records":                                      `{"origins": [{"hostname": "shop.example.com", "zone_name": "example.com"}]}`,
		"POST " + script + "/tails":                                               `{"filters": [{"outcome": ["ok"], "method": ["GET"], "header": {"key": "a", "query": "b"}, "client_ip": ["self"], "query": "c", "scriptVersion": "d"}]}`,
		"POST /zones/{zone}/workers/routes":                                       `{"pattern": "shop.example.com/*", "script": "shop"}`,
		"PUT /zones/{zone}/workers/routes/{id}":                                   `{"pattern": "shop.example.com/*", "script": "shop"}`,
		"PUT /routing/reports":                                                    `{"reports": [{"account_id": "a", "script": "shop", "version_id": "v", "router_id": "r", "phase": "failed", "error": "e", "at": "2026-11-23T12:00:00Z"}]}`,
		"PUT /routing/routers/{router}":                                           `{"id": "r", "version": "v1", "started_on": "2026-11-23T12:00:00Z", "snapshot_error": "e"}`,
		"POST /routing/cron-claims":                                               `{"account_id": "a", "script": "shop", "cron": "* * * * *", "scheduled_on": "2026-11-23T12:00:00Z"}`,
		"POST /accounts/{account}/logpush/jobs":                                   job,
		"PUT /accounts/{account}/logpush/jobs/{id}":                               job,
		"POST /accounts/{account}/logpush/validate/destination":                   `{"destination_conf": "https://ok.example.com/"}`,
		"POST /accounts/{account}/logpush/validate/destination/exists":            `{"destination_conf": "https://ok.example.com/"}`,
		"POST /accounts/{account}/logpush/validate/origin":                        `{"logpull_options": "", "dataset": "workers_trace_events"}`,
		"POST /accounts/{account}/logpush/ownership":                              `{"destination_conf": "gs://lake/"}`,
		"POST /accounts/{account}/logpush/ownership/validate":                     `{"destination_conf": "gs://lake/", "ownership_challenge": "x"}`,
		"POST " + script + "/rollback-policy/notify-test":                         `{}`,
		"POST " + script + "/rollback-policy/backtest":                            `{"policy": {"enabled": true, "count": "any", "evidence": "requests", "action": "pause"}, "since": "2026-11-01T00:00:00Z", "until": "2026-11-02T00:00:00Z"}`,
		"POST /graphql":                                                           `{"query": "{ viewer { accounts { logpushHealthAdaptiveGroups { count } } } }", "operationName": "x"}`,
		"PUT /accounts/{account}/logpush/alerts":                                  `{"url": "https://ok.example.com/", "secret": "a secret of mine"}`,
		"POST /accounts/{account}/logpush/jobs/{id}/replays":                      `{"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"}`,
		"POST /accounts/{account}/logpush/jobs/{id}/replay":                       `{"from": "2026-11-01T00:00:00Z"}`,
		"POST /accounts/{account}/logpush/jobs/{id}/replays/{replay}/cancel":      `{}`,
		"POST /accounts/{account}/logpush/jobs/{id}/test":                         `{"events": [{"Outcome": "ok"}], "filter": "", "output_options": {"batch_prefix": "a"}}`,
		"POST /accounts/{account}/logpush/test":                                   `{"dataset": "workers_trace_events", "events": [{"Outcome": "ok"}], "filter": ""}`,
		"POST /accounts/{account}/logpush/jobs/{id}/dead-letters/resend":          `{}`,
		"POST /accounts/{account}/logpush/jobs/{id}/dead-letters/{letter}/resend": `{}`,
		"POST /accounts/{account}/logpush/edge/jobs":                              `{"fields": "Outcome", "filter": "", "kind": "instant-logs"}`,
		"POST /zones/{zone}/logpush/jobs":                                         job,
		"POST /zones/{zone}/logpush/validate/destination":                         `{"destination_conf": "https://ok.example.com/"}`,
		"POST /zones/{zone}/logpush/validate/destination/exists":                  `{"destination_conf": "https://ok.example.com/"}`,
		"POST /zones/{zone}/logpush/validate/origin":                              `{"logpull_options": "", "dataset": "workers_trace_events"}`,
		"POST /zones/{zone}/logpush/edge/jobs":                                    `{"fields": "Outcome", "filter": "", "kind": "instant-logs"}`,
	}
	for _, operation := range p.validator.Operations() {
		method, path, _ := strings.Cut(operation, " ")
		body, listed := bodies[operation]
		if method == http.MethodGet || method == http.MethodDelete || slices.Contains(multipart, operation) || refuses(operation) {
			continue
		}
		if !listed {
			t.Errorf("%s is not in this table", operation)
			continue
		}
		path = "/client/v4" + strings.NewReplacer("{account}", account, "{script}", "shop", "{id}", "1", "{worker}", "code", "{router}", "r").Replace(path)
		for _, spoilt := range withNUL(t, body) {
			a := p.do(t, method, path, bearer(p.token), spoilt)
			if a.status != http.StatusBadRequest || len(a.Errors) != 1 || a.Errors[0].Source.Pointer == "" {
				t.Errorf("%s of %s answered %d %s", operation, spoilt, a.status, a.text)
			}
		}
	}
}

// withNUL returns the document once for each string in it, with a NUL in that one.
func withNUL(t *testing.T, text string) []string {
	t.Helper()
	var document any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	var list []string
	add := func() {
		spoilt, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(spoilt))
	}
	var visit func(value any, set func(any))
	visit = func(value any, set func(any)) {
		switch x := value.(type) {
		case string:
			set(x + "\x00x")
			add()
			set(x)
		case map[string]any:
			for key, member := range x {
				visit(member, func(changed any) { x[key] = changed })
			}
		case []any:
			for i, element := range x {
				visit(element, func(changed any) { x[i] = changed })
			}
		}
	}
	visit(document, func(any) {})
	if len(list) != strings.Count(text, `"`)/2-strings.Count(text, `":`) {
		t.Fatalf("%d of the strings of %s were found", len(list), fmt.Sprint(document))
	}
	return list
}
