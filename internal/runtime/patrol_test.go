package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/schema"
)

// timedConn notes its read deadline and its end.
type timedConn struct {
	net.Conn
	deadline time.Time
	closed   atomic.Bool
}

func (c *timedConn) SetReadDeadline(at time.Time) error { c.deadline = at; return nil }
func (c *timedConn) Close() error                       { c.closed.Store(true); return nil }

// newWatch returns a watch whose patrol comes by when the test says so.
func newWatch() (*watch, *timedConn) {
	c := &timedConn{}
	w := &watch{}
	w.init(c, &patrol{walking: true}) // its timer is not set
	return w, c
}

func TestShortExchangesAreNotWatched(t *testing.T) {
	w, c := newWatch()
	ctx, cancel := context.WithCancel(t.Context())
	for range 5 {
		w.begin(ctx)
		w.await(time.Minute)
		if !w.look(time.Now()) {
			t.Fatal("an exchange is forgotten")
		}
		w.unbound()
		if !w.end() {
			t.Fatal("the connection was touched")
		}
	}
	cancel()
	if w.begin(t.Context()); w.stop != nil || !c.deadline.IsZero() || c.closed.Load() {
		t.Errorf("what was over is watched: %+v, %+v", w, c)
	}
	if n := len(w.patrol.beat); n != 1 {
		t.Errorf("the patrol visits the connection %d times", n)
	}
}

func TestLongWaitsGetTheirDeadline(t *testing.T) {
	w, c := newWatch()
	w.begin(t.Context())
	w.look(time.Now())
	w.await(time.Minute) // the request is sent only now: its time starts anew
	first := time.Now()
	w.look(first)
	if !c.deadline.IsZero() {
		t.Error("the first look sets a deadline")
	}
	if w.look(first.Add(patrolInterval)) {
		t.Error("nothing more is to be done, yet the patrol is to come back")
	}
	if want := first.Add(time.Minute); !c.deadline.Equal(want) {
		t.Errorf("the deadline is %v, want %v", c.deadline, want)
	}
	if w.unbound(); !c.deadline.IsZero() {
		t.Error("the body of a response has the deadline of its header")
	}
	w.end()
	w.begin(t.Context())
	if !w.listed || len(w.patrol.beat) != 2 { // the patrol itself took the first one out
		t.Error("the next exchange is not watched")
	}
}

func TestEndClearsEveryTrace(t *testing.T) {
	w, c := newWatch()
	ctx, cancel := context.WithCancel(t.Context())
	w.begin(ctx)
	w.await(time.Minute)
	w.look(time.Now())
	w.look(time.Now())
	if w.stop == nil || c.deadline.IsZero() {
		t.Fatal("a long exchange is not watched")
	}
	if !w.end() || !c.deadline.IsZero() {
		t.Error("the exchange leaves a deadline behind")
	}
	cancel()
	w.look(time.Now())
	if w.look(time.Now()) {
		t.Error("the patrol comes back to an idle connection")
	}
	if c.closed.Load() {
		t.Error("the end of a context ends the connection of a later exchange")
	}
}

// The patrol would be late for a short time-out.
func TestShortTimeoutsAreSetAtOnce(t *testing.T) {
	w, c := newWatch()
	w.begin(t.Context())
	before := time.Now()
	w.await(patrolInterval)
	if c.deadline.Before(before.Add(patrolInterval)) {
		t.Errorf("the deadline is %v", c.deadline)
	}
	if w.unbound(); !c.deadline.IsZero() {
		t.Error("it stays")
	}
}

func TestClientLeavesALongExchange(t *testing.T) {
	w, c := newWatch()
	ctx, cancel := context.WithCancel(t.Context())
	w.begin(ctx)
	w.look(time.Now())
	cancel()
	w.look(time.Now()) // which finds the context at its end
	waitFor(t, "the connection to be closed", c.closed.Load)
	if w.end() {
		t.Error("the connection is to be used again")
	}
}

// A slow response, which the patrol has armed, leaves a connection like any other; one
// that does not come is given up.
func TestDeadlineOfOneRequestSparesTheNext(t *testing.T) {
	inTime(t, 50*patrolInterval, func(bound time.Duration) error { return spareTheNext(t, bound) })
}

func spareTheNext(t *testing.T, bound time.Duration) error {
	t.Helper()
	var conns atomic.Int32
	slow := make(chan struct{})
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for n := 1; skipHead(r); n++ {
			switch n {
			case 2:
				<-slow
			case 4:
				_, _ = io.Copy(io.Discard, r)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	cfg := shortConfig()
	cfg.ResponseHeaderTimeout = bound
	backend := open(t, cfg, "http://"+addr).(*http1)
	get := func() error {
		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
	if err := get(); err != nil {
		return err
	}
	c := backend.idle[0]
	timed := func() bool {
		c.watch.mu.Lock()
		defer c.watch.mu.Unlock()
		return c.watch.timed
	}
	second := make(chan error)
	go func() { second <- get() }()
	waitFor(t, "the patrol", timed)
	close(slow)
	if err := <-second; err != nil {
		return err
	}
	deadline := time.Now().Add(cfg.ResponseHeaderTimeout)
	waitFor(t, "the deadline to pass", func() bool { return timed() || time.Now().After(deadline) })
	if err := get(); err != nil {
		return err
	}
	resp, err := backend.RoundTrip(request(t, http.MethodPost, "/", ""))
	wantKind(t, resp, err, schema.ErrorKindTimeout)
	if n := conns.Load(); n != 1 {
		return fmt.Errorf("four requests took %d connections, want one", n)
	}
	return nil
}

// A client that has left gets nothing, however soon the response comes, and leaves no
// connection on which one could still be on its way.
func TestResponseForNobody(t *testing.T) {
	var conns, requests atomic.Int32
	reached, left := make(chan struct{}), make(chan struct{})
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for skipHead(r) {
			if requests.Add(1) == 1 {
				close(reached)
				<-left
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	backend := open(t, shortConfig(), "http://"+addr)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel(); close(left) }()
	for range 2 { // the second time it has left before the request is sent
		_, err := backend.RoundTrip(request(t, http.MethodGet, "/", "").WithContext(ctx)) //nolint:bodyclose // there is none
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	}
	resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
	if got := readAll(t, resp, err); got != "ok" || conns.Load() != 2 || requests.Load() != 2 {
		t.Errorf("got %q, by request %d on connection %d", got, requests.Load(), conns.Load())
	}
}
