package gateway

import (
	"container/list"
	"sync"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Bounds of what waits for its other half.
const (
	// joinWait is how long the runtime may take to tell of an invocation after the
	// response has ended: work under waitUntil may go on for 30 s.
	joinWait = time.Minute
	// joinsMax bounds the exchanges that have ended and wait: a minute of a
	// thousand requests a second whose runtime tells nothing.
	joinsMax   = 64 << 10
	joinShards = 64
	// goneWait is how long an exchange is remembered whose event went out alone, so
	// that the runtime's half does not become a second event.
	goneWait = 5 * time.Minute
)

// Reasons why an event goes out with one half only.
const (
	unjoinedTimeout = "timeout"       // the runtime told nothing for joinWait
	unjoinedBound   = "bound"         // joinsMax was reached, and this was the oldest
	unjoinedEnded   = "process_ended" // the process that had the request ended first
	unjoinedStop    = "stop"          // the gateway stopped
	unjoinedLate    = "late"          // a runtime's half whose event had gone out: dropped
)

var unjoinedReasons = []string{unjoinedTimeout, unjoinedBound, unjoinedEnded, unjoinedStop, unjoinedLate}

// joins holds the exchanges of Workers versions from the moment they are passed on
// until the runtime has told of them. An exchange is here before the runtime can
// know of it, so what the runtime tells of and is not here did not come through
// the gateway. Its methods may be called concurrently.
type joins struct {
	now func() time.Time
	// emit gets an exchange that is complete, or goes out with a reason; inv is nil
	// without the runtime's half. No lock is held.
	emit   func(p *pending, inv *schema.Invocation, reason string)
	shards [joinShards]joinShard
}

type joinShard struct {
	mu      sync.Mutex
	all     map[joinKey]*pending
	waiting list.List // of *pending whose response has ended, oldest first
	gone    list.List // of *pending whose event went out alone, oldest first
	closed  bool      // nothing waits any more
}

// joinKey names an exchange. A ray alone would do, were it not that the runtime
// reads it from a header: what one version forges finds no other's exchange.
type joinKey struct{ version, ray string }

// shard spreads rays, which are random hex digits, by the last two of them.
func (j *joins) shard(k joinKey) *joinShard {
	n := len(k.ray)
	if n < 2 {
		return &j.shards[0]
	}
	return &j.shards[(uint(k.ray[n-1])*31+uint(k.ray[n-2]))%joinShards]
}

// pending is an exchange in joins. Its fields belong to the shard's lock, except
// half before finish, which belongs to the exchange.
type pending struct {
	key        joinKey
	shard      *joinShard
	entrypoint string
	process    deploy.Process // that the request was sent to; zero before
	half       half
	done       bool               // half is complete
	gone       bool               // its event went out; half is not kept
	inv        *schema.Invocation // that came before the response ended
	over       bool               // the process ended meanwhile, with the outcome ended
	ended      string
	since      time.Time     // done or gone
	place      *list.Element // in waiting or gone
}

var pendings = sync.Pool{New: func() any { return new(pending) }}

// release gives p back for another exchange; its buffers stay.
func (p *pending) release() {
	*p = pending{half: half{fetch: p.half.fetch[:0], tail: p.half.tail[:0]}}
	pendings.Put(p)
}

// open enters an exchange that is about to be passed on.
func (j *joins) open(versionID, ray, entrypoint string) *pending {
	p := pendings.Get().(*pending)
	p.key, p.entrypoint = joinKey{versionID, ray}, entrypoint
	s := j.shard(p.key)
	p.shard = s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[joinKey]*pending{}
	}
	s.all[p.key] = p
	return p
}

// SentTo implements deploy.RequestWatcher.
func (p *pending) SentTo(process deploy.Process) {
	p.shard.mu.Lock()
	defer p.shard.mu.Unlock()
	p.process, p.over, p.ended = process, false, ""
}

// finish says that p.half is complete.
func (j *joins) finish(p *pending) {
	s := p.shard
	s.mu.Lock()
	inv, reason := p.inv, ""
	var oldest *pending
	switch {
	case inv != nil:
		delete(s.all, p.key)
	case p.half.errorKind == schema.ErrorKindConnect, p.process == deploy.Process{}:
		delete(s.all, p.key) // it never reached the runtime
	case s.closed:
		delete(s.all, p.key)
		reason = unjoinedStop
	case p.over:
		p.half.blame(p.ended)
		s.bury(p, j.now())
		reason = unjoinedEnded
	default:
		p.done, p.since = true, j.now()
		p.place = s.waiting.PushBack(p)
		if s.waiting.Len() <= joinsMax/joinShards {
			s.mu.Unlock()
			return
		}
		oldest = s.waiting.Front().Value.(*pending)
		s.waiting.Remove(oldest.place)
		s.bury(oldest, p.since)
		p, reason = oldest, unjoinedBound
	}
	out := p.take()
	s.mu.Unlock()
	j.emit(out, inv, reason)
}

