package sequential

import (
	"math"
	"testing"
)

func TestNulls(t *testing.T) {
	f := func(name string, got, want float64) {
		t.Helper()
		if !near(got, want) && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	nan := math.NaN()
	f("as often at a tenth", RatioNull(0.1, 1), 0.1)
	f("three times as often at a tenth", RatioNull(0.1, 3), 0.25)
	f("no requests", RatioNull(0, 3), 0)
	f("all requests", RatioNull(1, 3), 1)
	f("the mirror", RatioNull(0.9, 1.0/3), 1-RatioNull(0.1, 3))
	f("a share over 1", RatioNull(1.1, 1), nan)
	f("no share", RatioNull(nan, 1), nan)
	f("a limit of 0", RatioNull(0.5, 0), nan)
	f("no limit", RatioNull(0.5, math.Inf(1)), nan)
	f("all traffic", TrafficNull(0.1, 1), 0.9)
	f("half of the traffic", TrafficNull(0.5, 0.5), 2.0/3)
	f("everything drawn", TrafficNull(1, 0.5), 0)
	f("more than all traffic", TrafficNull(0.1, 1.1), nan)
	f("a negative share", TrafficNull(-0.1, 0.5), nan)
}

func TestRatioMean(t *testing.T) {
	f := func(fc, nc, fb, nb, limit, m, q float64) {
		t.Helper()
		gotM, gotQ, ok := RatioMean(fc, nc, fb, nb, limit)
		if !ok || !near(gotM, m) || !near(gotQ, q) {
			t.Errorf("RatioMean(%v, %v, %v, %v, %v) = %v, %v, %v, want %v, %v", fc, nc, fb, nb, limit, gotM, gotQ, ok, m, q)
		}
	}
	f(1, 10, 9, 90, 1, 0.5, 0.5)
	f(3, 10, 9, 90, 3, 0.5, 0.5)
	f(1, 10, 0, 90, 1, 1, 0.5)
	f(0, 10, 1, 90, 1, 0, 0.5)
	f(8, 80, 2, 20, 1, 0.5, 0.8)
	no := func(fc, nc, fb, nb, limit float64) {
		t.Helper()
		if _, _, ok := RatioMean(fc, nc, fb, nb, limit); ok {
			t.Errorf("RatioMean(%v, %v, %v, %v, %v) is an observation", fc, nc, fb, nb, limit)
		}
	}
	no(0, 10, 0, 90, 1)
	no(1, 10, 0, 0, 1)
	no(0, 0, 1, 90, 1)
	no(11, 10, 0, 90, 1)
	no(-1, 10, 1, 90, 1)
	no(math.NaN(), 10, 1, 90, 1)
	no(1, math.Inf(1), 1, 90, 1)
	no(1, 10, 1, 90, math.NaN())
}

// Both ends at once, each at its level: 12 of 100 against 10 of 900.
func TestBoundsOfARatio(t *testing.T) {
	lower := LowerBound(0.025, 0.01, 1000, func(test *Test, limit float64) {
		test.Add(12, 22, RatioNull(0.1, limit))
	})
	upper := 1 / LowerBound(0.025, 0.001, 100, func(test *Test, limit float64) {
		test.Add(10, 22, RatioNull(0.9, limit))
	})
	if !(lower > 1 && lower < 10.8 && upper > 10.8 && upper < 1000) {
		t.Errorf("a ratio of 10.8 lies between %v and %v", lower, upper)
	}
}

func TestLowerBoundAtItsEnds(t *testing.T) {
	f := func(want, low, high float64, collect func(*Test, float64)) {
		t.Helper()
		if got := LowerBound(0.001, low, high, collect); got != want {
			t.Errorf("LowerBound from %v to %v = %v, want %v", low, high, got, want)
		}
	}
	nothing := func(*Test, float64) {}
	f(0, 0.1, 10, nothing)
	f(0, 0, 10, nothing)
	f(0, 10, 1, nothing)
	f(0, 0.1, math.Inf(1), nothing)
	f(0, math.NaN(), 1, nothing)
	f(0.5, 0.001, 0.5, func(t *Test, limit float64) { t.Add(100, 100, limit) })
}
