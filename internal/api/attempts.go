package api

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// attemptsMax failed attempts to sign in of one address in attemptsWindow. Tokens and
	// codes cannot be guessed anyway; the bound keeps who tries from costing anything.
	attemptsMax    = 10
	attemptsWindow = 5 * time.Minute
	// attemptsAddressesMax bounds memory; the addresses beyond it share one count.
	attemptsAddressesMax = 10_000
)

// attempts counts those to sign in that failed or are under way, by address, or by /64
// of IPv6, which is one customer's. Its methods are safe for concurrent use.
type attempts struct {
	mu sync.Mutex
	of map[netip.Prefix]*attemptCount
}

type attemptCount struct {
	n     int
	until time.Time // then it is over and done with
}

// begin counts an attempt, which forgive takes back if it does not fail, or returns how
// long there may be no more of them.
func (a *attempts) begin(from netip.Addr, now time.Time) (forgive func(), wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	count := a.countLocked(from, now)
	if count.n >= attemptsMax {
		return nil, count.until.Sub(now)
	}
	count.n++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		count.n--
	}, 0
}

func (a *attempts) countLocked(from netip.Addr, now time.Time) *attemptCount {
	key := prefixOf(from)
	if a.of[key] == nil && len(a.of) >= attemptsAddressesMax {
		for other, count := range a.of {
			if !now.Before(count.until) {
				delete(a.of, other)
			}
		}
		if len(a.of) >= attemptsAddressesMax {
			key = netip.Prefix{}
		}
	}
	count := a.of[key]
	if count == nil || !now.Before(count.until) {
		count = &attemptCount{until: now.Add(attemptsWindow)}
		if a.of == nil {
			a.of = make(map[netip.Prefix]*attemptCount)
		}
		a.of[key] = count
	}
	return count
}

func prefixOf(address netip.Addr) netip.Prefix {
	bits := 32
	if address.Is6() {
		bits = 64
	}
	prefix, _ := address.Prefix(bits) // of no address it is the zero prefix
	return prefix
}
