package runtime

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// transport is the way to one HTTP server. Its methods may be called concurrently.
type transport interface {
	http.RoundTripper
	// inHand counts requests, bodies included.
	inHand() *atomic.Int64
	// roundTrip is RoundTrip of a request that inHand counts already. The end of its
	// response takes it off again; after an error done does.
	roundTrip(req *http.Request) (*http.Response, error)
	done()
	// close ends idle connections, now and as they become idle. Requests go on, later
	// ones too.
	close()
	// reopen takes close back: connections are kept again.
	reopen()
}

func (t *http1) inHand() *atomic.Int64 { return t.busy }

func (t *http1) done() { t.busy.Add(-1) }

// reopen lets connections be kept after close.
func (t *http1) reopen() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = false
}

// newTransport opens the way to the server at an origin's URL.
func newTransport(cfg Config, origin string) (transport, error) {
	u, err := url.Parse(origin)
	if err != nil {
		return nil, err
	}
	switch {
	case u.Host == "":
		return nil, fmt.Errorf("origin %q has no host", origin)
	case u.Scheme == "http":
		return newHTTP1(cfg, u), nil
	case u.Scheme == "https":
		return newHTTPS(cfg, u), nil
	case u.Scheme == "h2c":
		return newH2C(cfg, u), nil
	}
	return nil, fmt.Errorf("origin %q has the scheme %q: it must be http, https or h2c", origin, u.Scheme)
}

const (
	// sweepFirst is after the end of a stream, sweepLast the longest wait for its
	// connection to notice. net/http hands the last byte over before it takes the
	// stream off, most often by some microseconds.
	sweepFirst = time.Millisecond
	sweepLast  = time.Second
)

// drain closes the connections of an http.Transport as their last requests end. The
// Transport itself closes those that are idle when it is told to, and lets those of
// HTTP/2 that are in use live on until they have been idle for their time-out.
type drain struct {
	sweep func() // closes what is idle

	draining atomic.Bool // read at every end of a response
	mu       sync.Mutex
	timer    *time.Timer // for the next sweep; nil until one was due
	pause    time.Duration
}

func (d *drain) begin() {
	d.draining.Store(true)
	d.sweep()
}

// end stops draining. A sweep that is under way closes idle connections all the same,
// which costs a new one.
func (d *drain) end() { d.draining.Store(false) }

// ended is told of every response that has ended.
func (d *drain) ended() {
	if !d.draining.Load() {
		return // fast path
	}
	d.sweep()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pause = sweepFirst
	if d.timer == nil {
		d.timer = time.AfterFunc(d.pause, d.again)
		return
	}
	d.timer.Reset(d.pause)
}

func (d *drain) again() {
	if !d.draining.Load() {
		return
	}
	d.sweep()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pause *= 10; d.pause <= sweepLast {
		d.timer.Reset(d.pause)
	}
}

// keepWhile returns a function that lets t keep connections while a deployment names
// its version, and no longer.
func keepWhile(t transport) func(deployed bool) {
	return func(deployed bool) {
		if deployed {
			t.reopen()
		} else {
			t.close()
		}
	}
}
