package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"tidegate/internal/api"
	"tidegate/schema/control"
)

// zoneOf routes a host to the script shop and returns the id of the host's zone.
func (p *platform) zoneOf(t *testing.T, host string) string {
	t.Helper()
	if err := p.SetRoutes(t.Context(), account, "shop", []string{host + "/*"}); err != nil {
		t.Fatal(err)
	}
	return p.zoneNamed(t, host[strings.Index(host, ".")+1:])
}

func (p *platform) zoneNamed(t *testing.T, name string) string {
	t.Helper()
	a := p.do(t, http.MethodGet, "/client/v4/zones?account.id="+account+"&name="+name, bearer(p.token), "")
	var zones []struct{ ID string }
	if err := json.Unmarshal(a.Result, &zones); err != nil || len(zones) != 1 {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	return zones[0].ID
}

func logpushQuestions(t *testing.T, p *platform) {
	const valid, invalid = `"valid":true`, `"valid":false`
	zone := "/client/v4/zones/" + p.zoneOf(t, "logs.example.org") + "/logpush"
	for _, base := range []string{"/client/v4/accounts/" + account + "/logpush", zone} {
		call := func(method, path, body string) answer { return p.do(t, method, base+path, bearer(p.token), body) }
		origin := func(body string) answer { return call(http.MethodPost, "/validate/origin", body) }
		origin(`{"logpull_options": "fields=Outcome,ScriptName&timestamps=rfc3339&sample=0.1&CVE-2021-44228=true"}`).ok(t, valid, `"message":""`)
		origin(`{"logpull_options": "", "dataset": "workers_trace_events"}`).ok(t, valid)
		origin(`{"logpull_options": "", "dataset": "http_requests"}`).ok(t, invalid, "http_requests")
		origin(`{"logpull_options": "fields=ClientIP"}`).ok(t, invalid, "ClientIP")
		origin(`{"logpull_options": "timestamps=rfc3339ms"}`).ok(t, invalid, "rfc3339ms")
		origin(`{}`).want(t, http.StatusBadRequest, 1002, "logpull_options is missing")
		call(http.MethodPost, "/validate/destination", `{"destination_conf": "https://ok.example.com/"}`).ok(t, valid)
		call(http.MethodPost, "/validate/destination", `{"destination_conf": "https://refused.example.com/"}`).ok(t, invalid, "the destination answered 403")
		call(http.MethodPost, "/validate/destination/exists", `{"destination_conf": "https://ok.example.com/"}`).ok(t, `"exists":false`)
		call(http.MethodGet, "/datasets/workers_trace_events/fields", "").ok(t, "Outcome", "ErrorKind")
		call(http.MethodGet, "/datasets/workers_trace_events/fields/default", "").ok(t, "Outcome")
		call(http.MethodGet, "/datasets/workers_trace_events/jobs", "").ok(t, `"result":[]`)
		call(http.MethodGet, "/datasets/http_requests/jobs", "").want(t, http.StatusNotFound, 1002, "http_requests")
		call(http.MethodGet, "/jobs", "").ok(t, `"result":[]`)
	}
	p.call(t, http.MethodPost, "/logpush/ownership", `{"destination_conf": "https://ok.example.com/"}`).ok(t, invalid, `"filename":""`, "needs no challenge")
	p.call(t, http.MethodPost, "/logpush/ownership/validate", `{"destination_conf": "gs://lake/", "ownership_challenge": "x"}`).ok(t, invalid, "not what a challenge file holds")
}

// TestZonesHaveNoJobs: a zone answers as one without jobs, and says where they belong.
func TestZonesHaveNoJobs(t *testing.T) {
	p := newPlatform(t)
	p.call(t, http.MethodPost, "/logpush/jobs", published).ok(t)
	zone := func(method, path, body string) answer {
		return p.do(t, method, "/client/v4/zones/7/logpush"+path, bearer(p.token), body)
	}
	zone(http.MethodGet, "/jobs", "").ok(t, `"result":[]`)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		zone(method, "/jobs/1", `{"enabled": false}`).want(t, http.StatusNotFound, 1002, `job "1"`, "belong to accounts")
	}
	zone(http.MethodPost, "/jobs", published).want(t, http.StatusBadRequest, 1002, "workers_trace_events", "account-scoped", "/accounts/{account_id}/logpush/jobs")
	zone(http.MethodPost, "/jobs", `{"dataset": "http_requests", "destination_conf": "https://a/"}`).want(t, http.StatusBadRequest, 1002, "http_requests")
	zone(http.MethodPost, "/ownership", `{"destination_conf": "gs://lake/"}`).want(t, http.StatusBadRequest, 1002, "/accounts/{account_id}/logpush/ownership")
	zone(http.MethodPost, "/validate/destination/exists", `{"destination_conf": "https://logs.example.com/?header_Authorization=Basic%20REDACTED"}`).ok(t, `"exists":false`)
	p.call(t, http.MethodPost, "/logpush/validate/destination/exists",
		`{"destination_conf": "https://logs.example.com/?header_Authorization=Basic%20REDACTED"}`).ok(t, `"exists":true`)
}

