package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
	"tidegate/schema/control"
)

// TestEveryOperation drives each operation of openapi.yaml to a success; the
// validator holds the answers against the document.
func TestEveryOperation(t *testing.T) {
	p := newPlatform(t)
	audited := p.auditing()
	t.Run("accounts", func(t *testing.T) { accounts(t, p) })
	t.Run("operators' tokens", func(t *testing.T) { operatorTokens(t, p) })
	t.Run("scripts", func(t *testing.T) { scripts(t, p) })
	t.Run("workers", func(t *testing.T) { workers(t, p) })
	t.Run("services", func(t *testing.T) { services(t, p) })
	t.Run("hosts", func(t *testing.T) { hosts(t, p) })
	t.Run("schedules", func(t *testing.T) { schedules(t, p) })
	t.Run("zones", func(t *testing.T) { zones(t, p) })
	t.Run("domains", func(t *testing.T) { domains(t, p) })
	t.Run("tails", func(t *testing.T) { tails(t, p) })
	t.Run("affinity", func(t *testing.T) { affinity(t, p) })
	t.Run("redaction", func(t *testing.T) { redaction(t, p) })
	t.Run("deletions", func(t *testing.T) { deletions(t, p) })
	t.Run("sampling", func(t *testing.T) { sampling(t, p) })
	t.Run("questions", func(t *testing.T) { questions(t, p) })
	t.Run("events", func(t *testing.T) { eventsStory(t, p) })
	t.Run("calls", func(t *testing.T) { callsStory(t, p) })
	t.Run("rollback", func(t *testing.T) { rollback(t, p) })
	t.Run("jobs", func(t *testing.T) { jobs(t, p) })
	t.Run("system health", func(t *testing.T) { systemHealth(t, p) })
	t.Run("audit log", func(t *testing.T) { auditLog(t, p) })
	t.Run("logpush", func(t *testing.T) { logpushQuestions(t, p) })
	t.Run("instant logs", func(t *testing.T) { instantLogs(t, p) })
	t.Run("tried jobs", func(t *testing.T) { previewStory(t, p) })
	t.Run("dead letters", func(t *testing.T) { deadLetterStory(t, p) })
	t.Run("health", func(t *testing.T) { healthStory(t, p) })
	t.Run("replays", func(t *testing.T) { replayStory(t, p) })
	t.Run("snapshot", func(t *testing.T) {
		valid := func(snap *deploy.Snapshot, err error) {
			if err != nil || snap.Validate() != nil {
				t.Errorf("snapshot %+v, error %v", snap, err)
			}
		}
		valid(p.Snapshot(t.Context(), account, 0))
		valid(p.SnapshotAll(t.Context(), 0))
	})
	t.Run("routers", func(t *testing.T) { routers(t, p) })
	t.Run("sessions", func(t *testing.T) { sessionStory(t, p) })
	t.Run("people", func(t *testing.T) { peopleStory(t, p) })
	t.Run("saved again", func(t *testing.T) { savedAgain(t, p) })
	t.Run("delete", func(t *testing.T) {
		if err := p.DeleteScript(t.Context(), account, "shop"); err != nil {
			t.Fatal(err)
		}
		wantKind(t, p.DeleteScript(t.Context(), account, "shop"), errs.NotFound)
	})
	if rest := p.validator.Unanswered(); len(rest) > 0 {
		t.Errorf("never answered 200 here: %v", rest)
	}
	audited.check(t)
}

