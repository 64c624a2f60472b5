package rollback

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const (
	// readAtOnce bounds one question for rates: evidence of a day is read piece by piece.
	readAtOnce = 20 * time.Minute
	// catchUpFor is how long one step reads the past; the next one goes on.
	catchUpFor = callTimeout
)

// script is what the controller remembers of a watched script from one step to the next.
// It belongs to the goroutine that judges the script while done is not nil, and to Step's
// otherwise.
type script struct {
	done chan error // receives the outcome of the judgement under way
	// evidence of each trial, by its candidate.
	evidence map[string]*evidence
	// seen are the requests of the seconds that are not settled, at the last look.
	seen map[second]int64
	// down is since when the rates cannot be read; zero while they can.
	down time.Time
	// lookedAt is when it was judged the last time, and lookedFor for what.
	lookedAt  time.Time
	lookedFor occasion
	refused   []refusal // of what was judged when the newest one came
	// closest is how near each limit is to being passed: LogE as a part of the threshold.
	closest map[deploy.Metric]float64
}

// second is one of a version.
type second struct {
	version string
	at      int64 // Unix seconds
}

// judgement is an assessment and what was judged. The zero judgement is that of a
// script with nothing on trial.
type judgement struct {
	trial
	Assessment
	// before is what the baseline did when it last served, by the yardstick of what was
	// passed. Set only with a fail whose action is rollback, where Baseline is unknown.
	before tally
	// beforeUnread says that before could not be read.
	beforeUnread bool
	// down is since when the rates cannot be read, of the verdict error.
	down time.Time
	// catchingUp says that the past is still being read.
	catchingUp bool
}

// judge assesses every trial of a script, of which s keeps evidence: the first decides whose failure moves traffic,
// then the first that fails and is not on record, then one that fails, then the first that is inconclusive. An
// error in reading the rates is itself a verdict: both are returned.
func (c *Controller) judge(ctx context.Context, s *script, w *deploy.Watched, read *reading, now time.Time) (judgement, error) {
	trials := trialsOf(w.Deployments)
	if len(trials) == 0 {
		s.down = time.Time{}
		return judgement{}, nil
	}
	blocks, caughtUp, err := c.catchUp(ctx, s, w, read, now)
	if err != nil {
		return c.unreadable(ctx, s, w, trials[0], now, err)
	}
	s.down = time.Time{}
	if !caughtUp {
		return judgement{trial: trials[0], catchingUp: true, Assessment: Assessment{
			Verdict: deploy.VerdictInconclusive, Sentence: "the rates of the last day are being read",
		}}, nil
	}
	doubt := s.wentBack(blocks, now)
	var decides judgement
	for _, t := range trials {
		e := s.evidence[t.candidate]
		looked := e.look(blocks, now, w.Deployments)
		j := judgement{trial: t, Assessment: looked.assess(doubt || looked.doubtful > e.doubtful)}
		s.noteClosest(j.Evidence)
		if j.Verdict == deploy.VerdictFail {
			var unread error
			if w.Policy.Action == deploy.ActionRollback && j.Baseline == standingUnknown {
				j.before, unread = c.before(ctx, w, t, j.passed, now)
				j.beforeUnread = unread != nil
			}
			err = errors.Join(err, unread)
			if s.moves(w, j, now) {
				return j, err
			}
		}
		known := decides.Verdict == deploy.VerdictFail && failed(w, decides.trial)
		if decides.Verdict == "" || gravity(j.Verdict) > gravity(decides.Verdict) || known && j.Verdict == deploy.VerdictFail {
			decides = j
		}
	}
	return decides, err
}

// moves reports whether a failure moves traffic: it does not where the rollback was refused.
func (s *script) moves(w *deploy.Watched, j judgement, now time.Time) bool {
	_, strays := strayed(w)
	return w.Policy.Action == deploy.ActionRollback && !strays && !baselineNoBetter(w.Policy, j) && !s.skips(w, rollBack(w, j, now))
}

