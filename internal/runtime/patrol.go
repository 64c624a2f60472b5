package runtime

import (
	"context"
	"net"
	"sync"
	"time"
)

// patrolInterval is how long an exchange may take before anybody watches it. Most are
// over by then; it adds to time-outs that are seconds, and to the moment in which an
// origin learns that a client has left.
const patrolInterval = 20 * time.Millisecond

// patrol gives exchanges that take their time a deadline and somebody who waits for
// the end of their context. Doing so for each one, at its beginning, costs two timers
// and half a dozen allocations that hardly any needs. A patrol looks at all exchanges
// every patrolInterval, and arms those that it sees for the second time. It has no
// goroutine while there is nothing to see. The zero value is ready; its methods may
// be called concurrently.
type patrol struct {
	mu      sync.Mutex
	beat    []*watch // those whose listed is set
	timer   *time.Timer
	walking bool // the timer runs
}

func (p *patrol) add(w *watch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beat = append(p.beat, w)
	if p.walking {
		return
	}
	p.walking = true
	if p.timer == nil {
		p.timer = time.AfterFunc(patrolInterval, p.round)
		return
	}
	p.timer.Reset(patrolInterval)
}

func (p *patrol) round() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, kept := time.Now(), p.beat[:0]
	for _, w := range p.beat {
		if w.look(now) {
			kept = append(kept, w)
		}
	}
	clear(p.beat[len(kept):])
	p.beat = kept
	if p.walking = len(kept) > 0; p.walking {
		p.timer.Reset(patrolInterval)
	}
}

// watch is the part of a connection that its patrol looks at. An exchange begins, may
// wait for a header, more than once, and ends; what is armed for one is gone before
// the next begins. Its methods may be called concurrently.
type watch struct {
	conn   net.Conn
	patrol *patrol
	abort  func() // closes conn; whoever uses it sees the end

	mu       sync.Mutex
	ctx      context.Context // of the exchange; nil between two
	patience time.Duration   // how long the read may take that is waited for; 0 for ever
	listed   bool            // the patrol comes by
	seen     time.Time       // when the patrol saw the present state first; zero if it did not
	stop     func() bool     // ends the wait for the end of ctx; nil if nobody waits
	timed    bool            // conn has a read deadline
}

func (w *watch) init(conn net.Conn, p *patrol) {
	w.conn, w.patrol = conn, p
	w.abort = func() { _ = conn.Close() }
}

// begin starts an exchange that ends, by the connection's end, when ctx does.
func (w *watch) begin(ctx context.Context) {
	w.mu.Lock()
	w.ctx = ctx
	list := w.changeLocked(0)
	w.mu.Unlock()
	if list {
		w.patrol.add(w)
	}
}

// await bounds reading by d from now on, give or take a patrolInterval. It never ends early.
func (w *watch) await(d time.Duration) {
	w.mu.Lock()
	w.untimeLocked()
	if d < 3*patrolInterval { // which the patrol would make much of
		w.timed = w.conn.SetReadDeadline(time.Now().Add(d)) == nil // fails on a closed connection only
		d = 0
	}
	list := w.changeLocked(d)
	w.mu.Unlock()
	if list {
		w.patrol.add(w)
	}
}

// unbound lets reading take as long as it takes.
func (w *watch) unbound() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.untimeLocked()
	w.patience = 0
}

// end ends the exchange. It reports whether the connection was left alone: if not, it
// is closed or will be.
func (w *watch) end() bool {
	w.mu.Lock()
	stop := w.stop
	w.ctx, w.stop, w.patience = nil, nil, 0
	w.untimeLocked()
	w.mu.Unlock()
	return stop == nil || stop()
}

func (w *watch) untimeLocked() {
	if w.timed {
		w.timed = false
		_ = w.conn.SetReadDeadline(time.Time{}) // fails on a closed connection only
	}
}

// changeLocked notes a new state, and reports whether the patrol must be told to come by.
func (w *watch) changeLocked(patience time.Duration) (list bool) {
	w.patience, w.seen = patience, time.Time{}
	list, w.listed = !w.listed, true
	return list
}

// look is the patrol's. It reports whether it should come again.
func (w *watch) look(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen.IsZero() {
		w.seen = now
		return true
	}
	if w.ctx != nil && w.stop == nil && w.ctx.Done() != nil {
		w.stop = context.AfterFunc(w.ctx, w.abort)
	}
	if w.patience > 0 {
		w.timed = w.conn.SetReadDeadline(w.seen.Add(w.patience)) == nil // as above
		w.patience = 0
	}
	w.listed = false
	return false
}
