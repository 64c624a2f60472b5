package notify

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/pipeline/logpush/sink/egress"
)

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
	policy := local
	f := func(name string, handle http.HandlerFunc, text string, state deploy.NotificationState, pauseMin time.Duration) {
		t.Helper()
		r := newReceiver(t, handle)
		n := notificationFor(deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL + "/hooks/secret-path", Secret: secret})
		s := newService(t, nil, policy)
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
	policy = hurried
	f("hanging", func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-req.Context().Done():
		case <-time.After(patience):
		}
	}, "timeout", waiting, 4*time.Second)
	policy = local
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

// Each byte is progress.
func TestASlowTargetIsNotGivenUp(t *testing.T) {
	for policy := hurried; ; policy.NoProgress *= 5 { // for a machine that stands still for longer than a byte may take
		r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
			for range 6 {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-req.Context().Done():
				case <-time.After(policy.NoProgress / 4):
				}
			}
		})
		err := newService(t, nil, policy).try(t.Context(), notificationFor(deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL}))
		if err == nil {
			return
		}
		if policy.NoProgress > 5*time.Second {
			t.Fatal(err)
		}
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
