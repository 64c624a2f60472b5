package sequential

import "math"

// Forget gives up all that was placed so far, as if it had been lost, and goes on as after
// that many starts, or as many as there were if that is more. What is kept for later
// starts stays, and so do their numbers: a test of which the beginning is not known any
// more never has a larger E than the one that has seen everything, so the bound holds for
// both together. It takes the same time for any number of starts.
func (t *Test) Forget(starts int) {
	if t.starts == 0 {
		return // the zero value
	}
	t.starts = max(t.starts, starts)
	for i := range t.capital {
		t.capital[i] = math.Inf(-1)
	}
	t.highest = 0
}
