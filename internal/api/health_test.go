package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/logjob"
	"tidegate/schema/control"
)

// report tells of a job's uploads at a minute.
func (p *platform) report(t *testing.T, job int64, at time.Time) {
	t.Helper()
	minute := func(at time.Time, status int, final bool, n int64) logjob.MinuteHealth {
		return logjob.MinuteHealth{Minute: at, Status: status, Final: final, DestinationType: "https", Destination: "https://health.example.com/***",
			Uploads: logjob.Uploads{Uploads: n, Records: 10 * n, Bytes: 100 * n, BytesCompressed: 20 * n, DurationMS: 5 * n, DurationMaxMS: 7}}
	}
	_, err := p.store.ReportHealth(t.Context(), []logjob.HealthReport{{
		JobID: job, At: at,
		Partitions:   []logjob.PartitionHealth{{Partition: 0, ReportedOn: at, Committed: 5, Next: 12, OldestOn: at.Add(-time.Minute), Message: "away"}, {Partition: 1, ReportedOn: at, Committed: 3, Next: 3}},
		Minutes:      []logjob.MinuteHealth{minute(at.Add(-time.Minute), 200, true, 3), minute(at, 200, true, 2), minute(at, 503, false, 4)},
		Drops:        []logjob.MinuteDrops{{Minute: at, Reason: "filter", Events: 9}},
		Failures:     []logjob.Failure{{ID: fmt.Sprint(job), Partition: 0, FirstOn: at, LastOn: at, Times: 4, Message: "away"}},
		FailingSince: at, SucceededAt: at,
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestHealthOfAJob(t *testing.T) { healthStory(t, newPlatform(t)) }

func healthStory(t *testing.T, p *platform) {
	j := p.mustJob(t, "https://health.example.com")
	if _, err := p.UpdateJob(t.Context(), account, j.ID, logjob.Update{Enabled: new(true)}); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/logpush/jobs/%d/health", j.ID)
	if a := p.call(t, http.MethodGet, path, ""); !strings.Contains(a.text, `"lag_events":null,"lag_seconds":null,"dead_letters":0,"complete_until":null,"last_failure":null,"resumed_from":null,"partitions":[]`) {
		t.Errorf("before anything is known the health is %s", a.text)
	}
	at := time.Now().UTC().Truncate(time.Second)
	p.report(t, j.ID, at)
	a := p.call(t, http.MethodGet, path, "")
	var h struct {
		CompleteUntil time.Time `json:"complete_until"`
		State         string
		Lag           int64   `json:"lag_events"`
		LagSeconds    float64 `json:"lag_seconds"`
		Retries       int64   `json:"retries"`
		Dropped       map[string]int64
		Uploads       []struct{ Status, Uploads, Records int64 }
		Failures      []struct {
			Message string
			Times   int64
		}
	}
	if err := json.Unmarshal(a.Result, &h); err != nil {
		t.Fatal(err)
	}
	if h.State != "failing" || h.Lag != 7 || h.LagSeconds != 60 || !h.CompleteUntil.Equal(at.Add(-time.Minute)) || h.Retries != 4 || h.Dropped["filter"] != 9 ||
		len(h.Uploads) != 2 || h.Uploads[0].Records != 50 || h.Uploads[1].Status != 503 || len(h.Failures) != 1 || h.Failures[0].Times != 4 {
		t.Errorf("the health is %s", a.text)
	}
	p.call(t, http.MethodGet, path+"?since=yesterday", "").want(t, http.StatusBadRequest, 1002, "since", "yesterday")

	if _, err := p.SetAlertHook(t.Context(), account, "https://alerts.example.com/hook", "s3cret"); err != nil {
		t.Fatal(err)
	}
	hook, err := p.AlertHook(t.Context(), account)
	if err != nil || hook == nil || hook.URL != "https://alerts.example.com/hook" || !hook.HasSecret || hook.PolicyID == "" {
		t.Errorf("the alerts are %+v, error %v", hook, err)
	}
	if err := p.DeleteAlertHook(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	if a := p.call(t, http.MethodGet, "/logpush/alerts", ""); a.status != http.StatusOK || !strings.Contains(a.text, `"result":null`) {
		t.Errorf("without alerts the answer is %d %s", a.status, a.text)
	}
	for _, bad := range []string{`{}`, `{"url":"ftp://a"}`, `{"url":"https://10.0.0.1/hook"}`, `{"url":"https://u:p@a/"}`, `{"url":"https://a/","secret":"a\nb"}`} {
		if a := p.call(t, http.MethodPut, "/logpush/alerts", bad); a.status != http.StatusBadRequest {
			t.Errorf("%s answered %d %s", bad, a.status, a.text)
		}
	}
	p.graph(t, p.token, fmt.Sprintf(`{viewer{accounts(filter:{accountTag:%q}){accountTag}}}`, account), nil)
}

// A token that may not see credentials sees how all jobs do.
func TestHealthOfAllJobs(t *testing.T) {
	p := newPlatform(t)
	quiet, busy := p.mustJob(t, "https://quiet.example.com/hook?key=s3cret"), p.mustJob(t, "https://health.example.com/hook?key=s3cret")
	if _, err := p.UpdateJob(t.Context(), account, busy.ID, logjob.Update{Enabled: new(true), Name: new("busy")}); err != nil {
		t.Fatal(err)
	}
	p.report(t, busy.ID, time.Now().UTC().Truncate(time.Second))
	_, reader, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "r", Scopes: []control.Scope{control.LogsRead}})
	if err != nil {
		t.Fatal(err)
	}
	a := p.do(t, http.MethodGet, "/client/v4/accounts/"+account+"/logpush/health", bearer(reader), "")
	var list []struct {
		ID          int64 `json:"job_id"`
		Name        string
		Destination string
		State       string
		Lag         *int64 `json:"lag_events"`
	}
	if err := json.Unmarshal(a.Result, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].ID != quiet.ID || list[0].State != "disabled" || list[0].Lag != nil ||
		list[1].ID != busy.ID || list[1].Name != "busy" || list[1].State != "failing" || *list[1].Lag != 7 ||
		list[1].Destination != "https://health.example.com/*** (1 parameter)" || strings.Contains(a.text, "s3cret") {
		t.Errorf("the health of all jobs is %s", a.text)
	}
}

func TestKeysOfFilters(t *testing.T) {
	p := newPlatform(t)
	a := p.call(t, http.MethodGet, "/logpush/datasets/workers_trace_events/filter-keys", "")
	if want := `{"key":"Event.Response.Status","type":"int","operators":["eq",`; !strings.Contains(a.text, want) {
		t.Errorf("the keys are %s, without %s", a.text, want)
	}
	p.call(t, http.MethodGet, "/logpush/datasets/http_requests/filter-keys", "").want(t, http.StatusNotFound, 1002, "http_requests")
}

// graph returns the text of a query's answer.
func (p *platform) graph(t *testing.T, token, query string, variables map[string]any) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		t.Fatal(err)
	}
	a := p.do(t, http.MethodPost, "/client/v4/graphql", bearer(token), `x`)
	if a.status != http.StatusBadRequest {
		t.Fatalf("no JSON answered %d", a.status)
	}
	header := bearer(token)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/client/v4/graphql", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	res, err := p.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var text strings.Builder
	if _, err := fmt.Fprint(&text, res.StatusCode, " "); err != nil {
		t.Fatal(err)
	}
	var raw json.RawMessage
	if err := json.NewDecoder(res.Body).Decode(&raw); err != nil {
		t.Fatal(err)
	}
	return text.String() + string(raw)
}

// The last batch became dead letters, all of it, and nothing came since.
func TestAJobThatHasNothingToSendIsNotFailing(t *testing.T) {
	p := newPlatform(t)
	j := p.mustJob(t, "https://health.example.com")
	enabled := true
	if _, err := p.UpdateJob(t.Context(), account, j.ID, logjob.Update{Enabled: &enabled}); err != nil {
		t.Fatal(err)
	}
	for next, want := range map[int64]string{8: "degraded", 9: "failing"} {
		now := time.Now()
		report := logjob.HealthReport{JobID: j.ID, At: now, FailingSince: now,
			Partitions: []logjob.PartitionHealth{{ReportedOn: now, Committed: 8, Next: next}}}
		if _, err := p.store.ReportHealth(t.Context(), []logjob.HealthReport{report}); err != nil {
			t.Fatal(err)
		}
		a := p.call(t, http.MethodGet, fmt.Sprintf("/logpush/jobs/%d/health", j.ID), "")
		if !strings.Contains(a.text, `"state":"`+want+`"`) {
			t.Errorf("with %d of %d delivered the health is %s, want %s", 8, next, a.text, want)
		}
	}
}

// The story: a destination refused a part of each batch. The success that followed
// cleared the last error, and the job was well in 13 of 14 looks at it while 206
// records became dead letters.
func TestAJobWhoseDeadLettersWaitIsNotWell(t *testing.T) {
	p := newPlatform(t)
	j := p.mustJob(t, "https://health.example.com")
	enabled := true
	if _, err := p.UpdateJob(t.Context(), account, j.ID, logjob.Update{Enabled: &enabled}); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	refusal := logjob.Failure{ID: "f1", Partition: -1, FirstOn: now, LastOn: now, Times: 1, Message: "1 of 8 records were refused"}
	older := logjob.Failure{ID: "f0", Partition: 3, FirstOn: now.Add(-time.Hour), LastOn: now.Add(-time.Hour), Times: 2, Message: "away"}
	if _, err := p.store.ReportHealth(t.Context(), []logjob.HealthReport{{JobID: j.ID, At: now, SucceededAt: now, Failures: []logjob.Failure{older, refusal}}}); err != nil {
		t.Fatal(err)
	}
	p.letters(t, j.ID, 0, 1)
	if err := p.store.ReportDelivery(t.Context(), logjob.Delivery{JobID: j.ID, CompleteUntil: now}); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/logpush/jobs/%d/health", j.ID)
	for _, one := range []string{path, "/logpush/health"} {
		a := p.call(t, http.MethodGet, one, "")
		for _, want := range []string{`"state":"degraded"`, `"error_message":null`, `"last_failure":{"partition":null,`, `"message":"1 of 8 records were refused"}`} {
			if !strings.Contains(a.text, want) {
				t.Errorf("%s answers %s, without %s", one, a.text, want)
			}
		}
	}
	list, _, err := p.DeadLetters(t.Context(), account, j.ID, "new", 1, 1)
	if err != nil || len(list) != 1 {
		t.Fatalf("the letters are %+v, error %v", list, err)
	}
	if err := p.DeleteDeadLetter(t.Context(), account, j.ID, list[0].ID); err != nil {
		t.Fatal(err)
	}
	if a := p.call(t, http.MethodGet, path, ""); !strings.Contains(a.text, `"state":"ok"`) {
		t.Errorf("once no letter waits the health is %s", a.text)
	}
}

func TestGraphQL(t *testing.T) {
	p := newPlatform(t)
	at := time.Now().UTC().Truncate(time.Minute)
	one, two := p.mustJob(t, "https://health.example.com"), p.mustJob(t, "https://health.example.com/2")
	p.report(t, one.ID, at)
	p.report(t, two.ID, at)
	groups := func(arguments, fields string) string {
		from := ""
		if strings.Contains(arguments, "$from") {
			from = "$from: Time, "
		}
		return fmt.Sprintf(`query Q(`+from+`$account: String!) { viewer { accounts(filter: {accountTag: $account}) {
			logpushHealthAdaptiveGroups(%s) { %s } } } }`, arguments, fields)
	}
	variables := map[string]any{"account": account, "from": at.Add(-time.Hour).Format(time.RFC3339)}
	f := func(arguments, fields, want string) {
		t.Helper()
		got := p.graph(t, p.token, groups(arguments, fields), variables)
		if want = `200 {"data":{"viewer":{"accounts":[{"logpushHealthAdaptiveGroups":` + want + `}]}},"errors":null}`; got != want {
			t.Errorf("%s { %s } answered\n%s, want\n%s", arguments, fields, got, want)
		}
	}
	f(`filter: {datetime_geq: $from}, limit: 10`, `count sum { uploads records bytes bytesCompressed }`,
		`[{"count":18,"sum":{"bytes":1800,"bytesCompressed":360,"records":180,"uploads":18}}]`)
	f(`filter: {datetime_geq: $from, status_neq: 200}, limit: 10, orderBy: [jobId_DESC]`, `dimensions { jobId status final destinationType destination } count`,
		fmt.Sprintf(`[{"count":4,"dimensions":{"destination":"https://health.example.com/***","destinationType":"https","final":0,"jobId":%d,"status":503}},`+
			`{"count":4,"dimensions":{"destination":"https://health.example.com/***","destinationType":"https","final":0,"jobId":%d,"status":503}}]`, two.ID, one.ID))
	f(fmt.Sprintf(`filter: {jobId: %d, status: 200}, limit: 10, orderBy: [datetimeMinute_ASC]`, one.ID), `dimensions { datetimeMinute } ... on LogpushHealthGroup { sum { n: records } }`,
		fmt.Sprintf(`[{"dimensions":{"datetimeMinute":%q},"sum":{"n":30}},{"dimensions":{"datetimeMinute":%q},"sum":{"n":20}}]`, at.Add(-time.Minute).Format(time.RFC3339), at.Format(time.RFC3339)))
	f(fmt.Sprintf(`filter: {datetime_lt: %q, OR: [{jobId: %d}, {status_in: [503]}]}, limit: 10`, at.Format(time.RFC3339), one.ID), `count`, `[{"count":3}]`)
	f(`filter: {jobId_in: [999]}, limit: 10`, `count`, `[]`)
	twice := groups(`filter: {jobId_in: [999]}, limit: 10`, `count`)
	twice = strings.TrimSuffix(twice, " } }") + ` accounts(filter: {accountTag: $account}) { accountTag } } }`
	if got, want := p.graph(t, p.token, twice, variables), `200 {"data":{"viewer":{"accounts":[{"accountTag":"`+account+`","logpushHealthAdaptiveGroups":[]}]}},"errors":null}`; got != want {
		t.Errorf("%s answered\n%s, want\n%s", twice, got, want)
	}
	f(`filter: {}, limit: 1, orderBy: [sum_records_DESC]`, `dimensions { status }`, `[{"dimensions":{"status":200}}]`)

	if _, err := p.store.ReportHealth(t.Context(), []logjob.HealthReport{{JobID: one.ID, At: at, Minutes: []logjob.MinuteHealth{
		{Minute: at, Status: 201, Final: true, DestinationType: "kafka", Uploads: logjob.Uploads{Uploads: 1, Records: 5, Bytes: 50}}}}}); err != nil {
		t.Fatal(err)
	}
	f(`filter: {datetime_geq: $from, status: 201}, limit: 10`, `sum { bytes bytesCompressed }`, `[{"sum":{"bytes":50,"bytesCompressed":null}}]`)
	if a := p.call(t, http.MethodGet, fmt.Sprintf("/logpush/jobs/%d/health", one.ID), ""); !strings.Contains(a.text, `"status":201,"final":true,"uploads":1,"records":5,"bytes":50,"duration_ms"`) {
		t.Errorf("the health is %s, want no compressed size where it is not known", a.text)
	}

	refused := func(token, query, want string) {
		t.Helper()
		if got := p.graph(t, token, query, variables); !strings.Contains(got, `"data":null`) || !strings.Contains(got, want) {
			t.Errorf("%s answered %s, want %q", query, got, want)
		}
	}
	refused(p.token, groups(`filter: {}, limit: 10`, `avg { sampleInterval }`), `Cannot query field \"avg\" on type \"LogpushHealthGroup\"`)
	refused(p.token, groups(`filter: {zone: 1}, limit: 10`, `count`), `zone`)
	refused(p.token, groups(`filter: {}`, `count`), `limit`)
	refused(p.token, groups(`filter: {}, limit: 0`, `count`), `limit must be positive number and not greater than 10000`)
	refused(p.token, groups(`filter: {datetime: "noon"}, limit: 1`, `count`), `noon`)
	refused(p.token, groups(`filter: {}, limit: 99999999999999999999`, `count`), `99999999999999999999`)
	refused(p.token, `{ viewer { zones { zoneTag } } }`, `zones`)
	bomb := groups(`filter: {}, limit: 1`, `dimensions { ...f0 }`)
	for i := range 60 {
		bomb += fmt.Sprintf(" fragment f%d on LogpushHealthDimensions { ...f%d ...f%d }", i, i+1, i+1)
	}
	refused(p.token, bomb+" fragment f60 on LogpushHealthDimensions { jobId }", `number of fields can't be more than 5000`)
	refused(p.token, groups(`filter: {}, limit: 1`, strings.Repeat("count ", 2000)), `token limit`)
	refused(p.token, groups(`filter: {jobId_in: [`+strings.Repeat("1,", 300)+`]}, limit: 1`, `count`), `300 conditions, more than the 200 allowed`)
	refused(p.token, `mutation { a }`, `mutation`)
	refused(p.token, `{`, `Expected`)
	refused(p.token, `{viewer{accounts(filter:{accountTag:"ffffffffffffffffffffffffffffffff"}){accountTag}}}`, `ffffffff`)

	_, scripts, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "s", Scopes: []control.Scope{control.ScriptsRead}})
	if err != nil {
		t.Fatal(err)
	}
	refused(scripts, groups(`filter: {}, limit: 1`, `count`), `logs:read`)
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := p.CreateToken(t.Context(), control.Token{AccountID: other.ID, Name: "f", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	refused(foreign, groups(`filter: {}, limit: 1`, `count`), `does not open account`)
}
