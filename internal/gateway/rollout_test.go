package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"tidegate/internal/api"
	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/internal/store"
	"tidegate/internal/store/storetest"
	accounts "tidegate/schema/control"
)

// plane is a control plane: a database, and the API on it.
type plane struct {
	*store.Store
	server *httptest.Server
	token  string
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	db := storetest.New(t, store.Options{})
	p := &plane{Store: db}
	if _, err := db.Bootstrap(t.Context(), accounts.Account{ID: account, Name: "Test", Subdomain: "dev"}, func(token string) error {
		p.token = token
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.serve(t)
	return p
}

// serve puts the API on an address of its own.
func (p *plane) serve(t *testing.T) {
	t.Helper()
	server, err := api.New(api.Config{}, api.Deps{
		Accounts: p.Store, Tokens: p.Store, Scripts: p.Store, Policies: p.Store, Jobs: p.Store, Snapshots: p.Store,
		Routers: p.Store, Triggers: p.Store, Tails: p.Store,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.server = httptest.NewServer(server.Handler())
	t.Cleanup(p.server.Close)
	t.Cleanup(server.StopWaiting)
}

// upload makes a version of shop that an origin serves.
func (p *plane) upload(t *testing.T, origin string) string {
	t.Helper()
	v, err := p.CreateVersion(t.Context(), account, "shop", deploy.Version{Origin: &deploy.Origin{URL: origin}})
	if err != nil {
		t.Fatal(err)
	}
	return v.ID
}

// deploy puts splits in force and returns the revision that has them.
func (p *plane) deploy(t *testing.T, splits ...deploy.Split) (revision int64) {
	t.Helper()
	if _, err := p.Deploy(t.Context(), account, "shop", deploy.Deployment{Versions: splits}, ""); err != nil {
		t.Fatal(err)
	}
	s, err := p.SnapshotAll(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return s.Revision
}

// rolling answers with its name, streams it, or echoes in a WebSocket.
func rolling(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
			for i := 0; r.Context().Err() == nil; i++ {
				_, _ = fmt.Fprintf(w, "%s %d\n", name, i)
				flush(w)
				select {
				case <-time.After(2 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		case "/socket":
			c, err := websocket.Accept(w, r, nil)
			if err == nil {
				defer func() { _ = c.CloseNow() }() // the other side may have
			}
			for err == nil {
				var kind websocket.MessageType
				var message []byte
				if kind, message, err = c.Read(r.Context()); err == nil {
					err = c.Write(r.Context(), kind, append([]byte(name+" "), message...))
				}
			}
		default:
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprint(w, name, " ", len(body), " ", err)
		}
	}
}

// traffic is what clients of one gateway see; nothing of it may end, but by stop.
type traffic struct {
	t        *testing.T
	e        *env
	dials    atomic.Int64
	requests atomic.Int64
	talked   atomic.Int64 // messages of the stream and the WebSocket
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

const keptConns = 3 // of HTTP/1.1

func startTraffic(t *testing.T, e *env) *traffic {
	l := &traffic{t: t, e: e}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(l.stop)
	for range keptConns {
		l.running.Go(l.keepAsking)
	}
	l.running.Go(l.keepAskingHTTP2)
	l.running.Go(func() { l.keepStreaming() })
	l.running.Go(func() { l.keepTalking() })
	return l
}

func (l *traffic) stop() { l.cancel(); l.running.Wait() }

func (l *traffic) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	l.dials.Add(1)
	return (&net.Dialer{}).DialContext(ctx, network, l.e.addr)
}

// keepAsking sends one request after the other on one connection, which
// http.Transport would replace without a word.
func (l *traffic) keepAsking() {
	c, err := l.dial(l.ctx, "tcp", "")
	if err != nil {
		l.t.Errorf("connect: %v", err)
		return
	}
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	l.askUntilStopped(func(req *http.Request) (*http.Response, error) {
		if err := req.Write(c); err != nil {
			return nil, err
		}
		return http.ReadResponse(r, req)
	})
}

func (l *traffic) keepAskingHTTP2() {
	transport := &http.Transport{DialContext: l.dial, Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	l.askUntilStopped(transport.RoundTrip)
}

func (l *traffic) askUntilStopped(send func(*http.Request) (*http.Response, error)) {
	for i := 0; l.ctx.Err() == nil; i++ {
		method, body, want := http.MethodGet, "", " 0 <nil>"
		if i%3 == 0 {
			method, body, want = http.MethodPost, strings.Repeat("x", 10_000), " 10000 <nil>"
		}
		req, err := http.NewRequestWithContext(context.WithoutCancel(l.ctx), method, shop+"/", strings.NewReader(body))
		if err != nil {
			l.t.Error(err)
			return
		}
		resp, err := send(req)
		if err != nil {
			l.t.Errorf("a request failed: %v", err)
			return
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.HasSuffix(string(got), want) {
			l.t.Errorf("a request got %d %q, %v", resp.StatusCode, got, err)
			return
		}
		l.requests.Add(1)
	}
}

func (l *traffic) keepStreaming() {
	req, err := http.NewRequestWithContext(l.ctx, http.MethodGet, shop+"/stream", nil)
	if err != nil {
		l.t.Error(err)
		return
	}
	resp, err := l.e.client.Do(req)
	if err != nil {
		l.t.Errorf("the stream: %v", err)
		return
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i := 0; ; i++ {
		line, err := lines.ReadString('\n')
		if l.ctx.Err() != nil {
			return
		}
		if err != nil || !strings.HasSuffix(line, fmt.Sprintf(" %d\n", i)) {
			l.t.Errorf("line %d of the stream is %q, %v", i, line, err)
			return
		}
		l.talked.Add(1)
	}
}

func (l *traffic) keepTalking() {
	c, _, err := websocket.Dial(l.ctx, "ws://shop.dev.localhost/socket", &websocket.DialOptions{HTTPClient: l.e.client}) //nolint:bodyclose // it has none
	for i := 0; err == nil; i++ {
		var echo []byte
		if err = c.Write(l.ctx, websocket.MessageText, fmt.Appendf(nil, "%d", i)); err == nil {
			_, echo, err = c.Read(l.ctx)
		}
		if err == nil && !strings.HasSuffix(string(echo), fmt.Sprintf(" %d", i)) {
			err = fmt.Errorf("message %d came back as %q", i, echo)
		}
		l.talked.Add(1)
	}
	if l.ctx.Err() == nil {
		l.t.Errorf("the WebSocket: %v", err)
	}
}

// Deployments reach every gateway while it is under load: no request fails, and no
// connection, stream or WebSocket ends, also not while the control plane is away and
// comes back elsewhere.
func TestDeploymentsReachEveryGateway(t *testing.T) {
	p := newPlane(t)
	one, two := p.upload(t, origin(t, rolling("one"))), p.upload(t, origin(t, rolling("two")))
	p.deploy(t, deploy.Split{VersionID: one, Percentage: deploy.Full})
	var address atomic.Pointer[string]
	address.Store(&p.server.URL)
	var gateways []*env
	var loads []*traffic
	for range 3 {
		e := start(t, nil, func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) {
			d.Snapshots = source(func(ctx context.Context, after int64) (*deploy.Snapshot, error) {
				return client.New(*address.Load(), p.token, nil).SnapshotAll(ctx, after)
			})
		})
		waitFor(t, "the first snapshot", func() bool { return e.Ready() == nil })
		gateways, loads = append(gateways, e), append(loads, startTraffic(t, e))
	}
	everywhere := func(revision int64) bool {
		return !slices.ContainsFunc(gateways, func(e *env) bool { return e.Revision() < revision })
	}
	progress := func() {
		t.Helper()
		for _, l := range loads {
			requests, talked := l.requests.Load(), l.talked.Load()
			waitFor(t, "traffic to go on", func() bool { return l.requests.Load() >= requests+20 && l.talked.Load() >= talked+20 })
		}
	}
	// put deploys and waits until every gateway serves it, for which it returns the time.
	put := func(splits ...deploy.Split) time.Duration {
		t.Helper()
		began := time.Now()
		revision := p.deploy(t, splits...)
		waitFor(t, "the deployment at every gateway", func() bool { return everywhere(revision) })
		return time.Since(began)
	}
	progress()
	var took []time.Duration
	for range 20 {
		for i, share := range []deploy.Percentage{deploy.Full, 50_000, 0} {
			took = append(took, put(deploy.Split{VersionID: one, Percentage: deploy.Full - share}, deploy.Split{VersionID: two, Percentage: share}))
			if want := []string{"two", "", "one"}[i]; want != "" {
				for _, e := range gateways {
					if a := e.get(t, shop+"/"); !strings.HasPrefix(a.body, want+" ") {
						t.Fatalf("after the deployment %q answered, want %s", a.body, want)
					}
				}
			}
		}
		progress()
	}
	slices.Sort(took)
	t.Logf("%d deployments to %d gateways under load: median %s, longest %s", len(took), len(gateways), took[len(took)/2], took[len(took)-1])

	_ = p.server.Listener.Close() // the server does so again
	for _, e := range gateways {
		waitFor(t, "the loss of the control plane to show", func() bool {
			p.server.CloseClientConnections() // and those that were on their way the last time
			return e.Status().SyncError != nil
		})
		if e.Ready() != nil {
			t.Errorf("not ready without the control plane: %v", e.Ready())
		}
	}
	progress()
	p.serve(t)
	address.Store(&p.server.URL)
	put(deploy.Split{VersionID: two, Percentage: deploy.Full})
	progress()

	var requests int64
	for i, l := range loads {
		l.stop()
		requests += l.requests.Load()
		if n := l.dials.Load(); n != keptConns+1 {
			t.Errorf("the clients of gateway %d made %d connections, want %d", i, n, keptConns+1)
		}
		if err := gateways[i].Status().SyncError; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("gateway %d: %v", i, err)
		}
	}
	t.Logf("%d requests, none failed", requests)
}
