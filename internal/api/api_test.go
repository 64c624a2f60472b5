package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/internal/api/apitest"
	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/internal/store"
	"tidegate/internal/store/storetest"
	"tidegate/schema"
	"tidegate/schema/control"
)

const account = control.FirstAccountID

// platform is an API on a database of its own.
type platform struct {
	*client.Client // with the operator's token
	store          *store.Store
	server         *api.Server
	feed           *feed
	instant        *feed
	written        map[string]string // challenges by their file's name
	held           chan chan struct{}
	runtime        *runtime
	previews       *previews
	metrics        *metrics
	events         *events
	live           *feed
	url            string
	token          string
	http           *http.Client // validates every answer
	validator      *apitest.Validator
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	return newPlatformWith(t, api.Config{GatewayURL: "http://localhost:8080", DurableObjects: true, CheckURL: func(u *url.URL) error {
		if u.Hostname() == "10.0.0.1" {
			return errors.New("10.0.0.1 is private")
		}
		return nil
	}})
}

func newPlatformWith(t *testing.T, config api.Config) *platform {
	t.Helper()
	return newPlatformAt(t, config, nil)
}

// newPlatformAt has a database with a clock of its own.
// Each change is made to what its server works on.
func newPlatformAt(t *testing.T, config api.Config, now func() time.Time, change ...func(*api.Deps)) *platform {
	t.Helper()
	db := storetest.New(t, store.Options{Now: now, GatewayDomain: "localhost"})
	var secret string
	if _, err := db.Bootstrap(t.Context(), control.Account{}, func(token string) error { secret = token; return nil }); err != nil {
		t.Fatal(err)
	}
	feed, instant, live, run, tried, told, kept := newFeed(), newFeed(), newFeed(), new(runtime), new(previews), new(metrics), new(events)
	written := destinations{written: map[string]string{}, held: make(chan chan struct{}), test: func(conf string) error {
		switch {
		case strings.Contains(conf, "refused"):
			return errs.New(errs.Invalid, 1002, "error validating destination: error writing object: the destination answered 403").At("/destination_conf")
		case strings.Contains(conf, "silent"):
			return context.DeadlineExceeded
		}
		return nil
	}}
	deps := api.Deps{
		Accounts: db, Tokens: db, Sessions: db, AuditLog: db, Scripts: db, Policies: db, Trials: trials{}, Notifications: db, Notifier: notifier{}, Jobs: db, Letters: db, Health: db, Replays: db, Deletions: db, Archive: archive{}, Snapshots: db, Routers: db, System: facts{store: db},
		Destinations: written, Previews: tried, Keys: db, InstantLogs: db, InstantEvents: instant,
		Metrics: told, Events: kept, LiveEvents: live, Runtime: run, Triggers: db, Tails: db, TailEvents: feed, Ready: func(ctx context.Context) (string, error) { return "database", db.Ready(ctx) },
		Dashboard: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "dashboard "+r.URL.Path) // to memory
		}),
	}
	for _, one := range change {
		one(&deps)
	}
	server, err := api.New(config, deps)
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server.Handler())
	t.Cleanup(listener.Close)
	t.Cleanup(server.StopWaiting)
	validator, err := apitest.NewValidator(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, violation := range validator.Violations() {
			t.Error(violation)
		}
	})
	p := &platform{store: db, server: server, feed: feed, instant: instant, written: written.written, held: written.held, runtime: run, previews: tried, metrics: told, events: kept, live: live, url: listener.URL, token: secret, validator: validator}
	p.http = &http.Client{Transport: validator}
	p.Client = client.New(listener.URL, secret, p.http)
	return p
}

// destinations tests as its function says. Those of the scheme gs are written to
// with the operator's credentials; it keeps what is written there.
type destinations struct {
	test    func(conf string) error
	written map[string]string // by file name
	// held gets a channel for each letter to a destination called so, which goes on
	// when that is closed.
	held chan chan struct{}
}

func (d destinations) Test(_ context.Context, conf string) error { return d.test(conf) }

func (d destinations) NeedsChallenge(conf string) (bool, error) {
	return strings.HasPrefix(conf, "gs://"), nil
}

func (d destinations) PutChallenge(_ context.Context, conf, name, text string) (string, error) {
	d.written[name] = text
	return "logs/" + name, d.test(conf)
}

