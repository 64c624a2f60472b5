package runtime

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// healthMonitor asks /health as often as a monitor may, and waits for the answer of a server
// that is well however slow the machine is.
func healthMonitor(change func(*deploy.Monitor)) *deploy.Monitor {
	m := deploy.DefaultMonitor()
	m.Path, m.Interval, m.Timeout, m.Retries = "/health", 1, 60, 0
	if change != nil {
		change(&m)
	}
	return &m
}

// deployQuickly deploys an origin whose checks come faster than it may ask for.
func deployQuickly(b *Backends, o *deploy.Origin) *upstream {
	s := deployedSnapshot(o)
	s.Scripts[0].Splits = nil
	u := b.Update(s)[versionID].(*upstream)
	u.monitor.interval = 5 * time.Millisecond
	b.Update(deployedSnapshot(o))
	return u
}

// monitored returns an upstream whose monitor asks every few milliseconds.
func monitored(t *testing.T, o *deploy.Origin) (b *Backends, u *upstream) {
	t.Helper()
	b, err := New(quickConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, deployQuickly(b, o)
}

// A monitor's word takes an endpoint out without a request having failed, and lets it
// in again.
func TestMonitorTakesEndpointsOut(t *testing.T) {
	a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
	o := originOf(a, b)
	o.Monitor = healthMonitor(nil)
	_, u := monitored(t, o)
	waitFor(t, "a check of each", func() bool { return a.checks.Load() > 0 && b.checks.Load() > 0 })
	if out := outOf(t, u); out != "" {
		t.Errorf("the state is %q", out)
	}
	a.mood.Store(moodBad)
	waitFor(t, "the endpoint to be out", func() bool { return outOf(t, u) == "1 of 2 endpoints are out: "+a.url()+" (monitor: status 503)" })
	for range 50 {
		if got := ask(t, u); got != "b" {
			t.Fatalf("got %q from an endpoint that is out", got)
		}
	}
	a.mood.Store(moodGood)
	waitFor(t, "the endpoint to be in again", func() bool { return outOf(t, u) == "" })
	waitFor(t, "an answer of it", func() bool { return ask(t, u) == "a" })

	a.kill()
	waitFor(t, "the endpoint to be out", func() bool { return strings.Contains(outOf(t, u), "(monitor: connect)") })
	// Both out: requests are tried all the same, and one of them is well.
	b.mood.Store(moodBad)
	waitFor(t, "both to be out", func() bool { return strings.HasPrefix(outOf(t, u), "2 of 2") })
	resp, err := u.RoundTrip(request(t, http.MethodGet, "/", ""))
	readAll(t, resp, err)
}

// What counts as well, and how often it must be seen.
func TestMonitorVerdicts(t *testing.T) {
	var verdicts [4]bool // of the checks to come, true being good; then the last one for ever
	f := func(name string, up, down int, checks [4]bool, want [4]bool) {
		t.Helper()
		verdicts = checks
		u := balancer(t, nil, 1, 1)
		u.monitor = &monitor{Monitor: *healthMonitor(func(m *deploy.Monitor) { m.ConsecutiveUp, m.ConsecutiveDown = up, down })}
		c := &endpointMonitor{monitor: u.monitor}
		for i, good := range verdicts {
			cause := ""
			if !good {
				cause = "status 500"
			}
			c.judge(u, u.endpoints[0], cause)
			if is := u.endpoints[0].down; is == want[i] {
				t.Errorf("%s: after check %d the endpoint is down: %v", name, i+1, is)
			}
		}
	}
	f("at once", 0, 0, [4]bool{true, false, true, false}, [4]bool{true, false, true, false})
	f("twice down", 0, 2, [4]bool{false, true, false, false}, [4]bool{true, true, true, false})
	f("three up", 3, 1, [4]bool{false, true, true, true}, [4]bool{false, false, false, true})
	f("three up, broken", 3, 1, [4]bool{false, true, false, true}, [4]bool{false, false, false, false})
}

// A check is the request that the monitor describes, over each protocol.
func TestWhatMonitorsSend(t *testing.T) {
	for _, protocol := range []string{"http", "https", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			seen := make(chan string, 100)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case seen <- r.Method + " " + r.Host + r.RequestURI + " " + r.Header.Get("X-Probe") + " " + r.Header.Get("User-Agent"):
				default:
				}
				w.WriteHeader(http.StatusNoContent)
			}))
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetHTTP1(true)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			if protocol == "https" {
				s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
				s.StartTLS()
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			o := &deploy.Origin{URL: protocol + "://" + s.Listener.Addr().String() + "/base/", Monitor: healthMonitor(func(m *deploy.Monitor) {
				m.Method, m.Path, m.ExpectedCodes = http.MethodHead, "/health?full", "2xx"
				m.Header = map[string][]string{"Host": {"shop.internal"}, "X-Probe": {"yes"}}
			})}
			_, u := monitored(t, o)
			if got, want := <-seen, "HEAD shop.internal/base/health?full yes "+checkUserAgent; got != want {
				t.Errorf("the endpoint saw %q, want %q", got, want)
			}
			<-seen
			<-seen
			if out := outOf(t, u); out != "" {
				t.Errorf("the state is %q", out)
			}
		})
	}
}