func accounts(t *testing.T, p *platform) {
	ctx := t.Context()
	for _, path := range []string{"/user", "/user/tokens/verify", "/memberships"} {
		if a := p.do(t, http.MethodGet, "/client/v4"+path, http.Header{"X-Auth-Key": {p.token}, "X-Auth-Email": {"me@example.com"}}, ""); a.status != http.StatusOK {
			t.Errorf("GET %s answered %d %s", path, a.status, a.text)
		}
	}
	second, err := p.CreateAccount(ctx, "Second")
	if err != nil || second.Subdomain != "second" {
		t.Fatalf("account %+v, error %v", second, err)
	}
	if list, err := p.Accounts(ctx); err != nil || len(list) != 2 {
		t.Fatalf("accounts %+v, error %v", list, err)
	}
	if a, err := p.Account(ctx, account); err != nil || a.Subdomain != "dev" || a.MaxVersions != 2 {
		t.Fatalf("account %+v, error %v", a, err)
	}
	three, hundred := 3, 100
	if a, err := p.UpdateAccount(ctx, second.ID, control.AccountUpdate{MaxVersions: &three}); err != nil || a.MaxVersions != 3 || a.MaxJobs != second.MaxJobs {
		t.Fatalf("account %+v, error %v", a, err)
	}
	renamed := "Second & Sons"
	if a, err := p.UpdateAccount(ctx, second.ID, control.AccountUpdate{Name: &renamed}); err != nil || a.Name != renamed || a.MaxVersions != 3 || a.Subdomain != "second" {
		t.Errorf("account %+v, error %v", a, err)
	}
	if a, err := p.UpdateAccount(ctx, second.ID, control.AccountUpdate{MaxJobs: &hundred}); err != nil || a.MaxVersions != 3 || a.MaxJobs != 100 {
		t.Fatalf("account %+v, error %v", a, err)
	}
	if a, err := p.Account(ctx, second.ID); err != nil || a.MaxVersions != 3 || a.MaxJobs != 100 {
		t.Fatalf("account %+v, error %v", a, err)
	}
	token, secret, err := p.CreateToken(ctx, control.Token{
		AccountID: second.ID, Name: "ci", Scopes: []control.Scope{control.ScriptsEdit}, ExpiresOn: time.Now().Add(time.Hour),
	})
	if err != nil || token.Email != "admin@localhost" {
		t.Fatalf("token %+v, error %v", token, err)
	}
	theirs := client.New(p.url, secret, p.http)
	if list, err := theirs.Accounts(ctx); err != nil || len(list) != 1 || list[0].ID != second.ID {
		t.Fatalf("the second account's token sees %+v, error %v", list, err)
	}
	if list, err := p.Tokens(ctx, second.ID); err != nil || len(list) != 1 || list[0].ID != token.ID || list[0].LastUsedOn.IsZero() {
		t.Fatalf("tokens %+v, error %v", list, err)
	}
	if err := p.DeleteToken(ctx, second.ID, token.ID); err != nil {
		t.Fatal(err)
	}
	_, err = theirs.Accounts(ctx)
	wantKind(t, err, errs.Unauthorized)
}