// gravity orders the verdicts about several versions.
func gravity(v deploy.Verdict) int {
	switch v {
	case deploy.VerdictFail:
		return 2
	case deploy.VerdictPass:
		return 0
	}
	return 1
}

func (c *Controller) unreadable(ctx context.Context, s *script, w *deploy.Watched, t trial, now time.Time, err error) (judgement, error) {
	c.countError(ctx, "rates")
	if s.down.IsZero() || s.down.After(now) {
		s.down = now
	}
	return judgement{trial: t, down: s.down, Assessment: Assessment{
		Verdict: deploy.VerdictError, Sentence: "the rates could not be read",
	}}, fmt.Errorf("judge version %s of script %s/%s: %w", t.candidate, w.AccountID, w.Script, err)
}

// keep keeps the evidence of what is still on trial, and begins that of what is new. Where
// the clock was set back behind what is settled, it begins anew: the seconds are read again.
func (s *script) keep(w *deploy.Watched, trials []trial, now time.Time) {
	kept := make(map[string]*evidence, len(trials))
	for _, t := range trials {
		e, wanted := s.evidence[t.candidate], scopeOf(w, t)
		if e == nil || e.scope != wanted || now.Before(e.at) {
			e = newEvidence(wanted, w.Policy, now)
		}
		if r := w.Ramp; r != nil && r.VersionID == t.candidate && r.DeploymentID == w.Deployments[0].ID && r.State != deploy.RampAborted {
			e.judgeStep(r.StepStartedAt)
		} else {
			e.judgeStep(time.Time{})
		}
		kept[t.candidate] = e
	}
	s.evidence = kept
	s.closest = nil
}

// scopeOf is what the evidence about a trial is made of. It goes on over the steps of a
// ramp, for which the promise is one. Whatever a person does begins it anew, because they
// know what came before: a deployment, also of another share of the same versions, resuming
// or skipping a step of the ramp, and another revision of the policy, whose limits
// may have been chosen by what was seen.
func scopeOf(w *deploy.Watched, t trial) scope {
	from := t.since
	for _, d := range w.Deployments {
		if !byController(d) {
			from = maxTime(from, d.CreatedOn)
			break
		}
	}
	if r := w.Ramp; r != nil && r.VersionID == t.candidate {
		from = maxTime(from, r.ResumedAt)
	}
	from = maxTime(from, w.PolicySince)
	from = maxTime(from, t.since.Add(time.Duration(w.Policy.GraceSeconds)*time.Second))
	return scope{candidate: t.candidate, baseline: t.baseline, from: wholeSecond(from.UTC()), revision: w.PolicyRevision, source: w.PolicySource}
}

// settledAt is before which a second is settled.
func settledAt(now time.Time) time.Time { return now.Add(-settleAfter).Truncate(time.Second) }

// unfolded is the first second that some evidence lacks; now without any.
func (s *script) unfolded(now time.Time) time.Time {
	since := now
	for _, e := range s.evidence {
		if e.at.Before(since) {
			since = e.at
		}
	}
	return since
}

// slow reports whether a judgement is known to take long.
func (s *script) slow(now time.Time) bool {
	return !s.down.IsZero() || settledAt(now).Sub(s.unfolded(now)) > readAtOnce
}

// catchUp folds all that is settled. blocks are those that are not; caughtUp is false
// while there is more past than one step can read.
func (c *Controller) catchUp(ctx context.Context, s *script, w *deploy.Watched, read *reading, now time.Time) (blocks []schema.RateBlock, caughtUp bool, err error) {
	settled, since := settledAt(now), s.unfolded(now)
	if read != nil {
		s.fold(read.blocks, settled, w.Deployments)
		return read.blocks, true, nil
	}
	for started := time.Now(); settled.Sub(since) > readAtOnce; since = since.Add(readAtOnce) {
		if time.Since(started) >= catchUpFor {
			return nil, false, nil
		}
		if blocks, err = c.blocks(ctx, w, since, since.Add(readAtOnce)); err != nil {
			return nil, false, err
		}
		s.fold(blocks, since.Add(readAtOnce), w.Deployments)
	}
	if blocks, err = c.blocks(ctx, w, since, now); err != nil {
		return nil, false, err
	}
	s.fold(blocks, settled, w.Deployments)
	return blocks, true, nil
}

