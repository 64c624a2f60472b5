package notify

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/signature"
	"tidegate/internal/store"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/schema/control"
)

const (
	account = control.FirstAccountID
	secret  = "correct horse battery staple"
	// patience is for what must happen: only a test that fails waits as long.
	patience = 30 * time.Second
)

// local lets targets be where tests have them, and gives one that hangs up soon.
var local = egress.Policy{AllowHTTP: true, AllowLoopback: true, NoProgress: 300 * time.Millisecond}

func newService(t *testing.T, outbox Outbox, policy egress.Policy, change ...func(*Config)) *Service {
	t.Helper()
	config := Config{
		Outbox: outbox, Client: policy.Client(), CheckScheme: policy.CheckScheme,
		Explain: func(err error) (string, bool) { e := egress.Classify(err); return e.Text, e.Permanent },
		Links:   Links{Console: "https://tidegate.example.com/"}, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
	for _, one := range change {
		one(&config)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs a service until the test or the returned stop ends it.
func start(t *testing.T, s *Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// receiver is a target that remembers what it was sent.
type receiver struct {
	*httptest.Server
	got chan received
}

type received struct {
	header http.Header
	path   string
	body   []byte
}

// newReceiver answers as handle does, or 200.
func newReceiver(t *testing.T, handle http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{got: make(chan received, 1000)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // it will come again
		}
		r.got <- received{req.Header, req.URL.Path, body}
		if handle != nil {
			handle(w, req)
		}
	}))
	r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) next(t *testing.T) received {
	t.Helper()
	select {
	case one := <-r.got:
		return one
	case <-time.After(patience):
		t.Fatal("nothing was sent")
		return received{}
	}
}

// clock is the store's, so that tests need not wait for leases and pauses.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// world is a store with a script that is split between two versions.
type world struct {
	*store.Store
	clock   *clock
	current string
	version string
}

func newWorld(t *testing.T, targets ...deploy.NotifyTarget) *world {
	t.Helper()
	w := &world{clock: new(clock)}
	var err error
	if w.Store, err = store.Open(t.Context(), filepath.Join(t.TempDir(), "control.db"), store.Options{Now: w.clock.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx := t.Context()
	if _, err := w.Bootstrap(ctx, control.Account{}, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	var splits []deploy.Split
	for range 2 {
		v, err := w.CreateVersion(ctx, account, "shop", deploy.Version{Origin: &deploy.Origin{URL: "http://127.0.0.1:9000"}})
		if err != nil {
			t.Fatal(err)
		}
		splits = append(splits, deploy.Split{VersionID: v.ID, Percentage: deploy.Full / 2})
		w.version = v.ID
	}
	d, err := w.Deploy(ctx, account, "shop", deploy.Deployment{Versions: splits}, "")
	if err != nil {
		t.Fatal(err)
	}
	w.current = d.ID
	p := deploy.DefaultPolicy()
	p.Enabled, p.Notify = true, targets
	if _, err := w.SavePolicy(ctx, account, "shop", p, nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// decide stores a decision, and so a message for each target.
func (w *world) decide(t *testing.T) deploy.RollbackDecision {
	t.Helper()
	d := decisionFor(w.version)
	d.FromDeployment, d.At = w.current, w.clock.now()
	if err := w.ApplyDecision(t.Context(), account, "shop", deploy.Judged{DeploymentID: w.current}, nil, nil, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (w *world) await(t *testing.T, what string, ok func([]deploy.Notification) bool) {
	t.Helper()
	var list []deploy.Notification
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var err error
		if list, err = w.Notifications(t.Context(), account, "shop"); err != nil {
			t.Fatal(err)
		}
		if ok(list) {
			return
		}
	}
	t.Fatalf("not %s: %+v", what, list)
}

func all(states ...deploy.NotificationState) func([]deploy.Notification) bool {
	return func(list []deploy.Notification) bool {
		left := map[deploy.NotificationState]int{}
		for _, state := range states {
			left[state]++
		}
		for _, n := range list {
			left[n.State]--
		}
		for _, n := range left {
			if n != 0 {
				return false
			}
		}
		return true
	}
}

func decisionFor(version string) deploy.RollbackDecision {
	failures, requests, rate := int64(31), int64(312), 31.0/312
	return deploy.RollbackDecision{
		ID: uuid.NewString(), At: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC), Verdict: deploy.VerdictFail, Action: deploy.ActionRollback,
		FromDeployment: "from", VersionID: version, BaselineVersionID: "b1", Metric: deploy.MetricFailureRate,
		Sentence: "rolled back 5f1c after 312 requests: 31 failures",
		Numbers:  deploy.Numbers{Failures: &failures, Requests: &requests, FailureRate: &rate},
	}
}

func notificationFor(target deploy.NotifyTarget) deploy.Notification {
	return deploy.Notification{
		ID: uuid.NewString(), AccountID: account, Script: "shop", On: deploy.OnRollback, Target: target, Decision: decisionFor("5f1c"),
		CreatedOn: time.Date(2026, 11, 27, 12, 0, 1, 0, time.UTC), State: deploy.NotificationWaiting, Attempts: 1,
	}
}

func TestAStoredDecisionIsSentSigned(t *testing.T) {
	r := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL + "/hooks/abc", Secret: secret})
	decision := w.decide(t)
	s := newService(t, w, local)
	start(t, s)
	got := r.next(t)

	// The lines that docs/rollback.md shows to receivers.
	err := signature.Verify(secret, got.header.Get(signature.Header), strings.NewReader(string(got.body)), time.Now(), 5*time.Minute)
	if err != nil {
		t.Errorf("the signature %q: %v", got.header.Get(signature.Header), err)
	}
	var body webhookBody
	if err := json.Unmarshal(got.body, &body); err != nil {
		t.Fatal(err)
	}
	list, err := w.Notifications(t.Context(), account, "shop")
	if err != nil || len(list) != 1 {
		t.Fatalf("listed are %+v, error %v", list, err)
	}
	if id := got.header.Get(IDHeader); id != list[0].ID || body.ID != id {
		t.Errorf("the id is %q in the header, %q in the body and %q in the list", id, body.ID, list[0].ID)
	}
	if body.Type != deploy.OnRollback || body.Script != "shop" || body.AccountID != account || body.Sentence != decision.Sentence ||
		body.Decision.ID != decision.ID || *body.Decision.Numbers.Failures != 31 || body.Title != "Rolled back shop" ||
		body.Links.Decisions != "https://tidegate.example.com/client/v4/accounts/"+account+"/workers/scripts/shop/rollback-decisions" {
		t.Errorf("the body is %s", got.body)
	}
	if got.path != "/hooks/abc" || strings.Contains(string(got.body), secret) {
		t.Errorf("sent to %s: %s", got.path, got.body)
	}
	w.await(t, "sent", all(deploy.NotificationSent))
}

// Whoever is woken after a decision sends it before the next look at the outbox.
func TestWakeLooksAtOnce(t *testing.T) {
	r := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL})
	s := newService(t, w, local)
	start(t, s)
	for range 5 {
		w.decide(t)
		s.Wake()
		if got := r.next(t); got.header.Get(signature.Header) != "" {
			t.Error("signed without a secret")
		}
	}
}

// A process was killed between storing and sending, and another between sending and
// storing the result: nothing is lost, and the repeat has the same id and body.
func TestWhatWasStoredIsToldWhateverIsKilled(t *testing.T) {
	r := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL})
	w.decide(t)
	// The first one claims, and is gone.
	if list, err := w.ClaimNotifications(t.Context(), 1, leaseTime); err != nil || len(list) != 1 {
		t.Fatalf("claimed %+v, error %v", list, err)
	}
	w.clock.add(leaseTime)
	// The second one sends, and is gone.
	stop := start(t, newService(t, forgetful{w}, local))
	first := r.next(t)
	stop()
	w.clock.add(leaseTime)
	start(t, newService(t, w, local))
	second := r.next(t)
	if first.header.Get(IDHeader) != second.header.Get(IDHeader) || string(first.body) != string(second.body) {
		t.Errorf("sent %s\nand then %s", first.body, second.body)
	}
	w.await(t, "sent", all(deploy.NotificationSent))
}

