package runtime

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tidegate/schema"
)

// headBytesMax bounds a response's header, informational ones included; as in
// net/http.
const headBytesMax = 1 << 20

// http1 speaks HTTP/1.1 in clear text to one origin, or to one entry point of a
// Workers process. http.Transport hands every
// request to a second goroutine and its response to a third; here the caller's
// goroutine writes the one and reads the other, which halves the gateway's cost.
// Only a request's body, if it has one, is sent from a goroutine of its own.
type http1 struct {
	cfg    Config
	dialer net.Dialer
	// network and addr are what to dial: "tcp" and an address, or "unix" and a path.
	network, addr string
	host          string // for the Host header; empty sends the client's
	prefix        string // before every target
	worker        bool   // the other side is workerd; see appendHead
	// busy counts the requests in hand, bodies included. Several may share one.
	busy *atomic.Int64
	// explain may replace the error of a broken exchange by one that knows more.
	explain func(error) error
	patrol  *patrol

	mu      sync.Mutex
	idle    []*conn // the longest unused first
	closed  bool    // connections are no longer kept
	reaper  *time.Timer
	reaping bool // the reaper's timer runs
}

func newHTTP1(cfg Config, u *url.URL) *http1 {
	t := &http1{
		cfg: cfg, dialer: originDialer(cfg), patrol: patrolOf(cfg),
		network: "tcp", addr: hostPort(u), prefix: pathPrefix(u),
		busy: new(atomic.Int64), explain: unexplained,
	}
	if cfg.OriginHost {
		t.host = u.Host
	}
	return t
}

// newWorkerHTTP1 speaks to a socket of workerd.
func newWorkerHTTP1(cfg Config, path string, busy *atomic.Int64, explain func(error) error) *http1 {
	return &http1{
		cfg: cfg, dialer: net.Dialer{Timeout: cfg.DialTimeout}, patrol: patrolOf(cfg),
		network: "unix", addr: path, worker: true,
		busy: busy, explain: explain,
	}
}

// patrolOf returns the patrol that connections share, or where nobody set one up, one
// for those of a pool.
func patrolOf(cfg Config) *patrol {
	if cfg.patrol != nil {
		return cfg.patrol
	}
	return new(patrol)
}

func unexplained(err error) error { return err }

// RoundTrip sends req and returns when the response's header is there. The
// response's body must be closed and is read by one goroutine; its last byte or
// its Close gives the connection back. Close also closes the request's body and
// waits until nobody reads it: a read in progress must end by that, or have been
// ended before. With status 101 the response's body is also the writer of the
// switched connection.
//
// A reused connection can die before the backend has seen the request. If not a
// byte of a response came and repeating does no harm, the request is sent once
// more on a new connection; but not where there is another endpoint: then the caller
// decides on repeats, which have a bound and a budget. Nor where a Worker may have run:
// its process closes the connection, too, when a response breaks before its first byte.
func (t *http1) RoundTrip(req *http.Request) (*http.Response, error) {
	t.busy.Add(1)
	resp, err := t.roundTrip(req)
	if err != nil {
		t.busy.Add(-1) // otherwise the response's end does it
		return nil, err
	}
	return resp, nil
}

func (t *http1) roundTrip(req *http.Request) (*http.Response, error) {
	buf := headBuffers.Get().(*[]byte)
	defer putHeadBuffer(buf)
	var err error
	if *buf, err = appendHead((*buf)[:0], req, t); err != nil {
		closeBody(req)
		return nil, &Error{schema.ErrorKindProtocol, "send the request", err}
	}
	if err := req.Context().Err(); err != nil {
		closeBody(req)
		return nil, t.fault(req.Context(), "send the request", err)
	}
	var first error
	for c := t.takeIdle(hasBody(req)); c != nil; c = t.takeIdle(true) {
		var resp *http.Response
		if resp, first = c.roundTrip(req, buf); first == nil {
			return resp, nil
		}
		if errors.Is(first, errStale) { // nobody has seen anything of the request
			first = nil
			continue
		}
		if t.cfg.failover || !errors.Is(first, errUnanswered) || errors.Is(first, os.ErrDeadlineExceeded) || !repeatable(req) || req.Context().Err() != nil ||
			t.worker && !unread(first) {
			return nil, t.fault(req.Context(), "use the connection to "+t.addr, first)
		}
		break
	}
	c, err := t.dial(req.Context())
	if err != nil {
		closeBody(req)
		if first != nil {
			// The other side ended with the request in hand: that it cannot be reached
			// since is the smaller half of the truth, and sounds as if nothing was sent.
			return nil, t.fault(req.Context(), "use the connection to "+t.addr, first)
		}
		return nil, err
	}
	if first != nil {
		t.cfg.metrics.retried(schema.ErrorKindReset)
	}
	resp, err := c.roundTrip(req, buf)
	if err != nil {
		return nil, t.fault(req.Context(), "use the connection to "+t.addr, err)
	}
	return resp, nil
}

// fault is what the caller sees of an exchange that broke.
func (t *http1) fault(ctx context.Context, op string, err error) error {
	return t.explain(fault(ctx, op, err))
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

// unread reports whether err, of an exchange over a Unix socket, says that the other side
// closed it without having read the request: the kernel resets such a connection, and
// ends one whose bytes were all read.
func unread(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (t *http1) dial(ctx context.Context) (*conn, error) {
	if t.worker { // whose process is supervised: if it refuses, it has ended
		nc, err := t.dialer.DialContext(ctx, t.network, t.addr)
		if err != nil {
			return nil, dialFault(ctx, t.addr, err)
		}
		return newConn(t, nc), nil
	}
	nc, err := dialOrigin(ctx, &t.dialer, t.network, t.addr, t.cfg.failover)
	if err != nil {
		return nil, err
	}
	return newConn(t, nc), nil
}

// takeIdle returns the connection used last, which is the likeliest to live, or nil. If
// proven is not set, its first exchange may find out that it lives no longer.
func (t *http1) takeIdle(proven bool) *conn {
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
		if c.unproven = !proven && c.socket.canExchange(); c.unproven || c.socket.alive() {
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
	if !t.reaping {
		t.reapAfterLocked(t.cfg.IdleTimeout)
	}
}

// reapAfterLocked keeps at most one timer. It runs on when the last idle connection is
// taken, because that is often the only one, and is back at once.
func (t *http1) reapAfterLocked(d time.Duration) {
	t.reaping = true
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
	t.idle = slices.Delete(t.idle, 0, n)
	t.reaping = false
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
		t.reaper.Stop() // one that has just begun finds nothing, or what came back meanwhile
	}
	t.reaping = false // or nothing would start it after a reopen
}
