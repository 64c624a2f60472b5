package gateway_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tidegate/schema"
)

// rawOrigin is an origin that speaks for itself on each connection, and its host.
func rawOrigin(t testing.TB, serve func(c net.Conn, r *bufio.Reader)) (host string) {
	t.Helper()
	l := loopback(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

// originOfFrames answers each request in HTTP/2 with these headers, pairs of a name and a value
// each, and a body.
func originOfFrames(t *testing.T, body string, headers ...[]string) string {
	t.Helper()
	return "h2c://" + rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := io.ReadFull(r, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		fr := http2.NewFramer(c, r)
		_ = fr.WriteSettings() // the gateway shows what it misses, here and below
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = fr.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				for i, fields := range headers {
					block.Reset()
					for j := 0; j < len(fields); j += 2 {
						_ = encoder.WriteField(hpack.HeaderField{Name: fields[j], Value: fields[j+1]})
					}
					last := i == len(headers)-1
					_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: last && body == ""})
				}
				if body != "" {
					_ = fr.WriteData(f.StreamID, true, []byte(body))
				}
			}
		}
	})
}

// told sends a request and returns the status line of each answer until the connection ends.
func (e *env) told(t *testing.T, raw string) (lines []string) {
	t.Helper()
	c, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(c, raw)
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(all), "\r\n") {
		if strings.HasPrefix(line, "HTTP/") {
			lines = append(lines, line)
		}
	}
	return lines
}

const ending = "Host: shop.dev.localhost\r\nConnection: close\r\n\r\n"

// The story: HTTP/2 has no 101, and net/http's transport passes one on as informational. The
// client was sent it as the response, and what followed as the bytes of a protocol of its own; the
// event said 200. Statuses that are none ended the handler, and the request had no event at all.
func TestStatusesOfHTTP2Origins(t *testing.T) {
	f := func(want string, statuses ...string) {
		t.Helper()
		var headers [][]string
		for _, status := range statuses {
			headers = append(headers, []string{":status", status})
		}
		e := start(t, snapshot(1, script([]string{originOfFrames(t, "", headers...)}, 100_000)))
		if got := strings.Join(e.told(t, "GET / HTTP/1.1\r\n"+ending), "|"); got != want {
			t.Errorf("%q: got %q, want %q", statuses, got, want)
		}
		if strings.Contains(want, "502") {
			wantEvent(t, e.events.nth(1), schema.OutcomeInternalError, schema.ErrorKindProtocol, 502)
		} else {
			wantEvent(t, e.events.nth(1), schema.OutcomeOK, "", 200)
		}
	}
	f("HTTP/1.1 200 OK", "200")
	f("HTTP/1.1 103 Early Hints|HTTP/1.1 200 OK", "103", "200")
	f("HTTP/1.1 502 Bad Gateway", "101", "200")
	f("HTTP/1.1 502 Bad Gateway", "42")
	f("HTTP/1.1 502 Bad Gateway", "1000")
	f("HTTP/1.1 502 Bad Gateway", "-5")
}

// The story: a 304 of an HTTP/2 origin that said how long the client's copy is counted as a response
// that broke off, so that visitors who had seen a page before could roll a good version back; and a
// body where none can be as a client that had left. Several lengths of one body went on to the client.
func TestLengthsOfHTTP2Origins(t *testing.T) {
	f := func(status int, body string, fields ...string) {
		t.Helper()
		e := start(t, snapshot(1, script([]string{originOfFrames(t, body, fields)}, 100_000)))
		n := 0
		for _, client := range []*http.Client{e.client, e.h2Client(t)} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if method == http.MethodHead && body != "" {
					continue // which the origin sends nevertheless
				}
				req, err := http.NewRequestWithContext(t.Context(), method, shop+"/", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != status || len(resp.Header["Content-Length"]) > 1 {
					t.Errorf("%s of %q by %s: got %d, %v, %v", method, fields, resp.Proto, resp.StatusCode, resp.Header, err)
				}
				outcome, kind := schema.OutcomeOK, ""
				if status == http.StatusBadGateway {
					outcome, kind = schema.OutcomeInternalError, schema.ErrorKindProtocol
				}
				n++
				wantEvent(t, e.events.nth(n), outcome, kind, status)
			}
		}
	}
	f(200, "hello", ":status", "200", "content-length", "5")
	f(304, "", ":status", "304", "content-length", "5")
	f(204, "", ":status", "204", "content-length", "5")
	f(304, "hello", ":status", "304")
	f(204, "hello", ":status", "204")
	f(502, "hello", ":status", "200", "content-length", "5", "content-length", "7")
	f(502, "hello", ":status", "200", "content-length", "5, 5")
	f(502, "hello", ":status", "200", "content-length", "+5")
	f(502, "hello", ":status", "200", "content-length", "")
}

