package clickhouse

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Whatever is kept, pieces have each bucket of a range once, of tables that have it, and at
// its ends no more than what is kept makes them.
func TestPiecesOfAnyRange(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	base := time.Unix(1_700_000_000, 0)
	for range 300_000 {
		unit := []time.Duration{time.Minute, time.Hour, 12 * time.Hour}[rng.IntN(3)]
		upTo := func(n int64) time.Duration { return time.Duration(rng.Int64N(n * int64(unit))) }
		var k known
		for level, at := 0, base; level < len(k.rates)-1 && rng.IntN(6) > 0; level++ { // beyond, for ever
			at = at.Add(-upTo(1))
			k.rates[level] = at
		}
		since := base.Add(upTo(4) - 3*unit)
		until := since.Add(1 + upTo(2))
		coarsest := rng.IntN(len(rollups))
		finest := k.finest(since)
		if finest > coarsest {
			continue // asked of nobody
		}
		list := k.pieces(since, until, coarsest)
		from, to := list[0].from, list[len(list)-1].to
		at, fault := from, ""
		for _, p := range list {
			level := 0
			for rollups[level] != p.rollup {
				level++
			}
			if p.from != at || p.to <= p.from || p.from%p.Seconds != 0 || p.to%p.Seconds != 0 || level > coarsest {
				fault = "buckets are not there once"
			}
			if kept := k.rates[level]; !kept.IsZero() && p.from < floorTo(kept, p.Seconds) {
				fault = "buckets are not kept"
			}
			at = p.to
		}
		if from != floorTo(since, rollups[finest].Seconds) || to < ceilTo(until, 1) || to > ceilTo(until, rollups[finest].Seconds) {
			fault = "the ends are wrong"
		}
		if fault != "" {
			t.Fatalf("%s: of %s to %s, of which %v are kept, no coarser than %d: %+v", fault, since, until, k.rates, coarsest, list)
		}
	}
}
