package gateway_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

func shortHeaderTimeout(_ *gateway.Config, _ *gateway.Deps, b *runtime.Config) {
	b.ResponseHeaderTimeout = 30 * time.Millisecond
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// wantEvent checks what an event says of how a request ended. Status 0 wants none.
func wantEvent(t *testing.T, e schema.TraceEvent, outcome, kind string, status int) {
	t.Helper()
	got, _ := e.Status()
	if e.Outcome != outcome || e.ErrorKind != kind || got != status {
		t.Errorf("the event says outcome %q, error kind %q, status %d, want %q, %q, %d", e.Outcome, e.ErrorKind, got, outcome, kind, status)
	}
}

func TestEventOfAnOrdinaryRequest(t *testing.T) {
	e := start(t, snapshot(1, script([]string{origin(t, says("hi"))}, 100_000)))
	a := e.get(t, shop+"/path%2Fx?q=1&api_key=hunter2", "User-Agent", "test/1", "Referer", "http://a/b?secret=1", "Cookie", "a=b", "Authorization", "Bearer x")
	ray := a.Header.Get("Cf-Ray")
	if a.StatusCode != http.StatusOK || a.body != "hi" || len(ray) != 16 {
		t.Fatalf("got %d %q with ray %q", a.StatusCode, a.body, ray)
	}
	got := e.events.nth(1)
	wantEvent(t, got, schema.OutcomeOK, "", 200)
	if got.EventType != "fetch" || got.ScriptName != "shop" || got.ScriptVersion != (schema.ScriptVersion{ID: v1, Tag: "a", Message: "message of a"}) || strings.Join(got.ScriptTags, "") != "team:web" {
		t.Errorf("the event is of %s %s %v %v", got.EventType, got.ScriptName, got.ScriptVersion, got.ScriptTags)
	}
	if got.Gateway.Decision != schema.DecisionOnly || got.Gateway.RayID != ray || got.Gateway.UpstreamMs == nil || *got.Gateway.UpstreamMs <= 0 || got.CPUTimeMs != nil {
		t.Errorf("the gateway's part is %+v, CPU time %v", got.Gateway, got.CPUTimeMs)
	}
	if got.EventTimestampMs <= 0 || got.WallTimeMs == nil || got.Gateway.UpstreamMs != nil && *got.WallTimeMs < int64(*got.Gateway.UpstreamMs) {
		t.Errorf("received at %d, took %v ms, of which the backend took %g", got.EventTimestampMs, got.WallTimeMs, *got.Gateway.UpstreamMs)
	}
	want := `{"RayID":"` + ray + `","Request":{"URL":"http://shop.dev.localhost/path%2Fx?q=1&api_key=REDACTED","Method":"GET",` +
		`"Headers":{"referer":"http://a/b","user-agent":"test/1"}},"Response":{"Status":200}}`
	if string(got.Event) != want {
		t.Errorf("got  %s\nwant %s", got.Event, want)
	}
}

func TestOutcomes(t *testing.T) {
	closed := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		return "http://" + l.Addr().String()
	}
	hijack := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}
	f := func(name, origin string, status int, outcome, kind string, settings ...setting) {
		t.Run(name, func(t *testing.T) {
			e := start(t, snapshot(1, script([]string{origin}, 100_000)), settings...)
			for i, method := range []string{"GET", "POST"} {
				a, err := e.try(t.Context(), method, shop+"/", strings.NewReader("body"))
				if err != nil {
					t.Fatal(err)
				}
				if a.StatusCode != status || a.Header.Get("Cf-Ray") == "" {
					t.Errorf("%s got %d, ray %q", method, a.StatusCode, a.Header.Get("Cf-Ray"))
				}
				got := e.events.nth(i + 1)
				wantEvent(t, got, outcome, kind, status)
				if status >= 500 && (got.Gateway.UpstreamMs == nil) != (kind != "") {
					t.Errorf("UpstreamMs is %v with error kind %q", got.Gateway.UpstreamMs, kind)
				}
			}
		})
	}
	release := make(chan struct{})
	f("a 500 of the backend's own is ok", origin(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }), 500, schema.OutcomeOK, "")
	f("connection refused", closed(), 502, schema.OutcomeInternalError, "connect")
	f("no such name", "http://no-such-host.invalid", 502, schema.OutcomeInternalError, "dns")
	f("broken before a header", origin(t, hijack("")), 502, schema.OutcomeInternalError, "reset")
	f("not HTTP", origin(t, hijack("hello?\r\n\r\n")), 502, schema.OutcomeInternalError, "protocol")
	silent := origin(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	f("no answer in time", silent, 504, schema.OutcomeExceededWallTime, "timeout", shortHeaderTimeout)
}

