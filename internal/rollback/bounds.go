package rollback

import (
	"slices"

	"tidegate/internal/deploy"
)

// Bounds are the ends of a confidence sequence for what a limit is about: the rate of
// failures, their ratio, or the part of its traffic that a version answers. Each end holds
// at the level of the limit, at all times together: it is the inversion of the limit's test
// (sequential.Sums), from the beginning of the trial alone, so a limit that only a later
// look-back time passes may lie within. There are none for quantiles, of which what is
// observed is a share of slow requests, and none of blocks, of which only means are known.
//
// They have no starts, and so no weights that share one promise out among several readings.
// Evidence that lacks the beginning of its trial has none: each reading would begin at the
// whole level, and be another chance to be wrong.
//
// The test itself may be ahead of them, by a unit that a look took before its end or by a
// look-back time. Where it is passed, the end is the limit: that is wrong when the verdict is.

// bound takes a stretch for the bounds. The upper end is no lower for events that are late:
// failures may take longer than successes, so it waits until none is expected.
func (m *measure) bound(of [2]tally, told float64, cautious bool) {
	if m.quantile > 0 {
		return
	}
	c, b := of[candidate], of[baseline]
	switch m.kind {
	case absolute:
		m.lower.Add(c.hits, c.requests, 1)
		if !cautious {
			m.upper.Add(c.requests-c.hits, c.requests, 1)
		}
	case relative:
		share := realised(of, told, cautious)
		m.lower.Add(c.hits, c.hits+b.hits, share/(1-share))
		if !cautious {
			m.upper.Add(b.hits, c.hits+b.hits, (1-share)/share)
		}
	case traffic:
		m.lower.Add(c.requests, c.requests+b.requests, told/(1-told))
		m.upper.Add(b.requests, c.requests+b.requests, (1-told)/told)
	}
}

// bounded are reports of the tests with the ends of their confidence sequences. It takes
// about a millisecond for each limit, so it is for those that somebody sees.
func bounded(list []deploy.Evidence, measures []*measure) []deploy.Evidence {
	out := slices.Clone(list)
	for i := range out {
		for _, m := range measures {
			if one := &out[i]; m.limit.Metric == one.Metric {
				one.Low, one.High = m.bounds()
				if one.LogE >= one.Threshold {
					m.pass(one)
				}
			}
		}
	}
	return out
}

// pass moves the end that a passed test speaks for to its limit, if it lies beyond.
func (m *measure) pass(one *deploy.Evidence) {
	end, beyond := one.Low, func(end float64) bool { return end < one.Limit }
	if m.kind == traffic {
		end, beyond = one.High, func(end float64) bool { return end > one.Limit }
	}
	if end != nil && beyond(*end) {
		*end = one.Limit
	}
}

// bounds are nil where nothing can be said.
func (m *measure) bounds() (low, high *float64) {
	value := func(ratio float64) *float64 {
		if m.kind == absolute {
			ratio /= 1 + ratio // odds
		}
		return &ratio
	}
	if l := m.lower.LowerBound(m.test.Level()); l > 0 && !m.noLow {
		low = value(l)
	}
	if u := m.upper.LowerBound(m.test.Level()); u > 0 && !m.noHigh {
		high = value(1 / u)
	}
	return low, high
}
