package lean_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/gateway/lean"
)

type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// served is a server at work.
type served struct {
	*lean.Server
	addr string
	log  *lines
	done chan error // gets what Serve returns
}

// both answers in the same way whether it gets a request's header as a list or not.
type both struct{ http.HandlerFunc }

func (b both) ServeList(x *lean.Exchange) { b.HandlerFunc(x.HTTP()) }

// serve starts a server. With lean unset net/http serves everything.
func serve(t *testing.T, onLean bool, h http.HandlerFunc, settings ...func(*lean.Server)) *served {
	t.Helper()
	s := &served{log: &lines{}, done: make(chan error, 1)}
	s.Server = &lean.Server{
		Handler: both{h}, HTTP: &http.Server{Handler: h, ErrorLog: log.New(s.log, "", 0)},
		ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute, NewConnGrace: time.Minute,
	}
	for _, set := range settings {
		set(s.Server)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	run := s.Serve
	if !onLean {
		run = s.HTTP.Serve
	}
	go func() { s.done <- run(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// dial returns a connection that fails after a while instead of hanging.
func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// exchange writes bytes and returns all that comes back until the end.
func (s *served) exchange(t *testing.T, raw string) string {
	t.Helper()
	c := s.dial(t)
	_, _ = io.WriteString(c, raw) // the server may have seen enough
	got, err := io.ReadAll(c)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Errorf("the connection was still open after %q", got)
	}
	return string(got)
}

// within runs try, which says what went wrong, with a bound that it has to keep. Where a machine
// stands still for longer, it has another try with a longer one; what is wrong fails with each.
func within(t *testing.T, bound time.Duration, try func(bound time.Duration) error) {
	t.Helper()
	for most := 25 * bound; ; bound *= 5 {
		err := try(bound)
		if err == nil {
			return
		}
		if bound >= most {
			t.Error(err)
			return
		}
		t.Logf("with a bound of %s: %v", bound, err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

const get, last = "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

// replies reads responses as a client would, and says all about each.
func replies(t *testing.T, raw, method string) (list []string) {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(raw))
	for {
		if _, err := r.Peek(1); err != nil {
			return list
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return append(list, err.Error())
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if date := resp.Header.Get("Date"); date != "" {
			if _, err := http.ParseTime(date); err != nil {
				t.Errorf("the date %q: %v", date, err)
			}
			resp.Header.Set("Date", "now")
		}
		resp.Header.Del("Content-Length") // resp.ContentLength tells
		list = append(list, fmt.Sprintf("%s %d %v %v %q %v %v close %t", resp.Status, resp.ContentLength, resp.TransferEncoding, resp.Header, body, err, resp.Trailer, resp.Close))
		if resp.StatusCode >= 200 {
			method = http.MethodGet // all but the first are
		}
	}
}

// readReply reads a response without looking at its body.
func readReply(r *bufio.Reader) (http.Header, error) {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, err
	}
	return resp.Header, resp.Body.Close()
}

// Whatever a handler does, the client gets the same from both paths.
func TestResponsesAreThoseOfNetHTTP(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 10<<10)
	typed := func(w http.ResponseWriter) http.Header {
		h := w.Header()
		h["Content-Type"] = nil // net/http would guess
		return h
	}
	flush := func(w http.ResponseWriter) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("flush: %v", err)
		}
	}
	for name, test := range map[string]struct {
		method string
		body   string
		h      http.HandlerFunc
	}{
		"nothing":        {h: func(http.ResponseWriter, *http.Request) {}},
		"status":         {h: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }},
		"unknown status": {h: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(599) }},
		"no content": {h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(http.StatusNoContent)
		}},
		"not modified": {h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"], w.Header()["Content-Length"] = []string{"a/b"}, []string{"5"}
			w.WriteHeader(http.StatusNotModified)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Errorf("a body with 304: %v", err)
			}
		}},
		"length": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w).Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
		}},
		"head": {method: "HEAD", h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w).Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
		}},
		"head without length": {method: "HEAD", h: func(w http.ResponseWriter, _ *http.Request) { typed(w); w.WriteHeader(http.StatusOK) }},
		"too short": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w).Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hell")
		}},
		"too long": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w).Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
			if n, err := io.WriteString(w, "x"); n != 0 || !errors.Is(err, http.ErrContentLength) {
				t.Errorf("beyond the length: %d, %v", n, err)
			}
		}},
		"chunks": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w)
			for _, piece := range []string{"a", big, "", "b"} {
				_, _ = io.WriteString(w, piece)
				flush(w)
			}
		}},
		"chunks of bytes": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w)
			for range 3 {
				_, _ = w.Write([]byte(big))
			}
		}},
		"big with length": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w).Set("Content-Length", fmt.Sprint(len(big)+5))
			_, _ = io.WriteString(w, "hello")
			_, _ = w.Write([]byte(big))
		}},
		"flush alone": {h: func(w http.ResponseWriter, _ *http.Request) { typed(w); flush(w) }},
		"trailers": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w)["Trailer"] = []string{"X-A, x-b", "Content-Length"}
			flush(w)
			w.Header().Set("X-A", "1")
			w.Header()["Content-Length"] = []string{"7"}
			w.Header().Set(http.TrailerPrefix+"X-C", "3\r\nX-D: 4")
		}},
		"trailer and no body": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w)["Trailer"] = []string{"X-A"}
			w.Header().Set("X-A", "1")
		}},
		"hints": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w)["Link"] = []string{"</a>", "</b>"}
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusOK)
			w.WriteHeader(http.StatusCreated)
		}},
		"close":    {h: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }},
		"own date": {h: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT") }},
		"injection": {h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-A"] = []string{"1\r\nX-B: 2", " 3 "}
			w.Header()["X C\r\n"] = []string{"4"}
			w.Header()[""] = []string{"5"}
		}},
		"late header": {h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", "1")
			w.WriteHeader(http.StatusOK)
			w.Header().Set("X-A", "2")
			w.Header().Set("X-B", "3")
		}},
		"echo": {method: "POST", body: big, h: func(w http.ResponseWriter, r *http.Request) {
			typed(w).Set("Content-Length", fmt.Sprint(r.ContentLength))
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(b)
		}},
		"body unread": {method: "POST", body: "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", h: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Path", r.URL.Path) }},
		"body half read": {method: "POST", body: "xGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", h: func(w http.ResponseWriter, r *http.Request) {
			n, err := r.Body.Read(make([]byte, 1))
			w.Header().Set("X-Path", fmt.Sprint(r.URL.Path, n, err))
			_ = r.Body.Close()
		}},
		"abort": {h: func(w http.ResponseWriter, _ *http.Request) {
			typed(w).Set("Content-Length", "3")
			panic(http.ErrAbortHandler)
		}},
		"abort after flush": {h: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = typed(w), w
			_, _ = io.WriteString(w, "half")
			flush(w)
			panic(http.ErrAbortHandler)
		}},
		"old date format": {h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Remote", fmt.Sprint(strings.HasPrefix(r.RemoteAddr, "127.0.0.1:"), r.Context().Value(http.LocalAddrContextKey) != nil, r.Context().Value(http.ServerContextKey) != nil))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.method == "" {
				test.method = "GET"
			}
			raw := test.method + " /first HTTP/1.1\r\nHost: a\r\n"
			if test.body != "" {
				raw += fmt.Sprintf("Content-Length: %d\r\n", len(test.body))
			}
			raw += "\r\n" + test.body + last
			var got [2]string
			for i, onLean := range []bool{true, false} {
				s := serve(t, onLean, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/first" {
						test.h(w, r)
					} else {
						typed(w).Set("X-Path", r.URL.Path)
					}
				})
				got[i] = strings.Join(replies(t, s.exchange(t, raw), test.method), "\n")
				if stats := s.Stats(); (stats.Requests > 0) != onLean || stats.HandedOver["request_line"]+stats.HandedOver["field"] != 0 {
					t.Errorf("lean %t: %+v", onLean, stats)
				}
			}
			if got[0] != got[1] {
				t.Errorf("the lean path answers\n%.2000s\nnet/http\n%.2000s", got[0], got[1])
			}
		})
	}
}

