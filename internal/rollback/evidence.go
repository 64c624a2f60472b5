package rollback

import (
	"maps"
	"math"
	"slices"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/rollback/sequential"
	"tidegate/schema"
)

// Evidence of a trial is what the seconds since its beginning say about each limit. It is
// folded second by second, in order. Seconds older than settleAfter are folded for good;
// younger ones, to which events may still come, are folded anew at each look, on a copy.
//
// It lives in memory alone: whoever begins to look reads the seconds again, back to the
// beginning or a day, and comes to the same but for events that were later than settleAfter:
// who looked before did not see them. What is older than that day is lost, as are
// the capitals that the tests had placed on it; that only lowers the evidence, so the
// promise holds. What is slow, of the ratio of a quantile, is fixed anew by what is read:
// there the evidence may be another one, and the promise is one for each reading.

const (
	// settleAfter is how old a second is to which no more events are expected.
	settleAfter = 120 * time.Second
	// memory is how far back evidence is read again.
	memory = 24 * time.Hour
	// blockLag is how old a block of EvidenceBlocks is that is looked at: in the last
	// seconds failures may have come that their successes have not yet.
	blockLag = 10 * time.Second
	// A unit is the shortest run of seconds whose realised share tells something: with one
	// request in a second it would always be all or nothing. How long it is depends on how
	// many requests there are, and never on what came of them. The longer, the less is lost to
	// the larger of the two shares (realised), and the more a gateway harms that draws by an old
	// split for a part of it: docs/rollback.md has both.
	unitRequests = 500
	unitMax      = time.Minute
	// rateReference is how much of the settled past tells how many requests to expect.
	rateReference      = 2 * time.Minute
	rateReferenceLeast = 30 * time.Second
	// quantileReference is from when on, before the first second that counts, the
	// baseline's quantiles are taken.
	quantileReferenceLeast = 5 * time.Minute
	quantileReferenceMost  = time.Hour
	// marksMax bounds how many beginnings of look-back times are remembered.
	marksMax = 12
)

// scope is what evidence is about. Evidence of another scope begins anew.
type scope struct {
	candidate, baseline string
	from                time.Time // the first second that counts
	revision            int64     // of the policy
	source              deploy.PolicySource
}

// evidence has one owner at a time.
type evidence struct {
	scope
	policy   deploy.RollbackPolicy
	measures []*measure
	known    time.Time    // the first second of which anything is known
	at       time.Time    // every second before it is folded
	starts   int          // look-back times that have begun
	base     pair         // what counts as failures, of both, since from
	heard    [2]time.Time // the end of the last second in which each had requests

	unit   unit
	recent []arrivals // of the last rateReference before at, oldest first
	marks  []mark     // the first one, and the newest
	// stepFrom is the first second of the ramp's step that is judged, zero without one;
	// step is what came before it since from.
	stepFrom time.Time
	step     pair
	begun    bool // the step has begun

	// cautious is set on copies that take seconds which are not settled: events of them may still
	// come, the slower requests after the others. Now is when they look, which may be before the
	// end of the last of them.
	cautious bool
	now      time.Time
	// alone is set on copies, too: the deployment that serves gives the baseline no requests.
	alone bool
	// doubtful counts seconds whose counts cannot be, which are left out.
	doubtful int
}

// pair is what was observed of both versions.
type pair [2]tally

func (p *pair) add(of [2]tally) {
	for i := range of {
		p[i].requests += of[i].requests
		p[i].hits += of[i].hits
	}
}

func (p pair) since(before pair) pair {
	for i := range p {
		p[i].requests -= before[i].requests
		p[i].hits -= before[i].hits
	}
	return p
}

// mark is where a look-back time begins.
type mark struct {
	at   time.Time
	base pair
}

