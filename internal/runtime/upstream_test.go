package runtime

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

func TestRequestsGoToEveryEndpoint(t *testing.T) {
	a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
	backend := openOrigin(t, quickConfig(), originOf(a, b))
	seen := map[string]int{}
	for range 200 {
		seen[ask(t, backend)]++
	}
	wantShares(t, []int{seen["a"], seen["b"]}, []float64{1, 1})
}

// An endpoint that dies costs nobody an answer: what it had not begun to answer is sent
// to the other one. It is out after some failures, and in again soon after it is back.
func TestDeadEndpointIsEjectedAndComesBack(t *testing.T) {
	a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
	backend := openOrigin(t, quickConfig(), originOf(a, b))
	ask(t, backend)
	a.kill()
	for outOf(t, backend) == "" {
		if got := ask(t, backend); got != "b" {
			t.Fatalf("the dead endpoint answered %q", got)
		}
	}
	if out := outOf(t, backend); !strings.Contains(out, "1 of 2 endpoints are out: "+a.url()+" (connect)") {
		t.Errorf("the state is %q", out)
	}
	a.start()
	waitFor(t, "the endpoint to be in again", func() bool { ask(t, backend); return outOf(t, backend) == "" })
	waitFor(t, "an answer of it", func() bool { return ask(t, backend) == "a" })
}

// Each way to fail ejects; an answer with a status of 500 or more does not, because it is
// the service's own.
func TestWhatEjects(t *testing.T) {
	for mood, kind := range map[string]string{moodHang: schema.ErrorKindTimeout, moodReset: schema.ErrorKindReset} {
		t.Run(mood, func(t *testing.T) {
			inTime(t, firstByteMS*time.Millisecond, func(bound time.Duration) error {
				a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
				o := originOf(a, b)
				o.Timeouts = &deploy.OriginTimeouts{FirstByteMS: bound.Milliseconds()}
				cfg := quickConfig()
				cfg.Ejection, cfg.EjectionMax = time.Hour, time.Hour
				backend := openOrigin(t, cfg, o)
				a.mood.Store(mood)
				answered := func() error {
					resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
					if err != nil {
						return err
					}
					if got := readAll(t, resp, nil); got != "b" {
						return fmt.Errorf("got %q from an endpoint that does not answer", got)
					}
					return nil
				}
				for outOf(t, backend) == "" {
					if err := answered(); err != nil {
						return err
					}
				}
				if out := outOf(t, backend); !strings.HasPrefix(out, "1 of 2 endpoints are out: "+a.url()) || !strings.Contains(out, kind) {
					return fmt.Errorf("the state is %q, want a %s", out, kind)
				}
				waitFor(t, "the requests to be read", func() bool { return a.requests.Load() >= failuresInARow })
				before := a.requests.Load()
				for range 50 {
					if err := answered(); err != nil {
						return err
					}
				}
				if a.requests.Load() != before {
					return errors.New("an endpoint that is out got requests")
				}
				return nil
			})
		})
	}
	t.Run("not 503", func(t *testing.T) {
		a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
		backend := openOrigin(t, quickConfig(), originOf(a, b))
		a.mood.Store(moodBad)
		seen := map[int]int{}
		for range 200 {
			resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
			readAll(t, resp, err)
			seen[resp.StatusCode]++
		}
		wantShares(t, []int{seen[200], seen[503]}, []float64{1, 1})
		if out := outOf(t, backend); out != "" {
			t.Errorf("the state is %q", out)
		}
	})
}

