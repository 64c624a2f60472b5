package sequential

import "math"

// Forget gives up all that was placed so far, as if it had been lost. What is kept for
// later starts stays, and so do their numbers: a test of which the beginning is not known
// any more, made by New, as many times Restart as there were, and Forget, never has a
// larger E than the one that has seen everything, so the bound holds for both together.
func (t *Test) Forget() {
	for i := range t.capital {
		t.capital[i] = math.Inf(-1)
	}
	t.highest = 0
}
