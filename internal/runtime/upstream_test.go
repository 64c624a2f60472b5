package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// moodyServer is a server that can be told to misbehave. Its answers name it.
type moodyServer struct {
	t        *testing.T
	addr     string
	name     string
	mood     atomic.Value // a string
	requests atomic.Int32 // whose header was read
	checks   atomic.Int32 // of those, for /health

	mu    sync.Mutex
	l     net.Listener // nil while it is dead
	conns map[net.Conn]bool
	tasks sync.WaitGroup
}

const (
	moodGood  = "good"
	moodHang  = "hang"  // reads, and never answers
	moodReset = "reset" // reads, and hangs up
	moodBad   = "bad"   // answers 503
)

func newMoodyServer(t *testing.T, name string) *moodyServer {
	t.Helper()
	s := &moodyServer{t: t, name: name, addr: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	s.mood.Store(moodGood)
	s.start()
	t.Cleanup(func() { s.kill(); s.tasks.Wait() })
	return s
}

func (s *moodyServer) url() string { return "http://" + s.addr }

// start listens, at the same address as before.
func (s *moodyServer) start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != nil {
		return
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.l, s.addr = l, l.Addr().String()
	s.tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			if s.l != l {
				_ = c.Close()
			} else {
				s.conns[c] = true
				s.tasks.Go(func() { s.serve(c) })
			}
			s.mu.Unlock()
		}
	})
}

// kill closes the listener and every connection, as the end of a process does.
func (s *moodyServer) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l == nil {
		return
	}
	_ = s.l.Close()
	s.l = nil
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *moodyServer) serve(c net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		s.requests.Add(1)
		if req.URL.Path == "/health" {
			s.checks.Add(1)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		status := "200 OK"
		switch s.mood.Load() {
		case moodHang:
			_, _ = r.Peek(1) // until the other side gives up, or this one is killed
			return
		case moodReset:
			return
		case moodBad:
			status = "503 Service Unavailable"
		}
		answer := s.name + string(body)
		if req.Method == http.MethodHead {
			answer = ""
		}
		if _, err := io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: "+strconv.Itoa(len(answer))+"\r\n\r\n"+answer); err != nil {
			return
		}
	}
}

// quickConfig ejects for so short that a test can wait for it.
func quickConfig() Config {
	cfg := shortConfig()
	cfg.Ejection, cfg.EjectionMax = 20*time.Millisecond, 80*time.Millisecond
	return cfg
}

// openOrigin returns the backend of an origin, deployed.
func openOrigin(t *testing.T, cfg Config, o *deploy.Origin) http.RoundTripper {
	t.Helper()
	b, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.Update(deployedSnapshot(o))[versionID]
}

func deployedSnapshot(o *deploy.Origin) *deploy.Snapshot {
	return &deploy.Snapshot{Revision: 1, Scripts: []deploy.SnapshotScript{{
		AccountID: "a", Subdomain: "dev", Name: "shop", Splits: []deploy.Split{{VersionID: versionID, Percentage: deploy.Full}},
		Versions: []deploy.SnapshotVersion{{ID: versionID, Origin: o}},
	}}}
}

func originOf(servers ...*moodyServer) *deploy.Origin {
	o := &deploy.Origin{}
	for _, s := range servers {
		o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: s.url(), Weight: 1})
	}
	return o
}

func retries(n int) *int { return &n }

// ask sends a GET and returns the answer, which names the server.
func ask(t *testing.T, backend http.RoundTripper) string {
	t.Helper()
	resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
	return readAll(t, resp, err)
}

