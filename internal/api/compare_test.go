package api

import (
	"math"
	"math/rand/v2"
	"testing"
)

const z95 = 1.959963984540054

// TestDifferenceIsNewcombes: the intervals that the paper prints for its examples (table II, method 10).
func TestDifferenceIsNewcombes(t *testing.T) {
	f := func(a, m, b, n, low, high float64) {
		t.Helper()
		d := difference(proportion{a, m}, proportion{b, n}, z95)
		if math.Abs(*d.Low-low) > 5e-5 || math.Abs(*d.High-high) > 5e-5 {
			t.Errorf("%g/%g - %g/%g: from %.4f to %.4f, want %.4f to %.4f", a, m, b, n, *d.Low, *d.High, low, high)
		}
	}
	f(56, 70, 48, 80, 0.0524, 0.3339)
	f(9, 10, 3, 10, 0.1705, 0.8090)
	f(6, 7, 2, 7, 0.0582, 0.8062)
	f(5, 56, 0, 29, -0.0381, 0.1926)
	f(0, 10, 0, 20, -0.1611, 0.2775)
	f(10, 10, 0, 20, 0.6791, 1.0000)
	f(10, 10, 0, 10, 0.6075, 1.0000)
}

// TestCoverage: of intervals of 95 %, at least about that many hold the truth.
func TestCoverage(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- the same every time
	draw := func(n int, p float64) proportion {
		failures := 0.0
		for range n {
			if dice.Float64() < p {
				failures++
			}
		}
		return proportion{failures, float64(n)}
	}
	f := func(n, m int, p, q float64) {
		t.Helper()
		const rounds = 2000
		var differences, ratios, defined float64
		for range rounds {
			a, b := draw(n, p), draw(m, q)
			if d := difference(a, b, z95); *d.Low <= p-q && p-q <= *d.High {
				differences++
			}
			r := ratio(a, b, z95)
			if r == nil {
				continue
			}
			defined++
			if *r.Low <= p/q && (r.High == nil || p/q <= *r.High) {
				ratios++
			}
		}
		// Three standard errors of the simulation below what score intervals reach.
		if differences/rounds < 0.93 || ratios/defined < 0.93 {
			t.Errorf("%d requests failing at %g and %d at %g: %.3f of the differences and %.3f of the ratios are covered", n, p, m, q, differences/rounds, ratios/defined)
		}
	}
	f(500, 500, 0.1, 0.1)
	f(1000, 9000, 0.02, 0.01)
	f(300, 3000, 0.05, 0.01)
	f(200, 200, 0.5, 0.3)
	f(2000, 2000, 0.002, 0.002)
}

func TestIntervalsAtTheEnds(t *testing.T) {
	none, all := proportion{0, 100}, proportion{100, 100}
	if low, _ := none.wilson(z95); low != 0 {
		t.Errorf("no failure: low is %g", low)
	}
	if _, high := all.wilson(z95); high != 1 {
		t.Errorf("only failures: high is %g", high)
	}
	if r := ratio(all, none, z95); r != nil {
		t.Errorf("a ratio to nothing is %+v", r)
	}
	if r := ratio(none, all, z95); r == nil || r.Estimate != 0 || *r.Low != 0 || *r.High <= 0 || *r.High > 0.1 {
		t.Errorf("nothing to all is %+v", r)
	}
	f := func(a, b proportion) {
		t.Helper()
		r := ratio(a, b, z95)
		if r == nil || !(*r.Low <= r.Estimate) || r.High != nil && !(r.Estimate <= *r.High) {
			t.Errorf("%v to %v is %+v", a, b, r)
		}
	}
	f(proportion{1, 10}, proportion{1, 1_000_000})
	f(proportion{0, 10}, proportion{1, 2})
	f(proportion{1, 1}, proportion{1, 1})
	f(proportion{1, 3}, proportion{1, 100})
	f(proportion{5e8, 1e9}, proportion{1, 1e9})
}