func scripts(t *testing.T, p *platform) {
	ctx := t.Context()
	long := strings.Repeat("é", 600) // 1200 bytes
	v1, err := p.CreateVersion(ctx, account, "shop", deploy.Version{
		Origin: &deploy.Origin{URL: "http://127.0.0.1:9001"}, Annotations: deploy.Annotations{Tag: "v1", Message: long, Alias: "stable"},
	})
	if err != nil || v1.Number != 1 || v1.Annotations.TriggeredBy != "version_upload" || v1.AuthorEmail != "admin@localhost" || v1.Source != "api" {
		t.Fatalf("version %+v, error %v", v1, err)
	}
	if m := v1.Annotations.Message; len(m) != deploy.MessageBytesMax || !utf8.ValidString(m) {
		t.Errorf("the message was cut to %d bytes", len(m))
	}
	v2 := p.upload(t, "shop", "v2")
	if got, err := p.Version(ctx, account, "shop", v1.ID); err != nil || got.Origin.URL != "http://127.0.0.1:9001" || !got.CreatedOn.Equal(v1.CreatedOn) {
		t.Fatalf("version %+v, error %v", got, err)
	}
	if list, err := p.DeployableVersions(ctx, account, "shop"); err != nil || len(list) != 2 || list[0].ID != v2.ID || list[0].Annotations.Tag != "v2" {
		t.Fatalf("deployable %+v, error %v", list, err)
	}
	if list, total, err := p.Versions(ctx, account, "shop", 2, 1); err != nil || total != 2 || len(list) != 1 || list[0].ID != v1.ID {
		t.Fatalf("page 2 %+v of %d, error %v", list, total, err)
	}
	if list, _, err := p.Versions(ctx, account, "shop", 3, 1); err != nil || len(list) != 0 {
		t.Fatalf("page 3 %+v, error %v", list, err)
	}
	if list, err := p.Deployments(ctx, account, "shop"); err != nil || len(list) != 0 {
		t.Fatalf("deployments %+v, error %v", list, err)
	}
	first, err := p.Deploy(ctx, account, "shop", []deploy.Split{split(v1, 100)}, "first")
	if err != nil || first.Annotations.Message != "first" || first.Annotations.TriggeredBy != "deployment" {
		t.Fatalf("deployment %+v, error %v", first, err)
	}
	second, err := p.Deploy(ctx, account, "shop", []deploy.Split{split(v2, 12.346), split(v1, 87.654)}, "")
	if err != nil || second.Versions[0].Percentage != 12346 {
		t.Fatalf("deployment %+v, error %v", second, err)
	}
	wantKind(t, p.DeleteDeployment(ctx, account, "shop", second.ID), errs.Invalid)
	if list, err := p.Deployments(ctx, account, "shop"); err != nil || len(list) != 2 || list[0].ID != second.ID {
		t.Fatalf("deployments %+v, error %v", list, err)
	}
	if got, err := p.Deployment(ctx, account, "shop", first.ID); err != nil || got.ID != first.ID || !got.CreatedOn.Equal(first.CreatedOn) {
		t.Fatalf("deployment %+v, error %v", got, err)
	}
	if err := p.DeleteDeployment(ctx, account, "shop", first.ID); err != nil {
		t.Fatal(err)
	}
	codeUpdates(t, p, v1)
	settings(t, p)
	for _, step := range []string{"300", "300s", "5m"} {
		if a := p.call(t, http.MethodGet, "/workers/scripts/shop/metrics?step="+step, ""); !strings.Contains(a.text, `"step_seconds":300,`) {
			t.Errorf("step %s answered %d %s", step, a.status, a.text)
		}
	}
	m, err := p.Metrics(ctx, account, "shop", time.Time{}, time.Time{}, 0)
	if err != nil || m.StepSeconds != 12 || len(m.Versions) != 2 || *m.Versions[0].FailureRate != 0.015 || m.Versions[0].WallMs.P99 != 3 ||
		m.Versions[1].FailureRate != nil || m.Versions[1].WallMs != nil || len(m.Series) != 1 || !m.Series[0].Time.Equal(m.Since) {
		t.Fatalf("metrics %+v, error %v", m, err)
	}
}

// codeUpdates: current wrangler sends a strategy with every deployment.
func codeUpdates(t *testing.T, p *platform, v deploy.Version) {
	for sent, effective := range map[string]string{
		``:                                     `{"mode":"deferred","max_delay":300}`,
		`null`:                                 `{"mode":"deferred","max_delay":300}`,
		`{}`:                                   `{"mode":"deferred","max_delay":300}`,
		`{"mode":"immediate"}`:                 `{"mode":"immediate"}`,
		`{"max_delay":0}`:                      `{"mode":"deferred","max_delay":0}`,
		`{"mode":"deferred","max_delay":0.25}`: `{"mode":"deferred","max_delay":0.25}`,
	} {
		body := `{"strategy":"percentage","versions":[{"version_id":"` + v.ID + `","percentage":100}]`
		if sent != "" {
			body += `,"code_update_strategy":` + sent
		}
		a := p.call(t, http.MethodPost, "/workers/scripts/shop/deployments", body+"}")
		want := `"code_update_strategy":` + effective
		if a.status != http.StatusOK || !strings.Contains(a.text, want) {
			t.Errorf("%s: answered %d %s, want %s", sent, a.status, a.text, want)
		}
		if a := p.call(t, http.MethodGet, "/workers/scripts/shop/deployments", ""); !strings.Contains(a.text, want) {
			t.Errorf("%s: listed as %s, want %s", sent, a.text, want)
		}
	}
}