// forgetful never stores what came of a message.
type forgetful struct{ *world }

func (forgetful) SettleNotification(context.Context, deploy.Notification) error { return nil }

// A message that ends its process at each try was tried again after each restart.
func TestAMessageThatEndsItsProcessIsNotTriedForEver(t *testing.T) {
	r := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL})
	w.decide(t)
	for range triesMax {
		if list, err := w.ClaimNotifications(t.Context(), 1, leaseTime); err != nil || len(list) != 1 {
			t.Fatalf("claimed %+v, error %v", list, err)
		}
		w.clock.add(leaseTime)
	}
	start(t, newService(t, w, local))
	w.await(t, "given up", func(list []deploy.Notification) bool {
		return len(list) == 1 && list[0].State == deploy.NotificationFailed && strings.Contains(list[0].LastError, "did not come to an end")
	})
	if len(r.got) != 0 {
		t.Error("it was sent")
	}
}

func TestAHangingTargetDelaysNoOther(t *testing.T) {
	release := make(chan struct{})
	hanging := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	good := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: hanging.URL}, deploy.NotifyTarget{Type: deploy.NotifySlack, URL: good.URL})
	patient := local
	patient.NoProgress = time.Minute
	s := newService(t, w, patient)
	start(t, s)
	t.Cleanup(func() { close(release) })
	w.decide(t)
	hanging.next(t)
	good.next(t)
	for range 3 {
		w.decide(t)
		s.Wake()
		good.next(t)
	}
	if len(hanging.got) != 0 {
		t.Error("a target that hangs is tried again beside")
	}
}

