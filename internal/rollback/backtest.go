package rollback

import (
	"cmp"
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
// The events of the past are all there, and each counts from its second on. When one was there
// live is not known, nor which look came first.
func Backtest(policy deploy.RollbackPolicy, deployments []deploy.Deployment, blocks []schema.RateBlock, since, until time.Time) deploy.BacktestResult {
	b := newBacktest(policy, deployments, since, until)
	b.play(blocks, until)
	return b.done()
}

// backtest is a replay that is given its seconds piece by piece, in the order of time.
type backtest struct {
	deployments []deploy.Deployment
	replays     []*replay // that are not over
	result      deploy.BacktestResult
}

// newBacktest finds out what was on trial when: that follows from the deployments alone.
func newBacktest(policy deploy.RollbackPolicy, deployments []deploy.Deployment, since, until time.Time) *backtest {
	b := &backtest{deployments: deployments, result: deploy.BacktestResult{Since: since, Until: until, Trials: []deploy.BacktestTrial{}}}
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
			if r == nil || r.settled.scope != s {
				r = newReplay(s, t.baselineUntil, policy, since)
				b.replays = append(b.replays, r)
			}
			now[t.candidate] = r
			r.parts = append(r.parts, part{end, w.Deployments})
		}
		running = now
	}
	return b
}

// wanted is the first second, from a time on, that a replay waits for; Until if none does.
func (b *backtest) wanted(from time.Time) time.Time {
	next := b.result.Until
	for _, r := range b.replays {
		if r.at.Before(next) {
			next = r.at
		}
		if r.before.until.After(from) && r.before.since.Before(next) {
			next = r.before.since
		}
	}
	return maxTime(from, next)
}

// play goes on to a time. Blocks are those of the seconds between the last such time, or
// what is wanted after it, and this one.
func (b *backtest) play(blocks []schema.RateBlock, until time.Time) {
	b.replays = slices.DeleteFunc(b.replays, func(r *replay) bool {
		over := r.play(blocks, until)
		if over {
			b.add(r)
		}
		return over
	})
}

// done returns the result when everything has been played.
func (b *backtest) done() deploy.BacktestResult {
	slices.SortFunc(b.result.Trials, func(one, other deploy.BacktestTrial) int {
		return cmp.Or(one.Since.Compare(other.Since), strings.Compare(one.VersionID, other.VersionID))
	})
	b.sum()
	return b.result
}

// replay is one trial that is played again.
type replay struct {
	Rehearsal
	at     time.Time // the first second that is not played
	before before
	parts  []part // that are not over, oldest first
	trial  deploy.BacktestTrial
	atFail pair // what had been observed when it failed
}

// part is a time with its deployments, newest first.
type part struct {
	until       time.Time
	deployments []deploy.Deployment
}

// before is what the baseline did in the last time before the trial in which it served
// (beforeSpan), as far as that is replayed.
type before struct {
	since, until time.Time
	seen         tally
}

// newReplay is of a trial whose baseline last served at a time; zero if it does beside it.
func newReplay(s scope, baselineUntil time.Time, policy deploy.RollbackPolicy, since time.Time) *replay {
	if baselineUntil.IsZero() {
		baselineUntil = s.from
	}
	// As one that began to look when the trial began, or when the blocks do.
	rehearsal := newRehearsal(s, policy, maxTime(since, s.from.Add(-quantileReferenceMost)).Add(memory))
	at := rehearsal.most.at
	last := before{since: wholeSecond(baselineUntil.Add(-beforeSpan(policy))), until: baselineUntil}
	return &replay{Rehearsal: rehearsal, at: at, before: last, trial: deploy.BacktestTrial{
		VersionID: s.candidate, BaselineVersionID: s.baseline, Since: maxTime(s.from, at),
	}}
}

// play goes on to a time, and reports whether the trial is over then.
func (r *replay) play(blocks []schema.RateBlock, until time.Time) (over bool) {
	r.remember(blocks)
	for len(r.parts) > 0 {
		now := r.parts[0]
		if now.until.After(until) {
			r.playPart(blocks, until, now.deployments)
			return false
		}
		r.playPart(blocks, now.until, now.deployments)
		r.parts = r.parts[1:]
	}
	return true
}