func settings(t *testing.T, p *platform) {
	ctx := t.Context()
	if err := p.SetRoutes(ctx, account, "shop", []string{"Shop.Example.com/*", "shop.example.org/api/*"}); err != nil {
		t.Fatal(err)
	}
	p.upload(t, "other", "v1")
	err := p.SetRoutes(ctx, account, "other", []string{"shop.example.com/*"})
	wantKind(t, err, errs.Conflict)
	if e, ok := errors.AsType[*errs.Error](err); !ok || e.Code != 10020 {
		t.Errorf("a taken route: %v", err)
	}
	if list, err := p.Routes(ctx, account, "shop"); err != nil || len(list) != 2 || list[0] != "shop.example.com/*" {
		t.Fatalf("routes %v, error %v", list, err)
	}
	if err := p.SetTags(ctx, account, "shop", []string{"team-a"}); err != nil {
		t.Fatal(err)
	}
	if tags, err := p.Tags(ctx, account, "shop"); err != nil || len(tags) != 1 {
		t.Fatalf("tags %v, error %v", tags, err)
	}
	list, err := p.Scripts(ctx, account)
	if err != nil || len(list) != 2 || list[1].Name != "shop" || list[1].Tags[0] != "team-a" || len(list[1].Routes) != 2 || !list[1].Logpush.Enabled() {
		t.Fatalf("scripts %+v, error %v", list, err)
	}
}

