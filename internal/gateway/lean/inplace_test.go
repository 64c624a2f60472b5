package lean_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"tidegate/internal/gateway/lean"
)

// A request that comes whole is served where it was read, and nobody asks for the next
// one before the poller tells of it. It tells of nothing twice: what comes while the
// handler is at work, or in pieces, must not be missed.
func TestRequestsAtAnyMomentAreServed(t *testing.T) {
	inHand, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			inHand <- struct{}{}
			<-goOn
		}
		w.Header().Set("X-Path", r.URL.Path)
	})
	c := s.dial(t)
	r := bufio.NewReader(c)
	ask := func(path string) {
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(path string) {
		t.Helper()
		if h, err := readReply(r); err != nil || h.Get("X-Path") != path {
			t.Fatalf("%v, %v; want the answer to %s", h, err, path)
		}
	}
	for i := range 50 {
		first, second := fmt.Sprintf("/%d", i), fmt.Sprintf("/%d/next", i)
		ask(first)
		expect(first)
		ask("/wait")
		<-inHand
		ask(first) // while the one before is in hand
		goOn <- struct{}{}
		expect("/wait")
		expect(first)
		ask("/wait")
		<-inHand
		_, _ = io.WriteString(c, "GET /half HTTP/1.1\r\nHo")
		goOn <- struct{}{}
		expect("/wait")
		_, _ = io.WriteString(c, "st: a\r\n\r\n")
		expect("/half")
		ask(second)
		expect(second)
	}
	if got := s.Stats().Requests; got != 50*6 {
		t.Errorf("%d requests on the lean path", got)
	}
}

// A client that sends its request and its end at once is answered, and its connection ends
// long before it would for being idle: the poller tells of both together.
func TestEndThatComesWithTheRequest(t *testing.T) {
	s := serve(t, true, func(http.ResponseWriter, *http.Request) {})
	for range 20 {
		c := s.dial(t)
		_, _ = io.WriteString(c, get)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		if _, err := readReply(r); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); len(b) > 0 || err != nil {
			t.Fatalf("after the response: %q, %v; want the end", b, err)
		}
	}
}

// The sweeper and Close hold the list of connections: a handler that is at work must not hold
// them.
func TestSweepDoesNotWaitForHandlers(t *testing.T) {
	inHand, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, true, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(inHand)
			<-goOn // whatever becomes of the client
		}
	}, func(s *lean.Server) { s.IdleTimeout = 200 * time.Millisecond })
	waiting, idle := s.dial(t), s.dial(t)
	_, _ = io.WriteString(waiting, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
	<-inHand
	if got := s.exchangeOn(t, idle); got != "" {
		t.Errorf("the idle connection got %q after its answer, want the end", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if b, _ := io.ReadAll(waiting); len(b) > 0 {
		t.Errorf("the connection that was cut got %q", b)
	}
	close(goOn)
	waitFor(t, "the end of the connections", func() bool { return s.Stats().Conns == 0 })
}

// exchangeOn sends a request, reads its answer, and returns what comes after it.
func (s *served) exchangeOn(t *testing.T, c net.Conn) string {
	t.Helper()
	_, _ = io.WriteString(c, get)
	r := bufio.NewReader(c)
	if _, err := readReply(r); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(r)
	return string(b)
}
