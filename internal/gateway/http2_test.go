package gateway_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tidegate/schema"
)

// frames is an HTTP/2 connection in the hands of a test.
type frames struct {
	*http2.Framer
	t        *testing.T
	conn     net.Conn
	settings map[http2.SettingID]uint32 // of the server
	next     uint32                     // stream
}

// dialFrames opens a connection and exchanges settings.
func dialFrames(t *testing.T, addr string, overTLS bool) *frames {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if overTLS {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) // the names are made up
	}
	f := &frames{Framer: http2.NewFramer(c, c), t: t, conn: c, settings: map[http2.SettingID]uint32{}, next: 1}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("the server's settings: %v", err)
		}
		if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
			_ = s.ForeachSetting(func(s http2.Setting) error { f.settings[s.ID] = s.Val; return nil })
			if err := f.WriteSettingsAck(); err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
}

// send opens a stream with header fields in the given order and returns its number.
func (f *frames) send(ended bool, fields ...string) uint32 {
	f.t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		if err := enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			f.t.Fatal(err)
		}
	}
	id := f.next
	f.next += 2
	first := true
	for rest := block.Bytes(); first || len(rest) > 0; first = false {
		piece := rest[:min(len(rest), 16<<10)]
		rest = rest[len(piece):]
		var err error
		if first {
			err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: piece, EndStream: ended, EndHeaders: len(rest) == 0})
		} else {
			err = f.WriteContinuation(id, len(rest) == 0, piece)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	return id
}

// result waits for the end of a stream: the status and body of its response, or how
// it was reset. A GOAWAY, or a connection that ends, is a result, too.
func (f *frames) result(id uint32) string {
	f.t.Helper()
	status, body := "", ""
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return fmt.Sprintf("%s%s the connection ended", status, body)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if frame.StreamID != id {
				continue
			}
			if s := frame.PseudoValue("status"); s != "" {
				status = s
			}
		case *http2.DataFrame:
			if frame.StreamID != id {
				continue
			}
			body += " " + strings.TrimSpace(string(frame.Data()))
		case *http2.RSTStreamFrame:
			if frame.StreamID == id {
				return fmt.Sprintf("%s%s reset %s", status, body, frame.ErrCode)
			}
			continue
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				return "GOAWAY " + frame.ErrCode.String()
			}
			continue
		default:
			continue
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) { // the same bit for HEADERS
			return status + body
		}
	}
}

func get(path string, more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "http", ":authority", "shop.dev.localhost", ":path", path}, more...)
}

// overBoth runs a test on raw HTTP/2 connections in clear text and over TLS.
func overBoth(t *testing.T, h http.HandlerFunc, test func(t *testing.T, e *env, dial func() *frames)) {
	if byNetHTTP {
		t.Skip("HTTP/2 is net/http's either way")
	}
	for _, overTLSToo := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", overTLSToo), func(t *testing.T) {
			e := start(t, snapshot(1, script([]string{origin(t, h)}, 100_000)))
			addr := e.addr
			if overTLSToo {
				addr = overTLS(t, e)
			}
			test(t, e, func() *frames { return dialFrames(t, addr, overTLSToo) })
		})
	}
}