// SendLetter is refused as often as a letter was tried only once. A slow destination
// takes it when the caller no longer waits.
func (d destinations) SendLetter(ctx context.Context, j logjob.Job, l logjob.DeadLetter) (int, error) {
	if strings.Contains(j.DestinationConf, "slow") {
		<-ctx.Done()
		return 0, nil
	}
	if l.Attempts == 1 {
		return http.StatusUnprocessableEntity, errors.New("422 still no")
	}
	if strings.Contains(j.DestinationConf, "held") {
		release := make(chan struct{})
		select {
		case d.held <- release:
			<-release
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return 0, d.test(j.DestinationConf)
}

// metrics tells of two versions, one of which served nothing, unless a test says otherwise.
type metrics struct {
	totals []schema.VersionRate
	// invocations answers what is asked for in groups; nil: there were none.
	invocations func(ctx context.Context, q schema.InvocationQuery) ([]schema.InvocationGroup, error)
}

const servedID = "11111111-1111-4111-8111-111111111111"

func (m *metrics) VersionTotals(context.Context, string, string, time.Time, time.Time) ([]schema.VersionRate, error) {
	if m.totals != nil {
		return m.totals, nil
	}
	return []schema.VersionRate{
		{VersionID: servedID, Requests: 200, Failures: 3, Outcomes: map[string]int64{"ok": 197, "exception": 3}, Status2xx: 197, Status5xx: 3, WallMs: &schema.Quantiles{P50: 1, P90: 2, P99: 3}},
		{VersionID: "22222222-2222-4222-8222-222222222222"},
	}, nil
}

func (*metrics) VersionSeries(_ context.Context, _, _ string, since, _ time.Time, _ time.Duration) ([]schema.VersionRate, error) {
	return []schema.VersionRate{{VersionID: servedID, Time: since, Requests: 200, Failures: 3}}, nil
}

func (*metrics) ScriptRates(_ context.Context, _ string, since, _ time.Time, _ time.Duration, _ int) ([]schema.ScriptRate, int, error) {
	return []schema.ScriptRate{{ScriptName: "shop", Requests: 200, Failures: 3, Series: []schema.RatePoint{{Time: since, Requests: 200, Failures: 3}}}}, 7, nil
}

func (m *metrics) Invocations(ctx context.Context, q schema.InvocationQuery) ([]schema.InvocationGroup, error) {
	if m.invocations == nil {
		return []schema.InvocationGroup{}, nil
	}
	return m.invocations(ctx, q)
}

func (*metrics) SeriesStep(_ context.Context, since, until time.Time, points int) (time.Duration, error) {
	return max(time.Second, until.Sub(since)/time.Duration(points)).Truncate(time.Second), nil
}

// events answers with what a test put there and notes what it was asked.
type events struct {
	list       []schema.StoredEvent
	exceptions []schema.ExceptionGroup
	calls      []schema.CallPair
	asked      []any
}

func (e *events) Events(_ context.Context, f schema.EventFilter, after schema.EventPosition, limit int) ([]schema.StoredEvent, error) {
	e.asked = append(e.asked, f, after)
	return e.list[:min(limit, len(e.list))], nil
}

func (e *events) EventsOfRay(_ context.Context, account, ray string) ([]schema.StoredEvent, error) {
	e.asked = append(e.asked, account, ray)
	return e.list, nil
}

func (e *events) Exceptions(_ context.Context, q schema.ExceptionQuery) ([]schema.ExceptionGroup, int, error) {
	e.asked = append(e.asked, q)
	return e.exceptions, 7, nil
}

func (e *events) Calls(_ context.Context, q schema.CallQuery) ([]schema.CallPair, int, error) {
	e.asked = append(e.asked, q)
	return e.calls, 3, nil
}

// answer is an envelope as it arrived.
type answer struct {
	status int
	header http.Header
	text   string
	Errors []struct {
		Code    int
		Message string
		Source  struct{ Pointer string }
	}
	Result json.RawMessage
}

// do sends a request as it is.
func (p *platform) do(t *testing.T, method, path string, header http.Header, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := p.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, text: string(text)}
	if (strings.HasPrefix(path, "/client/v4/") || strings.HasPrefix(path, "/session")) && strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return a
}

func bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}}
}

// call sends a request of the operator below the first account.
func (p *platform) call(t *testing.T, method, path, body string) answer {
	t.Helper()
	return p.do(t, method, "/client/v4/accounts/"+account+path, bearer(p.token), body)
}

