package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// echoHeaders answers with the request as it arrived.
func echoHeaders(seen *http.Request, mu *sync.Mutex) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		*seen = *r
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("X-End", "2")
		w.Header().Set("Cf-Ray", "forged")
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "<html>")
	}
}

func TestHeadersTowardsTheBackend(t *testing.T) {
	var seen http.Request
	var mu sync.Mutex
	o := origin(t, echoHeaders(&seen, &mu))
	send := func(t *testing.T, settings ...setting) (http.Header, answer) {
		t.Helper()
		e := start(t, snapshot(1, script([]string{o}, 100_000)), settings...)
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET /a?b HTTP/1.1\r\nHost: Shop.dev.localhost:8080\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\n"+
			"Keep-Alive: 5\r\nProxy-Authorization: Basic x\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\nX-Public: 2\r\n"+
			"X-Forwarded-For: 10.9.9.9, 10.0.0.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nForwarded: for=1.2.3.4\r\n"+
			"X-Real-IP: 7.7.7.7\r\nX_Real_IP: 7.7.7.8\r\nTrue-Client-IP: 7.7.7.9\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Server: edge\r\nCF-IPCountry: XX\r\nX_Public: 3\r\n"+
			"Cf-Connecting-Ip: 6.6.6.6\r\nCf-Ray: forged\r\nCloudflare-Workers-Version-Key: k\r\nCloudflare-Workers-Version-Overrides: shop=\"x\"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		mu.Lock()
		defer mu.Unlock()
		h := seen.Header.Clone()
		h.Set("Host", seen.Host)
		return h, answer{resp, string(body)}
	}
	want := func(t *testing.T, h http.Header, pairs ...string) {
		t.Helper()
		for i := 0; i < len(pairs); i += 2 {
			if got := strings.Join(h[pairs[i]], "|"); got != pairs[i+1] {
				t.Errorf("%s is %q, want %q", pairs[i], got, pairs[i+1])
			}
		}
	}
	t.Run("from anybody", func(t *testing.T) {
		h, a := send(t)
		want(t, h, "Host", "Shop.dev.localhost:8080", "X-Public", "2", "Te", "trailers",
			"X-Private", "", "Keep-Alive", "", "Proxy-Authorization", "", "Upgrade", "", "Connection", "", "Forwarded", "", "User-Agent", "",
			"X-Real-Ip", "", "X_real_ip", "", "True-Client-Ip", "", "X-Forwarded-Port", "", "X-Forwarded-Server", "", "Cf-Ipcountry", "", "X_public", "3",
			"X-Forwarded-For", "127.0.0.1", "X-Forwarded-Proto", "http", "X-Forwarded-Host", "Shop.dev.localhost:8080", "Cf-Connecting-Ip", "127.0.0.1",
			"Cf-Ray", a.Header.Get("Cf-Ray"), "Cloudflare-Workers-Version-Key", "k", "Cloudflare-Workers-Version-Overrides", `shop="x"`)
		want(t, a.Header, "X-Hop", "", "Keep-Alive", "", "X-End", "2", "Content-Type", "")
		if ray := a.Header.Get("Cf-Ray"); len(ray) != 16 || len(a.Header["Cf-Ray"]) != 1 {
			t.Errorf("the ray is %q", a.Header["Cf-Ray"])
		}
	})
	t.Run("from a trusted proxy", func(t *testing.T) {
		h, _ := send(t, func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/24")}
		})
		want(t, h, "X-Forwarded-For", "10.9.9.9, 10.0.0.7, 127.0.0.1", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example",
			"Cf-Connecting-Ip", "10.9.9.9", "Forwarded", "for=1.2.3.4", "X-Real-Ip", "7.7.7.7", "True-Client-Ip", "7.7.7.9",
			"X-Forwarded-Port", "443", "X-Forwarded-Server", "edge", "Cf-Ipcountry", "XX")
	})
}

