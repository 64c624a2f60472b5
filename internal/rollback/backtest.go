package rollback

import (
	"slices"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// keptFor is how long people have a version at 100 % that they find good.
const keptFor = 24 * time.Hour

// Backtest replays a policy over past deployments, newest first, and the seconds from
// since to until, ordered by time: the same evidence and verdicts as live, looked at once a
// second. It is pure. Traffic is as it was: what a rollback would have changed is not
// known, so a trial goes on after it would have failed, and ramps of the policy are not
// played.
//
// The events of the past are all there. The share of requests is taken as for seconds that
// are not settled, which is how most live verdicts see it, so that what is found here would
// have been found live, give or take the second of a look; missing traffic is told
// settleAfter later.
func Backtest(policy deploy.RollbackPolicy, deployments []deploy.Deployment, blocks []schema.RateBlock, since, until time.Time) deploy.BacktestResult {
	result := deploy.BacktestResult{Since: since, Until: until, Trials: []deploy.BacktestTrial{}}
	running := map[string]*replay{}
	for i := len(deployments) - 1; i >= 0; i-- {
		began, end := maxTime(deployments[i].CreatedOn, since), until
		if i > 0 && deployments[i-1].CreatedOn.Before(until) {
			end = deployments[i-1].CreatedOn
		}
		if !began.Before(end) {
			continue
		}
		w := &deploy.Watched{Policy: policy, Deployments: deployments[i:min(len(deployments), i+deploy.WatchedDeployments)]}
		now := map[string]*replay{}
		for _, t := range trialsOf(w.Deployments) {
			s := scopeOf(w, t)
			r := running[t.candidate]
			if r == nil || r.evidence.scope != s {
				r = newReplay(s, policy, since)
			}
			now[t.candidate] = r
			r.play(blocks, end, w.Deployments)
		}
		for candidate, r := range running {
			if now[candidate] != r {
				addReplay(&result, r, deployments)
			}
		}
		running = now
	}
	for _, r := range running {
		addReplay(&result, r, deployments)
	}
	slices.SortFunc(result.Trials, func(a, b deploy.BacktestTrial) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.VersionID, b.VersionID)
	})
	return result
}

// replay is one trial that is played again.
type replay struct {
	evidence *evidence
	trial    deploy.BacktestTrial
	atFail   pair // what had been observed when it failed
}

func newReplay(s scope, policy deploy.RollbackPolicy, since time.Time) *replay {
	// As one that began to look when the trial began, or when the blocks do.
	e := newEvidence(s, policy, maxTime(since, s.from.Add(-quantileReferenceMost)).Add(memory))
	e.cautious, e.replayed = true, true
	return &replay{evidence: e, trial: deploy.BacktestTrial{
		VersionID: s.candidate, BaselineVersionID: s.baseline, Since: maxTime(s.from, e.at),
	}}
}

// play goes on second by second until a time.
func (r *replay) play(blocks []schema.RateBlock, until time.Time, deployments []deploy.Deployment) {
	e := r.evidence
	for _, second := range bySecond(blocks, e.at, until) {
		at := second[0].Time
		doubtful := e.doubtful
		e.fold(second, at.Add(time.Second), deployments)
		if r.trial.FailedAt != nil || !at.After(e.from) {
			continue
		}
		if a := e.assess(e.doubtful > doubtful); a.Verdict == deploy.VerdictFail {
			failedAt := at.Add(time.Second)
			if a.passed.kind == traffic {
				failedAt = failedAt.Add(settleAfter)
			}
			r.trial.FailedAt, r.trial.Metric, r.trial.Sentence, r.trial.Evidence = &failedAt, a.Metric, a.Sentence, a.Evidence
			r.atFail = e.base
		}
	}
	r.trial.Until = until
}

// bySecond are the blocks of each second in [since, until).
func bySecond(blocks []schema.RateBlock, since, until time.Time) [][]schema.RateBlock {
	first, _ := slices.BinarySearchFunc(blocks, since, func(b schema.RateBlock, at time.Time) int { return b.Time.Compare(at) })
	var seconds [][]schema.RateBlock
	for i := first; i < len(blocks) && blocks[i].Time.Before(until); {
		n := i + 1
		for n < len(blocks) && blocks[n].Time.Equal(blocks[i].Time) {
			n++
		}
		seconds = append(seconds, blocks[i:n])
		i = n
	}
	return seconds
}

func addReplay(result *deploy.BacktestResult, r *replay, deployments []deploy.Deployment) {
	e, one := r.evidence, r.trial
	if !e.unit.empty {
		e.closeUnit(e.at)
	}
	one.Numbers = numbersOf(e.base)
	if one.FailedAt != nil {
		after := e.base.since(r.atFail)[candidate]
		one.FailuresSaved = max(0, after.hits-after.requests*rate(e.base[baseline]))
		one.FalseAlarm = keptLong(deployments, one.VersionID, *one.FailedAt, result.Until)
	}
	result.Trials = append(result.Trials, one)
	result.FailuresSaved += one.FailuresSaved
	if one.FalseAlarm {
		result.FalseAlarms++
	}
}

// keptLong reports whether a version had all traffic for keptFor on end after a time.
func keptLong(deployments []deploy.Deployment, version string, after, until time.Time) bool {
	var since time.Time
	long := func(end time.Time) bool { return !since.IsZero() && end.Sub(maxTime(since, after)) >= keptFor }
	for _, d := range slices.Backward(deployments) {
		full, _ := fullVersion(d)
		switch {
		case full == version && since.IsZero():
			since = d.CreatedOn
		case full != version:
			if long(d.CreatedOn) {
				return true
			}
			since = time.Time{}
		}
	}
	return long(until)
}