// TestJobsAreLimited by what the operator says for every account, and by what they
// say for one. Nothing is uploaded for a job that may not be.
func TestJobsAreLimited(t *testing.T) {
	none, two := 0, 2
	p := newPlatformWith(t, api.Config{LogpushJobsMax: &none})
	silent := strings.Replace(published, "logs.example.com", "silent.example.com", 1)
	p.call(t, http.MethodPost, "/logpush/jobs", silent).want(t, http.StatusForbidden, 1004,
		"creating a new job (for workers_trace_events dataset) is not allowed: exceeded max jobs allowed")

	p = newPlatformWith(t, api.Config{LogpushJobsMax: &two})
	for range two {
		p.call(t, http.MethodPost, "/logpush/jobs", published).ok(t)
	}
	p.call(t, http.MethodPost, "/logpush/jobs", silent).want(t, http.StatusForbidden, 1004, "exceeded max jobs allowed (2 in every account")
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	p.do(t, http.MethodPost, "/client/v4/accounts/"+other.ID+"/logpush/jobs", bearer(p.token), published).ok(t)
	one := 1
	if _, err := p.UpdateAccount(t.Context(), other.ID, control.AccountUpdate{MaxJobs: &one}); err != nil {
		t.Fatal(err)
	}
	p.do(t, http.MethodPost, "/client/v4/accounts/"+other.ID+"/logpush/jobs", bearer(p.token), silent).want(t, http.StatusForbidden, 1004,
		"creating a new job is not allowed: exceeded max jobs allowed (1 in this account)")
}

// TestJobChangesMayBeConditional: two people edit one job, and the second one must
// not undo what the first one did.
func TestJobChangesMayBeConditional(t *testing.T) {
	p := newPlatform(t)
	made := p.call(t, http.MethodPost, "/logpush/jobs", published)
	tag := made.header.Get("ETag")
	if read := p.call(t, http.MethodGet, "/logpush/jobs/1", ""); tag == "" || read.header.Get("ETag") != tag {
		t.Fatalf("created with ETag %q, read with %q", tag, read.header.Get("ETag"))
	}
	send := func(method, ifMatch string) answer {
		header := bearer(p.token)
		header.Set("If-Match", ifMatch)
		return p.do(t, method, "/client/v4/accounts/"+account+"/logpush/jobs/1", header, `{"name": "mine"}`)
	}
	changed := send(http.MethodPut, tag)
	changed.ok(t, `"name":"mine"`)
	if changed.header.Get("ETag") == tag {
		t.Errorf("the ETag %s stayed", tag)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		send(method, tag).want(t, http.StatusPreconditionFailed, 1002, tag, changed.header.Get("ETag"))
		send(method, "").want(t, http.StatusPreconditionFailed, 1002)
	}
	send(http.MethodPut, "*").ok(t)
	latest := p.call(t, http.MethodPut, "/logpush/jobs/1", `{"enabled": false}`)
	latest.ok(t)
	send(http.MethodDelete, `"x", `+latest.header.Get("ETag")).ok(t, `"id":1`)
	send(http.MethodDelete, "*").want(t, http.StatusNotFound, 1002)
}

// TestJobsMayBeSentBack: scripts read a job, change a member and put it all back.
func TestJobsMayBeSentBack(t *testing.T) {
	p := newPlatform(t)
	made := p.call(t, http.MethodPost, "/logpush/jobs", published)
	p.call(t, http.MethodPut, "/logpush/jobs/1", strings.Replace(string(made.Result), `"enabled":true`, `"enabled":false`, 1)).ok(t, `"enabled":false`)
	p.call(t, http.MethodPut, "/logpush/jobs/1", `{"id": 2}`).want(t, http.StatusBadRequest, 1002, "id cannot be changed from 1 to 2")
	p.call(t, http.MethodPost, "/logpush/jobs", string(made.Result)).want(t, http.StatusBadRequest, 1002, "id is 1")
}