// Each event reaches the client before the next one is made.
func TestServerSentEventsAreNotHeldBack(t *testing.T) {
	next := make(chan struct{})
	overOrigins(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			flush(w)
			<-next
		}
	}, func(t *testing.T, e *env) { readEvents(t, e, next) })
}

func readEvents(t *testing.T, e *env, next chan<- struct{}) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := r.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
			t.Fatalf("got %q, %v, want %q", line, err, want)
		}
		_, _ = r.ReadString('\n')
		next <- struct{}{}
	}
}

// Both directions at once: every line comes back before the next one is sent.
func TestFullDuplex(t *testing.T) {
	overOrigins(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		flush(w)
		for in := bufio.NewReader(r.Body); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, line)
			flush(w)
		}
	}, speakInTurn)
}

func speakInTurn(t *testing.T, e *env) {
	t.Helper()
	pr, pw := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/", pr)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for i := range 5 {
		want := fmt.Sprintf("line %d\n", i)
		_, _ = io.WriteString(pw, want)
		if got, err := in.ReadString('\n'); got != want || err != nil {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	_ = pw.Close()
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	wantEvent(t, e.events.nth(1), schema.OutcomeOK, "", 200)
}

// A backend that answers at once while the client goes on sending must not leave
// the rest of the body on the connection, where it would pass for a request.
func TestEarlyAnswerLeavesNoRest(t *testing.T) {
	overOrigins(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // or net/http itself waits for the body
		_, _ = io.WriteString(w, "early")
	}, goOnSending)
}

func goOnSending(t *testing.T, e *env) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: shop.dev.localhost\r\nContent-Length: 1000\r\n\r\nabc")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "early" || err != nil || !resp.Close {
		t.Errorf("got %q, %v, close %t", body, err, resp.Close)
	}
	_, _ = io.WriteString(c, "GET /smuggled HTTP/1.1\r\nHost: shop.dev.localhost\r\n\r\n")
	if _, err := http.ReadResponse(r, nil); err == nil { //nolint:bodyclose // there is none
		t.Error("a part of the body was answered as a request")
	}
	if e.events.nth(1); len(e.events.all()) != 1 {
		t.Error("more than one event")
	}
}

func TestTrailersAndHintsReachTheClient(t *testing.T) {
	e := start(t, snapshot(1, script([]string{origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "X-Announced")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Announced", "1")
		w.Header().Set(http.TrailerPrefix+"X-Late", "2")
	})}, 100_000)))
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.dev.localhost\r\nTE: trailers\r\n\r\n")
	r := bufio.NewReader(c)
	hint, err := http.ReadResponse(r, nil) //nolint:bodyclose // a 103 has none
	if err != nil || hint.StatusCode != http.StatusEarlyHints || hint.Header.Get("Link") == "" {
		t.Fatalf("got %+v, %v, want an early hint", hint, err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "body" || resp.Header.Get("Link") != "" || resp.Trailer.Get("X-Announced") != "1" || resp.Trailer.Get("X-Late") != "2" {
		t.Errorf("got %q, header %v, trailer %v", body, resp.Header, resp.Trailer)
	}
}

// echoSwitch answers an upgrade and then sends back what it gets.
func echoSwitch(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
	_, _ = io.Copy(c, rw)
}

func dialWebSocket(t *testing.T, e *env) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	// The first frame follows the request at once, as some clients do it.
	_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: shop.dev.localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nfirst ")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil) //nolint:bodyclose // a 101 has none
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "x" || resp.Header.Get("Cf-Ray") == "" {
		t.Fatalf("got %+v, %v", resp, err)
	}
	_, _ = io.WriteString(c, "second")
	got := make([]byte, len("first second"))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "first second" {
		t.Fatalf("got %q, %v", got, err)
	}
	return c, r
}

func TestWebSocket(t *testing.T) {
	e := start(t, snapshot(1, script([]string{origin(t, echoSwitch)}, 100_000)))
	c, _ := dialWebSocket(t, e)
	if n := len(e.events.all()); n != 0 {
		t.Errorf("%d events before the end", n)
	}
	_ = c.Close()
	wantEvent(t, e.events.nth(1), schema.OutcomeOK, "", http.StatusSwitchingProtocols)
}