// A check that is not answered is tried again at once, and then is a failure.
func TestMonitorTimeouts(t *testing.T) {
	a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
	a.mood.Store(moodHang)
	m, err := newMonitor(healthMonitor(func(m *deploy.Monitor) { m.Retries = 2 }))
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[*moodyServer]string{a: "timeout", b: ""} {
		if m.timeout = time.Minute; s == a {
			m.timeout = firstByteMS * time.Millisecond
		}
		c, err := newEndpointMonitor(m, shortConfig(), s.url())
		if err != nil {
			t.Fatal(err)
		}
		if got := c.check(t.Context(), make(chan struct{}, 1), nil); got != want {
			t.Errorf("%s: the cause is %q, want %q", s.name, got, want)
		}
	}
	waitFor(t, "the checks to be read", func() bool { return a.checks.Load() >= 3 })
	if a.checks.Load() != 3 || b.checks.Load() != 1 {
		t.Errorf("%d and %d checks were sent, want 3 and 1", a.checks.Load(), b.checks.Load())
	}
}

// Checks end with the deployment and with the version, and what they said with them.
func TestMonitorEndsWithItsVersion(t *testing.T) {
	a := newMoodyServer(t, "a")
	o := originOf(a)
	o.Monitor = healthMonitor(nil)
	b, u := monitored(t, o)
	a.mood.Store(moodBad)
	waitFor(t, "the endpoint to be out", func() bool { return outOf(t, u) != "" })

	s := deployedSnapshot(o)
	s.Scripts[0].Splits = nil
	putInForce(b, s) // which returns when no check is under way
	if out := outOf(t, u); out != "" {
		t.Errorf("the state is %q, which nobody would take back", out)
	}
	checks := a.checks.Load()
	for range 20 { // requests take longer than checks would
		resp, err := u.RoundTrip(request(t, http.MethodGet, "/", ""))
		readAll(t, resp, err)
	}
	if a.checks.Load() != checks {
		t.Error("an endpoint of a version that is not deployed was checked")
	}
	b.Update(deployedSnapshot(o))
	waitFor(t, "checks to begin again", func() bool { return a.checks.Load() > checks })
	putInForce(b, &deploy.Snapshot{Revision: 2})
	if u.stopChecks != nil {
		t.Error("checks outlive their version")
	}
}

