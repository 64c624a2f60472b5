package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"tidegate/schema"
)

// overBoth runs a test with an origin of HTTP/1.1 and one of HTTP/2.
func overOrigins(t *testing.T, h http.HandlerFunc, test func(t *testing.T, e *env), settings ...setting) {
	t.Helper()
	for name, open := range map[string]func(testing.TB, http.HandlerFunc) string{"http": origin, "h2c": originH2C} {
		t.Run(name, func(t *testing.T) {
			test(t, start(t, snapshot(1, script([]string{open(t, h)}, 100_000)), settings...))
		})
	}
}

// tellTrailers answers with what came in trailers, and what came of it in the header.
func tellTrailers(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %v %v in the header %q, %q", body, err, r.Trailer, r.Header["X-Sum"], r.Header["X-Late"])
}

func TestTrailersReachTheOrigin(t *testing.T) {
	send := func(t *testing.T, e *env, announce, trailer string) string {
		t.Helper()
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: shop.dev.localhost\r\n"+announce+"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"+trailer+"\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	overOrigins(t, tellTrailers, func(t *testing.T, e *env) {
		want := `hi <nil> map[X-Sum:[1]] in the header [], []`
		if got := send(t, e, "Trailer: X-Sum, X-Forwarded-For\r\n", "X-Sum: 1\r\nX-Forwarded-For: 6.6.6.6\r\n"); got != want {
			t.Errorf("announced: got %s, want %s", got, want)
		}
		e.events.nth(1)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/", io.MultiReader(strings.NewReader("hi")))
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X-Sum": {"1"}}
		resp, err := e.h2Client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, _ := io.ReadAll(resp.Body); string(got) != want {
			t.Errorf("from HTTP/2: got %s, want %s", got, want)
		}
		e.events.nth(2)
	})
	// What nobody announced is shown by net/http's HTTP/1.1 server only.
	e := start(t, snapshot(1, script([]string{origin(t, tellTrailers)}, 100_000)))
	want := `hi <nil> map[X-Late:[2]] in the header [], []`
	if got := send(t, e, "", "X-Late: 2\r\nCf-Connecting-Ip: 6.6.6.6\r\nContent-Length: 3\r\n"); got != want {
		t.Errorf("not announced: got %s, want %s", got, want)
	}
}

// HTTP/2 has trailers after a body of known length; HTTP/1.1 after chunks only.
func TestTrailersAndALengthBecomeChunks(t *testing.T) {
	e := start(t, snapshot(1, script([]string{originH2C(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "hi")
		w.Header().Set("X-Sum", "1")
	})}, 100_000)))
	if a := e.get(t, shop+"/"); a.body != "hi" || a.Trailer.Get("X-Sum") != "1" || a.Header.Get("X-Sum") != "" {
		t.Errorf("got %q, header %v, trailer %v", a.body, a.Header, a.Trailer)
	}
}

func TestHTTP2Clients(t *testing.T) {
	overOrigins(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			_ = http.NewResponseController(w).EnableFullDuplex() // or net/http itself waits for the body
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "event 1\n")
		flush(w)
		<-r.Context().Done() // a client that has the first event leaves
	}, func(t *testing.T, e *env) {
		client := e.h2Client(t)
		hints, reused := 0, true
		n := 0
		do := func(method, path string, body io.Reader) (status, proto int) {
			t.Helper()
			trace := &httptrace.ClientTrace{
				Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
				GotConn:        func(info httptrace.GotConnInfo) { reused = info.Reused },
			}
			ctx, cancel := context.WithCancel(httptrace.WithClientTrace(t.Context(), trace))
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, method, shop+path, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "event 1\n" {
					t.Errorf("got %q, %v", line, err)
				}
			}
			cancel()
			n++
			e.events.nth(n)
			return resp.StatusCode, resp.ProtoMajor
		}
		do(http.MethodGet, "/", nil)
		if _, proto := do(http.MethodGet, "/", nil); !reused || hints != 2 || proto != 2 {
			t.Errorf("a second request on the same connection: %t, %d hints, HTTP/%d", reused, hints, proto)
		}
		pr, pw := io.Pipe() // an upload without an end
		defer pw.Close()
		if status, _ := do(http.MethodPost, "/early", pr); status != http.StatusRequestEntityTooLarge {
			t.Errorf("the early answer is %d", status)
		}
		if do(http.MethodGet, "/", nil); !reused {
			t.Error("an early answer ended the connection")
		}
	})
}

// A target that HTTP/1.1 cannot have does not become two of its words.
func TestBlankInAnHTTP2Path(t *testing.T) {
	o, address := newStrictOrigin(t)
	e := start(t, snapshot(1, script([]string{address}, 100_000)))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = "/a HTTP/1.1 b"
	resp, err := e.h2Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if seen := o.take(t, e.events); resp.StatusCode != http.StatusBadRequest || len(seen) > 0 {
		t.Errorf("got %d, and the origin saw %q", resp.StatusCode, seen)
	}
}

