// What is only reckoned, by one goroutine, takes a third of the time without the race detector.

//go:build !race

package sequential

import (
	"math"
	"math/rand/v2"
	"testing"
)

// lowerAndUpper are sums of both hypotheses about a ratio of failures.
type lowerAndUpper struct{ lower, upper Sums }

func (b *lowerAndUpper) add(s second) {
	both, odds := s.failures+s.baselineFailures, s.requests/s.baselineRequests
	b.lower.Add(s.failures, both, odds)
	b.upper.Add(s.baselineFailures, both, 1/odds)
}

// At each of ten looks, on a ramp, the ratio lies within both ends, but in as many rounds as
// their levels allow, and chance on top: 30 of 150, twice the level. And the ends come near to it.
func TestSumsCoverAtAllTimes(t *testing.T) {
	const truth, rounds = 3.0, 150
	below, above, low, high := 0, 0, 0.0, 0.0
	for round := range rounds {
		r := rand.New(rand.NewPCG(17, uint64(round)))
		var b lowerAndUpper
		missedLow, missedHigh := false, false
		for look := range 1500 {
			s := draw(r, []float64{0.05, 0.2, 0.5}[look/500], 0.1*truth, 0.1)
			if b.add(s); look%150 != 149 {
				continue
			}
			missedLow = missedLow || b.lower.LowerBound(level) > truth
			missedHigh = missedHigh || b.upper.LowerBound(level) > 1/truth
		}
		if missedLow {
			above++
		}
		if missedHigh {
			below++
		}
		low += b.lower.LowerBound(level) / rounds
		high += 1 / b.upper.LowerBound(level) / rounds
	}
	t.Logf("below in %d and above in %d of %d rounds, in the end %.2f to %.2f", above, below, rounds, low, high)
	if most := MostRejections(rounds, level, mistaken); above > most || below > most {
		t.Errorf("a ratio of %v was below the lower end in %d of %d rounds and above the upper end in %d, at most %d are chance", truth, above, rounds, below, most)
	}
	if low < 2.3 || high > 3.7 {
		t.Errorf("a ratio of %v lies between %v and %v on average", truth, low, high)
	}
}

// Sums say what the observations one by one do, but for the rounding of odds.
func TestSumsAreTheObservations(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 1))
	var seen []second
	var b lowerAndUpper
	for range 400 {
		if s := draw(r, 0.2, 0.3, 0.1); s.requests > 0 && s.baselineRequests > 0 && s.failures+s.baselineFailures > 0 {
			seen = append(seen, s)
			b.add(s)
		}
	}
	exact := LowerBound(level, 1e-3, 1e3, func(test *Test, limit float64) {
		for _, s := range seen {
			addRatio(test, s, limit)
		}
	})
	got := b.lower.LowerBound(level)
	if got > exact*1.001 || got < exact/math.Exp2(1.0/oddsSteps)/1.002 {
		t.Errorf("the bound of the sums is %v, of the observations %v", got, exact)
	}
	if len(b.lower.parts) >= len(seen)/2 {
		t.Errorf("%d sums of %d observations", len(b.lower.parts), len(seen))
	}
}

// Twenty failures of a thousand: odds of 1 are those of the chance itself.
func TestSumsOfAChance(t *testing.T) {
	var failures, successes Sums
	failures.Add(20, 1000, 1)
	successes.Add(980, 1000, 1)
	chance := func(odds float64) float64 { return odds / (1 + odds) }
	low, high := chance(failures.LowerBound(0.025)), chance(1/successes.LowerBound(0.025))
	want := LowerBound(0.025, 1e-6, 1, func(test *Test, limit float64) { test.Add(20, 1000, limit) })
	if math.Abs(low/want-1) > 0.002 || !(low > 0.008 && high > 0.03 && high < 0.045) {
		t.Errorf("a chance of 2 %% lies between %v and %v, by one test above %v", low, high, want)
	}
}

func TestSumsOfNothing(t *testing.T) {
	var s Sums
	for _, o := range [][3]float64{{1, 0, 1}, {2, 1, 1}, {-1, 1, 1}, {1, 1, 0}, {1, 1, math.Inf(1)}, {1, 1, math.NaN()}, {math.NaN(), 1, 1}, {1, math.Inf(1), 1}} {
		s.Add(o[0], o[1], o[2])
	}
	if len(s.parts) > 0 || s.LowerBound(0.1) != 0 {
		t.Errorf("%+v is evidence", s.parts)
	}
	s.Add(0, 100, 1)
	other := s.Clone()
	if other.Add(100, 100, 1); s.LowerBound(0.1) != 0 || other.LowerBound(0.1) == 0 {
		t.Error("a clone and its original are not apart")
	}
}
