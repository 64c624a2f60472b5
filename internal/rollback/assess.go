package rollback

import (
	"fmt"
	"math"
	"slices"
	"time"

	"tidegate/internal/deploy"
)

const (
	// HitsMin is how many hits of a version it takes to act, whatever a test says: two
	// may be one client that tries twice.
	HitsMin = 3
	// buildingUp is the logarithm of the evidence, a chance of one in twenty, from which on
	// a ramp does not go on. It is the evidence of the moment, which falls again while
	// nothing more speaks against the version: of what has ever been, one good ramp in
	// twenty would hold for ever.
	buildingUp = 2.995732273553991
	// quietAfter is how long a version may be without requests of which a ramp passes. Events
	// that take longer than settleAfter do not count, so silence may be theirs.
	quietAfter = settleAfter + 30*time.Second
	// silentRequests is how many requests should have come in outageMax for their absence to
	// be no chance: with 20 expected it is 2e-9, if they come independently.
	silentRequests = 20
)

// Assessment is what the evidence about a version says.
type Assessment struct {
	Verdict deploy.Verdict
	// Numbers are of the requests that tell most: since the beginning of the trial, of a
	// look-back time, or of the ramp's step.
	Numbers deploy.Numbers
	// Metric is the limit that was passed; empty unless Verdict is fail.
	Metric   deploy.Metric
	Evidence []deploy.Evidence // the deciding one first
	// Sentence gives the evidence without naming the version or what was done.
	Sentence string
	// Building is a limit against which evidence builds up that is not enough yet, empty if
	// there is none.
	Building deploy.Metric
	// Unproven is a limit that compares with the baseline and is not proven to be kept.
	Unproven deploy.Metric
	// Quiet says that there were requests enough, but none of the candidate lately.
	Quiet bool
	// Silent says that both versions have had no requests for outageMax, where many were to
	// be expected: traffic has stopped, or its events have.
	Silent bool
	// Baseline is what is known of the baseline by the yardstick of Metric.
	Baseline standing
	// passed is the measure of Metric.
	passed   *measure
	window   sums // of passed
	measures []*measure
}

// standing is how a baseline does by some yardstick.
type standing int

const (
	standingUnknown standing = iota // too few requests beside the candidate
	standingBetter
	standingNoBetter
)

// assess gives a verdict on the evidence as it is. It is pure.
//
//   - fail: a test rejects, the candidate had policy.MinRequests, at least HitsMin hits
//     and, for max_failure_ratio, policy.MinFailureDifference;
//   - inconclusive: too few requests, of the ramp's step if there is one, none of the
//     candidate lately, or counts that cannot be (doubt);
//   - pass: otherwise. A ramp also asks that nothing is building up.
//
// Rates that could not be had are not its business: the controller gives the verdict
// error itself.
func (e *evidence) assess(doubt bool) Assessment {
	a := Assessment{measures: e.measures}
	if e.stepFrom.IsZero() {
		a.Numbers = numbersOf(e.base)
	} else {
		a.Numbers = numbersOf(e.stepCounts())
	}
	a.Evidence = e.report(nil)
	if doubt {
		a.Verdict, a.Sentence = deploy.VerdictInconclusive, "the counts of the last minutes cannot be right"
		return a
	}
	if m := e.passed(); m != nil {
		return e.fail(a, m)
	}
	for _, m := range e.measures {
		if m.logE() >= buildingUp {
			a.Building = m.limit.Metric
		}
		if m.kind == relative && m.mirrored.LogE() < m.mirrored.Threshold() {
			a.Unproven = m.limit.Metric
		}
	}
	a.Silent = e.silent()
	a.Verdict, a.Sentence = e.enough()
	if a.Verdict == deploy.VerdictPass && e.at.Sub(e.heard[candidate]) > quietAfter {
		a.Quiet, a.Verdict = true, deploy.VerdictInconclusive
		a.Sentence += fmt.Sprintf(", but none since %s", timeOfDay(e.heard[candidate], e.at))
	}
	return a
}

// silent reports whether neither version has had a request for outageMax, although by what
// they had before there should have been many.
func (e *evidence) silent() bool {
	last := maxTime(e.heard[candidate], e.heard[baseline])
	if e.at.Sub(last) < outageMax || !last.After(e.from) {
		return false
	}
	before := last.Sub(maxTime(e.from, e.known)).Seconds()
	seen := e.base[candidate].requests + e.base[baseline].requests
	return seen/before*outageMax.Seconds() >= silentRequests
}

// passed is the limit that was passed, of several the one with the most evidence.
func (e *evidence) passed() *measure {
	var most *measure
	for _, m := range e.measures {
		excess := m.logE() - m.test.Threshold()
		if excess >= 0 && e.actsOn(m) && (most == nil || excess > most.logE()-most.test.Threshold()) {
			most = m
		}
	}
	return most
}

// actsOn reports whether what a policy asks for besides evidence is there.
func (e *evidence) actsOn(m *measure) bool {
	seen := e.base[candidate].requests
	if m.kind == traffic {
		seen = m.total.promised // a version that answers nothing has no requests
	}
	if seen < float64(requestsMin(e.policy)) || m.total.hits < HitsMin {
		return false
	}
	if least := e.policy.MinFailureDifference; least != nil && m.limit.Metric == deploy.MetricFailureRatio {
		_, loudest := e.window(m) // a good past does not hide that the version has turned bad
		return rate(loudest[candidate])-rate(loudest[baseline]) >= *least
	}
	return true
}

