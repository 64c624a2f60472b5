package lean_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/gateway/lean"
)

// The request's context ends when the client leaves, without a read or a write
// by the handler. One that only sends more has not left.
func TestClientLeaves(t *testing.T) {
	in, out := make(chan struct{}, 1), make(chan struct{}, 1)
	s := serve(t, true, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		in <- struct{}{}
		<-r.Context().Done()
		out <- struct{}{}
	})
	for _, request := range []string{get, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"} {
		c := s.dial(t)
		_, _ = io.WriteString(c, request)
		<-in
		_ = c.Close()
		<-out
	}
	waitFor(t, "the end of the connections", func() bool { return s.Stats().Conns == 0 })
}

func TestPanic(t *testing.T) {
	s := serve(t, true, func(_ http.ResponseWriter, r *http.Request) { panic("the cause " + r.URL.Path) })
	if got := s.exchange(t, get); got != "" {
		t.Errorf("got %q", got)
	}
	waitFor(t, "the log", func() bool { return strings.Contains(s.log.String(), "the cause /") })
}

// Waits are bounded: for a first request, for a next one, and for the rest of one.
func TestTimeouts(t *testing.T) {
	short := func(d *time.Duration) { *d = time.Nanosecond } // a tick
	f := func(name, send string, set func(*lean.Server)) {
		t.Run(name, func(t *testing.T) {
			s := serve(t, true, func(http.ResponseWriter, *http.Request) {}, set)
			got := s.exchange(t, send) // ends by the server
			if want := strings.Count(send, "\r\n\r\n"); strings.Count(got, "200 OK") != want {
				t.Errorf("got %q", got)
			}
		})
	}
	f("new", "", func(s *lean.Server) { short(&s.ReadHeaderTimeout) })
	f("half a first header", "GET / HT", func(s *lean.Server) { short(&s.ReadHeaderTimeout) })
	f("half a second header", get+"GET / HT", func(s *lean.Server) { short(&s.ReadHeaderTimeout) })
	f("idle", get, func(s *lean.Server) { short(&s.IdleTimeout) })
}

// Shutdown ends what is idle at once, waits for a request in hand, whose answer says that
// it is the last one, and gives a connection that has just come a moment.
func TestShutdown(t *testing.T) {
	inHand, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, true, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(inHand)
			<-finish
		}
	})
	idle, busy, fresh := s.dial(t), s.dial(t), s.dial(t)
	_, _ = io.WriteString(idle, get)
	if _, err := readReply(bufio.NewReader(idle)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"+get)
	<-inHand
	waitFor(t, "three connections", func() bool { return s.Stats().Conns == 3 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(t.Context()) }()
	if b, err := io.ReadAll(idle); len(b) > 0 || err != nil {
		t.Errorf("the idle connection got %q, %v", b, err)
	}
	if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("the listener is open")
	}
	_, _ = io.WriteString(fresh, get)
	if b, _ := io.ReadAll(fresh); !strings.Contains(string(b), "200 OK") || !strings.Contains(string(b), "Connection: close") {
		t.Errorf("the new connection got %q", b)
	}
	close(finish)
	if b, _ := io.ReadAll(busy); strings.Count(string(b), "200 OK") != 1 || !strings.Contains(string(b), "Connection: close") {
		t.Errorf("the request in hand got %q", b)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// After its grace Shutdown waits neither for the first request of a connection nor for the
// rest of one.
func TestShutdownDoesNotWaitForSenders(t *testing.T) {
	s := serve(t, true, func(http.ResponseWriter, *http.Request) {}, func(s *lean.Server) { s.NewConnGrace = time.Nanosecond })
	silent, slow := s.dial(t), s.dial(t)
	_, _ = io.WriteString(slow, get+"GET / HT")
	if _, err := readReply(bufio.NewReader(slow)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "two connections", func() bool { return s.Stats().Conns == 2 })
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	for _, c := range []net.Conn{silent, slow} {
		if b, _ := io.ReadAll(c); len(b) > 0 {
			t.Errorf("got %q", b)
		}
	}
}

// Shutdown gives up with its context; Close then cuts what is left.
func TestClose(t *testing.T) {
	inHand, ended := make(chan struct{}), make(chan struct{})
	s := serve(t, true, func(_ http.ResponseWriter, r *http.Request) {
		close(inHand)
		<-r.Context().Done()
		close(ended)
	})
	c := s.dial(t)
	_, _ = io.WriteString(c, get)
	<-inHand
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	<-ended
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("got %q", b)
	}
	waitFor(t, "the end of the connection", func() bool { return s.Stats().Conns == 0 })
}

// A client may read its answer late, or after it has sent everything else.
func TestPipeline(t *testing.T) {
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Query", r.URL.RawQuery) })
	var raw strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&raw, "GET /?%d HTTP/1.1\r\nHost: a\r\nX-Fill: %s\r\n\r\n", i, strings.Repeat("x", i%300+1))
	}
	raw.WriteString(last)
	r := bufio.NewReader(strings.NewReader(s.exchange(t, raw.String())))
	for i := range 1000 {
		if h, err := readReply(r); err != nil || h.Get("X-Query") != fmt.Sprint(i) {
			t.Fatalf("response %d: %v, %v", i, h, err)
		}
	}
	if got := s.Stats().Requests; got != 1001 {
		t.Errorf("%d requests on the lean path", got)
	}
}

// A header, and a body, may come byte by byte.
func TestSlowSender(t *testing.T) {
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		w.Header().Set("X-Got", fmt.Sprint(string(b), err))
	})
	c := s.dial(t)
	for i := range 2 {
		for _, b := range []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello") {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		if h, err := readReply(bufio.NewReader(c)); err != nil || h.Get("X-Got") != "hello<nil>" {
			t.Fatalf("request %d: %v, %v", i, h, err)
		}
	}
	if got := s.Stats().Requests; got != 2 {
		t.Errorf("%d requests on the lean path", got)
	}
}

// A panic may come from what still has the request in hand. Its memory must not become
// another client's.
func TestPanicKeepsItsMemory(t *testing.T) {
	kept := make(chan http.Header, 1)
	s := serve(t, true, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			kept <- r.Header
			panic(http.ErrAbortHandler)
		}
	})
	for range 20 { // pools forget now and then
		s.exchange(t, "GET /panic HTTP/1.1\r\nHost: a\r\nX-Of: mine\r\n\r\n")
		waitFor(t, "the end of the connection", func() bool { return s.Stats().Conns == 0 })
		h := <-kept
		s.exchange(t, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Of: another's\r\n\r\n")
		if got := h.Get("X-Of"); got != "mine" {
			t.Fatalf("the header says %q", got)
		}
	}
}