func rollback(t *testing.T, p *platform) {
	ctx := t.Context()
	_, err := p.Policy(ctx, account, "shop")
	wantKind(t, err, errs.NotFound)
	if a := p.call(t, http.MethodPut, "/workers/scripts/shop/rollback-policy", `{"enabled": true, "max_failure_rate": 0.05}`); a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	policy, err := p.Policy(ctx, account, "shop")
	if err != nil || !policy.Enabled || *policy.MaxFailureRate != 0.05 || policy.MinRequests != 20 || policy.LookBackSeconds != 300 || policy.Source != deploy.PolicyOfScript || policy.Action != deploy.ActionRollback {
		t.Fatalf("policy %+v, error %v", policy, err)
	}
	policy.Ramp = []deploy.RampStep{{Percentage: 5000, BakeSeconds: 300}, {Percentage: deploy.Full}}
	if policy, err = p.SavePolicy(ctx, account, "shop", policy.RollbackPolicy, new(int64(1))); err != nil || policy.Revision != 2 || len(policy.Ramp) != 2 {
		t.Fatalf("policy %+v, error %v", policy, err)
	}
	_, err = p.SavePolicy(ctx, account, "shop", policy.RollbackPolicy, new(int64(1)))
	wantKind(t, err, errs.Precondition)
	_, err = p.Ramp(ctx, account, "shop")
	wantKind(t, err, errs.NotFound)
	serving, err := p.Deployments(ctx, account, "shop")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.store.ApplyDecision(ctx, account, "shop", deploy.Judged{DeploymentID: ""}, nil, &deploy.Ramp{DeploymentID: serving[0].ID, State: deploy.RampRunning, Steps: policy.Ramp, StepStartedAt: time.Now()}, nil); err != nil {
		t.Fatal(err)
	}
	if r, err := p.ControlRamp(ctx, account, "shop", deploy.RampPause, ""); err != nil || r.State != deploy.RampPaused {
		t.Fatalf("ramp %+v, error %v", r, err)
	}
	_, err = p.ControlRamp(ctx, account, "shop", deploy.RampPause, "")
	wantKind(t, err, errs.Conflict)
	_, err = p.ControlRamp(ctx, account, "shop", deploy.RampResume, "another")
	wantKind(t, err, errs.Conflict)
	if r, err := p.Ramp(ctx, account, "shop"); err != nil || r.State != deploy.RampPaused || len(r.Steps) != 2 {
		t.Fatalf("ramp %+v, error %v", r, err)
	}
	if r, err := p.ControlRamp(ctx, account, "shop", deploy.RampResume, ""); err != nil || r.State != deploy.RampRunning || r.ResumedAt.IsZero() {
		t.Fatalf("ramp %+v, error %v", r, err)
	}
	requests, began := int64(5120), time.Now().Add(-time.Hour)
	decision := deploy.RollbackDecision{
		ID: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", At: time.Now(), Verdict: deploy.VerdictFail, Action: deploy.ActionRollback, FromDeployment: "a", VersionID: "b",
		Numbers: deploy.Numbers{Requests: &requests}, Sentence: "rolled back v2",
		BaselineVersionID: "c", Evidence: []deploy.Evidence{{Metric: deploy.MetricFailureRatio, Limit: 1, LogE: 7, Threshold: 6.9, Low: new(1.5), High: new(12.0), Series: []deploy.EvidencePoint{{At: began}}}},
	}
	if err := p.store.ApplyDecision(ctx, account, "shop", deploy.Judged{DeploymentID: ""}, nil, nil, &decision); err != nil {
		t.Fatal(err)
	}
	if list, err := p.Notifications(ctx, account, "shop"); err != nil || len(list) != 0 {
		t.Errorf("nobody is to be told, and told are %+v, error %v", list, err)
	}
	if list, err := p.TestNotify(ctx, account, "shop"); err != nil || len(list) != 0 {
		t.Errorf("nobody is to be told, and tested were %+v, error %v", list, err)
	}
	backtests(t, p)
	if list, err := p.Decisions(ctx, account, "shop"); err != nil || len(list) != 1 || *list[0].Numbers.Requests != requests || list[0].At.IsZero() || len(list[0].Evidence) != 1 || list[0].Evidence[0].Series != nil ||
		*list[0].Evidence[0].Low != 1.5 || *list[0].Evidence[0].High != 12 {
		t.Fatalf("decisions %+v, error %v", list, err)
	}
	p.call(t, http.MethodGet, "/workers/scripts/shop/rollback-decisions?page=2&per_page=1", "").ok(t, `"result":[]`, `"total_count":1`)
	p.call(t, http.MethodGet, "/workers/serving", "").ok(t, `"script":"shop"`)
	whole, err := p.Decision(ctx, account, "shop", decision.ID)
	if err != nil || len(whole.Evidence) != 1 || len(whole.Evidence[0].Series) != 1 || whole.Sentence != decision.Sentence {
		t.Fatalf("decision %+v, error %v", whole, err)
	}
	for link, has := range map[string]string{whole.Links.Exceptions: "compared_to=" + decision.BaselineVersionID + "&new_in=" + decision.VersionID, whole.Links.Events: "failed=true", whole.Links.Metrics: "metrics?"} {
		if !strings.Contains(link, has) || !strings.Contains(link, "since="+url.QueryEscape(began.UTC().Format(time.RFC3339))) {
			t.Errorf("link %s", link)
		}
		if a := p.do(t, http.MethodGet, link, bearer(p.token), ""); a.status != http.StatusOK {
			t.Errorf("%s answered %d %s", link, a.status, a.text)
		}
	}
	// A version may be on trial for longer than can be asked about.
	decision.ID, decision.Evidence[0].Series = "cccccccc-cccc-4ccc-8ccc-cccccccccccc", []deploy.EvidencePoint{{At: time.Now().Add(-100 * 24 * time.Hour)}}
	if err := p.store.ApplyDecision(ctx, account, "shop", deploy.Judged{DeploymentID: ""}, nil, nil, &decision); err != nil {
		t.Fatal(err)
	}
	if whole, err = p.Decision(ctx, account, "shop", decision.ID); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{whole.Links.Exceptions, whole.Links.Events, whole.Links.Metrics} {
		if a := p.do(t, http.MethodGet, link, bearer(p.token), ""); a.status != http.StatusOK {
			t.Errorf("%s answered %d %s", link, a.status, a.text)
		}
	}
	_, err = p.Decision(ctx, account, "shop", "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")
	wantKind(t, err, errs.NotFound)
	policies(t, p)
}