// One request at a time finds out whether an endpoint is back, and it does not fail for it.
func TestOneProbeAtATime(t *testing.T) {
	a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
	cfg := quickConfig()
	cfg.Ejection, cfg.EjectionMax = 400*time.Millisecond, time.Hour
	backend := openOrigin(t, cfg, originOf(a, b))
	a.mood.Store(moodReset)
	waitFor(t, "the endpoint to be out", func() bool { ask(t, backend); return outOf(t, backend) != "" })
	a.mood.Store(moodHang) // for as long as the test looks, so that the first probe does not end

	u := backend.(*upstream)
	waitFor(t, "the endpoint to be half open", func() bool { return len(u.pool.Load().probes) == 1 })
	before := a.requests.Load()
	var all sync.WaitGroup
	var answered atomic.Int32
	for range 10 {
		all.Go(func() {
			if got := ask(t, backend); got != "b" {
				t.Errorf("got %q", got)
			}
			answered.Add(1)
		})
	}
	waitFor(t, "the probe", func() bool { return a.requests.Load() > before })
	waitFor(t, "the other answers", func() bool { return answered.Load() >= 9 })
	a.kill()
	all.Wait()
	if probes := a.requests.Load() - before; probes != 1 {
		t.Errorf("%d requests went to an endpoint that is half open, want one", probes)
	}
	// Each probe that fails doubles the time.
	u.mu.Lock()
	outFor := u.endpoints[0].outFor
	u.mu.Unlock()
	if outFor < 2*u.cfg.Ejection {
		t.Errorf("it is out for %s after a failed probe, want at least %s", outFor, 2*u.cfg.Ejection)
	}
}

// The story: an endpoint was out, and at its address was something that is no HTTP. Each
// request that found it free was sent there and failed, since such a failure is held against
// nobody who is in, and a probe that told nothing left the endpoint as it was.
func TestProbeThatGetsNoHTTPHasFailed(t *testing.T) {
	a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
	backend := openOrigin(t, quickConfig(), originOf(a, b))
	a.mood.Store(moodReset)
	waitFor(t, "the endpoint to be out", func() bool { ask(t, backend); return outOf(t, backend) != "" })
	a.mood.Store(moodOdd)
	u := backend.(*upstream)
	waitFor(t, "a probe", func() bool {
		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		if err == nil {
			readAll(t, resp, nil)
			return false
		}
		wantKind(t, resp, err, schema.ErrorKindProtocol)
		return true
	})
	u.mu.Lock()
	outFor := u.endpoints[0].outFor
	u.mu.Unlock()
	if out := outOf(t, backend); outFor < 2*u.cfg.Ejection || !strings.Contains(out, a.url()+" (protocol)") {
		t.Errorf("it is out for %s after a failed probe, want at least %s; the state is %q", outFor, 2*u.cfg.Ejection, out)
	}
}

// What cannot be repeated is not what an endpoint is tried with, unless nothing else comes.
func TestRequestsThatCannotBeRepeatedDoNotProbe(t *testing.T) {
	var h health
	h.since.Store(time.Now().UnixNano())
	if h.mayProbe(false) {
		t.Error("a POST probes an endpoint at once")
	}
	h.since.Store(time.Now().Add(-probePatience - time.Second).UnixNano())
	if !h.mayProbe(false) {
		t.Error("a POST does not probe an endpoint that waits for long")
	}
	if h.mayProbe(true) {
		t.Error("a second probe begins beside the first")
	}
}

// All out: requests still go there, and the first answer ends it.
func TestAllEndpointsOut(t *testing.T) {
	a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
	cfg := quickConfig()
	cfg.Ejection, cfg.EjectionMax = time.Hour, time.Hour // so that no probe comes first
	backend := openOrigin(t, cfg, originOf(a, b))
	a.kill()
	b.kill()
	waitFor(t, "both to be out", func() bool {
		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		wantKind(t, resp, err, schema.ErrorKindConnect)
		return strings.HasPrefix(outOf(t, backend), "2 of 2")
	})
	b.start()
	waitFor(t, "an answer", func() bool {
		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		return err == nil && readAll(t, resp, nil) == "b"
	})
	if out := outOf(t, backend); !strings.HasPrefix(out, "1 of 2") {
		t.Errorf("the state is %q", out)
	}
}

