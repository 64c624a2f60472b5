package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/schema"
)

const nonce = "0123456789abcdef0123456789abcdef"

// bindings is a gateway with the scripts shop (v1, v2 at half each) and blog (v3), and
// the socket that their processes reach, on which shop's v1 is known.
func bindings(t *testing.T) (e *env, w *workers, socket string) {
	t.Helper()
	w = newWorkers(v1, v2, v3)
	w.callers = map[string]deploy.Caller{nonce: {AccountID: account, Script: "shop", VersionID: v1}}
	e = start(t, snapshot(1,
		workerScript("shop", []string{v1, v2}, 50_000, 50_000),
		workerScript("blog", []string{v3}, 100_000)), w.use)
	socket = filepath.Join(t.TempDir(), "bindings")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := gateway.NewServer(e.BindingHandler()).HTTP
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return e, w, socket
}

// call sends a request to the socket as the runtime does.
func call(t *testing.T, socket, binding string, headers ...string) answer {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	e := &env{client: &http.Client{Transport: transport}}
	if binding != "" {
		headers = append(headers, deploy.BindingHeader, binding)
	}
	a, err := e.try(t.Context(), http.MethodPost, "http://any.example/path?q=1", strings.NewReader("body"), headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestServiceBinding(t *testing.T) {
	e, w, socket := bindings(t)
	got := make(chan *http.Request, 1)
	w.versions[v3].serve = func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "body" {
			t.Errorf("the callee got %q, %v", body, err)
		}
		e.Invocation(v3, schema.Invocation{RayID: r.Header.Get("Cf-Ray"), EventType: "fetch", TimestampMs: 1, Outcome: "ok"})
		got <- r
		rw.WriteHeader(http.StatusTeapot)
	}
	a := call(t, socket, deploy.ServiceCall{Nonce: nonce, Script: "blog"}.Header(), "Cf-Ray", "ofthecaller", "X-Real-Ip", "192.0.2.1", "X-Forwarded-Proto", "http", "Te", "trailers, gzip")
	if a.StatusCode != http.StatusTeapot {
		t.Errorf("the caller got %d %q", a.StatusCode, a.body)
	}
	r := <-got
	if r.Header.Get(deploy.BindingHeader) != "" || r.Header.Get("Cf-Ray") == "ofthecaller" || r.Header.Get("X-Real-Ip") != "192.0.2.1" || r.Host != "any.example" || r.RequestURI != "/path?q=1" {
		t.Errorf("the callee got %s for %s with %v", r.RequestURI, r.Host, r.Header)
	}
	if te := r.Header["Te"]; len(te) != 1 || te[0] != "trailers" { // gRPC wants to know
		t.Errorf("the callee got Te: %q", te)
	}
	event := e.events.nth(1)
	wantEvent(t, event, schema.OutcomeOK, "", http.StatusTeapot)
	if event.Gateway.CallerScript != "shop" || event.Gateway.CallerVersionID != v1 {
		t.Errorf("the event's caller is %+v", event.Gateway)
	}
	if event.ScriptName != "blog" || event.ScriptVersion.ID != v3 || event.Gateway.RayID != r.Header.Get("Cf-Ray") || !strings.Contains(string(event.Event), `"URL":"http://any.example/path?q=1"`) {
		t.Errorf("the event is %+v, of %s", event, event.Event)
	}
}

// The callee's own split, overrides and affinity hold.
func TestServiceBindingPicksTheCalleesVersion(t *testing.T) {
	_, _, socket := bindings(t)
	shop := deploy.ServiceCall{Nonce: nonce, Script: "shop"}.Header()
	for id, want := range map[string]string{v1: "a", v2: "b"} {
		if a := call(t, socket, shop, "Cloudflare-Workers-Version-Overrides", `shop="`+id+`"`); a.body != want {
			t.Errorf("the override to %s gave %q", id, a.body)
		}
	}
	first := call(t, socket, shop, "Cloudflare-Workers-Version-Key", "user-1").body
	seen := map[string]bool{}
	for range 40 {
		if a := call(t, socket, shop, "Cloudflare-Workers-Version-Key", "user-1"); a.body != first {
			t.Fatalf("one key got %q and %q", first, a.body)
		}
		seen[call(t, socket, shop).body] = true
	}
	if len(seen) != 2 { // by chance in one of 2^39 runs
		t.Errorf("40 calls reached %v", seen)
	}
}

func TestServiceBindingToAnEntrypoint(t *testing.T) {
	e, w, socket := bindings(t)
	w.versions[v3].named = map[string]http.HandlerFunc{"Admin": func(rw http.ResponseWriter, r *http.Request) {
		e.Invocation(v3, schema.Invocation{RayID: r.Header.Get("Cf-Ray"), EventType: "fetch", TimestampMs: 1, Outcome: "ok", Entrypoint: "Admin"})
		says("admin")(rw, r)
	}}
	if a := call(t, socket, deploy.ServiceCall{Nonce: nonce, Script: "blog", Entrypoint: "Admin"}.Header()); a.body != "admin" {
		t.Errorf("got %d %q", a.StatusCode, a.body)
	}
	if event := e.events.nth(1); event.Entrypoint != "Admin" || event.Gateway.RayID == "" {
		t.Errorf("the event is %+v", event)
	}
	if a := call(t, socket, deploy.ServiceCall{Nonce: nonce, Script: "blog", Entrypoint: "Nobody"}.Header()); a.StatusCode != http.StatusBadGateway {
		t.Errorf("an entry point that is not there answered %d %q", a.StatusCode, a.body)
	}
}

func TestServiceBindingRefusals(t *testing.T) {
	_, _, socket := bindings(t)
	f := func(want int, binding string, headers ...string) {
		t.Helper()
		if a := call(t, socket, binding, headers...); a.StatusCode != want {
			t.Errorf("%q answered %d %q, want %d", binding, a.StatusCode, a.body, want)
		}
	}
	blog := deploy.ServiceCall{Nonce: nonce, Script: "blog"}.Header()
	f(http.StatusOK, blog)
	f(http.StatusForbidden, "")
	f(http.StatusForbidden, "nonsense")
	f(http.StatusForbidden, blog, deploy.BindingHeader, blog)
	f(http.StatusForbidden, deploy.ServiceCall{Nonce: "guessed", Script: "blog"}.Header())
	f(http.StatusNotFound, deploy.ServiceCall{Nonce: nonce, Script: "nobody"}.Header())
	f(http.StatusOK, blog, "CDN-Loop", strings.Repeat("localhost, ", 32)+"other")
	f(http.StatusServiceUnavailable, blog, "CDN-Loop", strings.Repeat("localhost, ", 33)+"other")
}

// One call below the other without end comes to one: a Worker that drops the headers
// hides the chain, and still cannot take all there is.
func TestServiceBindingCallsAreBounded(t *testing.T) {
	_, w, socket := bindings(t)
	blog := deploy.ServiceCall{Nonce: nonce, Script: "blog"}.Header()
	deepest := make(chan int, 1)
	depth := 0 // one call at a time, each within the one before
	w.versions[v3].serve = func(rw http.ResponseWriter, r *http.Request) {
		depth++
		a := call(t, socket, blog) // without the headers of r
		if a.StatusCode == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "" {
			deepest <- depth
			return
		}
		rw.WriteHeader(a.StatusCode)
	}
	if a := call(t, socket, blog); a.StatusCode != http.StatusOK {
		t.Errorf("got %d", a.StatusCode)
	}
	if n := <-deepest; n != 1000 {
		t.Errorf("%d calls at once, want 1000", n)
	}
}

// connect asks the socket for an RPC session.
func connect(t *testing.T, socket, host string) (net.Conn, *bufio.Reader, int) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, "CONNECT "+host+" HTTP/1.1\r\nHost: "+host+"\r\n\r\nearly "); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // of a 200 to CONNECT it is empty, and r goes on
	return c, r, resp.StatusCode
}

