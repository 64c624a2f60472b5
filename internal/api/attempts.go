package api

import (
	"cmp"
	"net/netip"
	"sync"
	"time"
)

const (
	// attemptsMax failed attempts to sign in of one address in attemptsWindow. Tokens and
	// codes cannot be guessed anyway; the bound keeps who tries from costing anything.
	attemptsMax    = 10
	attemptsWindow = 5 * time.Minute
	// attemptsUnderWayMax is far above what the people behind one address do at once.
	attemptsUnderWayMax = 100
	// attemptsAddressesMax bounds memory. The addresses beyond it are not counted: whoever has
	// so many could keep all others out otherwise.
	attemptsAddressesMax = 10_000
	attemptsSweepEvery   = time.Second
)

// attempts counts those that failed or are under way, to sign in unless it is told of other
// bounds, by address, or by /64 of IPv6, which is one customer's. Its methods are safe for
// concurrent use.
type attempts struct {
	failedMax   int // in attemptsWindow; 0: attemptsMax
	underWayMax int // 0: attemptsUnderWayMax

	mu    sync.Mutex
	of    map[netip.Prefix]*attemptCount
	swept time.Time
}

type attemptCount struct {
	failed   int
	underWay int
	until    time.Time // then it is over and done with
}

// begin counts an attempt until end is called, and after it if it failed, or returns how long
// there may be no more of them. Those under way are not failed ones: they may all succeed.
func (a *attempts) begin(from netip.Addr, now time.Time) (end func(failed bool), wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	count := a.countLocked(from, now)
	if count.failed >= cmp.Or(a.failedMax, attemptsMax) {
		return nil, count.until.Sub(now)
	}
	if count.underWay >= cmp.Or(a.underWayMax, attemptsUnderWayMax) {
		return nil, time.Second
	}
	count.underWay++
	return func(failed bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		count.underWay--
		if failed {
			count.failed++
		}
	}, 0
}

func (a *attempts) countLocked(from netip.Addr, now time.Time) *attemptCount {
	key := prefixOf(from)
	count := a.of[key]
	if count != nil && now.Before(count.until) {
		return count
	}
	if count == nil && len(a.of) >= attemptsAddressesMax && now.Sub(a.swept) >= attemptsSweepEvery {
		a.swept = now
		for other, count := range a.of {
			if !now.Before(count.until) {
				delete(a.of, other)
			}
		}
	}
	fresh := &attemptCount{until: now.Add(attemptsWindow)}
	if count == nil && len(a.of) >= attemptsAddressesMax {
		return fresh
	}
	if a.of == nil {
		a.of = make(map[netip.Prefix]*attemptCount)
	}
	a.of[key] = fresh
	return fresh
}

func prefixOf(address netip.Addr) netip.Prefix {
	bits := 32
	if address.Is6() {
		bits = 64
	}
	prefix, _ := address.Prefix(bits) // of no address it is the zero prefix
	return prefix
}