// The client's failure is not the endpoint's.
func TestClientsFaultsEjectNobody(t *testing.T) {
	a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
	backend := openOrigin(t, quickConfig(), originOf(a, b))
	for range 4 * failuresInARow {
		req := request(t, http.MethodPost, "/", "x")
		req.Body, req.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader("x"), brokenReader{})), -1
		resp, err := backend.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Fatal("a request with half a body was answered")
		}
	}
	bad := request(t, http.MethodGet, "/", "")
	bad.Method = "BAD METHOD"
	for range 4 * failuresInARow {
		resp, err := backend.RoundTrip(bad)
		wantKind(t, resp, err, schema.ErrorKindProtocol)
	}
	if out := outOf(t, backend); out != "" {
		t.Errorf("the state is %q", out)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// What an endpoint has in hand is counted down whatever ends it, over each protocol.
func TestRequestsInHandAreCountedDown(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/switch":
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_ = c.Close()
		default:
			_, _ = io.Copy(w, r.Body)
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		}
	}, func(t *testing.T, s *httptest.Server, cfg Config) {
		backend := openOrigin(t, cfg, &deploy.Origin{URL: s.URL, MaxRequests: 1})
		inHand := func() int64 { return backend.(*upstream).endpoints[0].busy.Load() }
		send := func(method, path, body string, use func(*http.Response)) {
			t.Helper()
			req := request(t, method, path, body)
			if path == "/switch" {
				req.Header.Set("Connection", "Upgrade")
				req.Header.Set("Upgrade", "echo")
			}
			resp, err := backend.RoundTrip(req)
			if err == nil {
				if inHand() != 1 && method != http.MethodHead {
					t.Errorf("%s %s: %d in hand while it is read, want 1", method, path, inHand())
				}
				use(resp)
				_ = resp.Body.Close()
			}
			if inHand() != 0 {
				t.Errorf("%s %s: %d in hand afterwards", method, path, inHand())
			}
		}
		read := func(resp *http.Response) { _, _ = io.Copy(io.Discard, resp.Body) }
		send(http.MethodGet, "/", "", read)
		send(http.MethodPost, "/", "body", read)
		send(http.MethodHead, "/", "", read)
		send(http.MethodGet, "/", "", func(*http.Response) {}) // that nobody reads
		send(http.MethodGet, "/abort", "", read)
		send(http.MethodGet, "/switch", "", func(*http.Response) {})

		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		more, err := backend.RoundTrip(request(t, http.MethodPost, "/", "body"))
		wantKind(t, more, err, schema.ErrorKindOverloaded)
	})
}

func BenchmarkRoundTripOfEndpoints(b *testing.B) {
	for _, n := range []int{1, 2, 16} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			var o deploy.Origin
			for range n {
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
				b.Cleanup(s.Close)
				o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: s.URL, Weight: 1})
			}
			backends, err := New(DefaultConfig(), slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(backends.Close)
			backend := backends.Update(deployedSnapshot(&o))[versionID]
			req := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := backend.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}

// A request whose header is longer than an HTTP/2 server takes, by its settings, is not sent: that says nothing of
// an endpoint that is out, which one client with such a request kept there.
func TestProbeThatIsNotSentTellsNothing(t *testing.T) {
	server := func() string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		s.Config.MaxHeaderBytes = 4 << 10
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		t.Cleanup(s.Close)
		return "h2c" + strings.TrimPrefix(s.URL, "http")
	}
	cfg := quickConfig()
	backend := openOrigin(t, cfg, &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: server(), Weight: 1}, {URL: server(), Weight: 1}}})
	for range 10 { // both have told their settings
		ask(t, backend)
	}
	u := backend.(*upstream)
	e := u.endpoints[0]
	u.eject(pick{endpoint: e}, schema.ErrorKindReset)
	state := func() (endpointState, time.Duration) {
		u.mu.Lock()
		defer u.mu.Unlock()
		return e.state, e.outFor
	}
	waitFor(t, "the endpoint to be tried", func() bool { s, _ := state(); return s == stateHalfOpen })
	for range 20 {
		req := request(t, http.MethodGet, "/", "")
		req.Header.Set("Cookie", strings.Repeat("x", 8<<10))
		resp, err := backend.RoundTrip(req)
		wantKind(t, resp, err, schema.ErrorKindProtocol)
	}
	if _, outFor := state(); outFor != cfg.Ejection {
		t.Errorf("it is out for %s, want %s", outFor, cfg.Ejection)
	}
	waitFor(t, "the endpoint to be in", func() bool { ask(t, backend); return outOf(t, backend) == "" })
}
