package notify

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/store"
	"tidegate/internal/store/storetest"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/schema/control"
)

const (
	account = control.FirstAccountID
	secret  = "correct horse battery staple"
	// patience is for what must happen: only a test that fails waits as long.
	patience = time.Minute
)

// local lets targets be where tests have them.
var local = egress.Policy{AllowHTTP: true, AllowLoopback: true, NoProgress: patience}

// hurried is local, and gives a target up soon that hangs.
var hurried = egress.Policy{AllowHTTP: true, AllowLoopback: true, NoProgress: 300 * time.Millisecond}

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
	w.Store = storetest.New(t, store.Options{Now: w.clock.now})
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