// unit is a run of seconds that is being put together.
type unit struct {
	from   time.Time
	empty  bool
	told   float64 // the largest share that gateways may have been told in the seconds of it
	steady bool    // no gateway may have been told another one
	open   bool    // taken before its end
	base   pair
	of     []pair // for each measure
}

// arrivals are the requests of both versions in a second.
type arrivals struct {
	at       time.Time
	requests float64
}

// newEvidence begins at the scope, or a day before now if that is later.
func newEvidence(s scope, policy deploy.RollbackPolicy, now time.Time) *evidence {
	e := &evidence{scope: s, policy: policy}
	limits := policy.Limits()
	alpha := alphaOf(policy) / float64(max(len(limits), 1))
	for _, l := range limits {
		e.measures = append(e.measures, newMeasure(l, alpha))
	}
	e.known = s.from.Add(-e.reference())
	if oldest := wholeSecond(now.Add(-memory)); e.known.Before(oldest) {
		e.known = oldest
	}
	e.at, e.starts = e.known, 1
	e.marks = []mark{{at: s.from}}
	for _, m := range e.measures {
		m.marks = []sums{{}}
	}
	e.openUnit(maxTime(e.at, e.from))
	if e.at.After(e.from) {
		e.forget()
	}
	return e
}

// forget gives up what was placed on seconds that are not read any more. Starts keep
// their numbers, and with them their weights, which is what keeps the promise. The bounds have
// no starts: nothing is said of them.
func (e *evidence) forget() {
	length := lookBack(e.policy)
	e.starts = max(e.starts, int((e.at.Sub(e.from)+length-1)/length)) // the next one is not before e.at
	for _, m := range e.measures {
		for _, t := range []*sequential.Test{&m.test, &m.mirrored, &m.worse, &m.beyond[candidate], &m.beyond[baseline]} {
			t.Forget(e.starts)
		}
		m.noLow, m.noHigh = true, true
	}
	e.marks = []mark{{at: e.at}}
}

// alphaOf is the chance that a policy leaves to act on a version that keeps its limits.
func alphaOf(policy deploy.RollbackPolicy) float64 {
	if c := policy.Confidence; c > 0 && c < 1 {
		return 1 - c
	}
	return 1 - deploy.DefaultConfidence
}

// reference is how long before the first second that counts evidence is read.
func (e *evidence) reference() time.Duration {
	for _, m := range e.measures {
		if m.kind == relative && m.quantile > 0 {
			return min(max(lookBack(e.policy), quantileReferenceLeast), quantileReferenceMost)
		}
	}
	return settleAfter + rateReference
}

// needsDurations reports whether a policy has a limit about time.
func needsDurations(policy deploy.RollbackPolicy) bool {
	return slices.ContainsFunc(policy.Limits(), func(l deploy.Limit) bool { return newMeasure(l, 0.5).quantile > 0 })
}

// clone is evidence that goes its own way.
func (e *evidence) clone() *evidence {
	c := *e
	c.measures = make([]*measure, len(e.measures))
	for i, m := range e.measures {
		n := *m
		n.reference = maps.Clone(m.reference)
		n.lower, n.upper = m.lower.Clone(), m.upper.Clone()
		n.marks = slices.Clone(m.marks)
		n.series = m.series.clone()
		c.measures[i] = &n
	}
	c.marks = slices.Clone(e.marks)
	c.unit.of = slices.Clone(e.unit.of)
	c.recent = slices.Clone(e.recent)
	return &c
}

// judgeStep tells in which second the ramp's step began; zero without a ramp. With blocks
// the step is judged from the next one on: one that began before has requests of the step
// before.
func (e *evidence) judgeStep(began time.Time) {
	if !began.IsZero() {
		began = maxTime(wholeSecond(began), e.from)
		if length := e.blockLength(); e.policy.Evidence == deploy.EvidenceBlocks {
			began = e.from.Add((began.Sub(e.from) + length - 1) / length * length)
		}
	}
	if began.Equal(e.stepFrom) {
		return
	}
	e.stepFrom, e.begun = began, false
}

