package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// patient has limits that a test can wait for.
func patient(d time.Duration) setting {
	return func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) { c.BodyTimeout, c.SendTimeout = d, d }
}

const (
	soon = 200 * time.Millisecond // for what must end
	long = 500 * time.Millisecond // for what must go on
)

// goesOn runs a test of what goes beyond a bound and must not be ended, by each protocol. A machine
// that stands still for a while ends it within a short bound: only what no bound lets go on fails.
func goesOn(t *testing.T, h func(bound time.Duration) http.HandlerFunc, test func(t *testing.T, s speaker, bound time.Duration) error) {
	t.Helper()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			for bound := long; ; bound *= 4 {
				s := speak(t, start(t, snapshot(1, script([]string{origin(t, h(bound))}, 100_000)), patient(bound)), protocol)
				err := test(t, s, bound)
				s.tookPath(t, protocol)
				if err == nil {
					return
				}
				if bound > 10*long {
					t.Fatal(err)
				}
				t.Logf("with a bound of %s: %v", bound, err)
			}
		})
	}
}

// isOK says whether an event tells of a request that ended well.
func isOK(e schema.TraceEvent) error {
	if status, _ := e.Status(); e.Outcome != schema.OutcomeOK || e.ErrorKind != "" || status != http.StatusOK {
		return fmt.Errorf("the event says outcome %q, error kind %q, status %d", e.Outcome, e.ErrorKind, status)
	}
	return nil
}

// A client that announces a body and stops sending used to hold its connection, and
// one to the origin, for ever. It is told so, and the origin gets no whole request.
func TestClientThatStopsSending(t *testing.T) {
	broken := make(chan error, 1)
	h := func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		broken <- err
	}
	overOrigins(t, h, func(t *testing.T, e *env) {
		for i, framing := range []string{
			"Content-Length: 10\r\n\r\nhello",
			"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
			"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello",
			"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: 1",
		} {
			if got := sendRaw(t, e.addr, false, "POST / HTTP/1.1\r\nHost: shop.dev.localhost\r\n"+framing); len(got) != 1 || got[0] != http.StatusRequestTimeout {
				t.Errorf("%q: got %v", framing, got)
			}
			wantEvent(t, e.events.nth(i+1), schema.OutcomeCanceled, "", http.StatusRequestTimeout)
			if err := <-broken; err == nil {
				t.Errorf("%q: the origin took half a body for a whole one", framing)
			}
		}
	}, patient(soon))
}

func TestHTTP2ClientThatStopsSending(t *testing.T) {
	broken := make(chan error, 1)
	e := start(t, snapshot(1, script([]string{origin(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		broken <- err
	})}, 100_000)), patient(soon))
	c := dialFrames(t, e.addr, false)
	id := c.send(false, ":method", "POST", ":scheme", "http", ":authority", "shop.dev.localhost", ":path", "/")
	if err := c.WriteData(id, false, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := c.result(id); !strings.HasPrefix(got, "408 ") {
		t.Errorf("got %q", got)
	}
	wantEvent(t, e.events.nth(1), schema.OutcomeCanceled, "", http.StatusRequestTimeout)
	if err := <-broken; err == nil {
		t.Error("the origin took half a body for a whole one")
	}
	if got := c.result(c.send(true, get("/")...)); got != "200" {
		t.Errorf("the connection after that: %q", got)
	}
	<-broken
}

// What comes piece by piece may take longer than the bound, and a client whose version
// has begun to answer may be silent for as long as the two agree.
func TestSlowClientsAreNotGivenUp(t *testing.T) {
	h := func(time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/talk" {
				_ = http.NewResponseController(w).EnableFullDuplex()
				flush(w)
			}
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprint(w, len(body), " ", err)
		}
	}
	goesOn(t, h, func(t *testing.T, s speaker, bound time.Duration) error {
		send := func(path string, pieces int, pause time.Duration) error {
			pr, pw := io.Pipe()
			go func() {
				for range pieces {
					<-time.After(pause)
					if _, err := pw.Write([]byte("x")); err != nil {
						return // the test says why
					}
				}
				_ = pw.Close()
			}()
			resp, err := s.client.Do(s.request(t, "POST", path, pr))
			if err != nil {
				return err
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if want := fmt.Sprint(pieces, " <nil>"); err == nil && string(body) != want {
				err = fmt.Errorf("%s: got %q, want %q", path, body, want)
			}
			return err
		}
		if err := send("/", 24, bound/16); err != nil {
			return err
		}
		if err := isOK(s.events.nth(1)); err != nil {
			return err
		}
		if err := send("/talk", 1, 3*bound/2); err != nil {
			return err
		}
		return isOK(s.events.nth(2))
	})
}

