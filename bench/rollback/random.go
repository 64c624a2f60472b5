package main

import (
	"math"
	"math/rand/v2"
)

// binomial draws how many of n trials are hits, exactly. Few hits are found by
// inversion, many by Hörmann's transformed rejection with squeeze (BTRS; J. Stat. Comput.
// Simul. 46, 1993), which takes the same time for any n.
func binomial(r *rand.Rand, n int, p float64) int {
	switch {
	case n <= 0 || !(p > 0):
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - binomial(r, n, 1-p)
	case float64(n)*p < 10:
		return inverted(r, n, p)
	}
	size := float64(n)
	spread := math.Sqrt(size * p * (1 - p))
	b := 1.15 + 2.53*spread
	a := -0.0873 + 0.0248*b + 0.01*p
	center := size*p + 0.5
	squeeze := 0.92 - 4.2/b
	scale := (2.83 + 5.1/b) * spread
	mode := math.Floor((size + 1) * p)
	top := logFactorial(mode) + logFactorial(size-mode)
	logOdds := math.Log(p / (1 - p))
	for {
		u, v := r.Float64()-0.5, r.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + center)
		if us >= 0.07 && v <= squeeze {
			return int(k)
		}
		if k < 0 || k > size {
			continue
		}
		if math.Log(v*scale/(a/(us*us)+b)) <= top-logFactorial(k)-logFactorial(size-k)+(k-mode)*logOdds {
			return int(k)
		}
	}
}

// inverted goes up the probabilities of 0, 1, 2... hits until a uniform number is used up.
func inverted(r *rand.Rand, n int, p float64) int {
	left, chance, odds := r.Float64(), math.Exp(float64(n)*math.Log1p(-p)), p/(1-p)
	k := 0
	for left > chance && k < n {
		left -= chance
		chance *= odds * float64(n-k) / float64(k+1)
		k++
	}
	return k
}

func logFactorial(n float64) float64 {
	l, _ := math.Lgamma(n + 1)
	return l
}

// arrivals draws how many requests come in a second: of a hundred clients for each one
// that is expected, each sends with a chance of a hundredth, which is nearly Poisson.
func arrivals(r *rand.Rand, perSecond float64) int {
	return binomial(r, int(math.Round(100*perSecond)), 0.01)
}
