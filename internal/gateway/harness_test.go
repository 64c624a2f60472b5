package gateway_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/gateway/lean"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

const (
	account = "00000000000000000000000000000001"
	v1      = "aaaaaaaa-1111-4111-8111-111111111111"
	v2      = "bbbbbbbb-2222-4222-8222-222222222222"
)

// control is a control plane that can be told what to say.
type control struct {
	mu       sync.Mutex
	snapshot *deploy.Snapshot
	err      error
	changed  chan struct{}
}

func newControl(s *deploy.Snapshot) *control {
	return &control{snapshot: s, changed: make(chan struct{})}
}

func (c *control) set(s *deploy.Snapshot, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s != nil {
		c.snapshot = s
	}
	c.err = err
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *control) Snapshot(ctx context.Context, after int64) (*deploy.Snapshot, error) {
	for {
		c.mu.Lock()
		s, err, changed := c.snapshot, c.err, c.changed
		c.mu.Unlock()
		if err != nil || s != nil && s.Revision > after {
			return s, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// events collects what the gateway emits.
type events struct {
	t    testing.TB
	mu   sync.Mutex
	list []schema.TraceEvent
}

func (e *events) Emit(acc string, value []byte, _ bool) {
	var ev schema.TraceEvent
	if err := schema.DecodeEvent(value, &ev); err != nil {
		e.t.Errorf("the event %s: %v", value, err)
	}
	if acc != account {
		e.t.Errorf("the event is for account %q", acc)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

func (e *events) all() []schema.TraceEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]schema.TraceEvent(nil), e.list...)
}

// keep forgets all but the last n events.
func (e *events) keep(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = slices.Clone(e.list[max(0, len(e.list)-n):])
}

// one waits for the n-th event, counted from 1, and checks that it is the last.
func (e *events) nth(n int) schema.TraceEvent {
	e.t.Helper()
	waitFor(e.t, "the event", func() bool { return len(e.all()) >= n })
	all := e.all()
	if len(all) != n {
		e.t.Fatalf("got %d events, want %d", len(all), n)
	}
	return all[n-1]
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	// Only a test that fails waits so long; a busy machine may make the others wait, too.
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// script is a script "shop" whose versions are the origins, in order v1, v2.
func script(origins []string, percentages ...deploy.Percentage) deploy.SnapshotScript {
	sc := deploy.SnapshotScript{AccountID: account, Subdomain: "dev", Name: "shop", DeploymentID: "d", Tags: []string{"team:web"}}
	for i, origin := range origins {
		id := []string{v1, v2}[i]
		sc.Versions = append(sc.Versions, deploy.SnapshotVersion{ID: id, Tag: id[:1], Message: "message of " + id[:1], Origin: &deploy.Origin{URL: origin}})
		if i < len(percentages) {
			sc.Splits = append(sc.Splits, deploy.Split{VersionID: id, Percentage: percentages[i]})
		}
	}
	return sc
}

func snapshot(revision int64, scripts ...deploy.SnapshotScript) *deploy.Snapshot {
	return &deploy.Snapshot{Revision: revision, Scripts: scripts}
}

// env is a gateway with real connections on both sides.
type env struct {
	*gateway.Gateway
	addr    string
	server  *lean.Server
	control *control
	events  *events
	client  *http.Client
	stop    func() // ends Run and waits
}

type setting func(*gateway.Config, *gateway.Deps, *runtime.Config)

func start(t testing.TB, s *deploy.Snapshot, settings ...setting) *env {
	t.Helper()
	e := &env{control: newControl(s), events: &events{t: t}}
	cfg, backendCfg := gateway.DefaultConfig(), runtime.DefaultConfig()
	deps := gateway.Deps{Snapshots: e.control, Emitter: e.events, Logger: slog.New(slog.DiscardHandler)}
	for _, set := range settings {
		set(&cfg, &deps, &backendCfg)
	}
	backends, err := runtime.New(backendCfg, deps.Logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backends.Close)
	if deps.Backends == nil {
		deps.Backends = backends
	}
	if e.Gateway, err = gateway.New(cfg, deps); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	e.stop = func() { cancel(); running.Wait() }
	e.server, e.addr = serve(t, e)
	t.Cleanup(e.stop) // before the server is closed

	transport := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, e.addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	e.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if s != nil {
		waitFor(t, "the first snapshot", func() bool { return e.Ready() == nil })
	}
	return e
}

// byNetHTTP has the suite run without the lean path; see TestSuiteByNetHTTP.
var byNetHTTP = os.Getenv("TIDEGATE_TEST_BY_NET_HTTP") != ""

// serve serves the public on a port of its own.
func serve(t testing.TB, h http.Handler) (*lean.Server, string) {
	t.Helper()
	server := gateway.NewServer(h)
	return server, run(t, server, loopback(t))
}

// serveOn serves the public on a listener.
func serveOn(t testing.TB, h http.Handler, l net.Listener) {
	t.Helper()
	run(t, gateway.NewServer(h), l)
}

func loopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run serves until the test ends and returns the address.
func run(t testing.TB, server *lean.Server, l net.Listener) (addr string) {
	t.Helper()
	server.HTTP.ErrorLog = discardLog()
	serve := server.Serve
	if byNetHTTP {
		serve = server.HTTP.Serve
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() { _ = server.Close(); serving.Wait() })
	return l.Addr().String()
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

// get sends a GET to the script with header pairs.
func (e *env) get(t testing.TB, url string, headers ...string) answer {
	t.Helper()
	a, err := e.try(t.Context(), http.MethodGet, url, nil, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (e *env) try(ctx context.Context, method, url string, body io.Reader, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(resp.Body)
	return answer{resp, string(text)}, errors.Join(err, resp.Body.Close())
}

func origin(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

const shop = "http://shop.dev.localhost"

// bothProtocols are HTTP/1.1 and HTTP/2 without TLS, told apart by the first bytes.
func bothProtocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// originH2C is an origin that speaks HTTP/2 without TLS, and HTTP/1.1.
func originH2C(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Config.Protocols = bothProtocols()
	s.Start()
	t.Cleanup(s.Close)
	return "h2c://" + s.Listener.Addr().String()
}

// h2Client speaks HTTP/2 without TLS to the gateway.
func (e *env) h2Client(t testing.TB) *http.Client {
	t.Helper()
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: p, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, e.addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
