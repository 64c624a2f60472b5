package rollback

import (
	"maps"
	"math"
	"slices"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/rollback/sequential"
	"tidegate/schema"
)

// proofLevel is the level at which a limit that both versions pass needs evidence that
// the candidate is the worse one. It keeps traffic from being moved for nothing and is no
// part of the promise.
const proofLevel = 0.05

// measure is one limit of a policy and the evidence about it.
type measure struct {
	limit deploy.Limit
	kind  kind
	// quantile is the part of the requests that may be slower: 0.01 for p99. It is 0 of
	// limits that are about something else.
	quantile float64
	cpu      bool // CPU time, not wall time
	// above are the buckets above which durations are too long: the candidate's, and
	// the baseline's. Of a ratio they are unknown (known is false) until enough is known
	// of the baseline; then reference collects what the next ones are made of.
	above [2]uint16
	known bool
	// A reference has fractions, because one of n sampled events is 1/n of what it stands for.
	reference map[uint16]float64

	test sequential.Test
	// beyond are, of a ratio of a quantile, that the candidate's quantile is above its edge
	// and that the baseline's is below its own; both must reject beside test (compare).
	beyond [2]sequential.Test
	// mirrored is the test of the opposite, of a limit that compares: it proves that the
	// limit is kept. worse is the test, of a limit that does not compare, whether the
	// candidate is worse than the baseline by the same yardstick.
	mirrored, worse sequential.Test
	// lower and upper are what the bounds are made of. An end that was given up stays so for
	// as long as the evidence lasts.
	lower, upper  sequential.Sums
	noLow, noHigh bool

	total  sums
	marks  []sums // total at each of evidence.marks
	step   sums   // total when the step began
	series series
}

// kind is what a limit compares.
type kind int

const (
	absolute kind = iota // the candidate with a number
	relative             // the candidate with the baseline in the same seconds
	traffic              // how much both versions answer with how much they should
)

// candidate and baseline are the indices of what is kept of both versions.
const (
	candidate = iota
	baseline
)

// tally counts what was observed of one version.
type tally struct{ requests, hits float64 }

// sums are what was observed since a moment. Trials, hits and how many of them are to be
// expected at most are those of the test; promised is how many of the requests of both the
// candidate's share was, where that is what a limit is about.
type sums struct {
	of                               [2]tally
	trials, hits, expected, promised float64
}

func (s sums) since(before sums) sums {
	for i := range s.of {
		s.of[i].requests -= before.of[i].requests
		s.of[i].hits -= before.of[i].hits
	}
	s.trials, s.hits = s.trials-before.trials, s.hits-before.hits
	s.expected, s.promised = s.expected-before.expected, s.promised-before.promised
	return s
}

// deviance is the evidence that hits are more than is to be expected, as the best of all
// alternatives would have it: the natural logarithm of the likelihood ratio of Poisson
// counts, half of what statistics calls deviance. It tells what part of the time speaks
// loudest, for showing and not for deciding.
func (s sums) deviance() float64 {
	if s.hits <= s.expected || s.expected <= 0 {
		return 0
	}
	return s.hits*math.Log(s.hits/s.expected) - s.hits + s.expected
}

// newMeasure is a limit of which nothing has been seen yet, tested at level alpha.
func newMeasure(l deploy.Limit, alpha float64) *measure {
	m := &measure{limit: l, kind: absolute, known: true, test: sequential.New(alpha)}
	name := string(l.Metric)
	switch {
	case strings.Contains(name, "_p50_"):
		m.quantile = 0.5
	case strings.Contains(name, "_p90_"):
		m.quantile = 0.1
	case strings.Contains(name, "_p99_"):
		m.quantile = 0.01
	}
	m.cpu = strings.Contains(name, "_cpu_")
	switch {
	case l.Metric == deploy.MetricTraffic:
		m.kind = traffic
	case l.Metric.IsRatio():
		m.kind = relative
		m.mirrored = sequential.New(alpha)
		m.beyond = [2]sequential.Test{sequential.New(alpha), sequential.New(alpha)}
	default:
		m.worse = sequential.New(proofLevel)
	}
	if m.quantile > 0 {
		if m.kind == relative {
			m.known, m.reference = false, map[uint16]float64{}
		} else {
			bucket := schema.DurationBucket(l.Value)
			m.above = [2]uint16{bucket, bucket}
		}
	}
	return m
}

