package rollback

import (
	"context"
	"fmt"
	"sync"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

const (
	// backtestMost is how far back a backtest goes at most.
	backtestMost = 14 * 24 * time.Hour
	// backtestPiece is how much of it is in memory at a time.
	backtestPiece = time.Hour
	// backtestDeployments is how many deployments are replayed at most, the newest ones.
	backtestDeployments = 2000
	// rememberedMost is of how many scripts the evidence is remembered from one question
	// to the next, the last ones that were asked about.
	rememberedMost = 64
)

// Scripts tells what there is to judge. Where something does not exist, the error has
// kind not_found.
type Scripts interface {
	// DeploymentsSince returns the deployments since a time, newest first, and so many of
	// those before it; at most limit, the newest ones.
	DeploymentsSince(ctx context.Context, accountID, script string, since time.Time, before, limit int) ([]deploy.Deployment, error)
	// Policy is what a script follows.
	Policy(ctx context.Context, accountID, script string) (deploy.PolicyRevision, error)
	Ramp(ctx context.Context, accountID, script string) (deploy.Ramp, error)
}

// HistoryConfig is what a History is made of.
type HistoryConfig struct {
	Rates   Blocks
	Scripts Scripts
	Kept    time.Duration // how long Rates knows a second, at least; 0: for ever
	Now     func() time.Time
}

// History answers what policies would have done, and what their tests say now. It changes
// nothing, and needs no lease. It is safe for concurrent use.
type History struct {
	HistoryConfig
	mu         sync.Mutex
	remembered map[scriptKey]*remembered
}

// remembered is the evidence of a script as it was last asked for.
type remembered struct {
	turn   chan struct{} // holds one of those who ask
	script script        // of who has the turn
	used   time.Time     // History.mu
}

// NewHistory returns a History that knows nothing yet.
func NewHistory(config HistoryConfig) *History {
	return &History{HistoryConfig: config, remembered: make(map[scriptKey]*remembered)}
}

// Backtest replays a policy over what is kept of the time that q asks about; what it has
// replayed is in the result. Seconds that are not settled are left out. After each piece it
// calls progress, which may be nil; the first call comes when everything that can be
// refused was. It blocks until the end or that of ctx. The error is invalid where nothing
// of the time can be replayed.
func (h *History) Backtest(ctx context.Context, q deploy.BacktestQuery, progress func(deploy.BacktestProgress)) (deploy.BacktestResult, error) {
	since, until, err := h.reach(q.Since, q.Until)
	if err != nil {
		return deploy.BacktestResult{}, err
	}
	deployments, err := h.Scripts.DeploymentsSince(ctx, q.AccountID, q.Script, since, deploy.WatchedDeployments, backtestDeployments)
	if err != nil {
		return deploy.BacktestResult{}, err
	}
	if len(deployments) == backtestDeployments { // before the oldest ones there may be others
		since = maxTime(since, wholeSecond(deployments[backtestDeployments-deploy.WatchedDeployments].CreatedOn))
		if !since.Before(until) {
			return deploy.BacktestResult{}, errs.New(errs.Invalid, 0, "there is nothing to replay between since and until: the newest %d deployments are replayed, from %s on",
				backtestDeployments, since.Format(time.RFC3339))
		}
	}
	report := func(at time.Time) {
		if progress != nil {
			progress(deploy.BacktestProgress{Since: since, Until: until, At: at})
		}
	}
	b := newBacktest(q.Policy, deployments, since, until)
	report(since)
	for at := b.wanted(since); at.Before(until); {
		end := at.Add(backtestPiece)
		if end.After(until) {
			end = until
		}
		blocks, err := h.blocks(ctx, q.AccountID, q.Script, at, end, q.Policy)
		if err != nil {
			return deploy.BacktestResult{}, err
		}
		b.play(blocks, end)
		report(end)
		at = b.wanted(end)
	}
	b.play(nil, until)
	return b.done(), ctx.Err()
}

// reach is what can be replayed of a time: whole seconds that are kept and settled.
func (h *History) reach(since, until time.Time) (from, to time.Time, err error) {
	now := h.Now().UTC()
	to = now.Add(-settleAfter)
	if !until.IsZero() && until.Before(to) {
		to = until.UTC()
	}
	most := backtestMost
	if h.Kept > 0 {
		most = min(most, h.Kept)
	}
	oldest := now.Add(-most)
	from, to = wholeSecond(maxTime(since.UTC(), oldest)), to.Truncate(time.Second)
	if !from.Before(to) {
		return from, to, errs.New(errs.Invalid, 0, "there is nothing to replay between since and until: seconds can be replayed from %s to %s",
			wholeSecond(oldest).Format(time.RFC3339), settledAt(now).Format(time.RFC3339))
	}
	return from, to, nil
}

// Evidence is what the tests of a script's policy say now, in the eyes of a controller
// that looks at this moment. It blocks until the answer or the end of ctx. The error is
// not_found for a script that follows no policy.
func (h *History) Evidence(ctx context.Context, account, name string) (deploy.LiveEvidence, error) {
	w, err := h.watched(ctx, account, name)
	if err != nil {
		return deploy.LiveEvidence{}, err
	}
	r := h.remember(scriptKey{account, name})
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return deploy.LiveEvidence{}, ctx.Err()
	}
	now := h.Now().UTC()
	live := deploy.LiveEvidence{
		At: now, PolicySource: w.PolicySource, PolicyRevision: w.PolicyRevision, Enabled: w.Policy.Enabled,
		Reason: unjudged(w, now), Trials: []deploy.LiveTrial{},
	}
	trials := trialsOf(w.Deployments)
	r.script.keep(w, trials, now)
	if len(trials) == 0 {
		return live, nil
	}
	blocks, err := h.catchUp(ctx, &r.script, w, now)
	if err != nil {
		return deploy.LiveEvidence{}, err
	}
	doubt := r.script.wentBack(blocks, now)
	for _, t := range trials {
		e := r.script.evidence[t.candidate]
		looked := e.look(blocks, now, w.Deployments)
		a := looked.assess(doubt || looked.doubtful > e.doubtful)
		live.Trials = append(live.Trials, deploy.LiveTrial{
			VersionID: t.candidate, BaselineVersionID: t.baseline, Since: e.from,
			Verdict: a.Verdict, Sentence: a.Sentence, Metric: a.Metric, Numbers: a.Numbers, Evidence: bounded(a.Evidence, a.measures),
			Heard: looked.heardOf(candidate), BaselineHeard: looked.heardOf(baseline),
		})
	}
	return live, nil
}