// fold takes what is settled for good.
func (s *script) fold(blocks []schema.RateBlock, until time.Time, deployments []deploy.Deployment) {
	for _, e := range s.evidence {
		if e.at.Before(until) {
			e.fold(blocks, until, deployments)
		}
	}
}

// wentBack reports whether a second has fewer requests than it had before: somebody
// deletes them, or who answers is behind. What is folded by now is not looked at any more:
// the next look does not read it.
func (s *script) wentBack(blocks []schema.RateBlock, now time.Time) bool {
	from, back := s.unfolded(now), false
	seen := make(map[second]int64, len(blocks))
	for _, b := range blocks {
		if !b.Time.Before(from) {
			seen[second{b.VersionID, b.Time.Unix()}] = b.Requests
		}
	}
	for key, requests := range s.seen {
		if !time.Unix(key.at, 0).Before(from) && seen[key] < requests {
			back = true
		}
	}
	s.seen = seen
	return back
}

func (s *script) noteClosest(list []deploy.Evidence) {
	if s.closest == nil {
		s.closest = make(map[deploy.Metric]float64)
	}
	for _, one := range list {
		if one.Threshold > 0 {
			s.closest[one.Metric] = max(s.closest[one.Metric], one.LogE/one.Threshold, 0)
		}
	}
}

// before is what the baseline did in the last time in which it served (beforeSpan), by the
// yardstick of a limit. An error delays nobody: the candidate is known to fail, and the
// baseline was good enough for all traffic once.
func (c *Controller) before(ctx context.Context, w *deploy.Watched, t trial, m *measure, now time.Time) (tally, error) {
	until := now
	if !t.baselineUntil.IsZero() {
		until = t.baselineUntil
	}
	blocks, err := c.blocks(ctx, w, wholeSecond(until.Add(-beforeSpan(w.Policy))), until)
	if err != nil {
		c.countError(ctx, "rates")
		return tally{}, fmt.Errorf("read what version %s of script %s/%s did before: %w", t.baseline, w.AccountID, w.Script, err)
	}
	var sum tally
	for i := range blocks {
		if b := &blocks[i]; b.VersionID == t.baseline && !impossible(b) {
			one := m.tally(b, w.Policy.Count, baseline)
			sum.requests += one.requests
			sum.hits += one.hits
		}
	}
	return sum, nil
}

// beforeSpan is of how much of the baseline's last time its standing is told where it did
// too little beside the candidate: the look-back time, as far as one question reads.
func beforeSpan(policy deploy.RollbackPolicy) time.Duration {
	return min(lookBack(policy), readAtOnce)
}

// blocks of a script in seconds that begin in [since, until).
func (c *Controller) blocks(ctx context.Context, w *deploy.Watched, since, until time.Time) ([]schema.RateBlock, error) {
	if !since.Before(until) {
		return nil, nil
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	blocks, err := c.Rates.RateBlocks(call, w.AccountID, w.Script, since, until, needsDurations(w.Policy))
	if err != nil {
		return nil, fmt.Errorf("read the rates from %s to %s: %w", since.Format(time.RFC3339), until.Format(time.RFC3339), err)
	}
	return blocks, nil
}

// countVerdict is by verdict, of scripts with something on trial.
func (c *Controller) countVerdict(ctx context.Context, verdict deploy.Verdict) {
	if verdict != "" {
		c.metrics.verdicts.Add(ctx, 1, metric.WithAttributes(attribute.String("verdict", string(verdict))))
	}
}