// policies is how a script comes to follow its account, and who may say so.
func policies(t *testing.T, p *platform) {
	ctx := t.Context()
	const own, fallback = "/workers/scripts/shop/rollback-policy", "/workers/rollback-policy"
	as := func(tag string) http.Header {
		header := bearer(p.token)
		header.Set("If-Match", tag)
		return header
	}
	send := func(method, path string, header http.Header, body string) answer {
		t.Helper()
		return p.do(t, method, "/client/v4/accounts/"+account+path, header, body)
	}
	send(http.MethodPut, own, as(`"1"`), `{"enabled": true}`).want(t, http.StatusPreconditionFailed, 10001, `"2"`)
	send(http.MethodDelete, own, as(`"1"`), ``).want(t, http.StatusPreconditionFailed, 10001, `"2"`)
	if a := send(http.MethodDelete, own, as(`"2"`), ``); a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	_, err := p.Policy(ctx, account, "")
	wantKind(t, err, errs.NotFound)
	p.call(t, http.MethodPut, fallback, `{"enabled": true, "confidence": 0.99, "notify": [{"type": "webhook", "url": "https://hooks.example.com/", "secret": "s3cret and more of it"}]}`).
		ok(t, `"source":"account"`, `"revision":1`, `"modified_by":"admin@localhost"`, `"max_failure_ratio":1`, `"secret":"***"`)
	followed, err := p.Policy(ctx, account, "shop")
	if err != nil || followed.Source != deploy.PolicyOfAccount || followed.Confidence != 0.99 || followed.ModifiedOn.IsZero() {
		t.Fatalf("policy %+v, error %v", followed, err)
	}
	if p, err := p.Policy(ctx, account, ""); err != nil || p.Revision != 1 || p.Notify[0].Secret != "***" {
		t.Fatalf("policy %+v, error %v", p, err)
	}
	// What an answer shows may be sent, and its secrets are kept.
	shown := p.call(t, http.MethodGet, own, "")
	text, err := json.Marshal(followed)
	if err != nil {
		t.Fatal(err)
	}
	if tag := shown.header.Get("ETag"); tag != `"0"` {
		t.Errorf("ETag %s of a script without a policy", tag)
	}
	send(http.MethodPut, own, as(`"0"`), string(text)).ok(t, `"source":"script"`, `"revision":4`, `"confidence":0.99`)
	if stored, err := p.store.Policy(ctx, account, "shop"); err != nil || stored.Policy.Notify[0].Secret != "s3cret and more of it" {
		t.Fatalf("policy %+v, error %v", stored, err)
	}
	list, err := p.PolicyRevisions(ctx, account, "shop")
	if err != nil || len(list) != 4 || list[0].Policy.Notify[0].Secret != "***" || list[1].Policy != nil || len(list[2].Policy.Ramp) != 2 || list[3].ModifiedBy != "admin@localhost" {
		t.Fatalf("revisions %+v, error %v", list, err)
	}
	if list, err := p.PolicyRevisions(ctx, account, ""); err != nil || len(list) != 1 || !list[0].Policy.Enabled {
		t.Fatalf("revisions %+v, error %v", list, err)
	}
	for _, script := range []string{"shop", ""} {
		if err := p.DeletePolicy(ctx, account, script); err != nil {
			t.Fatal(err)
		}
	}
	_, err = p.Policy(ctx, account, "shop")
	wantKind(t, err, errs.NotFound)
}

