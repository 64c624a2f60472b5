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

	"tidegate/internal/gateway/listen"
)

const sendLimit = 200 * time.Millisecond

// serveBound is serve with a listener whose connections bound their writes.
func serveBound(t *testing.T, limit time.Duration, h http.HandlerFunc) *served {
	t.Helper()
	s := serve(t, true, h)
	bounds, err := listen.NewBounds(listen.BoundsConfig{SendTimeout: limit})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = inner.Addr().String()
	bound := make(chan error, 1)
	go func() { bound <- s.Serve(bounds.Listener(inner, true)) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-bound; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

// A large piece of a response leaves the connection a deadline. Once that is over it must not
// end what follows, however that is sent.
func TestDeadlineOfAnEarlierResponse(t *testing.T) {
	const post = "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
	large := strings.Repeat("x", 8<<20) // more than both sides' buffers hold
	h := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/piece":
			_, _ = io.WriteString(w, large[:10<<10])
		case "/header":
			w.Header().Set("X-Large", large)
		case "/stream":
			for range 3 {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush() // the client tells of what is missing
			}
		}
	}
	try := func(request string, body int, limit time.Duration) error {
		c := serveBound(t, limit, h).dial(t)
		r := bufio.NewReader(c)
		for _, one := range []struct {
			request string
			body    int
		}{{"GET /piece HTTP/1.1\r\nHost: a\r\n\r\n", 10 << 10}, {request, body}, {post, 0}} {
			if _, err := io.WriteString(c, one.request); err != nil {
				return err
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				return fmt.Errorf("%.30q after %.30q: %w", one.request, request, err)
			}
			b, err := io.ReadAll(resp.Body)
			if err = errors.Join(err, resp.Body.Close()); err != nil {
				return fmt.Errorf("%.30q after %.30q: %d of %d bytes: %w", one.request, request, len(b), one.body, err)
			}
			if len(b) != one.body {
				t.Errorf("%.30q after %.30q: a body of %d bytes, want %d", one.request, request, len(b), one.body)
			}
			<-time.After(2 * limit)
		}
		return nil
	}
	f := func(request string, body int) {
		t.Helper()
		within(t, sendLimit, func(limit time.Duration) error { return try(request, body, limit) })
	}
	f(post, 0)
	f("GET /header HTTP/1.1\r\nHost: a\r\n\r\n", 0)
	f("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", 3)
	f("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 3)
}

// A client that sends requests and takes none of the answers is given up, however small these
// are, and a stop does not wait for it any longer.
func TestClientThatTakesNoAnswers(t *testing.T) {
	large := strings.Repeat("x", 8<<20) // more than both sides' buffers hold
	f := func(name, requests string, stop bool) {
		t.Run(name, func(t *testing.T) {
			s := serveBound(t, sendLimit, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/large" {
					w.Header().Set("X-Large", large)
				}
			})
			c := s.dial(t)
			go func() { _, _ = io.WriteString(c, requests) }() // fails when the connection ends
			waitFor(t, "a request", func() bool { return s.Stats().Requests > 0 })
			if stop {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := s.Shutdown(ctx); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			}
			waitFor(t, "the end of the connection", func() bool { return s.Stats().Conns == 0 })
		})
	}
	const one = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
	f("small answers", strings.Repeat(get, 500_000), false)
	f("a large one", one, false)
	f("a large one at a stop", one, true)
}
