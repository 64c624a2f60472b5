// Package sequential holds the tests behind automatic rollback: statistics that may
// be looked at after every observation and acted upon at once, and whose chance to
// reject a true null hypothesis is bounded over the whole time together. It is pure.
//
// # What a test is
//
// Observations are trials, of which some are hits. The null hypothesis is that each
// trial is a hit with a chance of at most q, whatever happened before; q is known
// when the trial is made and may differ from trial to trial. A Test bets against that.
// It starts with a capital of 1 and splits it among alternatives θ > 1, odds by which
// hits are likelier than q says. What is on θ is multiplied, for x hits in n trials, by
//
//	θ^x / (1 − q + qθ)^n
//
// which is the likelihood ratio of the chance qθ/(1−q+qθ) to q, and has a mean of at
// most 1 under the null, because (1−p+pθ) ≤ (1−q+qθ) for p ≤ q. Chances p that differ
// within an observation and keep q only on average do no harm: log(1−p+pθ) is concave
// in p. So the capital E is a nonnegative supermartingale, an e-process, and by Ville's
// inequality (Étude critique de la notion de collectif, 1939)
//
//	P(E ≥ 1/α at any time) ≤ α
//
// under the null, however often one looks, and whatever one does about what one sees.
// A mixture over alternatives is Robbins' (Ann. Math. Stat. 41, 1970), by way of Howard,
// Ramdas, McAuliffe and Sekhon (arXiv 1810.08240) and of Ramdas, Grünwald, Vovk and
// Shafer (arXiv 2210.01948); the use for counts of two versions is Lindon and Malek's
// (arXiv 2011.03567).
//
// # Starts
//
// A test that has watched a good version for a day has lost what it had placed. So a
// part of the capital is kept, and Restart places another piece of it. How much is
// fixed in advance by the number of the start, so that the bound is one for all starts
// together. All that was ever placed on one alternative earns the same from then on,
// so one number for each alternative remembers every start.
package sequential

import "math"

// alternatives is the number of values of θ: log θ is from 0.05 to 4.5 (θ from 1.05 to 92),
// each √2 times the last, which is as close as measurably helps. The weight of each is as
// log θ to the power of 0.8, nearly an even density of log θ. It was chosen by
// measurement (bench/rollback): more on the small ones makes large differences, which
// are few failures, too slow to find.
const alternatives = 14

// θ−1, the logarithm of θ, and the logarithm of its weight.
var excess, logTheta, logWeight [alternatives]float64

func init() {
	sum := 0.0
	for i := range logTheta {
		logTheta[i] = 0.05 * math.Exp2(float64(i)/2)
		excess[i] = math.Expm1(logTheta[i])
		sum += math.Pow(logTheta[i], 0.8)
	}
	for i := range logWeight {
		logWeight[i] = 0.8*math.Log(logTheta[i]) - math.Log(sum)
	}
}

// trialsMax bounds the trials of one observation: what is above is no count, and sums
// of what is below stay far from what a float64 can hold.
const trialsMax = 1e15

// kept is the capital that is kept for later starts.
const kept = 0.2

// keptAfter is the part of the capital that is not placed yet after so many starts. It
// falls so slowly that the start after an hour of looking back five minutes at a time
// still gets 1/440, and the one after a day 1/50,000: 6 and 11 of the logarithm of E.
func keptAfter(starts int) float64 { return kept / math.Sqrt(float64(starts)) }

// Test is a sequential test of one null hypothesis at one level. It is a plain value: a
// copy goes its own way, so what is settled can be kept and what may still change be
// added to a copy. It must come from New; the zero value takes no evidence and never
// rejects. It is not safe for concurrent use.
type Test struct {
	threshold float64
	starts    int
	capital   [alternatives]float64 // logarithm of what lies on each alternative
	highest   float64               // supremum of LogE so far, at least 0
}