// countsFailures reports whether what a limit is about are failures.
func (m *measure) countsFailures() bool { return m.quantile == 0 && m.kind != traffic }

// tally counts a block of one version.
func (m *measure) tally(b *schema.RateBlock, count deploy.CountKind, version int) tally {
	switch {
	case b == nil:
		return tally{}
	case m.kind == traffic:
		return tally{requests: float64(b.Requests)}
	case m.quantile == 0:
		return failures(b, count)
	default:
		return slow(m.durations(b), m.above[version], b.SampledOut)
	}
}

func (m *measure) durations(b *schema.RateBlock) schema.Durations {
	if m.cpu {
		return b.CPU
	}
	return b.Wall
}

// failures counts what a policy calls a failure. Where kinds of failures are not known,
// nothing is known of the requests.
func failures(b *schema.RateBlock, count deploy.CountKind) tally {
	switch count {
	case deploy.CountExceptions, deploy.CountStatus5xx:
		if b.KindsUnknown {
			return tally{}
		}
		if count == deploy.CountExceptions {
			return tally{float64(b.Requests), float64(b.Exceptions)}
		}
		return tally{float64(b.Requests), float64(b.Status5xx)}
	default:
		return tally{float64(b.Requests), float64(b.Failures)}
	}
}

// slow counts durations above the upper edge of a bucket. One event stands for as many
// requests as were sampled out at most, and says no more than one.
//
// A trial of weight w from 0 to 1 is within what sequential.Test allows: a hit with a
// chance of p has the mean 1−p+pθ^w, which is at most (1−p+pθ)^w because u^w is concave
// (Jensen), and that is at most (1−q+qθ)^w.
func slow(d schema.Durations, above uint16, sampledOut int64) tally {
	var t tally
	for bucket, n := range d {
		t.requests += float64(n)
		if bucket > above {
			t.hits += float64(n)
		}
	}
	each := 1 + float64(max(sampledOut, 0))
	return tally{t.requests / each, t.hits / each}
}

// referenceEvents is how many requests above an edge it takes to choose it: the relative
// error of their share is a third then.
const referenceEvents = 10

// margin is which part of the requests that may be slower than a quantile are slower than
// the edge that stands for it. The nearer to 1, the less a limit of a ratio is rounded up,
// and the more requests it takes to show that the baseline's quantile lies below its edge:
// 450 for a p50, 1,800 for a p90 and 5,900 for a p99, where its edge is as chosen and the
// level is 0.001 (9 over the relative entropy of the two shares).
func margin(quantile float64) float64 {
	switch {
	case quantile >= 0.5:
		return 0.8
	case quantile >= 0.1:
		return 0.7
	default:
		return 0.5
	}
}

