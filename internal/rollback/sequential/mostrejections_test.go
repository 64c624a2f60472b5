package sequential

import (
	"math"
	"testing"
)

// By hand: of ten trials at a half all are hits in one of 1,024 cases, nine or more in
// eleven of them. The rest from sums in whole numbers.
func TestMostRejections(t *testing.T) {
	f := func(trials int, alpha, chance float64, want int) {
		t.Helper()
		if got := MostRejections(trials, alpha, chance); got != want {
			t.Errorf("MostRejections(%d, %v, %v) = %d, want %d", trials, alpha, chance, got, want)
		}
	}
	f(10, 0.5, 0.0009, 10)
	f(10, 0.5, 0.001, 9)
	f(10, 0.5, 11.1/1024, 8)
	f(1, 0.001, 0.01, 0)
	f(1, 0.1, 0.01, 1)
	f(0, 0.1, 0.01, 0)
	f(1000, 0.001, 1e-6, 9)
	for _, none := range []float64{0, 1, -1, math.NaN()} {
		f(7, none, 0.01, 7)
		f(7, 0.1, none, 7)
	}
}