func outOf(t *testing.T, backend http.RoundTripper) string {
	t.Helper()
	return backend.(interface{ State() deploy.BackendState }).State().Error
}

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
			a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
			o := originOf(a, b)
			o.Timeouts = &deploy.OriginTimeouts{FirstByteMS: 50}
			cfg := quickConfig()
			cfg.Ejection, cfg.EjectionMax = time.Hour, time.Hour
			backend := openOrigin(t, cfg, o)
			a.mood.Store(mood)
			waitFor(t, "the endpoint to be out", func() bool {
				if got := ask(t, backend); got != "b" {
					t.Fatalf("got %q from an endpoint that does not answer", got)
				}
				return strings.Contains(outOf(t, backend), kind)
			})
			if seen := a.requests.Load(); seen < failuresInARow {
				t.Errorf("it is out after %d requests, want %d", seen, failuresInARow)
			}
			before := a.requests.Load()
			for range 50 {
				ask(t, backend)
			}
			if a.requests.Load() != before {
				t.Error("an endpoint that is out got requests")
			}
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
	o := originOf(a, b)
	o.Timeouts = &deploy.OriginTimeouts{FirstByteMS: 100}
	backend := openOrigin(t, quickConfig(), o)
	a.mood.Store(moodHang)
	waitFor(t, "the endpoint to be out", func() bool { ask(t, backend); return outOf(t, backend) != "" })

	u := backend.(*upstream)
	waitFor(t, "the endpoint to be half open", func() bool { return len(u.pool.Load().probes) == 1 })
	before := a.requests.Load()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if got := ask(t, backend); got != "b" {
				t.Errorf("got %q", got)
			}
		})
	}
	waitFor(t, "the probe", func() bool { return a.requests.Load() > before })
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

// A request that may have been acted on is not sent twice; one that was not sent is,
// whatever it is, with its whole body.
func TestWhatIsRepeated(t *testing.T) {
	f := func(name, method, body, mood string, wantRepeated bool) {
		t.Run(name, func(t *testing.T) {
			a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
			o := originOf(a, b)
			o.Timeouts = &deploy.OriginTimeouts{FirstByteMS: 50}
			cfg := quickConfig()
			cfg.Ejection, cfg.EjectionMax = time.Hour, time.Hour
			backend := openOrigin(t, cfg, o)
			if a.mood.Store(mood); mood == "" {
				a.kill()
			}
			failed := 0
			for outOf(t, backend) == "" {
				var before, after int32
				before = a.requests.Load() + b.requests.Load()
				req := request(t, method, "/", body)
				closes := &closeCounter{ReadCloser: req.Body}
				req.Body = closes
				resp, err := backend.RoundTrip(req)
				after = a.requests.Load() + b.requests.Load()
				if err != nil {
					failed++
					if body != "" && closes.n.Load() == 0 {
						t.Error("the body was not closed")
					}
					if after-before > 1 {
						t.Errorf("a request that must not be repeated was seen %d times", after-before)
					}
					continue
				}
				if got := readAll(t, resp, nil); got != "b"+body {
					t.Errorf("got %q, want %q", got, "b"+body)
				}
			}
			if (failed == 0) != wantRepeated {
				t.Errorf("%d requests failed; repeated should be %v", failed, wantRepeated)
			}
		})
	}
	f("GET, reset", http.MethodGet, "", moodReset, true)
	f("DELETE, timeout", http.MethodDelete, "", moodHang, true)
	f("POST, reset", http.MethodPost, "", moodReset, false)
	f("POST with a body, timeout", http.MethodPost, "hello", moodHang, false)
	f("PUT with a body, reset", http.MethodPut, "hello", moodReset, false)
	f("POST with a body, refused", http.MethodPost, "hello", "", true)
	f("POST, refused", http.MethodPost, "", "", true)
}

type closeCounter struct {
	io.ReadCloser
	n atomic.Int32
}

func (c *closeCounter) Close() error { c.n.Add(1); return c.ReadCloser.Close() }

// After a byte of a response there is no second attempt.
func TestBrokenResponseIsNotRepeated(t *testing.T) {
	var seen atomic.Int32
	broken := func() string {
		return rawServer(t, func(c net.Conn, r *bufio.Reader) {
			skipHead(r)
			seen.Add(1)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
		})
	}
	o := &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: "http://" + broken(), Weight: 1}, {URL: "http://" + broken(), Weight: 1}}}
	resp, err := openOrigin(t, quickConfig(), o).RoundTrip(request(t, http.MethodGet, "/", ""))
	wantKind(t, resp, err, schema.ErrorKindReset)
	if seen.Load() != 1 {
		t.Errorf("the request was sent %d times", seen.Load())
	}
}

