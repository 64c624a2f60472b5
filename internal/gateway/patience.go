package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// What clients are given up for.
const (
	stalledBody     = "request_body" // they announced more and do not send it
	stalledResponse = "response"     // they asked for it and do not take it
)

var stallReasons = []string{stalledBody, stalledResponse}

// quietBytes of a response fit into what the server buffers, so that writing them
// waits for nobody.
const quietBytes = 2 << 10

var epoch = time.Now()

// patience gives a client up whom the gateway has waited for too long at one stretch,
// which is from begin to end. One timer serves all stretches of an exchange: it is
// not set for each, but looks, when it fires, at how long the one in hand has lasted.
// Stretches do not overlap; the rest may be called at any time and by anybody. A nil
// *patience has had no stretch.
type patience struct {
	max    time.Duration         // 0 waits for ever; set before the first stretch, as expire
	expire func(time.Time) error // sets the deadline of what is waited for
	since  atomic.Int64          // when the stretch in hand began, in ns since epoch; 0 for none
	gaveUp atomic.Bool

	mu      sync.Mutex  // of what follows
	timer   *time.Timer // nil before the first stretch
	stopped bool
}

// sendPatience is that with a client that is to take a response.
func sendPatience(w http.ResponseWriter, limit time.Duration) *patience {
	return &patience{max: limit, expire: http.NewResponseController(w).SetWriteDeadline}
}

func (p *patience) begin() {
	if p.max <= 0 {
		return
	}
	p.since.Store(max(1, int64(time.Since(epoch))))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil && !p.stopped {
		p.timer = time.AfterFunc(p.max, p.look)
	}
}

func (p *patience) end() {
	if p != nil {
		p.since.Store(0)
	}
}

// expired reports whether the client was given up.
func (p *patience) expired() bool { return p != nil && p.gaveUp.Load() }

func (p *patience) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	left := p.max
	if since := p.since.Load(); since != 0 {
		left -= time.Since(epoch) - time.Duration(since)
	}
	if left > 0 {
		p.timer.Reset(left)
		return
	}
	p.gaveUp.Store(true)
	_ = p.expire(time.Unix(1, 0)) // a connection that has none ends with its client
}

// stop ends it: when it has returned, nobody is given up any more.
func (p *patience) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

// hurryBody must be called before an answer that does not look at the request's body:
// the server reads the rest of that first, to keep the connection, and would wait for
// it as long as the client likes.
func hurryBody(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerMax)) // where there are none, nobody waits
}

// boundEnd has what is still to be sent when the handler has returned sent within
// Config.SendTimeout. In HTTP/2 a client may take nothing of a stream for ever, and
// no write that the handler sees waits for the last few kilobytes.
func (g *Gateway) boundEnd(w http.ResponseWriter) {
	if g.cfg.SendTimeout > 0 {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(g.cfg.SendTimeout)) // HTTP/2 has them
	}
}