// What RFC 9113 calls malformed, and what HTTP/1.1 could not say to a backend, ends
// at the gateway: the stream alone, and the connection goes on.
func TestMalformedHTTP2(t *testing.T) {
	overBoth(t, says("served"), func(t *testing.T, e *env, dial func() *frames) {
		c := dial()
		f := func(want string, fields ...string) {
			t.Helper()
			if got := c.result(c.send(true, fields...)); !strings.HasPrefix(got, want) {
				t.Errorf("%q: got %q, want %q", fields, got, want)
			}
		}
		const stream = " reset PROTOCOL_ERROR"
		f(stream, ":method", "GET", ":scheme", "http", ":authority", "shop.dev.localhost")
		f(stream, ":scheme", "http", ":authority", "shop.dev.localhost", ":path", "/")
		f(stream, ":method", "GET", ":authority", "shop.dev.localhost", ":path", "/")
		f(stream, ":method", "GET", ":scheme", "gopher", ":authority", "shop.dev.localhost", ":path", "/")
		f(stream, ":method", "GET", ":scheme", "http", ":authority", "u@shop.dev.localhost", ":path", "/")
		f(stream, ":method", "GET", ":scheme", "http", ":authority", "shop.dev.localhost", ":path", "relative")
		f(stream, get("/", ":path", "/2")...)
		f(stream, get("/", "a", "b", ":late", "1")...)
		f(stream, get("/", "X-Upper", "1")...)
		f(stream, get("/", "x", "a\r\nb: c")...)
		f(stream, get("/", "x y", "1")...)
		f(stream, ":method", "GET", ":scheme", "http", ":authority", "shop.dev.localhost", ":path", "/\r\nX: y")
		f("400", get("/", "connection", "close")...)
		f("400", get("/", "connection", "upgrade", "upgrade", "websocket")...)
		f("400", get("/", "transfer-encoding", "chunked")...)
		f("400", get("/", "te", "gzip")...)
		f("400 The method", ":method", "GET /x HTTP/1.1", ":scheme", "http", ":authority", "shop.dev.localhost", ":path", "/")
		f("400 The path", get("/a HTTP/1.1")...)
		f("400 This request names two hosts", get("/", "host", "admin.dev.localhost")...)
		f("400 This request names no valid host", ":method", "GET", ":scheme", "http", ":authority", "shop dev", ":path", "/")
		f("400 This request names no valid host", ":method", "GET", ":scheme", "http", ":path", "/")
		f("400 The path", ":method", "GET", ":scheme", "http", ":authority", "shop.dev.localhost", ":path", "http://admin.dev.localhost/")
		f("400 The request names no path", ":method", "GET", ":scheme", "http", ":authority", "shop.dev.localhost", ":path", "*")
		if n := len(e.events.all()); n != 0 {
			t.Errorf("%d events of requests that reached no script", n)
		}
		f("200 served", get("/", "host", "SHOP.dev.localhost")...)
		f("200 served", ":method", "GET", ":scheme", "http", ":path", "/", "host", "shop.dev.localhost")
		f("200 served", get("/", "te", "trailers")...)
		e.events.nth(3)
	})
}

// WebSocket over HTTP/2 (RFC 8441) is not offered, so that clients take HTTP/1.1; one
// that asks all the same loses that stream.
func TestConnectOverHTTP2(t *testing.T) {
	overBoth(t, says("served"), func(t *testing.T, e *env, dial func() *frames) {
		c := dial()
		if v, ok := c.settings[http2.SettingEnableConnectProtocol]; ok && v != 0 {
			t.Error("extended CONNECT is offered")
		}
		id := c.send(false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "shop.dev.localhost", ":path", "/", "sec-websocket-version", "13")
		if got := c.result(id); got != " reset PROTOCOL_ERROR" {
			t.Errorf("extended CONNECT got %q", got)
		}
		if got := c.result(c.send(false, ":method", "CONNECT", ":authority", "shop.dev.localhost:443")); !strings.HasPrefix(got, "501 This gateway opens no tunnels") {
			t.Errorf("CONNECT got %q", got)
		}
		if got := c.result(c.send(true, get("/")...)); got != "200 served" {
			t.Errorf("the connection after that: %q", got)
		}
		e.events.nth(1)
	})
}

// The scheme of a request is the connection's, whatever its client writes.
func TestSchemeOverHTTP2(t *testing.T) {
	overBoth(t, says("served"), func(t *testing.T, e *env, dial func() *frames) {
		c := dial()
		want := "http"
		if _, ok := c.conn.(*tls.Conn); ok {
			want = "https"
		}
		for i, scheme := range []string{"http", "https"} {
			if got := c.result(c.send(true, ":method", "GET", ":scheme", scheme, ":authority", "shop.dev.localhost", ":path", "/")); got != "200 served" {
				t.Fatalf("got %q", got)
			}
			if u := urlOf(t, e.events.nth(i+1)); !strings.HasPrefix(u, want+"://") {
				t.Errorf("%s: the event says %s", scheme, u)
			}
		}
	})
}

