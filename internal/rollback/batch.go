package rollback

import (
	"context"
	"slices"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Most of what a question about a few minutes costs is the question. So scripts that are
// caught up are asked about together, and where nothing can be compared a script is asked
// about seldom. A question that fails is asked anew for each script: what one script
// spoils is an error of that script alone.

// seldom is how often a script is looked at of which nothing can be learned meanwhile.
const seldom = 5 * time.Second

// task is a script to judge.
type task struct {
	s *script
	w *deploy.Watched
}

// reading is what was read of a script: all seconds that its evidence lacks, up to at.
type reading struct {
	blocks []schema.RateBlock
	at     time.Time
}

// caughtUp reports whether a script lacks so little that it is asked about with others.
func (s *script) caughtUp(now time.Time) bool {
	return s.down.IsZero() && settledAt(now).Sub(s.unfolded(now)) <= settleAfter && len(s.evidence) > 0
}

// canWait reports whether a script was looked at a moment ago, and nothing can have been
// learned since: each limit compares with a baseline, and every second in which that
// served is settled. What a person does, or a ramp, does not wait.
func (s *script) canWait(w *deploy.Watched, trials []trial, now time.Time) bool {
	since := now.Sub(s.lookedAt)
	if since < 0 || since >= seldom || !s.down.IsZero() || w.Ramp != nil || s.lookedFor != looksFor(w) || len(trials) == 0 {
		return false
	}
	for _, t := range trials {
		if t.baselineUntil.IsZero() || now.Sub(t.baselineUntil) <= settleAfter {
			return false
		}
	}
	return !slices.ContainsFunc(w.Policy.Limits(), func(l deploy.Limit) bool { return newMeasure(l, 0.5).kind == absolute })
}

// occasion is what a script is looked at for.
type occasion struct {
	deployment string
	revision   int64
	source     deploy.PolicySource
}

func looksFor(w *deploy.Watched) occasion {
	return occasion{w.Deployments[0].ID, w.PolicyRevision, w.PolicySource}
}

// beginAlone begins to judge a script by a question of its own.
func (c *Controller) beginAlone(ctx context.Context, t task, now time.Time) {
	slots := c.slots
	if t.s.slow(now) {
		slots = c.slow
	}
	c.beginIn(ctx, slots, t)
}

func (c *Controller) beginIn(ctx context.Context, slots chan struct{}, t task) {
	c.judging.Go(func() {
		slots <- struct{}{}
		defer func() { <-slots }()
		t.s.done <- c.stepScript(ctx, t.s, t.w, nil)
	})
}

// beginTogether begins to judge scripts by one question. Where that fails, each is asked
// about alone, as slowly as those whose rates could not be read.
func (c *Controller) beginTogether(ctx context.Context, tasks []task, now time.Time, durations bool) {
	if len(tasks) == 1 {
		c.beginAlone(ctx, tasks[0], now)
		return
	}
	since, refs := now, make([]schema.ScriptRef, len(tasks))
	for i, t := range tasks {
		refs[i] = schema.ScriptRef{AccountID: t.w.AccountID, ScriptName: t.w.Script}
		if from := t.s.unfolded(now); from.Before(since) {
			since = from
		}
	}
	c.judging.Go(func() {
		blocks, err := c.blocksOf(ctx, refs, since, now, durations)
		if err != nil {
			c.countError(ctx, "rates")
		}
		for i, t := range tasks {
			if err != nil {
				c.beginIn(ctx, c.slow, t)
				continue
			}
			of := blocks[refs[i]]
			for len(of) > 0 && of[0].Time.Before(t.s.unfolded(now)) {
				of = of[1:]
			}
			c.judging.Go(func() { t.s.done <- c.stepScript(ctx, t.s, t.w, &reading{of, now}) })
		}
	})
}

func (c *Controller) blocksOf(ctx context.Context, refs []schema.ScriptRef, since, until time.Time, durations bool) (map[schema.ScriptRef][]schema.RateBlock, error) {
	if !since.Before(until) {
		return nil, nil
	}
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.Rates.RateBlocksOf(call, refs, since, until, durations)
}