// A client that does not read its response used to hold it, and the version's
// connection, for ever.
func TestClientThatDoesNotReadItsResponse(t *testing.T) {
	var ended atomic.Int64
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/next" {
			return
		}
		_, _ = io.Copy(w, endless{})
		ended.Add(1)
	}
	e := start(t, snapshot(1, script([]string{origin(t, h)}, 100_000)), patient(soon))
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.dev.localhost\r\n\r\n")
	wantEvent(t, e.events.nth(1), schema.OutcomeCanceled, "", 200)
	waitFor(t, "the origin to be told", func() bool { return ended.Load() == 1 })

	// One stream of HTTP/2 does not take the others with it.
	f := dialFrames(t, e.addr, false)
	id := f.send(true, get("/")...)
	wantEvent(t, e.events.nth(2), schema.OutcomeCanceled, "", 200)
	if got := f.result(id); !strings.Contains(got, "reset") {
		t.Errorf("the stream ended with %.50q", got)
	}
	if got := f.result(f.send(true, get("/next")...)); got != "200" {
		t.Errorf("the connection after that: %.50q", got)
	}
}

// A response that is short and is not taken ends, too: its handler has long returned.
func TestHTTP2ClientThatTakesNothing(t *testing.T) {
	e := start(t, snapshot(1, script([]string{origin(t, says("served"))}, 100_000)), patient(soon))
	f := dialFrames(t, e.addr, false)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	for _, fields := range [][]string{get("/"), {":method", "GET", ":scheme", "http", ":authority", "nobody.example", ":path", "/"}} {
		if got := f.result(f.send(true, fields...)); !strings.Contains(got, "reset") {
			t.Errorf("%s got %q", fields[5], got)
		}
	}
	e.events.nth(1)
}

// A stream that says nothing for longer than the bound goes on: it is the version that
// is silent, not the client.
func TestSilentStreamsGoOn(t *testing.T) {
	h := func(bound time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", 10_000)+"\n")
			flush(w)
			select {
			case <-time.After(5 * bound / 4):
			case <-r.Context().Done():
			}
			_, _ = io.WriteString(w, strings.Repeat("y", 10_000)+"\n")
		}
	}
	goesOn(t, h, func(t *testing.T, s speaker, _ time.Duration) error {
		resp, err := s.client.Do(s.request(t, "GET", "/", nil))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for range 2 {
			if line, err := r.ReadString('\n'); err != nil {
				return fmt.Errorf("after %d bytes: %w", len(line), err)
			} else if len(line) != 10_001 {
				t.Errorf("got %d bytes", len(line))
			}
		}
		return isOK(s.events.nth(1))
	})
}

// A header that comes byte by byte, or not to its end, reaches nothing.
func TestClientThatStopsInItsHeader(t *testing.T) {
	var reached atomic.Int64
	e := start(t, nil)
	server := gateway.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	other := server.HTTP
	if server.ReadHeaderTimeout <= 0 || server.IdleTimeout <= 0 || other.ReadHeaderTimeout <= 0 || other.IdleTimeout <= 0 ||
		other.HTTP2.SendPingTimeout <= 0 || other.HTTP2.PingTimeout <= 0 {
		t.Fatal("a limit is missing")
	}
	server.ReadHeaderTimeout, other.ReadHeaderTimeout, other.HTTP2.SendPingTimeout, other.HTTP2.PingTimeout = soon, soon, soon, soon
	e.addr = run(t, server, loopback(t))

	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, c); ended <- err }()
	tick := time.NewTicker(soon / 10)
	defer tick.Stop()
	for sent, i := "GET / HTTP/1.1\r\nHost: shop.dev.localhost\r\nX-A: "+strings.Repeat("x", 10_000), 0; ; i++ {
		select {
		case <-tick.C:
			_, _ = io.WriteString(c, sent[i:i+1]) // the other end says when it is enough
			continue
		case err := <-ended:
			t.Logf("after %d bytes: %v", i, err)
		}
		break
	}

	f := dialFrames(t, e.addr, false)
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}); err != nil {
		t.Fatal(err)
	}
	for err == nil { // pings, which cannot be answered between two parts of a header
		_, err = f.ReadFrame()
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests were served", n)
	}
}

// A request that reaches no script, or whose version does not start, is answered
// although its body does not come: the server used to wait for that first, and for ever.
func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	slow := newWorkers(v1)
	slow.become(deploy.BackendStarting, v1)
	e := start(t, snapshot(1, workerScript("shop", []string{v1}, 100_000)), slow.use, func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) { c.StartWait = soon })
	for host, want := range map[string]int{"nobody.dev.localhost": http.StatusNotFound, "shop.dev.localhost": http.StatusServiceUnavailable} {
		for _, framing := range []string{"Content-Length: 1000\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n5\r\nx"} {
			if got := sendRaw(t, e.addr, false, "POST / HTTP/1.1\r\nHost: "+host+"\r\n"+framing); len(got) != 1 || got[0] != want {
				t.Errorf("%s, %q: got %v, want %d", host, framing, got, want)
			}
		}
	}
}
