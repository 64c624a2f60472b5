package runtime

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"tidegate/schema"
)

// headBytesMax bounds a response's header, informational ones included; as in
// net/http.
const headBytesMax = 1 << 20

// http1 speaks HTTP/1.1 in clear text to one origin. http.Transport hands every
// request to a second goroutine and its response to a third; here the caller's
// goroutine writes the one and reads the other, which halves the gateway's cost.
// Only a request's body, if it has one, is sent from a goroutine of its own.
type http1 struct {
	cfg    Config
	dialer net.Dialer
	addr   string // to dial
	host   string // for the Host header; empty sends the client's
	prefix string // before every target

	mu     sync.Mutex
	idle   []*conn // the longest unused first
	closed bool    // connections are no longer kept
	reaper *time.Timer
}

func newHTTP1(cfg Config, u *url.URL) *http1 {
	t := &http1{
		cfg: cfg, dialer: net.Dialer{Timeout: cfg.DialTimeout},
		addr: hostPort(u), prefix: pathPrefix(u),
	}
	if cfg.OriginHost {
		t.host = u.Host
	}
	return t
}

// RoundTrip sends req and returns when the response's header is there. The
// response's body must be closed and is read by one goroutine; its last byte or
// its Close gives the connection back. Close also closes the request's body and
// waits until nobody reads it: a read in progress must end by that, or have been
// ended before. With status 101 the response's body is also the writer of the
// switched connection.
//
// A reused connection can die before the backend has seen the request. If not a
// byte of a response came and repeating does no harm, the request is sent once
// more on a new connection.
func (t *http1) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := validHead(req); err != nil {
		closeBody(req)
		return nil, &Error{schema.ErrorKindProtocol, "send the request", err}
	}
	if c := t.takeIdle(); c != nil {
		resp, err := c.roundTrip(req)
		if err == nil {
			return resp, nil
		}
		if !errors.Is(err, errUnanswered) || !repeatable(req) || req.Context().Err() != nil {
			return nil, fault(req.Context(), "use the connection to "+t.addr, err)
		}
	}
	c, err := t.dial(req.Context())
	if err != nil {
		closeBody(req)
		return nil, err
	}
	resp, err := c.roundTrip(req)
	if err != nil {
		return nil, fault(req.Context(), "use the connection to "+t.addr, err)
	}
	return resp, nil
}

// repeatable reports whether sending req twice is like sending it once and its
// body, if any, is still there (RFC 9110, section 9.2.2).
func repeatable(req *http.Request) bool {
	if hasBody(req) {
		return false
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

func (t *http1) dial(ctx context.Context) (*conn, error) {
	nc, err := t.dialer.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, dialFault(ctx, t.addr, err)
	}
	return newConn(t, nc), nil
}

// takeIdle returns the connection used last, which is the likeliest to live, or nil.
func (t *http1) takeIdle() *conn {
	for {
		t.mu.Lock()
		n := len(t.idle)
		if n == 0 {
			t.mu.Unlock()
			return nil
		}
		c := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		if c.alive() {
			return c
		}
		_ = c.Close() // the other side has closed it already
	}
}

// putIdle keeps c for the next request, or closes it at the bound.
func (t *http1) putIdle(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.idle) >= t.cfg.IdleConnsMax {
		_ = c.Close() // nothing is in flight on it
		return
	}
	c.idleSince = time.Now()
	t.idle = append(t.idle, c)
	if len(t.idle) == 1 {
		t.reapAfterLocked(t.cfg.IdleTimeout)
	}
}

// reapAfterLocked keeps at most one timer, and only while there is something to reap.
func (t *http1) reapAfterLocked(d time.Duration) {
	if t.reaper == nil {
		t.reaper = time.AfterFunc(d, t.reap)
		return
	}
	t.reaper.Reset(d)
}

// reap closes what has been idle for too long.
func (t *http1) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.idle) && time.Since(t.idle[n].idleSince) >= t.cfg.IdleTimeout {
		_ = t.idle[n].Close() // nothing is in flight on it
		n++
	}
	t.idle = append(t.idle[:0], t.idle[n:]...)
	if len(t.idle) > 0 {
		t.reapAfterLocked(t.cfg.IdleTimeout - time.Since(t.idle[0].idleSince))
	}
}

func (t *http1) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, c := range t.idle {
		_ = c.Close() // nothing is in flight on it
	}
	t.idle = nil
	if t.reaper != nil {
		t.reaper.Stop()
	}
}