func TestLimitsOfHTTP2(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			<-r.Context().Done()
		}
		_, _ = io.WriteString(w, "served")
	}
	overBoth(t, h, func(t *testing.T, e *env, dial func() *frames) {
		c := dial()
		if got := c.settings[http2.SettingMaxHeaderListSize]; got < 128<<10 || got > 256<<10 {
			t.Errorf("the header may have %d bytes", got)
		}
		if got := c.result(c.send(true, get("/", "x", strings.Repeat("x", 100<<10))...)); got != "200 served" {
			t.Errorf("a header within the limit got %q", got)
		}
		if got := c.result(c.send(true, get("/", "x", strings.Repeat("x", 200<<10))...)); !strings.HasPrefix(got, "431") && !strings.HasPrefix(got, "GOAWAY") {
			t.Errorf("a header beyond the limit got %q", got)
		}

		c = dial()
		most := int(c.settings[http2.SettingMaxConcurrentStreams])
		if most < 100 || most > 1000 {
			t.Fatalf("%d streams at once are allowed", most)
		}
		for range most {
			c.send(true, get("/held")...)
		}
		if got := c.result(c.send(true, get("/")...)); !strings.Contains(got, "REFUSED_STREAM") && !strings.Contains(got, "PROTOCOL_ERROR") {
			t.Errorf("a stream beyond the limit got %q", got)
		}
		_ = c.conn.Close() // its streams end with it
		waitFor(t, "an event for each stream", func() bool { return len(e.events.all()) == 1+most })
		for _, ev := range e.events.all()[1:] {
			wantEvent(t, ev, schema.OutcomeCanceled, "", 0)
		}
	})
}

// Content-Length and what comes must agree, or the request is none.
func TestBodiesOfHTTP2(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	overBoth(t, h, func(t *testing.T, e *env, dial func() *frames) {
		post := func(c *frames, body, length string) string {
			t.Helper()
			id := c.send(false, ":method", "POST", ":scheme", "http", ":authority", "shop.dev.localhost", ":path", "/", "content-length", length)
			if err := c.WriteData(id, true, []byte(body)); err != nil {
				t.Fatal(err)
			}
			return c.result(id)
		}
		c := dial()
		if got := post(c, "abc", "3"); got != "200 abc" {
			t.Errorf("got %q", got)
		}
		e.events.nth(1)
		if got := post(c, "abc", "2"); !strings.HasPrefix(got, " reset ") {
			t.Errorf("3 bytes for 2 got %q", got)
		}
		wantEvent(t, e.events.nth(2), schema.OutcomeCanceled, "", 0)
		if got := post(c, "abc", "4"); !strings.HasPrefix(got, "400 ") {
			t.Errorf("3 bytes for 4 got %q", got)
		}
		wantEvent(t, e.events.nth(3), schema.OutcomeCanceled, "", http.StatusBadRequest)
		if got := post(c, "abc", "3"); got != "200 abc" {
			t.Errorf("the connection after that: %q", got)
		}
	})
}

// An offer to switch to HTTP/2 is declined and goes no further: behind it requests
// would pass that nobody has routed.
func TestSwitchToHTTP2IsDeclined(t *testing.T) {
	seen := make(chan http.Header, 1)
	e := start(t, snapshot(1, script([]string{origin(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })}, 100_000)))
	for _, connection := range []string{"Upgrade, HTTP2-Settings", "Upgrade"} {
		a := e.get(t, shop+"/", "Connection", connection, "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAAQAAP__")
		h := <-seen
		for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
			if h.Get(name) != "" {
				t.Errorf("the origin saw %s %q", name, h.Get(name))
			}
		}
		if a.StatusCode != http.StatusOK {
			t.Errorf("got %d", a.StatusCode)
		}
	}
}