// fold takes the seconds up to until, which is a whole one, of blocks in the order of
// time; what lies before e.at is known already. Deployments are newest first.
func (e *evidence) fold(blocks []schema.RateBlock, until time.Time, deployments []deploy.Deployment) {
	t := trial{candidate: e.candidate, baseline: e.baseline}
	for len(blocks) > 0 {
		at := blocks[0].Time
		n := 1
		for n < len(blocks) && blocks[n].Time.Equal(at) {
			n++
		}
		second := blocks[:n]
		blocks = blocks[n:]
		if at.Before(e.at) {
			continue
		}
		if !at.Before(until) {
			break
		}
		e.advance(at)
		c, b := blockOf(second, e.candidate), blockOf(second, e.baseline)
		if impossible(c) || impossible(b) {
			e.doubtful++
			continue
		}
		e.take(at, c, b, func() (float64, bool) { return configured(deployments, t, at) })
	}
	e.advance(until)
}

// take adds one second, to which e.at has come.
func (e *evidence) take(at time.Time, c, b *schema.RateBlock, told func() (float64, bool)) {
	e.arrive(at, requests(c)+requests(b))
	for i, one := range [2]*schema.RateBlock{candidate: c, baseline: b} {
		if requests(one) > 0 {
			e.heard[i] = at.Add(time.Second)
		}
	}
	if at.Before(e.from) {
		for _, m := range e.measures {
			m.refer(b, e.policy.Evidence != deploy.EvidenceBlocks && !e.cautious)
		}
		return
	}
	share, steady := told()
	u := &e.unit
	switch changed := !u.empty && (share != u.told || !steady || !u.steady); {
	case e.policy.Evidence == deploy.EvidenceBlocks && changed:
		clear(u.of) // the rates of a block are compared: it is of one split, the latest one
	case changed: // while gateways may draw by two splits, no two seconds need have the same one
		e.closeUnit(at)
	}
	u.told, u.steady, u.empty = share, steady, false
	count, known := e.countOf(c, b)
	if known {
		u.base.add([2]tally{failuresOf(c, count[candidate]), failuresOf(b, count[baseline])})
	}
	for i, m := range e.measures {
		m.collect(b)
		if known || m.kind == traffic || m.quantile > 0 {
			u.of[i].add([2]tally{m.tally(c, count[candidate], candidate), m.tally(b, count[baseline], baseline)})
		}
	}
	if e.policy.Evidence != deploy.EvidenceBlocks && u.base[candidate].requests+u.base[baseline].requests >= unitRequests {
		e.closeUnit(at.Add(time.Second))
	}
}

// look is the evidence at a moment, with the seconds that are not settled.
func (e *evidence) look(blocks []schema.RateBlock, now time.Time, deployments []deploy.Deployment) *evidence {
	c := e.clone()
	c.cautious, c.now, c.alone = true, now, share(deployments[0], e.baseline) <= 0
	until := now.Truncate(time.Second).Add(time.Second) // the open second counts, too
	if e.policy.Evidence == deploy.EvidenceBlocks {
		until = maxTime(now.Truncate(time.Second).Add(-blockLag), e.at)
	} else {
		c.expect(blocks, now, deployments)
	}
	c.fold(blocks, until, deployments)
	if e.policy.Evidence != deploy.EvidenceBlocks {
		c.takeOpen(until)
	}
	return c
}