// remember counts what the baseline did before.
func (r *replay) remember(blocks []schema.RateBlock) {
	for _, b := range from(blocks, r.before.since) {
		if !b.Time.Before(r.before.until) {
			break
		}
		if b.VersionID == r.settled.baseline && !impossible(&b) {
			one := failures(&b, r.settled.policy.Count)
			r.before.seen.requests += one.requests
			r.before.seen.hits += one.hits
		}
	}
}

// saved is how many failures a rollback would have saved, of all that was observed until the end;
// nil if that is not known. What is too little to call the baseline better (standing) is too
// little for its rate.
func (r *replay) saved(all pair) *float64 {
	after, base := all.since(r.atFail)[candidate], all[baseline]
	least := float64(requestsMin(r.settled.policy))
	if base.requests < least {
		base = r.before.seen
	}
	switch {
	case after.hits == 0:
		return new(0.0) // whatever the baseline did
	case base.requests < least:
		return nil
	}
	return new(max(0, after.hits-after.requests*rate(base)))
}

// playPart goes on second by second, and looks after each.
func (r *replay) playPart(blocks []schema.RateBlock, until time.Time, deployments []deploy.Deployment) {
	r.deployments, r.trial.Until = deployments, until
	for _, second := range bySecond(blocks, r.at, until) {
		at := second[0].Time
		r.at = at.Add(time.Second)
		r.take(second, r.at)
		if r.trial.FailedAt != nil || at.Before(r.settled.from) || !r.mayFail() {
			continue
		}
		now := r.at
		if now.After(until) {
			now = until // the second that is open counts, too
		}
		looked := r.look(now)
		if a := looked.assess(looked.doubtful > r.settled.doubtful); a.Verdict == deploy.VerdictFail {
			r.trial.FailedAt, r.trial.Metric, r.trial.Sentence, r.trial.Evidence = &now, a.Metric, a.Sentence, bounded(a.Evidence, a.measures)
			r.atFail = looked.base
		}
	}
}

// bySecond are the blocks of each second in [since, until).
func bySecond(blocks []schema.RateBlock, since, until time.Time) [][]schema.RateBlock {
	var seconds [][]schema.RateBlock
	blocks = from(blocks, since)
	for i := 0; i < len(blocks) && blocks[i].Time.Before(until); {
		n := i + 1
		for n < len(blocks) && blocks[n].Time.Equal(blocks[i].Time) {
			n++
		}
		seconds = append(seconds, blocks[i:n])
		i = n
	}
	return seconds
}

// add takes a replay that is over into the result.
func (b *backtest) add(r *replay) {
	r.take(nil, r.trial.Until.Truncate(time.Second)) // what came last is settled by now, if it was long ago
	e, one := r.look(r.trial.Until), r.trial
	one.Numbers = numbersOf(e.base)
	if one.FailedAt == nil {
		one.FailuresSaved = new(0.0)
		one.Evidence = bounded(e.report(nil), e.measures)
	} else {
		one.FailuresSaved = r.saved(e.base)
		one.FalseAlarm = keptLong(b.deployments, one.VersionID, *one.FailedAt, b.result.Until)
		e.wholeWay(one.Evidence)
	}
	b.result.Trials = append(b.result.Trials, one)
	if one.FalseAlarm {
		b.result.FalseAlarms++
	}
}

// sum adds up what is known of the trials.
func (b *backtest) sum() {
	sum, acted := 0.0, 0
	for _, one := range b.result.Trials {
		if one.FailedAt == nil {
			continue
		}
		acted++
		if one.FailuresSaved == nil {
			b.result.FailuresSavedUnknown++
		} else {
			sum += *one.FailuresSaved
		}
	}
	if acted == 0 || b.result.FailuresSavedUnknown < acted {
		b.result.FailuresSaved = &sum
	}
}

// wholeWay gives what tests said earlier the way that they went until now.
func (e *evidence) wholeWay(list []deploy.Evidence) {
	for _, now := range e.report(nil) {
		for i := range list {
			if list[i].Metric == now.Metric {
				list[i].Series = now.Series
			}
		}
	}
}

// keptLong reports whether a version had all traffic for keptFor on end after a time.
func keptLong(deployments []deploy.Deployment, version string, after, until time.Time) bool {
	var since time.Time
	long := func(end time.Time) bool { return !since.IsZero() && end.Sub(maxTime(since, after)) >= keptFor }
	for _, d := range slices.Backward(deployments) {
		full, _ := d.FullVersion()
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
