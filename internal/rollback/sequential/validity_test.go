package sequential

import (
	"math"
	"math/rand/v2"
	"testing"
)

const (
	looks  = 10_000
	rounds = 150
	level  = 0.1 // a large one, so that few rounds show whether it is kept
)

// second is what the two versions did between two looks.
type second struct{ requests, failures, baselineRequests, baselineFailures float64 }

func (s second) share() float64 { return s.requests / (s.requests + s.baselineRequests) }

// poisson draws a count with that mean, which must not be large, by counting how many
// uniform numbers can be multiplied before the product falls below exp(-mean).
func poisson(r *rand.Rand, mean float64) float64 {
	n, product, end := 0.0, r.Float64(), math.Exp(-mean)
	for product > end {
		product *= r.Float64()
		n++
	}
	return n
}

// draw gives a second with ten requests on average, share of them the candidate's.
func draw(r *rand.Rand, share, candidate, baseline float64) second {
	s := second{requests: poisson(r, 10*share), baselineRequests: poisson(r, 10*(1-share))}
	s.failures = min(poisson(r, s.requests*candidate), s.requests)
	s.baselineFailures = min(poisson(r, s.baselineRequests*baseline), s.baselineRequests)
	return s
}

// addRatio is the test of max_failure_ratio on one second.
func addRatio(t *Test, s second, limit float64) {
	if s.requests+s.baselineRequests > 0 {
		t.Add(s.failures, s.failures+s.baselineFailures, RatioNull(s.share(), limit))
	}
}

// A null hypothesis that is true, at its border, is rejected in at most the promised
// share of the rounds although the test is looked at ten thousand times in each, with a new
// start every 300 looks. That is held to three standard errors of so many rounds.
func TestFalseRejectionsStayBelowTheLevel(t *testing.T) {
	f := func(name string, observe func(look int, r *rand.Rand, test *Test)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rejected := 0
			for round := range rounds {
				r := rand.New(rand.NewPCG(7, uint64(round)))
				test := New(level)
				for look := 0; look < looks && !test.Rejects(); look++ {
					if look%300 == 299 {
						test.Restart()
					}
					observe(look, r, &test)
				}
				if test.Rejects() {
					rejected++
				}
			}
			rate, deviation := float64(rejected)/rounds, math.Sqrt(level*(1-level)/rounds)
			t.Logf("%.3f of %d rounds rejected, at most %.2f ± %.3f", rate, rounds, level, deviation)
			if rate > level+3*deviation {
				t.Errorf("%d of %d rounds rejected a true null hypothesis at level %v", rejected, rounds, level)
			}
		})
	}
	f("ratio at a constant split", func(_ int, r *rand.Rand, test *Test) {
		addRatio(test, draw(r, 0.1, 0.03, 0.03), 1)
	})
	f("ratio at an even split", func(_ int, r *rand.Rand, test *Test) {
		addRatio(test, draw(r, 0.5, 0.03, 0.03), 1)
	})
	f("ratio on a ramp", func(look int, r *rand.Rand, test *Test) {
		addRatio(test, draw(r, []float64{0.01, 0.05, 0.25, 0.5}[look*4/looks], 0.03, 0.03), 1)
	})
	f("ratio with a split that follows the evidence", func(_ int, r *rand.Rand, test *Test) {
		addRatio(test, draw(r, min(0.5, 0.05*math.Exp(max(test.LogE(), -1))), 0.03, 0.03), 1)
	})
	f("ratio of a better version", func(_ int, r *rand.Rand, test *Test) {
		addRatio(test, draw(r, 0.1, 0.024, 0.03), 1)
	})
	f("ratio at a limit of three", func(_ int, r *rand.Rand, test *Test) {
		addRatio(test, draw(r, 0.1, 0.06, 0.02), 3)
	})
	f("ratio with bursts that hit both", func(_ int, r *rand.Rand, test *Test) {
		p := 0.01
		if r.Float64() < 0.02 {
			p = 0.6
		}
		addRatio(test, draw(r, 0.1, p, p), 1)
	})
	f("ratio with a rate that follows the day", func(look int, r *rand.Rand, test *Test) {
		p := 0.03 * (1 + 0.9*math.Sin(float64(look)/500))
		addRatio(test, draw(r, 0.25, p, p), 1)
	})
	f("rate", func(_ int, r *rand.Rand, test *Test) {
		s := draw(r, 0.1, 0.02, 0)
		test.Add(s.failures, s.requests, 0.02)
	})
	f("rate with requests of different chances", func(_ int, r *rand.Rand, test *Test) {
		x := 0.0
		for i := range 5 {
			if r.Float64() < []float64{0.08, 0.005, 0.005, 0.005, 0.005}[i] {
				x++
			}
		}
		test.Add(x, 5, 0.02)
	})
	f("traffic", func(_ int, r *rand.Rand, test *Test) {
		// The candidate answers nine tenths of its requests: the limit.
		b := poisson(r, 1.8)
		test.Add(b, b+poisson(r, 0.18), TrafficNull(0.1, 0.9))
	})
	f("mean of blocks that fail as a whole", func(_ int, r *rand.Rand, test *Test) {
		m := 0.0
		if r.Float64() < 0.02 {
			m = 1
		}
		test.AddMean(m, 0.02)
	})
	f("blocks with bursts of one version", func(_ int, r *rand.Rand, test *Test) {
		addBlock(r, test, 0.1)
	})
	f("blocks with bursts of one version, most of the requests", func(_ int, r *rand.Rand, test *Test) {
		addBlock(r, test, 0.8)
	})
}