// A stop does not wait for a target that hangs, and what was being sent is sent by the
// next process.
func TestAStopLeavesWhatHangs(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	hanging := newReceiver(t, func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-release:
		case <-req.Context().Done():
		}
	})
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: hanging.URL})
	patient := local
	patient.NoProgress = time.Minute
	stop := start(t, newService(t, w, patient))
	w.decide(t)
	first := hanging.next(t)
	stop()
	w.await(t, "waiting", func(list []deploy.Notification) bool {
		return len(list) == 1 && list[0].State == deploy.NotificationWaiting && strings.Contains(list[0].LastError, "stopped")
	})
	once.Do(func() { close(release) })
	start(t, newService(t, w, local))
	if again := hanging.next(t); again.header.Get(IDHeader) != first.header.Get(IDHeader) {
		t.Error("the next process sent another message")
	}
}

// Two processes on one database tell each decision once.
func TestTwoProcessesShareTheOutbox(t *testing.T) {
	a, b := newReceiver(t, nil), newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: a.URL}, deploy.NotifyTarget{Type: deploy.NotifySlack, URL: b.URL})
	start(t, newService(t, w, local))
	start(t, newService(t, w, local))
	const decisions = 20
	for range decisions {
		w.decide(t)
	}
	states := make([]deploy.NotificationState, 2*decisions)
	for i := range states {
		states[i] = deploy.NotificationSent
	}
	w.await(t, "all sent", all(states...))
	ids := map[string]bool{}
	for _, r := range []*receiver{a, b} {
		for range decisions {
			ids[r.next(t).header.Get(IDHeader)] = true
		}
		if len(r.got) != 0 {
			t.Errorf("%d messages were sent twice", len(r.got))
		}
	}
	if len(ids) != 2*decisions {
		t.Errorf("%d ids for %d messages", len(ids), 2*decisions)
	}
}