func TestRPCSession(t *testing.T) {
	e, w, socket := bindings(t)
	callee, dialed := net.Pipe()
	w.versions[v3].dial = func(entrypoint string) (net.Conn, error) {
		if entrypoint != "Admin" {
			return nil, errors.New("no such entry point")
		}
		return dialed, nil
	}
	c, r, status := connect(t, socket, deploy.ServiceCall{Nonce: nonce, Script: "blog", Entrypoint: "Admin"}.RPCHost())
	if status != http.StatusOK {
		t.Fatalf("CONNECT answered %d", status)
	}
	if _, err := io.WriteString(c, "late"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("early late"))
	if _, err := io.ReadFull(callee, got); err != nil || string(got) != "early late" {
		t.Errorf("the callee got %q, %v", got, err)
	}
	if _, err := io.WriteString(callee, "answer"); err != nil {
		t.Fatal(err)
	}
	got = got[:6]
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "answer" {
		t.Errorf("the caller got %q, %v", got, err)
	}
	// The end of one side is the end of the other.
	_ = callee.Close()
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the caller's connection ended with %v", err)
	}
	if n := len(e.events.all()); n != 0 {
		t.Errorf("the gateway emitted %d events: the runtime tells of RPC", n)
	}
}

func TestRPCSessionRefusals(t *testing.T) {
	_, w, socket := bindings(t)
	w.versions[v3].dial = func(string) (net.Conn, error) { return nil, errors.New("no such entry point") }
	f := func(want int, host string) {
		t.Helper()
		if _, _, status := connect(t, socket, host); status != want {
			t.Errorf("CONNECT %s answered %d, want %d", host, status, want)
		}
	}
	f(http.StatusForbidden, deploy.RPCHost)
	f(http.StatusForbidden, "example.com:443")
	f(http.StatusForbidden, deploy.ServiceCall{Nonce: "guessed", Script: "blog"}.RPCHost())
	f(http.StatusNotFound, deploy.ServiceCall{Nonce: nonce, Script: "nobody"}.RPCHost())
	f(http.StatusBadGateway, deploy.ServiceCall{Nonce: nonce, Script: "blog"}.RPCHost())
}

// A stop of the gateway cuts sessions that nobody else would end.
func TestStopEndsRPCSessions(t *testing.T) {
	e, w, socket := bindings(t)
	_, dialed := net.Pipe()
	w.versions[v3].dial = func(string) (net.Conn, error) { return dialed, nil }
	_, r, status := connect(t, socket, deploy.ServiceCall{Nonce: nonce, Script: "blog"}.RPCHost())
	if status != http.StatusOK {
		t.Fatalf("CONNECT answered %d", status)
	}
	e.stop()
	if _, err := r.ReadByte(); err == nil {
		t.Error("the session goes on")
	}
}