// Half an upload, with the client still reading, is no whole one for the origin.
func TestHalfClosedUpload(t *testing.T) {
	for _, framing := range []string{"Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"} {
		seen := make(chan error, 1)
		overOrigins(t, func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			seen <- err
		}, func(t *testing.T, e *env) {
			e.exchange(t, "POST / HTTP/1.1\r\nHost: shop.dev.localhost\r\n"+framing, true)
			if err := <-seen; err == nil {
				t.Error("the origin took half a body for a whole one")
			}
			if ev := e.events.nth(1); ev.Outcome != schema.OutcomeCanceled {
				t.Errorf("the outcome is %s", ev.Outcome)
			}
		})
	}
}

// TestWebSocketLibrary lets a client and a server of the field talk: messages of many
// frames, of more than any buffer, and the codes of either side's end.
func TestWebSocketLibrary(t *testing.T) {
	const echoMax = 8 << 20
	ended := make(chan websocket.StatusCode, 1)
	overOrigins(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		c.SetReadLimit(echoMax)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				ended <- websocket.CloseStatus(err)
				return
			}
			if string(message) == "end" {
				_ = c.Close(4001, "ebb")
				ended <- 4001
				return
			}
			if err := c.Write(r.Context(), kind, message); err != nil {
				t.Error(err)
			}
		}
	}, func(t *testing.T, e *env) {
		dial := func() *websocket.Conn {
			t.Helper()
			c, _, err := websocket.Dial(t.Context(), "ws://shop.dev.localhost/ws", &websocket.DialOptions{HTTPClient: e.client}) //nolint:bodyclose // it has none
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.CloseNow() })
			c.SetReadLimit(echoMax)
			return c
		}
		c := dial()
		message := make([]byte, 4<<20)
		_, _ = rand.Read(message)
		for _, pieces := range []int{1, 1000} {
			w, err := c.Writer(t.Context(), websocket.MessageBinary)
			if err != nil {
				t.Fatal(err)
			}
			for size, rest := len(message)/pieces, message; len(rest) > 0; {
				n := min(size, len(rest))
				if _, err := w.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if kind, got, err := c.Read(t.Context()); err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, message) {
				t.Fatalf("%d bytes came back in %v, %v", len(got), kind, err)
			}
		}
		if err := c.Write(t.Context(), websocket.MessageText, []byte("end")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != 4001 || !strings.Contains(err.Error(), "ebb") {
			t.Errorf("the server ended with %v", err)
		}
		<-ended
		wantEvent(t, e.events.nth(1), schema.OutcomeOK, "", http.StatusSwitchingProtocols)

		c = dial()
		if err := c.Close(websocket.StatusGoingAway, "gone"); err != nil {
			t.Error(err)
		}
		if code := <-ended; code != websocket.StatusGoingAway {
			t.Errorf("the server saw the end %d", code)
		}
		wantEvent(t, e.events.nth(2), schema.OutcomeOK, "", http.StatusSwitchingProtocols)
	})
}

// heapWatch takes the heap's size whenever as much as every has passed through it.
type heapWatch struct {
	every, left int64
	peak        uint64
}

func (h *heapWatch) Write(p []byte) (int, error) {
	if h.left -= int64(len(p)); h.left <= 0 {
		h.left = h.every
		var m goruntime.MemStats
		goruntime.ReadMemStats(&m)
		h.peak = max(h.peak, m.HeapAlloc)
	}
	return len(p), nil
}

// endless are zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Bodies pass through in pieces: the heap of client, gateway and origin together is a
// small part of what passed.
func TestLargeBodiesInLittleMemory(t *testing.T) {
	size, part := int64(1<<30), uint64(16)
	if testing.Short() || raceDetector { // which looks at each byte; the Makefile has the test run without it, too
		size, part = 64<<20, 2
	}
	overOrigins(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPut {
			_, _ = fmt.Fprint(w, n, " ", err)
			return
		}
		_, _ = io.CopyN(w, endless{}, size)
	}, func(t *testing.T, e *env) {
		for name, client := range map[string]*http.Client{"HTTP/1.1": e.client, "HTTP/2": e.h2Client(t)} {
			goruntime.GC()
			var before goruntime.MemStats
			goruntime.ReadMemStats(&before)
			watch := &heapWatch{every: size / 64}
			up, err := http.NewRequestWithContext(t.Context(), http.MethodPut, shop+"/", io.TeeReader(io.LimitReader(endless{}, size), watch))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(up)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if want := fmt.Sprint(size, " <nil>"); string(got) != want {
				t.Errorf("%s: the origin got %s, want %s", name, got, want)
			}
			down, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err = client.Do(down); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(watch, resp.Body)
			_ = resp.Body.Close()
			if n != size || err != nil {
				t.Errorf("%s: the client got %d bytes, %v, want %d", name, n, err, size)
			}
			grown := watch.peak - min(watch.peak, before.HeapAlloc)
			t.Logf("%s: the heap grew by %.4f of the body", name, float64(grown)/float64(size))
			if grown > uint64(size)/part {
				t.Errorf("%s: the heap grew by %d bytes for a body of %d", name, grown, size)
			}
		}
		e.events.nth(4)
	})
}