// expect adds the requests of seconds that are not settled which should have been there,
// and are not yet. Failures are often told of sooner than successes, and without this a
// version all of whose first events are failures would pass a limit of its failure rate.
func (e *evidence) expect(blocks []schema.RateBlock, now time.Time, deployments []deploy.Deployment) {
	rate := e.arrivalRate()
	if rate == 0 {
		return
	}
	t := trial{candidate: e.candidate, baseline: e.baseline}
	expected := 0.0
	for at := maxTime(e.at, e.from); at.Before(now); at = at.Add(time.Second) {
		share, _ := configured(deployments, t, at)
		expected += rate * share * min(now.Sub(at).Seconds(), 1)
	}
	for i := range blocks {
		if b := &blocks[i]; b.VersionID == e.candidate && !b.Time.Before(maxTime(e.at, e.from)) {
			expected -= float64(b.Requests)
		}
	}
	if expected <= 0 {
		return
	}
	for _, m := range e.measures {
		if m.kind == absolute && m.quantile == 0 {
			m.test.Add(0, expected, m.allowed())
			m.lower.Add(0, expected, 1)
		}
	}
}

// arrive remembers how many requests came.
func (e *evidence) arrive(at time.Time, requests float64) {
	old := 0
	for old < len(e.recent) && e.recent[old].at.Before(at.Add(-rateReference)) {
		old++
	}
	e.recent = append(slices.Delete(e.recent, 0, old), arrivals{at, requests})
}

// heardOf is the end of the last second in which a version had requests, nil if it had none.
func (e *evidence) heardOf(version int) *time.Time {
	if e.heard[version].IsZero() {
		return nil
	}
	return new(e.heard[version])
}

// arrivalRate is how many requests of both versions there were in a second, zero if that
// is not known.
func (e *evidence) arrivalRate() float64 {
	since := maxTime(e.at.Add(-rateReference), e.known)
	if e.at.Sub(since) < rateReferenceLeast {
		return 0
	}
	sum := 0.0
	for _, a := range e.recent {
		if !a.at.Before(since) {
			sum += a.requests
		}
	}
	return sum / e.at.Sub(since).Seconds()
}

func blockOf(second []schema.RateBlock, version string) *schema.RateBlock {
	for i := range second {
		if second[i].VersionID == version {
			return &second[i]
		}
	}
	return nil
}

// impossible reports counts that nobody can have counted.
func impossible(b *schema.RateBlock) bool {
	if b == nil {
		return false
	}
	for _, n := range []int64{b.Failures, b.Exceptions, b.Status5xx} {
		if n < 0 || n > b.Requests {
			return true
		}
	}
	for _, d := range []schema.Durations{b.Wall, b.CPU} {
		for _, n := range d {
			if n < 0 {
				return true
			}
		}
	}
	return false
}

func requests(b *schema.RateBlock) float64 {
	if b == nil {
		return 0
	}
	return float64(b.Requests)
}

// countOf is what counts as failures of each version in a second. Kinds are unknown only
// of seconds in which there were failures, so to leave out such a second of the baseline
// would make it look better than it is: there all its failures count. One of the candidate
// is left out, of both versions: known is false. Either speaks for the candidate, so what
// was proven in its favour is forgotten, and the upper ends that it would lower are given up
// for good: to begin them anew would be another chance to be wrong. A failure rate is the
// candidate's alone, and traffic is no matter of kinds.
func (e *evidence) countOf(c, b *schema.RateBlock) (count [2]deploy.CountKind, known bool) {
	count, known = [2]deploy.CountKind{e.policy.Count, e.policy.Count}, true
	if e.policy.Count == deploy.CountAny {
		return count, known
	}
	if known = c == nil || !c.KindsUnknown; known && (b == nil || !b.KindsUnknown) {
		return count, known
	}
	count[baseline] = deploy.CountAny
	for _, m := range e.measures {
		switch {
		case m.quantile > 0:
		case m.kind == relative:
			m.mirrored.Forget(e.starts)
			m.noHigh = true
		case m.kind == absolute && !known:
			m.noHigh = true
		}
	}
	return count, known
}

func failuresOf(b *schema.RateBlock, count deploy.CountKind) tally {
	if b == nil {
		return tally{}
	}
	return failures(b, count)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// finite is f, or zero where it is no number.
func finite(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}
