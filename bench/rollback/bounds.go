package main

import (
	"math"
	"math/rand/v2"

	"tidegate/internal/deploy"
	"tidegate/internal/rollback"
	"tidegate/internal/rollback/sequential"
)

// divergence is Kullback and Leibler's, of two coins, in nats.
func divergence(p, q float64) float64 {
	part := func(p, q float64) float64 {
		if p == 0 {
			return 0
		}
		return p * math.Log(p/q)
	}
	return part(p, q) + part(1-p, 1-q)
}

// knownBound is the least mean number of the candidate's requests until any test of the
// level alpha rejects, if both failure rates are known and only the candidate is in
// question: Wald (Ann. Math. Stat. 16, 1945). It is what his sequential probability
// ratio test needs, but for its overshoot.
func knownBound(candidate, baseline float64) float64 {
	return -math.Log(alpha) / divergence(candidate, baseline)
}

// unknownBound is the same for any test that keeps its promise whatever the failure rate is
// that both versions have when they are equally good. Such a test is one of the level
// alpha against each single rate, so Wald's bound holds for the one that is hardest to
// tell from the truth: it is the mean of the two, weighted with the split (the reverse
// information projection; Grünwald, de Heide and Koolen, arXiv 1906.07801).
func unknownBound(candidate, baseline, share float64) float64 {
	both := share*candidate + (1-share)*baseline
	perRequest := share*divergence(candidate, both) + (1-share)*divergence(baseline, both)
	return -math.Log(alpha) * share / perRequest
}

// requestsUntil plays one trial request by request, with a look after each, and returns how
// many requests of the candidate it takes until the test of max_failure_ratio: 1 rejects.
// Each request is drawn with a known share, so each failure is an observation by itself: it
// shows the test alone, without units and seconds. Only failures are evidence, so the
// requests between them are skipped at once.
func requestsUntil(r *rand.Rand, candidate, baseline, share float64) float64 {
	test := sequential.New(alpha)
	failure := share*candidate + (1-share)*baseline
	total, failures := 0.0, 0
	for {
		total += 1 + math.Floor(math.Log1p(-r.Float64())/math.Log1p(-failure))
		x := 0.0
		if r.Float64() < share*candidate/failure {
			x = 1
			failures++
		}
		test.Add(x, 1, sequential.RatioNull(share, 1))
		if failures >= rollback.HitsMin && total*share >= deploy.DefaultMinRequests && test.Rejects() {
			return total * share
		}
	}
}