func TestMisbehavingTargets(t *testing.T) {
	elsewhere := newReceiver(t, nil)
	answer := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
		}
	}
	f := func(name string, handle http.HandlerFunc, text string, state deploy.NotificationState, pauseMin time.Duration) {
		t.Helper()
		r := newReceiver(t, handle)
		n := notificationFor(deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL + "/hooks/secret-path", Secret: secret})
		s := newService(t, nil, local)
		err := s.try(t.Context(), n)
		now := n.CreatedOn.Add(time.Second)
		after, _ := settled(n, err, now)
		if after.State != state || !strings.Contains(after.LastError, text) {
			t.Errorf("%s: the message is %s after %q, want %s after %q", name, after.State, after.LastError, state, text)
		}
		if state == deploy.NotificationWaiting && after.NextTry.Sub(now) < pauseMin {
			t.Errorf("%s: tried again after %s, want at least %s", name, after.NextTry.Sub(now), pauseMin)
		}
		for _, leak := range []string{"secret-path", secret, r.Listener.Addr().String()} {
			if strings.Contains(after.LastError, leak) {
				t.Errorf("%s: %q tells %q", name, after.LastError, leak)
			}
		}
	}
	const waiting, failed, sent = deploy.NotificationWaiting, deploy.NotificationFailed, deploy.NotificationSent
	f("well", answer(204), "", sent, 0)
	f("slow, but in time", func(w http.ResponseWriter, req *http.Request) {
		for range 4 { // each byte is progress
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-req.Context().Done():
			case <-time.After(local.NoProgress / 4):
			}
		}
	}, "", sent, 0)
	f("hanging", func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-req.Context().Done():
		case <-time.After(patience):
		}
	}, "timeout", waiting, 4*time.Second)
	f("resetting", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}, "the connection broke", waiting, 4*time.Second)
	f("endless", func(w http.ResponseWriter, req *http.Request) {
		for req.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}, "", sent, 0)
	f("bad request", answer(400), "refused the message with 400", failed, 0)
	f("gone", answer(410), "refused the message with 410", failed, 0)
	f("busy", answer(429, "Retry-After", "120"), "answered 429", waiting, 2*time.Minute)
	f("busy until a date", answer(429, "Retry-After", time.Date(2026, 11, 27, 12, 10, 0, 0, time.UTC).Format(http.TimeFormat)), "answered 429", waiting, 4*time.Second)
	f("busy for ever", answer(503, "Retry-After", "999999999"), "answered 503", waiting, pauseMax)
	f("busy without sense", answer(503, "Retry-After", "soon"), "answered 503", waiting, 4*time.Second)
	f("broken", answer(500), "answered 500", waiting, 4*time.Second)
	f("redirecting", answer(307, "Location", elsewhere.URL), "redirects are not followed", failed, 0)
	if len(elsewhere.got) != 0 {
		t.Error("a redirect was followed")
	}
}

func TestTargetsThatMayNotBeReached(t *testing.T) {
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	defer untrusted.Close()
	plain := newReceiver(t, nil)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	f := func(policy egress.Policy, url, text string, permanent bool) {
		t.Helper()
		err := newService(t, nil, policy).try(t.Context(), notificationFor(deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: url}))
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Fatalf("%s: %v, want %q", url, err, text)
		}
		if after, _ := settled(notificationFor(deploy.NotifyTarget{}), err, time.Date(2026, 11, 27, 12, 1, 0, 0, time.UTC)); (after.State == deploy.NotificationFailed) != permanent {
			t.Errorf("%s: the message is %s", url, after.State)
		}
	}
	f(local, untrusted.URL, "certificate is not trusted", false)
	f(local, closed.URL, "connection failed", false)
	f(local, "http://does-not-exist.invalid/", "cannot be resolved", false)
	f(egress.Policy{AllowHTTP: true}, plain.URL, "address range", true)
	f(egress.Policy{AllowLoopback: true}, plain.URL, "plain http:// is not allowed", true)
	f(local, "http://\x7f/", "URL cannot be used", true)
	if len(plain.got) != 0 {
		t.Error("a forbidden target was reached")
	}
	err := newService(t, nil, local).try(t.Context(), notificationFor(deploy.NotifyTarget{Type: "pigeon"}))
	if err == nil || !strings.Contains(err.Error(), `"pigeon"`) {
		t.Errorf("an unknown type: %v", err)
	}
}