// Run ends the connections that a server's Shutdown leaves alone, and has their
// events out when it returns.
func TestWebSocketEndsWithTheGateway(t *testing.T) {
	e := start(t, snapshot(1, script([]string{origin(t, echoSwitch)}, 100_000)))
	_, r := dialWebSocket(t, e)
	e.stop()
	if _, err := r.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
	wantEvent(t, e.events.nth(1), schema.OutcomeOK, "", http.StatusSwitchingProtocols)
}

func TestExpectContinue(t *testing.T) {
	overOrigins(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}, func(t *testing.T, e *env) {
		a, err := e.try(t.Context(), http.MethodPost, shop+"/yes", strings.NewReader("payload"), "Expect", "100-continue")
		if err != nil || a.body != "payload" {
			t.Errorf("got %q, %v", a.body, err)
		}
		a, err = e.try(t.Context(), http.MethodPost, shop+"/no", strings.NewReader("payload"), "Expect", "100-continue")
		if err != nil || a.StatusCode != http.StatusForbidden {
			t.Errorf("got %d, %v", a.StatusCode, err)
		}
		e.events.nth(2)
	})
}

// The client is asked for its body only when the origin asks, and not at all if that
// refuses: what it would send then never travels.
func TestExpectContinueIsTheOriginsWord(t *testing.T) {
	asked := make(chan struct{})
	overOrigins(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		close(asked)
		_, _ = io.Copy(w, r.Body) // the read sends a 100
	}, func(t *testing.T, e *env) {
		asked = make(chan struct{})
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := bufio.NewReader(c)
		_, _ = io.WriteString(c, "POST /yes HTTP/1.1\r\nHost: shop.dev.localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
		if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusContinue { //nolint:bodyclose // it has none
			t.Fatalf("got %v, %v, want 100", resp, err)
		}
		<-asked
		_, _ = io.WriteString(c, "hi")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(resp.Body); string(body) != "hi" {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
		_ = resp.Body.Close()
		_, _ = io.WriteString(c, "POST /no HTTP/1.1\r\nHost: shop.dev.localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
		resp, err = http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != http.StatusForbidden || !resp.Close {
			t.Fatalf("got %v, %v, want 403 and the end", resp, err)
		}
		_ = resp.Body.Close()
		e.events.nth(2)
	})
}

// The gateway's span is a child of the client's, and the backend's parent.
func TestTraceContext(t *testing.T) {
	before := otel.GetTextMapPropagator()
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() { otel.SetTextMapPropagator(before) })
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })

	var seen http.Request
	var mu sync.Mutex
	o := origin(t, echoHeaders(&seen, &mu))
	const traceID, parent = "0af7651916cd43dd8448eb211c80319c", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	traced := start(t, snapshot(1, script([]string{o}, 100_000)), func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) {
		d.Tracer = provider.Tracer("test")
	})
	traced.get(t, shop+"/", "Traceparent", parent)
	waitFor(t, "the span", func() bool { return len(spans.GetSpans()) == 1 })
	span := spans.GetSpans()[0]
	if span.SpanContext.TraceID().String() != traceID || span.Parent.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("the span is %v below %v", span.SpanContext, span.Parent)
	}
	mu.Lock()
	got := seen.Header.Get("Traceparent")
	mu.Unlock()
	if want := "00-" + traceID + "-" + span.SpanContext.SpanID().String() + "-01"; got != want {
		t.Errorf("the backend saw %q, want %q", got, want)
	}

	untraced := start(t, snapshot(1, script([]string{o}, 100_000)))
	untraced.get(t, shop+"/", "Traceparent", parent)
	mu.Lock()
	defer mu.Unlock()
	if got := seen.Header.Get("Traceparent"); got != parent {
		t.Errorf("without a tracer the backend saw %q, want the client's own", got)
	}
}
