package runtime

import (
	"math"
	"math/rand/v2"
	"sync/atomic"

	"tidegate/internal/deploy"
)

// weightUnit is the weight 1 as a whole number; 64 of them fit in 32 bits.
const weightUnit = 1 << 20

// endpoint is one server of an origin.
type endpoint struct {
	deploy.Endpoint
	transport transport
	busy      *atomic.Int64 // the requests in hand, bodies included; the transport's
	weight    uint32        // in parts of weightUnit
	bit       uint64        // its place in the set of those that a request has been sent to
	health
}

// acquire counts a request in, unless max of them are in hand; 0 is no bound.
func (e *endpoint) acquire(most int64) bool {
	if most == 0 {
		e.busy.Add(1)
		return true
	}
	for {
		n := e.busy.Load()
		if n >= most {
			return false
		}
		if e.busy.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// pool is what requests are balanced over while nothing changes. It is immutable.
type pool struct {
	all        []*endpoint
	candidates []*endpoint
	upTo       []uint32 // the sum of the weights of candidates, up to and with each
	// desperate says that no endpoint is in, so that the candidates are the least bad.
	desperate bool
	probes    []*endpoint // that wait for a request to let them in again
}

// newPool makes a pool of those that are in; if there is none, of those that the
// monitor has nothing against, or else of all.
func newPool(all []*endpoint) *pool {
	p := &pool{all: all}
	for _, keep := range []func(*endpoint) bool{
		func(e *endpoint) bool { return e.state == stateIn && !e.down },
		func(e *endpoint) bool { return !e.down },
		func(*endpoint) bool { return true },
	} {
		for _, e := range all {
			if keep(e) {
				p.candidates = append(p.candidates, e)
			}
		}
		if len(p.candidates) > 0 {
			break
		}
		p.desperate = true
	}
	var sum uint32
	for _, e := range p.candidates {
		sum += e.weight
		p.upTo = append(p.upTo, sum)
	}
	for _, e := range all {
		if e.state == stateHalfOpen && !e.down {
			p.probes = append(p.probes, e)
		}
	}
	return p
}

// draw picks the less loaded of two random endpoints, which takes the worst load
// far below that of one random choice (Mitzenmacher, "The Power of Two Choices in
// Randomized Load Balancing", 2001). Weights count twice: an endpoint is drawn in
// proportion to its weight, and its load is its requests in hand divided by that, which
// is how Cloudflare's least_outstanding_requests takes weights. So idle endpoints share
// by weight, because the first one drawn wins a tie, and busy ones have requests in
// hand by weight. dice are 64 random bits.
func (p *pool) draw(dice uint64) *endpoint {
	if len(p.candidates) == 1 {
		return p.candidates[0] // fast path
	}
	total := p.upTo[len(p.upTo)-1]
	i := p.at(scale(uint32(dice>>32), total))
	a := p.candidates[i]
	x := scale(uint32(dice), total-a.weight) // among the others
	if x >= p.upTo[i]-a.weight {
		x += a.weight
	}
	if b := p.candidates[p.at(x)]; p.better(b, a) {
		return b
	}
	return a
}

// scale maps 32 random bits to a number below n (Lemire, "Fast Random Integer
// Generation in an Interval", 2019). Without his correction one outcome may come
// once in 64 times more often than another: a weight is up to a million of them.
func scale(random, n uint32) uint32 { return uint32(uint64(random) * uint64(n) >> 32) }

// at returns the place of the candidate whose part of the sum x is in.
func (p *pool) at(x uint32) int {
	low, high := 0, len(p.upTo)-1
	for low < high {
		if mid := (low + high) / 2; x < p.upTo[mid] {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// better reports whether b should be chosen before a. Where all are bad, the one with
// fewer failures in a row is the likelier to answer.
func (p *pool) better(b, a *endpoint) bool {
	if p.desperate {
		if x, y := b.failures.Load(), a.failures.Load(); x != y {
			return x < y
		}
	}
	return b.busy.Load()*int64(a.weight) < a.busy.Load()*int64(b.weight)
}

// pick is an endpoint with a request counted in.
type pick struct {
	*endpoint
	// trial says that the endpoint was out: the request tells whether it is back.
	trial bool
	// probe says that no other probe may go there until this one has ended.
	probe bool
}

// pick chooses an endpoint for a request that has been sent to those in tried, a set
// of bits. At a second try it takes the least loaded of the others, and one that is out
// rather than none; it probes nothing, for the request has failed once already. It reports false if every endpoint is tried or full.
func (u *upstream) pick(tried uint64, repeatable bool) (pick, bool) {
	p := u.pool.Load()
	if tried == 0 {
		if e := p.probe(u.requestsMax, repeatable); e != nil {
			return pick{e, true, true}, true
		}
		if e := p.draw(rand.Uint64()); e.acquire(u.requestsMax) {
			return pick{e, p.desperate, false}, true
		}
	}
	if e := p.leastLoaded(p.candidates, tried, u.requestsMax); e != nil {
		return pick{e, p.desperate, false}, true
	}
	if tried != 0 && !p.desperate {
		if e := p.leastLoaded(p.all, tried, u.requestsMax); e != nil {
			return pick{e, true, false}, true
		}
	}
	return pick{}, false
}

// probe acquires an endpoint that waits for a request, and the right to send it one.
func (p *pool) probe(most int64, repeatable bool) *endpoint {
	for _, e := range p.probes {
		if !e.mayProbe(repeatable) {
			continue
		}
		if e.acquire(most) {
			return e
		}
		e.probing.Store(false)
	}
	return nil
}

// leastLoaded acquires the best of a list, or nil. Equals are chosen in turn, since the
// search begins anywhere.
func (p *pool) leastLoaded(list []*endpoint, tried uint64, most int64) *endpoint {
	for {
		var best *endpoint
		start := rand.IntN(len(list))
		for i := range list {
			e := list[(start+i)%len(list)]
			full := most > 0 && e.busy.Load() >= most
			if tried&e.bit == 0 && !full && (best == nil || p.better(e, best)) {
				best = e
			}
		}
		if best == nil || best.acquire(most) {
			return best
		}
		// It has become full meanwhile, so some other request was served.
	}
}

func weightOf(e deploy.Endpoint) uint32 {
	return uint32(max(1, math.Round(e.Weight*weightUnit)))
}
