package sequential

import (
	"math"
	"slices"
)

// oddsSteps is how many sums there are while odds double: each is for odds 2.2 % above the last.
const oddsSteps = 32

// Sums are what it takes to test every ratio at once, in a confidence sequence: hits and trials
// by their odds. If trials of odds o are hits with a chance of at most o·r/(1+o·r), which is
// RatioNull for o = s/(1−s), what lies on θ depends on their sums alone, whatever r is. Odds
// are rounded up, by 2.2 % at most, so the chance is, too, and the bound below is lower than it
// might be and no less valid. With odds of 1 the ratio is the odds of one chance: p/(1−p).
//
// The zero value is empty. It is not safe for concurrent use.
type Sums struct{ parts []part }

// part has trials of odds up to 2^(step/oddsSteps).
type part struct {
	step         int
	hits, trials float64
}

// Add adds trials and those of them that were hits. What Test.Add would refuse, or takes for no
// evidence whatever the ratio is, changes nothing.
func (s *Sums) Add(hits, trials, odds float64) {
	if !(hits >= 0 && hits <= trials && trials > 0 && trials <= trialsMax && odds > 0) || math.IsInf(odds, 1) {
		return
	}
	// Odds of 1 are exact, and others that are steps may be one too high.
	step := int(math.Ceil(oddsSteps * math.Log2(odds)))
	i, found := slices.BinarySearchFunc(s.parts, step, func(p part, step int) int { return p.step - step })
	if !found {
		s.parts = slices.Insert(s.parts, i, part{step: step})
	}
	s.parts[i].hits += hits
	s.parts[i].trials += trials
}

// Clone returns sums that go their own way.
func (s *Sums) Clone() Sums { return Sums{slices.Clone(s.parts)} }

// LowerBound is the lower end of a confidence sequence for the ratio, at level alpha, to about
// three digits: 0 if nothing can be said. While the ratio is one, it lies below the bound at
// any time with a chance of at most alpha. Where it changes, what is shown is that it was above
// the bound at some time.
//
// For an upper end take the sums of the mirrored hypothesis, in which the others of the trials are
// hits and the odds 1/o, and 1 over what is returned.
func (s *Sums) LowerBound(alpha float64) float64 {
	const most = 1e9 // ratio, and odds of a chance
	return LowerBound(alpha, 1/most, most, func(t *Test, ratio float64) {
		for _, p := range s.parts {
			odds := ratio * math.Exp2(float64(p.step)/oddsSteps)
			t.Add(p.hits, p.trials, odds/(1+odds))
		}
	})
}