// A request is sent as often as the origin says, and no more.
func TestRetriesAreBounded(t *testing.T) {
	for n := range 4 {
		servers := []*moodyServer{newMoodyServer(t, "a"), newMoodyServer(t, "b"), newMoodyServer(t, "c")}
		for _, s := range servers {
			s.mood.Store(moodReset)
		}
		o := originOf(servers...)
		o.Retries = retries(n)
		resp, err := openOrigin(t, quickConfig(), o).RoundTrip(request(t, http.MethodGet, "/", ""))
		wantKind(t, resp, err, schema.ErrorKindReset)
		seen := int32(0)
		for _, s := range servers {
			seen += s.requests.Load()
			if s.requests.Load() > 1 {
				t.Errorf("%d retries: one endpoint got the request %d times", n, s.requests.Load())
			}
		}
		if want := int32(min(n+1, 3)); seen != want {
			t.Errorf("%d retries: the request was sent %d times, want %d", n, seen, want)
		}
	}
}

// When everything fails, repeats stay a part of the load.
func TestRetryBudget(t *testing.T) {
	u := balancer(t, nil, 1, 1)
	spent := 0
	for u.spend() {
		spent++
	}
	if spent != retryFloor {
		t.Errorf("an idle origin may repeat %d requests at once, want %d", spent, retryFloor)
	}
	for range 100 {
		mustPick(t, u)
	}
	for u.spend() {
		spent++
	}
	if want := retryFloor + 100/retryShare; spent != want {
		t.Errorf("with 100 requests in hand %d may be repeats, want %d", spent, want)
	}
	s := sending{upstream: u, req: request(t, http.MethodGet, "/", ""), left: 1}
	reset := &Error{schema.ErrorKindReset, "test", errUnanswered}
	if _, _, ok := s.next(reset); ok {
		t.Error("a request was repeated beyond the budget")
	}
	u.retrying.Add(-1)
	if _, budgeted, ok := s.next(reset); !ok || !budgeted {
		t.Error("a request was not repeated within the budget")
	}
	if _, budgeted, ok := s.next(&Error{schema.ErrorKindConnect, "test", errors.New("refused")}); !ok || budgeted {
		t.Error("what was not sent is held to the budget")
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

// Over each protocol a dead endpoint costs nobody an answer, whatever was to be sent: what
// found no connection goes to the other one with its whole body.
func TestFailoverOverEachProtocol(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what of it is missing shows in the answer
		_, _ = w.Write(body)
	}
	each(t, echo, func(t *testing.T, alive *httptest.Server, cfg Config) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		scheme, _, _ := strings.Cut(alive.URL, "://")
		backend := openOrigin(t, cfg, &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: alive.URL, Weight: 1}, {URL: scheme + "://" + l.Addr().String(), Weight: 1}}})
		for outOf(t, backend) == "" {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch} {
				body := ""
				if method != http.MethodGet {
					body = strings.Repeat(method, 50_000)
				}
				resp, err := backend.RoundTrip(request(t, method, "/", body))
				if got := readAll(t, resp, err); got != body {
					t.Fatalf("%s: %d bytes came back of %d", method, len(got), len(body))
				}
			}
		}
	})
}

// A stream that an endpoint resets is a failure of it, and is repeated elsewhere.
func TestResetStreamsAreRepeatedElsewhere(t *testing.T) {
	bad := h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
		return fr.WriteRSTStream(stream, h2.ErrCodeInternal) == nil
	})
	good := h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool { return respond(fr, stream) })
	cfg := quickConfig()
	cfg.Ejection, cfg.EjectionMax = time.Hour, time.Hour
	backend := openOrigin(t, cfg, &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: bad, Weight: 1}, {URL: good, Weight: 1}}})
	waitFor(t, "the endpoint to be out", func() bool {
		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		readAll(t, resp, err)
		return strings.Contains(outOf(t, backend), bad+" (reset)")
	})
}

// The story: a request on a connection that was kept got no answer in time, and was
// sent once more, to the same server on a new connection, to wait there as long again.
func TestTimeoutIsNotRepeatedAtTheSameServer(t *testing.T) {
	a := newMoodyServer(t, "a")
	backend := openOrigin(t, shortConfig(), &deploy.Origin{URL: a.url(), Timeouts: &deploy.OriginTimeouts{FirstByteMS: 50}})
	ask(t, backend) // leaves a connection
	a.mood.Store(moodHang)
	resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
	wantKind(t, resp, err, schema.ErrorKindTimeout)
	if n := a.requests.Load(); n != 2 {
		t.Errorf("the server saw %d requests, want 2", n)
	}
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