// published is the request that Cloudflare's documentation prints.
const published = `{
  "name": "workers-logpush",
  "output_options": {
    "field_names": ["Event", "EventTimestampMs", "Outcome", "Logs", "ScriptName", "ScriptVersion"]
  },
  "destination_conf": "https://logs.example.com/?header_Authorization=Basic%20REDACTED",
  "dataset": "workers_trace_events",
  "enabled": true
}`

func jobs(t *testing.T, p *platform) {
	ctx := t.Context()
	a := p.call(t, http.MethodPost, "/logpush/jobs", published)
	if a.status != http.StatusOK || !strings.Contains(a.text, `"error_message":null`) || !strings.Contains(a.text, "Basic%20REDACTED") || strings.Contains(a.text, "frequency") {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	list, err := p.AccountJobs(ctx, account)
	if err != nil || len(list) != 1 || list[0].OutputOptions.FieldNames[5] != "ScriptVersion" || !list[0].Enabled {
		t.Fatalf("jobs %+v, error %v", list, err)
	}
	id := list[0].ID
	if err := p.store.ReportDelivery(ctx, logjob.Delivery{JobID: id, CompleteUntil: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := p.store.ReportDelivery(ctx, logjob.Delivery{JobID: id, FailedAt: time.Now(), Message: "error 500"}); err != nil {
		t.Fatal(err)
	}
	off, name := false, "renamed"
	j, err := p.UpdateJob(ctx, account, id, logjob.Update{Enabled: &off, Name: &name})
	if err != nil || j.Enabled || j.Name != "renamed" || len(j.OutputOptions.FieldNames) != 6 || j.LastComplete == nil || *j.ErrorMessage != "error 500" {
		t.Fatalf("job %+v, error %v", j, err)
	}
	if j, err = p.Job(ctx, account, id); err != nil || j.Name != "renamed" {
		t.Fatalf("job %+v, error %v", j, err)
	}
	dataset, conf := schema.Dataset, "https://other.example.com/"
	second, err := p.CreateJob(ctx, account, logjob.Update{Dataset: &dataset, DestinationConf: &conf})
	if err != nil || second.ID == id || second.Enabled {
		t.Fatalf("job %+v, error %v", second, err)
	}
	for path, want := range map[string]string{
		"/logpush/datasets/workers_trace_events/jobs": "other.example.com",
		"/logpush/health": `"destination":`,
		"/logpush/datasets/workers_trace_events/filter-keys":    "Event.Response.Status",
		"/logpush/datasets/workers_trace_events/fields/default": "ScriptVersion",
	} {
		if a := p.call(t, http.MethodGet, path, ""); a.status != http.StatusOK || !strings.Contains(a.text, want) {
			t.Errorf("GET %s answered %d %s", path, a.status, a.text)
		}
	}
	if fields, err := p.Fields(ctx, account, schema.Dataset); err != nil || len(fields) != len(schema.Fields) || fields["Outcome"] == "" {
		t.Fatalf("fields %v, error %v", fields, err)
	}
	for conf, valid := range map[string]bool{"https://ok.example.com/": true, "https://refused.example.com/": false, "nonsense": false} {
		if check, err := p.ValidateDestination(ctx, account, conf); err != nil || check.Valid != valid || (check.Message == "") != valid {
			t.Errorf("%s: %+v, error %v", conf, check, err)
		}
		exists := p.call(t, http.MethodPost, "/logpush/validate/destination/exists", `{"destination_conf":"`+conf+`"}`)
		if !strings.Contains(exists.text, `"exists":false`) {
			t.Errorf("%s answered %s", conf, exists.text)
		}
	}
	if a := p.call(t, http.MethodDelete, "/logpush/jobs/2", ""); a.status != http.StatusOK || string(a.Result) != `{"id":2}` {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	if err := p.DeleteJob(ctx, account, id); err != nil {
		t.Fatal(err)
	}
	_, err = p.Job(ctx, account, id)
	wantKind(t, err, errs.NotFound)
}