// addBlock observes a block in which each version by itself has a burst now and then.
func addBlock(r *rand.Rand, test *Test, share float64) {
	chance := func() float64 {
		if r.Float64() < 0.1 {
			return 0.6
		}
		return 0.002
	}
	s := draw(r, share, chance(), chance())
	if m, q, ok := RatioMean(s.failures, s.requests, s.baselineFailures, s.baselineRequests, 1); ok {
		test.AddMean(m, q)
	}
}

// The same bursts taken for independent failures are rejected far too often. It shows
// that the test above can fail, and what blocks are for.
func TestBurstsOfOneVersionBreakTheEvidenceOfRequests(t *testing.T) {
	rejected := 0
	for round := range 50 {
		r := rand.New(rand.NewPCG(9, uint64(round)))
		test := New(level)
		for look := 0; look < looks && !test.Rejects(); look++ {
			c, b := 0.002, 0.002
			if r.Float64() < 0.1 {
				c = 0.6
			}
			if r.Float64() < 0.1 {
				b = 0.6
			}
			addRatio(&test, draw(r, 0.1, c, b), 1)
		}
		if test.Rejects() {
			rejected++
		}
	}
	if rejected < 25 {
		t.Errorf("%d of 50 rounds rejected", rejected)
	}
}

// A version that is bad enough is always found, soon.
func TestBadVersionsAreRejected(t *testing.T) {
	f := func(name string, within int, observe func(r *rand.Rand, test *Test)) {
		t.Helper()
		for round := range 100 {
			r := rand.New(rand.NewPCG(11, uint64(round)))
			test := New(0.001)
			n := 0
			for ; n < within && !test.Rejects(); n++ {
				observe(r, &test)
			}
			if !test.Rejects() {
				t.Errorf("%s: not rejected within %d looks in round %d: LogE %v", name, within, round, test.LogE())
			}
		}
	}
	f("tenfold", 800, func(r *rand.Rand, test *Test) { addRatio(test, draw(r, 0.1, 0.05, 0.005), 1) })
	f("twofold", 1500, func(r *rand.Rand, test *Test) { addRatio(test, draw(r, 0.5, 0.1, 0.05), 1) })
	f("half of it, against none", 60, func(r *rand.Rand, test *Test) { addRatio(test, draw(r, 0.1, 0.5, 0), 1) })
	f("rate", 2000, func(r *rand.Rand, test *Test) {
		s := draw(r, 0.1, 0.05, 0)
		test.Add(s.failures, s.requests, 0.02)
	})
	f("no traffic", 60, func(r *rand.Rand, test *Test) {
		b := poisson(r, 9)
		test.Add(b, b, TrafficNull(0.1, 0.5))
	})
	f("blocks", 500, func(r *rand.Rand, test *Test) {
		s := draw(r, 0.1, 0.5, 0.05)
		if m, q, ok := RatioMean(s.failures, s.requests, s.baselineFailures, s.baselineRequests, 1); ok {
			test.AddMean(m, q)
		}
	})
}