func (a answer) want(t *testing.T, status, code int, parts ...string) {
	t.Helper()
	if a.status != status || len(a.Errors) != 1 || a.Errors[0].Code != code {
		t.Fatalf("answered %d %s; want %d with code %d", a.status, a.text, status, code)
	}
	for _, part := range parts {
		if !strings.Contains(a.Errors[0].Message, part) {
			t.Errorf("the sentence %q does not name %q", a.Errors[0].Message, part)
		}
	}
}

// upload makes a version of a script.
func (p *platform) upload(t *testing.T, script, tag string) deploy.Version {
	t.Helper()
	v, err := p.CreateVersion(t.Context(), account, script, deploy.Version{
		Origin: &deploy.Origin{URL: "http://127.0.0.1:9000"}, Annotations: deploy.Annotations{Tag: tag},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func split(v deploy.Version, percent float64) deploy.Split {
	return deploy.Split{VersionID: v.ID, Percentage: deploy.Percentage(percent * 1000)}
}

func wantKind(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if errs.KindOf(err) != kind {
		t.Fatalf("error %v has kind %q, want %q", err, errs.KindOf(err), kind)
	}
}

func TestBesideTheAPI(t *testing.T) {
	p := newPlatform(t)
	for path, want := range map[string]string{
		"/healthz": "ok\n", "/readyz": "ready\n", "/": "dashboard /", "/scripts/shop": "dashboard /scripts/shop",
		"/openapi.yaml": string(schema.OpenAPI),
	} {
		if a := p.do(t, http.MethodGet, path, nil, ""); a.status != http.StatusOK || a.text != want {
			t.Errorf("GET %s answered %d %.80q", path, a.status, a.text)
		}
	}
	if a := p.do(t, http.MethodGet, "/metrics", nil, ""); a.status != http.StatusNotFound || !strings.Contains(a.text, "--ops-addr") {
		t.Errorf("without metrics /metrics answered %d %q", a.status, a.text)
	}
	for _, unknown := range [][2]string{
		{http.MethodGet, "/client/v4/nope"}, {http.MethodPost, "/client/v4/user"},
		{http.MethodPut, "/client/v4/accounts/" + account + "/workers/scripts/shop/usage"}, {http.MethodPatch, "/client/v4/zones/x"},
		{http.MethodGet, "/client/v4/zones/x/logpush/job"}, {http.MethodPost, "/client/v4/accounts/" + account + "/logpush/owner"},
	} {
		a := p.do(t, unknown[0], unknown[1], bearer(p.token), "")
		a.want(t, http.StatusNotFound, 7003, unknown[0]+" "+unknown[1])
	}
	if err := p.store.Close(); err != nil {
		t.Fatal(err)
	}
	a := p.do(t, http.MethodGet, "/readyz", nil, "")
	for deadline := time.Now().Add(time.Minute); a.status == http.StatusOK && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		a = p.do(t, http.MethodGet, "/readyz", nil, "") // an answer holds for a moment
	}
	if a.status != http.StatusServiceUnavailable || a.text != "not ready: database\n" { // and nothing of where it is
		t.Errorf("without a database /readyz answered %d %q", a.status, a.text)
	}
	p.do(t, http.MethodGet, "/client/v4/user", bearer(p.token), "").want(t, http.StatusInternalServerError, 10013, "internal error")
}

func TestSnapshotWaitEndsWithTheServer(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	snap, err := p.SnapshotAll(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		_, err := p.SnapshotAll(t.Context(), snap.Revision)
		if errs.KindOf(err) != errs.Unavailable {
			t.Errorf("a caller that waits got %v", err)
		}
	})
	p.server.StopWaiting()
	all.Wait()
}

func TestSnapshotWaitsForAChange(t *testing.T) {
	p := newPlatform(t)
	v := p.upload(t, "shop", "v1")
	before, err := p.Snapshot(t.Context(), account, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	changed := func(after *deploy.Snapshot, err error) {
		if err != nil || after.Revision <= before.Revision || after.Scripts[0].Splits[0].VersionID != v.ID {
			t.Errorf("%+v after revision %d, error %v", after, before.Revision, err)
		}
	}
	all.Go(func() { changed(p.Snapshot(t.Context(), account, before.Revision)) })
	all.Go(func() { changed(p.SnapshotAll(t.Context(), before.Revision)) })
	if _, err := p.Deploy(t.Context(), account, "shop", []deploy.Split{split(v, 100)}, ""); err != nil {
		t.Fatal(err)
	}
	all.Wait()
}