// The story: a new deployment waited for its version to start, and the one in force, which got
// all of the traffic meanwhile, was treated as gone: nobody asked its endpoints how they were, what
// was known of them was forgotten, none was ejected, and no connection was kept.
func TestVersionInForceIsServedAsBefore(t *testing.T) {
	for name, after := range map[string]func(*deploy.Snapshot){
		"not named":    func(s *deploy.Snapshot) { s.Scripts = nil },
		"not deployed": func(s *deploy.Snapshot) { s.Scripts[0].Splits = nil },
	} {
		t.Run(name, func(t *testing.T) {
			a, bad := newMoodyServer(t, "a"), newMoodyServer(t, "bad")
			bad.mood.Store(moodBad)
			o := originOf(a, bad)
			o.Monitor = healthMonitor(nil)
			b, u := monitored(t, o)
			waitFor(t, "the endpoint to be out", func() bool { return outOf(t, u) != "" })
			next := deployedSnapshot(o)
			after(next)
			b.Update(next)
			b.Release(func(id string) bool { return id == versionID })
			if outOf(t, u) == "" {
				t.Error("the monitor's word was forgotten")
			}
			ask(t, u)
			if kept := &u.endpoints[0].transport.(*http1).idle; len(*kept) == 0 {
				t.Error("no connection is kept")
			}
			checks := a.checks.Load()
			waitFor(t, "a check", func() bool { return a.checks.Load() > checks })

			// The rollback of what was waiting finds everything as it was.
			if again := b.Update(deployedSnapshot(o))[versionID]; again != u {
				t.Error("the version that came back has another backend")
			}
			b.Release(func(string) bool { return true })
			if u.closed || u.stopChecks == nil {
				t.Error("the version that came back is not served as one that is deployed")
			}
			putInForce(b, next)
			if u.stopChecks != nil {
				t.Error("a version that is not in force is checked")
			}
			if u.closed != (name == "not named") {
				t.Errorf("closed: %t", u.closed)
			}
		})
	}
}

// Checks of an account's versions together are bounded, and those that wait are counted.
func TestChecksAreBounded(t *testing.T) {
	const waits = "tidegate_runtime_endpoint_check_waits_total"
	reader := newReader(t)
	var now, most atomic.Int32
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		<-release
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(release) })
	o := &deploy.Origin{Monitor: healthMonitor(func(m *deploy.Monitor) { m.Timeout = 60 })}
	for i := range 8 {
		o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: s.URL + "/" + string(rune('a'+i)), Weight: 1})
	}
	b, err := New(quickConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	slots := make(chan struct{}, 2)
	b.checkSlots = map[string]chan struct{}{"a": slots}
	before := readMetrics(t, reader)[waits]
	deployQuickly(b, o)
	waitFor(t, "checks", func() bool { return now.Load() == 2 && len(slots) == 2 })
	waitFor(t, "the others to wait", func() bool { return readMetrics(t, reader)[waits]-before == 6 })
	for range 50 {
		release <- struct{}{}
	}
	if most.Load() > 2 {
		t.Errorf("%d checks were under way at once, want 2", most.Load())
	}
}

// The story: endpoints of one account that took every connection and answered none held all the
// places for checks, and those of everybody else were asked late, or not at all.
func TestChecksOfAccountsDoNotWaitForEachOther(t *testing.T) {
	hung, well := newMoodyServer(t, "hung"), newMoodyServer(t, "well")
	hung.mood.Store(moodHang)
	b, err := New(quickConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	slots := make(chan struct{}, 1)
	b.checkSlots = map[string]chan struct{}{"a": slots}
	s := &deploy.Snapshot{Revision: 1}
	for account, server := range map[string]*moodyServer{"a": hung, "b": well} {
		o := originOf(server)
		o.Monitor = healthMonitor(func(m *deploy.Monitor) { m.Timeout = 60 })
		one := deployedSnapshot(o).Scripts[0]
		one.AccountID, one.Versions[0].ID = account, account
		one.Splits[0].VersionID = account
		s.Scripts = append(s.Scripts, one)
	}
	b.Update(s)
	waitFor(t, "the check that hangs", func() bool { return hung.checks.Load() == 1 && len(slots) == 1 })
	waitFor(t, "a check of the other account", func() bool { return well.checks.Load() > 0 })
}