// compare chooses the edges of a ratio r of a quantile from the reference, if there is
// enough of it, for what comes from now on: t, above which clearly less of the baseline's
// requests are than may be above its quantile, and r·t for the candidate, rounded up. An
// edge that still serves stays, because another one is another hypothesis.
//
// Let δ be what may be slower, 0.01 of a p99. The candidate fails when three tests at
// level α reject together:
//
//   - test: of the requests beyond the edges, too many are the candidate's. It compares both
//     versions in the same seconds, so it is quiet about whatever befalls both.
//   - beyond[candidate]: more than δ of the candidate's requests are above r·t.
//   - beyond[baseline]: less than δ of the baseline's are above t.
//
// While the candidate's quantile is at most r times the baseline's and neither changes, one
// of the last two null hypotheses is true: if t is at least the baseline's quantile, then
// r·t is at least the candidate's; otherwise δ or more of the baseline's requests are above t.
// So both reject with a chance of at most α (an intersection-union test: Berger, Technometrics
// 24, 1982), whatever the shapes of the two distributions. Where the two do change, test
// alone keeps the chance at α as long as no larger part of the candidate's requests is
// beyond its edge than of the baseline's, at every moment. Each choice of an edge places a
// part of the capital of its own (sequential.Test.Restart), so the promise is one for all.
func (m *measure) compare() {
	if m.kind != relative || m.quantile == 0 {
		return
	}
	buckets := slices.Sorted(maps.Keys(m.reference)) // in order, so that the sum is the same each time
	total := 0.0
	for _, bucket := range buckets {
		total += m.reference[bucket]
	}
	most := m.quantile * margin(m.quantile) * total
	if most < referenceEvents {
		return
	}
	edge, slower, now := buckets[0], 0.0, 0.0 // now is what is above the present edge
	for _, bucket := range slices.Backward(buckets) {
		if slower += m.reference[bucket]; slower > most {
			edge = bucket
			break
		}
	}
	for _, bucket := range buckets {
		if bucket > m.above[baseline] {
			now += m.reference[bucket]
		}
	}
	m.reference = map[uint16]float64{}
	if m.known {
		if edge == m.above[baseline] || now >= most/4 && now <= m.quantile*total {
			return
		}
		for i := range m.beyond {
			m.beyond[i].Forget(0)
			m.beyond[i].Restart()
		}
	}
	// Without the rounding errors of the edge a limit of 1 would be one bucket more.
	limit := schema.DurationBucket(schema.DurationEdge(edge) * m.limit.Value * (1 - 1e-9))
	m.above, m.known = [2]uint16{max(limit, edge), edge}, true
}

// below takes what shows that the baseline's quantile is below its edge. As one block it
// is one observation.
func (m *measure) below(of tally, block bool) {
	switch {
	case m.kind != relative || m.quantile == 0 || !m.known || of.requests == 0:
	case block:
		m.beyond[baseline].AddMean(1-of.hits/of.requests, 1-m.quantile)
	default:
		m.beyond[baseline].Add(of.requests-of.hits, of.requests, 1-m.quantile)
	}
}

// logE is the evidence now: of several tests that must reject together, the least.
func (m *measure) logE() float64 {
	e := m.test.LogE()
	if m.kind == relative && m.quantile > 0 {
		e = min(e, m.beyond[candidate].LogE(), m.beyond[baseline].LogE())
	}
	return e
}

// pValue bounds the chance that as much evidence ever comes up while the limit is kept.
func (m *measure) pValue() float64 {
	p := m.test.PValue()
	if m.kind == relative && m.quantile > 0 {
		p = max(p, m.beyond[candidate].PValue(), m.beyond[baseline].PValue())
	}
	return p
}

// collect adds to the reference.
func (m *measure) collect(b *schema.RateBlock) {
	if b == nil || m.kind != relative || m.quantile == 0 {
		return
	}
	each := 1 + float64(max(b.SampledOut, 0))
	for bucket, n := range m.durations(b) {
		m.reference[bucket] += float64(n) / each
	}
}

// refer takes a second of the baseline before the first one that counts: the reference,
// and, where it is counted, evidence about an edge that is chosen already.
func (m *measure) refer(b *schema.RateBlock, counts bool) {
	if m.kind != relative || m.quantile == 0 {
		return
	}
	if counts {
		m.below(m.tally(b, deploy.CountAny, baseline), false)
	}
	m.collect(b)
	if !m.known {
		m.compare()
	}
}

// observation is what a stretch of time says to a test: hits among trials, each a hit
// with a chance of at most q if the null hypothesis holds.
type observation struct{ hits, trials, q float64 }