// The story: a client of HTTP/1.0, as nginx is towards what it fronts, knows no informational
// responses and took a 103 for the answer; and one that wished for another protocol got it, which
// HTTP/1.0 cannot wish for.
func TestHTTP10HasNeitherHintsNorSwitches(t *testing.T) {
	e := start(t, snapshot(1, script([]string{origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			t.Errorf("the origin saw %v", r.Header)
		}
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "body")
	})}, 100_000)))
	for i, c := range []struct{ raw, want string }{
		{"GET / HTTP/1.1\r\n" + ending, "HTTP/1.1 103 Early Hints|HTTP/1.1 200 OK"},
		{"GET / HTTP/1.0\r\n" + ending, "HTTP/1.0 200 OK"},
		{"GET / HTTP/1.0\r\nHost: shop.dev.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.0 200 OK"},
	} {
		if got := strings.Join(e.told(t, c.raw), "|"); got != c.want {
			t.Errorf("%q: got %q, want %q", c.raw, got, c.want)
		}
		wantEvent(t, e.events.nth(i+1), schema.OutcomeOK, "", 200)
	}
}

// The story: an origin switched protocols while the request's body was still coming. What took the
// body to the origin and the tunnel read the client's connection at the same time, and which of
// them got what was chance. One that has the whole body may switch, as Docker does.
func TestSwitchBeforeTheEndOfTheBody(t *testing.T) {
	e := start(t, snapshot(1, script([]string{origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/waits" {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		_ = c.Close()
	})}, 100_000)))
	const wish = " HTTP/1.1\r\nHost: shop.dev.localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
	for i, c := range []struct {
		raw, want string
		status    int
	}{
		{"POST /early" + wish + "Content-Length: 5\r\n\r\nab", "HTTP/1.1 502 Bad Gateway", 502},
		{"POST /early" + wish + "Transfer-Encoding: chunked\r\n\r\n5\r\nab", "HTTP/1.1 502 Bad Gateway", 502},
		{"POST /waits" + wish + "Content-Length: 5\r\n\r\nabcde", "HTTP/1.1 101 Switching Protocols", 101},
		{"POST /waits" + wish + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "HTTP/1.1 101 Switching Protocols", 101},
		{"POST /waits" + wish + "\r\n", "HTTP/1.1 101 Switching Protocols", 101},
	} {
		if got := strings.Join(e.told(t, c.raw), "|"); got != c.want {
			t.Errorf("%q: got %q, want %q", c.raw, got, c.want)
		}
		if ev := e.events.nth(i + 1); strings.Contains(string(ev.Event), `"Status":502`) != (c.status == 502) {
			t.Errorf("%q: the event is %s", c.raw, ev.Event)
		}
	}
}

// The story: an origin asked for the body and gave hints at once. The 100 that net/http sends when
// the body is read and the 103 of the gateway were written to the client at the same time.
func TestContinueAndHintsAtOnce(t *testing.T) {
	host := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	e := start(t, snapshot(1, script([]string{"http://" + host}, 100_000)))
	for i := range 20 {
		for _, body := range []string{"Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"} {
			got := e.told(t, "POST / HTTP/1.1\r\nHost: shop.dev.localhost\r\nConnection: close\r\nExpect: 100-continue\r\n"+body)
			slices.Sort(got)
			if want := "HTTP/1.1 100 Continue|HTTP/1.1 103 Early Hints|HTTP/1.1 200 OK"; strings.Join(got, "|") != want {
				t.Fatalf("try %d: got %q", i, got)
			}
		}
	}
}
