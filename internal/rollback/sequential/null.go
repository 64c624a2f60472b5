package sequential

import "math"

// RatioNull is the chance that a failure of either version is the candidate's, where
// share is the candidate's share of the requests of both, from 0 to 1, and the
// candidate fails at most limit times as often as the baseline:
//
//	s·limit / (1 − s + s·limit)
//
// Trials are the failures of both versions in a second, hits are the candidate's. How
// often they fail cancels out, so a spike or an outage of both says nothing.
//
// It holds for the share that was realised in the second, n of N requests. Let the
// versions fail independently with the chances limit·p and p in that second, p unknown.
// With y = 1/(1−q+qθ), an alternative's capital has the mean
//
//	(1 + limit·p(θy−1))^n · (1 + p(y−1))^(N−n) ≤ exp(pN·(s·limit(θy−1) + (1−s)(y−1))) = 1
//
// by log(1+u) ≤ u and the definition of q. For limit = 1 it also follows from Hoeffding
// (J. Am. Stat. Assoc. 58, 1963, theorem 4): the labels of the failures are drawn without
// replacement, which no convex function likes better than with.
//
// Several seconds may be one observation, a unit, if the split was the same in all of them
// and requests were drawn by themselves. Let request j fail with the chance p_j on the
// baseline and limit·p_j on the candidate. Which n of the N requests were the candidate's
// is then a random choice, whose indicators are negatively associated (Joag-Dev and
// Proschan, Ann. Stat. 11, 1983, theorem 2.11), and each request's factor is larger on the
// candidate, 1 + limit·p_j(θy−1), than on the baseline, 1 + p_j(y−1). So the mean of the
// product is at most the product of means
//
//	Π (1 + p_j·(s·limit(θy−1) + (1−s)(y−1))) = 1
//
// The same with limit = 1 serves for anything that is as likely on both versions under
// the null, such as being slower than either one's limit.
//
// The mirrored hypothesis, that the candidate fails at least limit times as often, is
// tested by exchanging the versions: hits are the baseline's failures, and the null is
// RatioNull(1−share, 1/limit), or 1 − RatioNull(share, limit).
func RatioNull(share, limit float64) float64 {
	if !(share >= 0 && share <= 1 && limit > 0) || math.IsInf(limit, 1) {
		return math.NaN() // which Test.Add refuses
	}
	return share * limit / (1 - share + share*limit)
}

// TrafficNull is the chance that an answered request is the baseline's, where share is
// the candidate's percentage over that of both, from 0 to 1, and the candidate answers at
// least the part limit, from 0 to 1, of the requests that it gets:
//
//	(1 − s) / (1 − s + s·limit)
//
// Trials are the requests of both versions, hits are the baseline's: each one of them
// speaks for requests of the candidate that are missing. It is the test for a sample
// ratio mismatch of Lindon and Malek (arXiv 2011.03567), one-sided.
func TrafficNull(share, limit float64) float64 {
	if !(share >= 0 && share <= 1 && limit > 0 && limit <= 1) {
		return math.NaN()
	}
	return (1 - share) / (1 - share + share*limit)
}

// RatioMean turns a block of time into one observation for Test.AddMean, for failures
// that come in bursts of one version, or of one key. It compares rates instead of
// counting failures: with the failure rates a of the candidate and b of the baseline
//
//	m = a / (a + limit·b),  q = the larger of 1/2 and RatioNull(share, limit)
//
// A block without a failure, or in which a version had no request, is no observation,
// and ok is false.
//
// The null hypothesis is that a burst is as likely to hit the candidate as the baseline,
// and that it then hits limit times as large a part of its requests at most. Were the two rates
// exchangeable, m would have a mean of 1/2. The candidate's rate is the rate of fewer
// requests, as long as its share is not above 1/2, so it varies more; and m is concave in
// a and convex in b, so its mean is below 1/2. With a larger share single failures
// hit the candidate more often than the baseline, and q is what it is for them.
// The share of failures that are the candidate's would not do: if bursts of each version
// come alone, half of the blocks that have one belong to the candidate alone, whatever its
// share of requests.
//
// Blocks must be longer than what ties requests together; how long they are
// must not depend on what is in them.
func RatioMean(failures, requests, baselineFailures, baselineRequests, limit float64) (m, q float64, ok bool) {
	if !(failures >= 0 && failures <= requests && baselineFailures >= 0 && baselineFailures <= baselineRequests &&
		requests > 0 && baselineRequests > 0 && failures+baselineFailures > 0) ||
		math.IsInf(requests+baselineRequests, 1) {
		return 0, 0, false
	}
	q = RatioNull(requests/(requests+baselineRequests), limit)
	if math.IsNaN(q) {
		return 0, 0, false
	}
	a, b := failures/requests, baselineFailures/baselineRequests
	return a / (a + limit*b), max(q, 0.5), true
}

// LowerBound returns the lower end of a confidence sequence for a limit: the largest
// value from low to high that the evidence rules out at level alpha, to about three
// digits. The true value lies below it at any time with a chance of at most alpha, however
// often one looks. It is the inversion of the test (Howard, Ramdas, McAuliffe and Sekhon,
// arXiv 1810.08240). collect gives the evidence against a limit to a new test, which
// must be stronger the smaller the limit is, as all in this package is. What counts is the
// evidence when all is collected, so that its order does not matter. It returns 0, with
// which nothing is said, when low is not ruled out either.
//
// For an upper end collect the evidence of the mirrored hypothesis (RatioNull) against
// 1/limit, and take 1 over what is returned.
func LowerBound(alpha, low, high float64, collect func(t *Test, limit float64)) float64 {
	if !(low > 0 && low < high) || math.IsInf(high, 1) {
		return 0
	}
	ruledOut := func(limit float64) bool {
		t := New(alpha)
		collect(&t, limit)
		return t.LogE() >= t.Threshold()
	}
	if !ruledOut(low) {
		return 0
	}
	if ruledOut(high) {
		return high
	}
	for high/low > 1.001 {
		if middle := math.Sqrt(low * high); ruledOut(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}
