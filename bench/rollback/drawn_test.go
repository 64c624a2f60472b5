package main

import (
	"math"
	"math/rand/v2"
	"testing"

	"tidegate/internal/rollback/sequential"
)

// By hand: of 5 requests 2 are the candidate's and 3 failed; 1, 6 and 3 of 10 draws.
func TestHypergeometric(t *testing.T) {
	chances, least := hypergeometric(3, 2, 5)
	for j, want := range []float64{0.1, 0.6, 0.3} {
		if len(chances) != 3 || least != 0 || math.Abs(chances[j]-want) > 1e-12 {
			t.Fatalf("chances %v from %d on", chances, least)
		}
	}
	if chances, least := hypergeometric(9, 8, 10); least != 7 || len(chances) != 2 || math.Abs(chances[0]-0.8) > 1e-12 {
		t.Errorf("chances %v from %d on", chances, least)
	}
	if chances, _ := hypergeometric(3000, 5000, 10_000); math.IsNaN(chances[0]) || len(chances) != 3001 {
		t.Error("many requests have no chances")
	}
}

// Without replacement is never weaker, and the same where failures are rare.
func TestDrawnIsNeverWeaker(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 300 {
		all := 2 + r.IntN(200)
		n := 1 + r.IntN(all-1)
		k := r.IntN(all)
		chances, least := hypergeometric(k, n, all)
		x := least + r.IntN(len(chances))
		test, other := sequential.New(alpha), newDrawn()
		test.Add(float64(x), float64(k), float64(n)/float64(all))
		other.add(x, k, n, all)
		if other.highest < max(test.LogE(), 0)-1e-9 {
			t.Fatalf("%d of %d failures in %d of %d requests: %v, with replacement %v", x, k, n, all, other.highest, test.LogE())
		}
	}
	test, other := sequential.New(alpha), newDrawn()
	test.Add(4, 5, 0.1)
	other.add(4, 5, 100_000, 1_000_000)
	if math.Abs(other.highest-test.LogE()) > 1e-3 {
		t.Errorf("of a million requests: %v, with replacement %v", other.highest, test.LogE())
	}
}