// New returns a test that rejects a true null hypothesis with a chance of at most
// alpha, ever. To bound the chance of several tests together, divide alpha among them
// (Bonferroni): nothing need be known of how they hang together. An alpha that is not
// above 0 and below 1 makes a test that never rejects.
func New(alpha float64) Test {
	t := Test{threshold: math.Inf(1)}
	if alpha > 0 && alpha < 1 {
		t.threshold = -math.Log(alpha)
	}
	for i := range t.capital {
		t.capital[i] = math.Inf(-1)
	}
	t.place(1 - keptAfter(1))
	return t
}

// Restart places another part of the capital: what went before counts less against
// what comes now. When to call it must not depend on the evidence.
func (t *Test) Restart() {
	if t.starts == 0 {
		return // the zero value
	}
	t.place(keptAfter(t.starts) - keptAfter(t.starts+1))
}

func (t *Test) place(part float64) {
	t.starts++
	for i, c := range t.capital {
		t.capital[i] = logSum(c, math.Log(part)+logWeight[i])
	}
}

// Add adds n trials of which x were hits, each with a chance of at most q under the
// null hypothesis. It reports whether that can be: x from 0 to n, n up to 1e15, q from 0 to 1.
// What cannot be changes nothing, because a fault of whoever counts is no evidence
// against a version; so does a hit of chance 0, which would be the end of the matter.
// No trials, and trials that may all be hits (q = 1), change nothing either.
//
// n and x may be large: trials of one call are as good as trials one by one, as long as
// how many are put together does not depend on their hits.
func (t *Test) Add(x, n, q float64) bool {
	if !(x >= 0 && x <= n && q >= 0 && q <= 1) || n > trialsMax || q == 0 && x > 0 || t.starts == 0 {
		return false
	}
	if n == 0 || q == 0 || q == 1 {
		return true
	}
	for i := range t.capital {
		t.capital[i] += x*logTheta[i] - n*math.Log1p(q*excess[i])
	}
	t.highest = max(t.highest, t.LogE())
	return true
}

// AddMean adds one observation m from 0 to 1 whose mean is at most q under the null
// hypothesis, whatever its distribution: such as the share of failures in a block of
// requests that hang together in unknown ways. What lies on θ is multiplied by
//
//	(1 − m + mθ) / (1 − q + qθ) = 1 + λ(m−q),  λ = (θ−1)/(1−q+qθ)
//
// the bet on a bounded mean of Waudby-Smith and Ramdas (arXiv 2010.09686). As θ^m is
// convex in m, it is never below θ^m, which Add would give for one trial and a fraction
// of a hit, and for m of 0 and 1 it is the same. It reports what Add does.
func (t *Test) AddMean(m, q float64) bool {
	if !(m >= 0 && m <= 1 && q >= 0 && q <= 1) || q == 0 && m > 0 || t.starts == 0 {
		return false
	}
	if q == 0 || q == 1 {
		return true
	}
	for i := range t.capital {
		t.capital[i] += math.Log1p(m*excess[i]) - math.Log1p(q*excess[i])
	}
	t.highest = max(t.highest, t.LogE())
	return true
}

// LogE is the natural logarithm of the capital now: the e-value of the evidence.
func (t *Test) LogE() float64 {
	if t.starts == 0 {
		return 0
	}
	most := t.capital[0]
	for _, c := range t.capital {
		most = max(most, c)
	}
	most = max(most, math.Log(keptAfter(t.starts)))
	sum := keptAfter(t.starts) * math.Exp(-most)
	for _, c := range t.capital {
		sum += math.Exp(c - most)
	}
	return most + math.Log(sum)
}

// Threshold is the natural logarithm of 1/alpha, which LogE must reach; infinite where
// nothing can be rejected.
func (t *Test) Threshold() float64 { return t.threshold }

// Level is the alpha that the test was made for; 0 where nothing can be rejected.
func (t *Test) Level() float64 { return math.Exp(-t.threshold) }

// PValue bounds the chance that E ever becomes as large as it has been, were the null
// hypothesis true: 1 over the largest E so far (arXiv 2210.01948). It never rises.
func (t *Test) PValue() float64 { return math.Exp(-t.highest) }

// Rejects tells whether E has ever reached 1/alpha.
func (t *Test) Rejects() bool { return t.starts > 0 && t.highest >= t.threshold }

// logSum is log(exp(a) + exp(b)) without overflow.
func logSum(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