// observe makes observations of a stretch. told is the largest share of the candidate
// that gateways may have been told. ok is false where the stretch is no observation.
func (m *measure) observe(of [2]tally, told float64, cautious bool) (o observation, ok bool) {
	c, b := of[candidate], of[baseline]
	switch m.kind {
	case traffic:
		return observation{b.requests, c.requests + b.requests, sequential.TrafficNull(told, m.limit.Value)}, true
	case relative:
		value := m.limit.Value
		if m.quantile > 0 {
			value = 1 // the multiple is in what counts as slow
		}
		return observation{c.hits, c.hits + b.hits, sequential.RatioNull(realised(of, told, cautious), value)}, m.known
	default:
		return observation{c.hits, c.requests, m.allowed()}, true
	}
}

// allowed is the part of the requests that an absolute limit lets be hits.
func (m *measure) allowed() float64 {
	if m.quantile > 0 {
		return m.quantile
	}
	return m.limit.Value
}

// realised is the candidate's share of the requests of both. Where events may still be
// on their way, those of one version or of one outcome may be later than others: then it
// is not below the share that was told, which lowers the evidence.
func realised(of [2]tally, told float64, cautious bool) float64 {
	c, b := of[candidate].requests, of[baseline].requests
	if c+b == 0 {
		return told
	}
	if cautious {
		return max(c/(c+b), told)
	}
	return c / (c + b)
}

// add takes a stretch in which requests count one by one. Where events may still come, it proves
// nothing in the version's favour: its failures may take longer than the baseline's.
func (m *measure) add(of [2]tally, told float64, cautious bool) (ok bool) {
	o, observed := m.observe(of, told, cautious)
	if !observed {
		return true
	}
	ok = m.test.Add(o.hits, o.trials, o.q)
	c, b := of[candidate], of[baseline]
	switch share := realised(of, told, cautious); m.kind {
	case relative:
		if !cautious {
			m.mirrored.Add(b.hits, c.hits+b.hits, 1-sequential.RatioNull(share, m.ratio()))
		}
		if m.quantile > 0 {
			m.beyond[candidate].Add(c.hits, c.requests, m.quantile)
		}
	case absolute:
		m.worse.Add(c.hits, c.hits+b.hits, sequential.RatioNull(share, 1))
	}
	m.count(of, o, told)
	return ok
}

// addBlock takes a stretch as one observation, and otherwise is as add.
func (m *measure) addBlock(of [2]tally, told float64, cautious bool) (ok bool) {
	o, observed := m.observe(of, told, cautious)
	if !observed || o.trials == 0 {
		return true
	}
	c, b := of[candidate], of[baseline]
	mean, q := o.hits/o.trials, o.q
	if m.kind == relative {
		if m.quantile > 0 && c.requests > 0 {
			m.beyond[candidate].AddMean(c.hits/c.requests, m.quantile)
		}
		if mean, q, observed = sequential.RatioMean(c.hits, c.requests, b.hits, b.requests, m.ratio()); !observed {
			m.count(of, observation{}, told)
			return true
		}
		if opposite, p, ok := sequential.RatioMean(b.hits, b.requests, c.hits, c.requests, 1/m.ratio()); ok && !cautious {
			m.mirrored.AddMean(opposite, p)
		}
	}
	if m.kind == absolute {
		if part, p, ok := sequential.RatioMean(c.hits, c.requests, b.hits, b.requests, 1); ok {
			m.worse.AddMean(part, p)
		}
	}
	ok = m.test.AddMean(mean, q)
	m.count(of, o, told)
	return ok
}

// ratio is the multiple of the baseline's hits that is allowed.
func (m *measure) ratio() float64 {
	if m.quantile > 0 {
		return 1
	}
	return m.limit.Value
}

func (m *measure) count(of [2]tally, o observation, told float64) {
	for i := range of {
		m.total.of[i].requests += of[i].requests
		m.total.of[i].hits += of[i].hits
	}
	m.total.hits += o.hits
	m.total.trials += o.trials
	m.total.expected += o.trials * o.q
	m.total.promised += o.trials * told
}

// restart begins the test anew beside what runs.
func (m *measure) restart() {
	m.test.Restart()
	m.mirrored.Restart()
	m.worse.Restart()
	m.beyond[candidate].Restart()
	m.compare()
}