// TestLogpushRefusals is the reference's list of refusals, each with its status and
// code, and of what Logpush has and Tidegate has not.
func TestLogpushRefusals(t *testing.T) {
	p := newPlatform(t)
	p.call(t, http.MethodPost, "/logpush/jobs", published).ok(t)
	const post, put, get, del = http.MethodPost, http.MethodPut, http.MethodGet, http.MethodDelete
	with := func(members string) string {
		return `{"dataset": "workers_trace_events", "destination_conf": "https://logs.example.com/", ` + members + `}`
	}
	filter := func(where string) string {
		text, err := json.Marshal(`{"where":` + where + `}`)
		if err != nil {
			t.Fatal(err)
		}
		return `"filter": ` + string(text)
	}
	for name, c := range map[string]struct {
		method, path, body string
		status, code       int
		pointer            string
		parts              []string
	}{
		"kind on create":       {post, "/jobs", with(`"kind": "edge"`), 400, 1002, "/kind", []string{"edge", "http_requests"}},
		"older kind":           {post, "/jobs", with(`"kind": "instant-logs"`), 400, 1002, "/kind", []string{"instant-logs"}},
		"kind changed":         {put, "/jobs/1", `{"kind": "edge"}`, 400, 1002, "/kind", []string{"kind cannot be changed"}},
		"dataset changed":      {put, "/jobs/1", `{"dataset": "dns_logs"}`, 400, 1002, "/dataset", []string{"dns_logs"}},
		"other dataset":        {post, "/jobs", `{"dataset": "audit_logs_v2", "destination_conf": "https://a/"}`, 400, 1002, "/dataset", []string{"audit_logs_v2"}},
		"no dataset":           {post, "/jobs", `{"destination_conf": "https://a/"}`, 400, 1002, "/dataset", []string{"dataset is missing"}},
		"no destination":       {post, "/jobs", `{"dataset": "workers_trace_events"}`, 400, 1002, "/destination_conf", []string{"destination_conf is missing"}},
		"long destination":     {post, "/jobs", `{"dataset": "workers_trace_events", "destination_conf": "https://a/` + strings.Repeat("a", 4096) + `"}`, 400, 1002, "/destination_conf", []string{"4096"}},
		"long name":            {post, "/jobs", with(`"name": "` + strings.Repeat("a", 513) + `"`), 400, 1002, "/name", []string{"513", "512"}},
		"name with a space":    {post, "/jobs", with(`"name": "a b"`), 400, 1002, "/name", []string{"a b"}},
		"frequency":            {post, "/jobs", with(`"frequency": "often"`), 400, 1002, "/frequency", []string{"often"}},
		"bytes":                {post, "/jobs", with(`"max_upload_bytes": 4999999`), 400, 1002, "/max_upload_bytes", []string{"4999999"}},
		"more bytes":           {post, "/jobs", with(`"max_upload_bytes": 1000000001`), 400, 1002, "/max_upload_bytes", []string{"1000000001"}},
		"interval":             {post, "/jobs", with(`"max_upload_interval_seconds": 29`), 400, 1002, "/max_upload_interval_seconds", []string{"29"}},
		"longer interval":      {post, "/jobs", with(`"max_upload_interval_seconds": 301`), 400, 1002, "/max_upload_interval_seconds", []string{"301"}},
		"records":              {post, "/jobs", with(`"max_upload_records": 999`), 400, 1002, "/max_upload_records", []string{"999"}},
		"more records":         {post, "/jobs", with(`"max_upload_records": 1000001`), 400, 1002, "/max_upload_records", []string{"1000001"}},
		"logpull options":      {post, "/jobs", with(`"logpull_options": "fields=Nope"`), 403, 1004, "/logpull_options", []string{"Nope"}},
		"unlicensed field":     {put, "/jobs/1", `{"output_options": {"field_names": ["BotScore"]}}`, 403, 1004, "/output_options/field_names/0", []string{"not allowed", "BotScore"}},
		"output type":          {put, "/jobs/1", `{"output_options": {"output_type": "parquet"}}`, 400, 1002, "/output_options/output_type", []string{"parquet"}},
		"timestamps":           {put, "/jobs/1", `{"output_options": {"timestamp_format": "epoch"}}`, 400, 1002, "/output_options/timestamp_format", []string{"epoch"}},
		"sample of nothing":    {put, "/jobs/1", `{"output_options": {"sample_rate": 0}}`, 400, 1002, "/output_options/sample_rate", []string{"0"}},
		"subrequests":          {put, "/jobs/1", `{"output_options": {"merge_subrequests": true}}`, 400, 1002, "/output_options/merge_subrequests", []string{"merge_subrequests true", "http_requests"}},
		"attack traffic":       {put, "/jobs/1", `{"filter_attack_traffic": true}`, 400, 1002, "/filter_attack_traffic", []string{"filter_attack_traffic true"}},
		"transformer":          {put, "/jobs/1", `{"transformer_id": 7}`, 400, 1002, "/transformer_id", []string{"transformer 7 not found for this account"}},
		"challenge letters":    {put, "/jobs/1", `{"ownership_challenge": "a b"}`, 400, 1002, "/ownership_challenge", []string{"letters"}},
		"long challenge":       {put, "/jobs/1", `{"ownership_challenge": "` + strings.Repeat("a", 4097) + `"}`, 400, 1002, "/ownership_challenge", []string{"4096"}},
		"filter on unknown":    {put, "/jobs/1", `{` + filter(`{"key":"ClientIP","operator":"eq","value":"1"}`) + `}`, 403, 1004, "/filter", []string{"ClientIP"}},
		"filter value's type":  {put, "/jobs/1", `{` + filter(`{"key":"CPUTimeMs","operator":"in","value":"200,201"}`) + `}`, 403, 1004, "/filter", []string{`failed to decode value`, "200,201"}},
		"silent destination":   {put, "/jobs/1", `{"destination_conf": "https://silent.example.com/"}`, 400, 1002, "/destination_conf", []string{"error validating destination"}},
		"refused destination":  {put, "/jobs/1", `{"destination_conf": "https://refused.example.com/"}`, 400, 1002, "/destination_conf", []string{"error validating destination: error writing object"}},
		"unknown job":          {get, "/jobs/99", "", 404, 1002, "", []string{"99"}},
		"change of unknown":    {put, "/jobs/99", "{}", 404, 1002, "", []string{"99"}},
		"deletion of unknown":  {del, "/jobs/99", "", 404, 1002, "", []string{"99"}},
		"transformers":         {get, "/transformers", "", 403, 1004, "", []string{"transformer feature is not available for this account"}},
		"new transformer":      {post, "/transformers", `{"name": "a", "code": "SELECT 1"}`, 403, 1004, "", []string{"transformer feature is not available"}},
		"transformer's code":   {get, "/transformers/1/content", "", 403, 1004, "", []string{"transformer feature is not available"}},
		"instant filter":       {post, "/edge/jobs", `{` + filter(`{"key":"CPUTimeMs","operator":"in","value":"200,201"}`) + `}`, 403, 1004, "/filter", []string{"creating a new instant logs job is not allowed: bad predicate: failed to decode value", "200,201"}},
		"instant field":        {post, "/edge/jobs", `{"fields": "Outcome,ClientIP"}`, 403, 1004, "/fields", []string{"creating a new instant logs job is not allowed", "ClientIP"}},
		"instant field twice":  {post, "/edge/jobs", `{"fields": "Outcome,Outcome"}`, 400, 1002, "/fields", []string{"twice"}},
		"instant sample":       {post, "/edge/jobs", `{"sample": 0}`, 400, 1002, "/sample", []string{"sample 0"}},
		"instant kind":         {post, "/edge/jobs", `{"kind": "edge"}`, 400, 1002, "/kind", []string{"edge", "instant-logs"}},
		"instant member":       {post, "/edge/jobs", `{"dataset": "http_requests"}`, 400, 1002, "/dataset", []string{"dataset"}},
		"no challenge to test": {post, "/ownership/validate", `{"destination_conf": "gs://lake/"}`, 400, 1002, "/ownership_challenge", []string{"ownership_challenge is missing"}},
		"nothing to challenge": {post, "/ownership", `{}`, 400, 1002, "/destination_conf", []string{"destination_conf is missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.call(t, c.method, "/logpush"+c.path, c.body)
			a.want(t, c.status, c.code, c.parts...)
			if a.Errors[0].Source.Pointer != c.pointer {
				t.Errorf("points at %q, want %q", a.Errors[0].Source.Pointer, c.pointer)
			}
			if !strings.Contains(a.text, `"success":false`) || !strings.Contains(a.text, `"messages":[]`) || !strings.Contains(a.text, `"result":null`) {
				t.Errorf("the envelope is %s", a.text)
			}
		})
	}
	if a := p.call(t, get, "/logpush/jobs", ""); strings.Count(a.text, `"id":`) != 1 || !strings.Contains(a.text, "REDACTED") {
		t.Errorf("refusals left %s", a.text)
	}
}