// take returns what to emit: p itself, or a copy where p stays to be remembered.
func (p *pending) take() *pending {
	if !p.gone {
		return p
	}
	out := &pending{half: p.half}
	p.half = half{}
	return out
}

// bury remembers an exchange whose event goes out alone.
func (s *joinShard) bury(p *pending, now time.Time) {
	p.gone, p.since = true, now
	p.place = s.gone.PushBack(p)
	if s.gone.Len() > joinsMax/joinShards {
		s.forget(s.gone.Front().Value.(*pending))
	}
}

func (s *joinShard) forget(p *pending) {
	s.gone.Remove(p.place)
	delete(s.all, p.key)
}

// What became of the runtime's half.
type joined int

const (
	joinedUnknown joined = iota // no exchange: it did not come through the gateway
	joinedKept                  // the response has not ended yet
	joinedDone                  // the event is out
	joinedLate                  // the event went out before
)

// tell gives the runtime's half of an exchange to the gateway's.
func (j *joins) tell(versionID string, inv *schema.Invocation) joined {
	key := joinKey{versionID, inv.RayID}
	s := j.shard(key)
	s.mu.Lock()
	p := s.all[key]
	switch {
	case p == nil, p.inv != nil, !p.gone && p.entrypoint != inv.Entrypoint:
		s.mu.Unlock()
		return joinedUnknown
	case p.gone:
		s.forget(p)
		s.mu.Unlock()
		return joinedLate
	case !p.done:
		p.inv = inv
		s.mu.Unlock()
		return joinedKept
	}
	s.waiting.Remove(p.place)
	delete(s.all, key)
	s.mu.Unlock()
	j.emit(p, inv, "")
	return joinedDone
}

// processEnded lets go of the exchanges that a process has not told of and that was
// the last to have them. Those whose response is still coming learn it from finish.
func (j *joins) processEnded(process deploy.Process, outcome string) {
	for i := range j.shards {
		s := &j.shards[i]
		var out []*pending
		s.mu.Lock()
		for _, p := range s.all {
			switch {
			case p.process != process, p.gone, p.inv != nil:
			case !p.done:
				p.over, p.ended = true, outcome
			default:
				p.half.blame(outcome)
				s.waiting.Remove(p.place)
				s.bury(p, j.now())
				out = append(out, p.take())
			}
		}
		s.mu.Unlock()
		for _, p := range out {
			j.emit(p, nil, unjoinedEnded)
		}
	}
}

// expire lets go of what has waited too long.
func (j *joins) expire() {
	now := j.now()
	j.release(unjoinedTimeout, func(p *pending) bool { return now.Sub(p.since) >= joinWait }, false)
	for i := range j.shards {
		s := &j.shards[i]
		s.mu.Lock()
		for e := s.gone.Front(); e != nil && now.Sub(e.Value.(*pending).since) >= goneWait; e = s.gone.Front() {
			s.forget(e.Value.(*pending))
		}
		s.mu.Unlock()
	}
}

// close lets go of everything, and makes later exchanges go out at once.
func (j *joins) close() {
	j.release(unjoinedStop, func(*pending) bool { return true }, true)
}

func (j *joins) release(reason string, due func(*pending) bool, closed bool) {
	for i := range j.shards {
		s := &j.shards[i]
		var out []*pending
		s.mu.Lock()
		s.closed = s.closed || closed
		for e := s.waiting.Front(); e != nil && due(e.Value.(*pending)); e = s.waiting.Front() {
			p := e.Value.(*pending)
			s.waiting.Remove(e)
			s.bury(p, j.now())
			out = append(out, p.take())
		}
		s.mu.Unlock()
		for _, p := range out {
			j.emit(p, nil, reason)
		}
	}
}

// waiting is how many exchanges have ended and wait for the runtime's half.
func (j *joins) waiting() (n int) {
	for i := range j.shards {
		s := &j.shards[i]
		s.mu.Lock()
		n += s.waiting.Len()
		s.mu.Unlock()
	}
	return n
}