// What is not for the lean path is answered by net/http, with whatever came with it, and
// after requests that were.
func TestHandOver(t *testing.T) {
	for reason, odd := range map[string]string{
		"request_line": "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
		"field":        "GET / HTTP/1.1\r\nHost: a\r\nX-A:\r\n\r\n",
		"framing":      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		"upgrade":      "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\n\r\n",
		"size":         "GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("x", 20<<10) + "\r\n\r\n",
	} {
		t.Run(reason, func(t *testing.T) {
			s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				w.Header().Set("X-Got", r.URL.Path+string(b))
			})
			post := "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nho"
			var got []string
			for r := bufio.NewReader(strings.NewReader(s.exchange(t, get+post+"\r\n"+odd+get+last))); ; {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					break
				}
				_ = resp.Body.Close()
				got = append(got, resp.Header.Get("X-Got"))
			}
			want := "/ /pho / / /last"
			if reason == "framing" {
				want = "/ /pho /hi / /last"
			}
			if strings.Join(got, " ") != want {
				t.Errorf("got %q", got)
			}
			if stats := s.Stats(); stats.Requests != 2 || stats.HandedOver[reason] != 1 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// A body that is never sent whole is no request's beginning, and does not hold the
// connection for ever.
func TestBodyThatDoesNotCome(t *testing.T) {
	var paths sync.Map
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		paths.Store(r.URL.Path, true)
		_ = http.NewResponseController(w).EnableFullDuplex() // or the answer would wait for the body
	})
	got := s.exchange(t, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, smuggled := paths.Load("/b"); smuggled || !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || strings.Count(got, "HTTP/1.1") != 1 {
		t.Errorf("got %q", got)
	}
}

// Many clients, some of which leave at odd moments, never get another's answer.
func TestMany(t *testing.T) {
	var wrong atomic.Int64
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		w.Header().Set("X-Query", r.URL.RawQuery)
		_, _ = w.Write(b)
	})
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				wrong.Add(1)
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for j := range 200 {
				body := strings.Repeat(fmt.Sprint(i, j), j*7%2000)
				fmt.Fprintf(c, "POST /?%d-%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", i, j, len(body), body)
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					wrong.Add(1)
					return
				}
				got, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if string(got) != body || resp.Header.Get("X-Query") != fmt.Sprintf("%d-%d", i, j) {
					wrong.Add(1)
				}
			}
		})
	}
	clients.Wait()
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d wrong answers", n)
	}
}

// What came with the header can be read at once, and a body says how much that is.
func TestBodySaysWhatIsThere(t *testing.T) {
	var got []int
	s := serve(t, true, func(_ http.ResponseWriter, r *http.Request) {
		body, ok := r.Body.(interface{ Buffered() int })
		if !ok {
			return // without a body
		}
		got = append(got, body.Buffered())
		_, _ = io.ReadFull(r.Body, make([]byte, 2))
		got = append(got, body.Buffered())
		_ = r.Body.Close()
		got = append(got, body.Buffered())
	})
	s.exchange(t, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"+last)
	if want := []int{5, 3, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