func (e *evidence) fail(a Assessment, m *measure) Assessment {
	w, base := e.window(m)
	a.Verdict, a.Metric = deploy.VerdictFail, m.limit.Metric
	a.passed, a.window = m, w
	if m.countsFailures() {
		base = w.of // of blocks it lacks the seconds that were no part of one
	}
	a.Numbers = numbersOf(base)
	a.Numbers.Limit = &m.limit.Value
	a.Evidence = e.report(m)
	a.Baseline = e.standing(m, w)
	var blocks time.Duration
	if e.policy.Evidence == deploy.EvidenceBlocks {
		blocks = e.blockLength()
	}
	a.Sentence = m.sentence(w, blocks, e.since(m), e.at, math.Min(1, m.pValue()*float64(len(e.measures))))
	return a
}

// standing is how the baseline does beside the candidate. A limit that both pass takes
// evidence that the candidate is the worse one; without it an outage of what both depend
// on would move traffic to and fro.
func (e *evidence) standing(m *measure, w sums) standing {
	if m.kind != absolute {
		return standingBetter // that is what was tested
	}
	b := w.of[baseline]
	switch {
	case b.requests < float64(requestsMin(e.policy)):
		return standingUnknown
	case rate(b) <= m.allowed() || m.worse.LogE() >= m.worse.Threshold():
		return standingBetter
	default:
		return standingNoBetter
	}
}

// enough tells whether there are requests enough to say that nothing speaks against the
// version.
func (e *evidence) enough() (deploy.Verdict, string) {
	of := e.base
	if !e.stepFrom.IsZero() {
		of = e.stepCounts()
	}
	least := requestsMin(e.policy)
	has := func(k kind) bool {
		return slices.ContainsFunc(e.measures, func(m *measure) bool { return m.kind == k })
	}
	few, seen := of[candidate].requests < float64(least), counted(of)
	if few {
		seen = tooFew(of[candidate].requests, least)
	}
	lonely := has(relative) && of[baseline].requests < float64(least)
	switch {
	case lonely && e.alone: // there will never be more
		return deploy.VerdictInconclusive, seen + "; " + nothingBeside(has(absolute))
	case few:
		return deploy.VerdictInconclusive, seen
	case lonely:
		return deploy.VerdictInconclusive, seen + "; " + tooFewBeside(of[baseline].requests, least)
	}
	return deploy.VerdictPass, seen
}

// stepCounts is what was observed since the ramp's step began.
func (e *evidence) stepCounts() pair {
	if !e.begun {
		return pair{}
	}
	return e.base.since(e.step)
}

// loudest is the beginning of the time that speaks loudest against a limit: that of the
// trial, or of a look-back time, where a version that was good has turned bad.
func (e *evidence) loudest(m *measure) int {
	best, most := 0, -1.0
	for i := range m.marks {
		if d := m.total.since(m.marks[i]).deviance(); d > most {
			best, most = i, d
		}
	}
	return best
}

// window is what was observed since then.
func (e *evidence) window(m *measure) (sums, pair) {
	i := e.loudest(m)
	return m.total.since(m.marks[i]), e.base.since(e.marks[i].base)
}

// since is when the loudest time began; zero if that is the whole trial.
func (e *evidence) since(m *measure) time.Time {
	if i := e.loudest(m); i > 0 {
		return e.marks[i].at
	}
	return time.Time{}
}

// report is what each test says, the first one first.
func (e *evidence) report(first *measure) []deploy.Evidence {
	var list []deploy.Evidence
	at := e.at
	if !e.now.IsZero() && e.now.Before(at) {
		at = e.now
	}
	for _, m := range e.measures {
		w, _ := e.window(m)
		one := deploy.Evidence{
			Metric: m.limit.Metric, Limit: m.limit.Value,
			LogE: finite(m.logE()), Threshold: finite(m.test.Threshold()), PValue: m.pValue(),
			Trials: int64(math.Round(w.trials)), Events: int64(math.Round(w.hits)), Expected: finite(w.expected),
			Series: m.series.until(at, finite(m.logE())),
		}
		if m == first {
			list = slices.Insert(list, 0, one)
		} else {
			list = append(list, one)
		}
	}
	return list
}

// requestsMin is how many requests of a version it takes to say anything about it.
func requestsMin(policy deploy.RollbackPolicy) int64 { return max(policy.MinRequests, 1) }

func numbersOf(of pair) deploy.Numbers {
	var n deploy.Numbers
	n.Requests, n.Failures, n.FailureRate = counts(of[candidate])
	n.BaselineRequests, n.BaselineFailures, n.BaselineRate = counts(of[baseline])
	return n
}

// counts leaves unknown what there were no requests of.
func counts(t tally) (requests, failures *int64, failureRate *float64) {
	if t.requests <= 0 {
		return nil, nil, nil
	}
	return new(int64(math.Round(t.requests))), new(int64(math.Round(t.hits))), new(rate(t))
}

// rate is the part of the requests that were hits; zero without requests.
func rate(t tally) float64 {
	if t.requests <= 0 {
		return 0
	}
	return t.hits / t.requests
}
