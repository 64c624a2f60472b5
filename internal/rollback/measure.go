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
	// above are the buckets whose durations are too long are above: the candidate's, and
	// the baseline's. Of a ratio they are unknown (known is false) until enough is known
	// of the baseline; then reference collects what the next ones are made of.
	above [2]uint16
	known bool
	// A reference has fractions, because one of n sampled events is 1/n of what it stands for.
	reference map[uint16]float64

	test sequential.Test
	// mirrored is the test of the opposite, of a limit that compares: it proves that the
	// limit is kept. worse is the test, of a limit that does not compare, whether the
	// candidate is worse than the baseline by the same yardstick.
	mirrored, worse sequential.Test

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

// referenceEvents is how many slower requests it takes to tell a quantile: the relative
// error of its tail is a third then.
const referenceEvents = 10

// compare fixes what is slow from the reference, if there is enough of it, for what
// comes from now on: the baseline's quantile, and the limit's multiple of it, both
// rounded up to an edge.
func (m *measure) compare() {
	if m.kind != relative || m.quantile == 0 {
		return
	}
	buckets := slices.Sorted(maps.Keys(m.reference)) // in order, so that the sum is the same each time
	total := 0.0
	for _, bucket := range buckets {
		total += m.reference[bucket]
	}
	if total*m.quantile < referenceEvents {
		return
	}
	bucket, slower := buckets[len(buckets)-1], 0.0
	for bucket > 0 && slower+m.reference[bucket] <= m.quantile*total {
		slower += m.reference[bucket]
		bucket--
	}
	// Without the rounding errors of the edge a limit of 1 would be one bucket more.
	limit := schema.DurationBucket(schema.DurationEdge(bucket) * m.limit.Value * (1 - 1e-9))
	m.above = [2]uint16{max(limit, bucket), bucket}
	m.known, m.reference = true, map[uint16]float64{}
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

// add takes a stretch in which requests count one by one.
func (m *measure) add(of [2]tally, told float64, cautious bool) (ok bool) {
	o, observed := m.observe(of, told, cautious)
	if !observed {
		return true
	}
	ok = m.test.Add(o.hits, o.trials, o.q)
	c, b := of[candidate], of[baseline]
	switch share := realised(of, told, cautious); m.kind {
	case relative:
		// The baseline's share is not below what it was told either.
		if cautious && c.requests+b.requests > 0 {
			share = min(c.requests/(c.requests+b.requests), told)
		}
		m.mirrored.Add(b.hits, c.hits+b.hits, 1-sequential.RatioNull(share, m.ratio()))
	case absolute:
		m.worse.Add(c.hits, c.hits+b.hits, sequential.RatioNull(share, 1))
	}
	m.count(of, o, told)
	return ok
}

// addBlock takes a stretch as one observation.
func (m *measure) addBlock(of [2]tally, told float64, cautious bool) (ok bool) {
	o, observed := m.observe(of, told, cautious)
	if !observed || o.trials == 0 {
		return true
	}
	c, b := of[candidate], of[baseline]
	mean, q := o.hits/o.trials, o.q
	if m.kind == relative {
		if mean, q, observed = sequential.RatioMean(c.hits, c.requests, b.hits, b.requests, m.ratio()); !observed {
			m.count(of, observation{}, told)
			return true
		}
		if opposite, p, ok := sequential.RatioMean(b.hits, b.requests, c.hits, c.requests, 1/m.ratio()); ok {
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
	m.compare()
}