// watched is what a controller would be told of one script.
func (h *History) watched(ctx context.Context, account, name string) (*deploy.Watched, error) {
	deployments, err := h.Scripts.DeploymentsSince(ctx, account, name, h.Now(), deploy.WatchedDeployments, deploy.WatchedDeployments)
	if err != nil {
		return nil, err
	}
	p, err := h.Scripts.Policy(ctx, account, name)
	if err != nil {
		return nil, err
	}
	w := &deploy.Watched{
		AccountID: account, Script: name, Policy: *p.Policy, PolicyRevision: p.Revision, PolicySource: p.Source, PolicySince: p.Since, Deployments: deployments,
	}
	ramp, err := h.Scripts.Ramp(ctx, account, name)
	if err == nil {
		w.Ramp = &ramp
	} else if errs.KindOf(err) != errs.NotFound {
		return nil, err
	}
	return w, nil
}

// remember returns what is remembered of a script, and forgets another one if that is
// too much.
func (h *History) remember(key scriptKey) *remembered {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.remembered[key]
	if r == nil {
		if len(h.remembered) >= rememberedMost {
			h.forgetOldest()
		}
		r = &remembered{turn: make(chan struct{}, 1)}
		h.remembered[key] = r
	}
	r.used = h.Now()
	return r
}

func (h *History) forgetOldest() {
	var oldest scriptKey
	var used time.Time
	for key, r := range h.remembered {
		if used.IsZero() || r.used.Before(used) {
			oldest, used = key, r.used
		}
	}
	delete(h.remembered, oldest)
}

// catchUp folds all that is settled, piece by piece, and returns what is not.
func (h *History) catchUp(ctx context.Context, s *script, w *deploy.Watched, now time.Time) ([]schema.RateBlock, error) {
	settled, since := settledAt(now), s.unfolded(now)
	for ; settled.Sub(since) > backtestPiece; since = since.Add(backtestPiece) {
		blocks, err := h.blocks(ctx, w.AccountID, w.Script, since, since.Add(backtestPiece), w.Policy)
		if err != nil {
			return nil, err
		}
		s.fold(blocks, since.Add(backtestPiece), w.Deployments)
	}
	blocks, err := h.blocks(ctx, w.AccountID, w.Script, since, now, w.Policy)
	if err != nil {
		return nil, err
	}
	s.fold(blocks, settled, w.Deployments)
	return blocks, nil
}

func (h *History) blocks(ctx context.Context, account, name string, since, until time.Time, policy deploy.RollbackPolicy) ([]schema.RateBlock, error) {
	if !since.Before(until) {
		return nil, nil
	}
	blocks, err := h.Rates.RateBlocks(ctx, account, name, since, until, needsDurations(policy))
	if err != nil {
		return nil, fmt.Errorf("read the rates of script %s/%s from %s to %s: %w", account, name, since.Format(time.RFC3339), until.Format(time.RFC3339), err)
	}
	return blocks, nil
}
