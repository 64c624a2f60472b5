package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"tidegate/internal/rollback/sequential"
)

// drawn is a test that was tried, and does not ship: that of max_failure_ratio: 1 with the
// exact chances of labels that are drawn without replacement. Of N requests, n of them the
// candidate's, K failed. If both versions are equally good, which of the K are the candidate's
// is a draw of n out of N, whatever the chance of each request to fail is (Fisher's exact
// test). So what lies on θ may be multiplied by
//
//	θ^x / E θ^X,  X hypergeometric
//
// which has the mean 1. By Hoeffding's theorem 4 (1963) E θ^X ≤ (1 − q + qθ)^K, which
// sequential.Test divides by, so this is never the weaker one. Alternatives and weights are those
// of sequential.Test, without starts.
type drawn struct {
	logCapital []float64
	highest    float64
}

const drawnAlternatives = 14

func drawnTheta(i int) float64 { return math.Exp(0.05 * math.Exp2(float64(i)/2)) }

func newDrawn() *drawn {
	d, sum := &drawn{}, 0.0
	for i := range drawnAlternatives {
		sum += math.Pow(math.Log(drawnTheta(i)), 0.8)
	}
	for i := range drawnAlternatives {
		d.logCapital = append(d.logCapital, math.Log(0.8)+0.8*math.Log(math.Log(drawnTheta(i)))-math.Log(sum))
	}
	return d
}

// add takes a unit: x of the candidate's n requests failed, and k of all.
func (d *drawn) add(x, k, n, all int) {
	chances, least := hypergeometric(k, n, all)
	e := 0.2 // what sequential.Test keeps for later starts
	for i := range d.logCapital {
		theta, mean := drawnTheta(i), 0.0
		for j := len(chances) - 1; j >= 0; j-- {
			mean = mean*theta + chances[j]
		}
		d.logCapital[i] += float64(x-least)*math.Log(theta) - math.Log(mean)
		e += math.Exp(d.logCapital[i])
	}
	d.highest = max(d.highest, math.Log(e))
}

// hypergeometric are the chances that so many of k failures are among n of all requests, from
// the least number that can be on. They go out from the likeliest one, so that none is lost
// to the range of a float.
func hypergeometric(k, n, all int) (chances []float64, least int) {
	least = max(0, k-(all-n))
	most := min(k, n)
	likeliest := min(max((k+1)*(n+1)/(all+2), least), most)
	chances = make([]float64, most-least+1)
	chances[likeliest-least] = 1
	up := func(j int) float64 { // from j to j+1
		return float64(k-j) * float64(n-j) / (float64(j+1) * float64(all-n-k+j+1))
	}
	for j := likeliest; j < most; j++ {
		chances[j+1-least] = chances[j-least] * up(j)
	}
	for j := likeliest; j > least; j-- {
		chances[j-1-least] = chances[j-least] / up(j-1)
	}
	sum := 0.0
	for _, c := range chances {
		sum += c
	}
	for i := range chances {
		chances[i] /= sum
	}
	return chances, least
}

// until plays units until both tests have rejected at a level, or so many have passed, and
// returns the candidate's requests until then, infinite if never.
func until(r *rand.Rand, level, candidate, baseline, share float64, unit, units int) (labels, exact float64) {
	test, other := sequential.New(level), newDrawn()
	labels, exact = math.Inf(1), math.Inf(1)
	requests := 0.0
	for range units {
		n := binomial(r, unit, share)
		x, y := binomial(r, n, candidate), binomial(r, unit-n, baseline)
		requests += float64(n)
		test.Add(float64(x), float64(x+y), sequential.RatioNull(float64(n)/float64(unit), 1))
		other.add(x, x+y, n, unit)
		if test.Rejects() {
			labels = min(labels, requests)
		}
		if other.highest >= test.Threshold() {
			exact = min(exact, requests)
		}
		if !math.IsInf(labels+exact, 1) {
			break
		}
	}
	return labels, exact
}

// triedDrawn prints what the exact test is worth, in units of fixed size of which all is known.
func (b *bench) triedDrawn() {
	fmt.Fprintf(b.to, "Printed by `go run ./bench/rollback -tried -rounds %d -seed %d`. *False* are good versions of that unit, split and baseline that are rejected within 400 units, at a level of 10 %%.\n\n", b.rounds, b.seed)
	t := newTable(b.to, "Unit, split, failures", "Least, known", "As it ships", "Times", "Without replacement", "Times", "False, as it ships", "False, without replacement")
	for i, c := range []struct {
		unit                       int
		share, baseline, candidate float64
	}{
		{30, 0.1, 0.2, 0.4}, {100, 0.1, 0.2, 0.4}, {30, 0.25, 0.2, 0.4}, {100, 0.25, 0.2, 0.4}, {30, 0.5, 0.2, 0.4}, {100, 0.5, 0.2, 0.4},
		{100, 0.25, 0.05, 0.1}, {100, 0.25, 0.01, 0.02}, {100, 0.1, 0.01, 0.1},
	} {
		var found, good [2][]float64
		for j := range found {
			found[j], good[j] = make([]float64, b.rounds), make([]float64, b.rounds)
		}
		parallel(b.rounds, func(round int) {
			r := rand.New(rand.NewPCG(uint64(b.seed+500+i), uint64(round)))
			found[0][round], found[1][round] = until(r, alpha, c.candidate, c.baseline, c.share, c.unit, 100_000)
			good[0][round], good[1][round] = until(r, 0.1, c.baseline, c.baseline, c.share, c.unit, 400)
		})
		known := knownBound(c.candidate, c.baseline)
		cells := []string{fmt.Sprintf("%d, %g %%, %g → %g %%", c.unit, 100*c.share, 100*c.baseline, 100*c.candidate), fmt.Sprintf("%.0f", known)}
		for j := range found {
			m := quantile(found[j], 0.5)
			cells = append(cells, fmt.Sprintf("%.0f", m), fmt.Sprintf("%.2f", m/known))
		}
		for j := range good {
			n := 0
			for _, g := range good[j] {
				if !math.IsInf(g, 1) {
					n++
				}
			}
			cells = append(cells, percent(n, b.rounds)+" %")
		}
		t.row(cells...)
	}
}