func TestTestTellsWhatCameOfEachTarget(t *testing.T) {
	good, bad := newReceiver(t, nil), newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	results, err := newService(t, nil, local).Test(t.Context(), account, "shop", []deploy.NotifyTarget{
		{Type: deploy.NotifyWebhook, URL: good.URL + "/x"}, {Type: deploy.NotifyWebhook, URL: bad.URL + "/y"},
		{Type: deploy.NotifyEmail, To: []string{"a@example.com", "b@example.com"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []deploy.NotifyResult{
		{Type: deploy.NotifyWebhook, Target: good.URL, OK: true},
		{Type: deploy.NotifyWebhook, Target: bad.URL, Error: "the target refused the message with 403"},
		{Type: deploy.NotifyEmail, Target: "a@example.com", Error: "this process has no mail server: --smtp-address is not set"},
		{Type: deploy.NotifyEmail, Target: "b@example.com", Error: "this process has no mail server: --smtp-address is not set"},
	}
	for i := range want {
		if len(results) != len(want) || results[i] != want[i] {
			t.Fatalf("got %+v, want %+v", results, want)
		}
	}
	var body webhookBody
	if err := json.Unmarshal(good.next(t).body, &body); err != nil || body.Type != deploy.OnTest || !strings.Contains(body.Sentence, "test") {
		t.Errorf("sent was %+v, error %v", body, err)
	}
}

// Whoever may edit a policy could have any number of messages sent to anybody.
func TestTestsOfAnAccountAreBounded(t *testing.T) {
	var mu sync.Mutex
	var underWay, most int
	count := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		underWay += by
		most = max(most, underWay)
	}
	slow := newReceiver(t, func(http.ResponseWriter, *http.Request) {
		count(1)
		time.Sleep(20 * time.Millisecond)
		count(-1)
	})
	now := time.Now()
	s := newService(t, nil, local, func(c *Config) { c.Now = func() time.Time { return now } })
	targets := make([]deploy.NotifyTarget, 3*testParallelMax)
	for i := range targets {
		targets[i] = deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: slow.URL}
	}
	test := func(account string, want errs.Kind) {
		t.Helper()
		if results, err := s.Test(t.Context(), account, "shop", targets); errs.KindOf(err) != want || want == "" && len(results) != len(targets) {
			t.Errorf("%d results, error %v, want %d and the kind %q", len(results), err, len(targets), want)
		}
	}
	test(account, "")
	test(account, errs.Unavailable)
	test("another", "")
	now = now.Add(testInterval - time.Nanosecond)
	test(account, errs.Unavailable)
	now = now.Add(time.Nanosecond)
	test(account, "")
	if most > testParallelMax || most < 2 {
		t.Errorf("%d tries were under way at once, want at most %d", most, testParallelMax)
	}

	// What is left when the time is over is not tried.
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for len(slow.got) > 0 {
		<-slow.got
	}
	results, err := s.Test(over, "third", "shop", targets)
	if err != nil || len(results) != len(targets) || results[0].OK || !strings.Contains(results[0].Error, "not tried") || len(slow.got) != 0 {
		t.Errorf("%+v, error %v; %d were tried", results, err, len(slow.got))
	}
}

func TestTriesEndAfterADayOrSixty(t *testing.T) {
	n := notificationFor(deploy.NotifyTarget{})
	now, broken := n.CreatedOn, &failure{text: "broken"}
	tries := 0
	for n.Attempts = 0; n.State == deploy.NotificationWaiting; {
		n.Attempts++
		tries++
		n, _ = settled(n, broken, now)
		if n.State == deploy.NotificationWaiting && !n.NextTry.After(now) {
			t.Fatalf("the next try is at %s, now is %s", n.NextTry, now)
		}
		if pause := n.NextTry.Sub(now); pause > pauseMax*11/10 {
			t.Fatalf("a pause of %s after %d tries", pause, tries)
		}
		now = n.NextTry
	}
	if lasted := now.Sub(n.CreatedOn); tries < 45 || tries > triesMax || lasted < triedFor-pauseMax || lasted > triedFor+2*pauseMax {
		t.Errorf("given up after %d tries in %s", tries, lasted)
	}
	n = notificationFor(deploy.NotifyTarget{})
	n.Attempts = triesMax
	if n, result := settled(n, broken, n.CreatedOn); n.State != deploy.NotificationFailed || result != "failed" || n.LastError != "broken" {
		t.Errorf("after %d tries it is %+v", triesMax, n)
	}
}

// A target says when to come again in one of two forms. Whatever it says, the wait is none that an attacker
// could overflow, and one that is written by the library is read as it was meant.
func FuzzParseRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{"120", "-1", "+5", "4294967296", "Fri, 27 Nov 2026 12:00:30 GMT", "Friday, 27-Nov-26 12:00:30 GMT", "1e3", " 5"} {
		f.Add(seed, int64(30))
	}
	f.Fuzz(func(t *testing.T, text string, seconds int64) {
		if wait := parseRetryAfter(text, now); wait < 0 {
			t.Fatalf("%q is a wait of %s", text, wait)
		}
		at := now.Add(time.Duration(seconds%(1<<31)) * time.Second)
		if at.Before(now) {
			at = now
		}
		if wait := parseRetryAfter(at.Format(http.TimeFormat), now); now.Add(wait) != at {
			t.Fatalf("%s is a wait of %s", at.Format(http.TimeFormat), wait)
		}
	})
}