// A backend that breaks off in the middle: the client must see that, too.
func TestBrokenResponse(t *testing.T) {
	for _, length := range []string{"100", ""} {
		o := origin(t, func(w http.ResponseWriter, _ *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			_, _ = io.WriteString(w, "half")
			flush(w)
			panic(http.ErrAbortHandler)
		})
		e := start(t, snapshot(1, script([]string{o}, 100_000)))
		a, err := e.try(t.Context(), http.MethodGet, shop+"/", nil)
		if err == nil || a.body != "half" {
			t.Errorf("the client got %q, %v, want half and an error", a.body, err)
		}
		wantEvent(t, e.events.nth(1), schema.OutcomeResponseStreamDisconnected, "reset", 200)
	}
}

func TestClientLeavesBeforeTheResponse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	e := start(t, snapshot(1, script([]string{origin(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
		close(gone)
	})}, 100_000)))
	if _, err := e.try(ctx, "GET", shop+"/", nil); err == nil {
		t.Fatal("the request succeeded")
	}
	<-gone // the backend is told
	wantEvent(t, e.events.nth(1), schema.OutcomeCanceled, "", 0)
}

func TestClientLeavesDuringTheResponse(t *testing.T) {
	e := start(t, snapshot(1, script([]string{origin(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, strings.Repeat("x", 1000))
			flush(w)
		}
	})}, 100_000)))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	wantEvent(t, e.events.nth(1), schema.OutcomeCanceled, "", 200)
}

// The client breaks off while it sends: neither the backend's fault nor a whole
// request for it.
func TestClientLeavesDuringTheRequest(t *testing.T) {
	broken := make(chan error, 1)
	e := start(t, snapshot(1, script([]string{origin(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		broken <- err
	})}, 100_000)))
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: shop.dev.localhost\r\nContent-Length: 100\r\n\r\nhalf")
	_ = c.Close()
	wantEvent(t, e.events.nth(1), schema.OutcomeCanceled, "", 0)
	if err := <-broken; err == nil {
		t.Error("the backend took half a body for a whole one")
	}
}

// Backends that fail in every way and clients that leave at any time: for every
// call of ServeHTTP there is one event, no more and no less.
func TestOneEventPerRequestUnderChaos(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "h2c"} {
		t.Run(protocol, func(t *testing.T) { sendChaos(t, protocol) })
	}
}

func sendChaos(t *testing.T, protocol string) {
	chaos := origin(t, func(w http.ResponseWriter, r *http.Request) {
		switch rand.N(8) {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			_, _ = io.WriteString(w, "half")
			flush(w)
			panic(http.ErrAbortHandler)
		case 2:
			_, _ = io.Copy(io.Discard, r.Body) // before its end net/http does not notice a client that leaves
			<-r.Context().Done()
		case 3:
			w.WriteHeader(http.StatusInternalServerError)
		case 4: // without reading the body
			_, _ = io.WriteString(w, "early")
		default:
			_, _ = io.Copy(w, r.Body)
		}
	})
	e := start(t, snapshot(1, script([]string{chaos, origin(t, says("calm"))}, 70_000, 30_000)), shortHeaderTimeout)
	var served atomic.Int64
	server := gateway.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		e.ServeHTTP(w, r)
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	e.addr = l.Addr().String()
	e.client = speak(t, e, protocol).client

	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 60 {
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(60*time.Millisecond))
				_, _ = e.try(ctx, []string{"GET", "POST"}[rand.N(2)], shop+"/", strings.NewReader(strings.Repeat("x", rand.N(100_000))))
				cancel()
			}
		})
	}
	clients.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e.client.CloseIdleConnections()
	if err := server.Shutdown(ctx); err != nil {
		t.Fatalf("requests still in flight: %v", err)
	}
	<-done
	// Of streams that were reset, handlers may still be at it.
	waitFor(t, "as many events as requests", func() bool { return int64(len(e.events.all())) >= served.Load() })
	all := e.events.all()
	if int64(len(all)) != served.Load() || len(all) == 0 {
		t.Errorf("%d events of %d requests", len(all), served.Load())
	}
	rays, outcomes := map[string]bool{}, map[string]int{}
	for _, ev := range all {
		rays[ev.Gateway.RayID] = true
		outcomes[ev.Outcome]++
	}
	if len(rays) != len(all) {
		t.Errorf("%d events share %d ray ids", len(all), len(rays))
	}
	t.Logf("outcomes: %v", outcomes)
}
