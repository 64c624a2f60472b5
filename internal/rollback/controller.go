// Package rollback watches the versions in traffic and takes a bad one out.
//
// Controller.Step is the whole loop body: read what is watched, read the rates of
// what is on trial (trialsOf), judge it (Assess), turn the judgement into a change
// (decide, stepRamp), store the change. All but the reading and the storing is
// pure. Step keeps nothing between calls but the time of its lease, and what it has
// logged as unwatched.
package rollback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/telemetry"
	"tidegate/schema"
)

const (
	stepInterval = 500 * time.Millisecond // half a bucket of the rates, which are by the second
	leaseName    = "rollback"
	// callTimeout bounds each call to the rates and the store: one script whose rates
	// hang must not stop the others.
	callTimeout = 2 * time.Second
	// leaseTTL is how long nobody judges after a holder was killed. One script takes
	// at most three calls.
	leaseTTL = 3 * callTimeout
	// logInterval between two lines about a step that fails every time.
	logInterval = 10 * time.Second
)

// Rates reads the per-version rollups.
type Rates interface {
	// RatesBetween returns one row per version of the script that had an event in a
	// bucket starting in [since, until): the counts summed over those buckets. A
	// version without a row had no event. It blocks until the answer or ctx ends.
	RatesBetween(ctx context.Context, account, script string, since, until time.Time) ([]schema.VersionRate, error)
}

// Deployments is the control plane's store.
type Deployments interface {
	// Watched returns every script with an enabled policy. The caller does not change
	// what it is given.
	Watched(ctx context.Context) ([]deploy.Watched, error)
	// ApplyDecision stores a new current deployment, the progress of the ramp and a
	// decision in one transaction; nil ones are left as they are. It returns
	// errs.Conflict and stores nothing when the script's current deployment is not
	// ifCurrent any more, or a person has paused or aborted the ramp that it would
	// change, unless by a rollback; errs.NotFound when the script is gone;
	// errs.Invalid when the deployment is refused. It may name any version that exists,
	// however old.
	ApplyDecision(ctx context.Context, accountID, script, ifCurrent string,
		d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error
}

// Leases lets one controller of several act. A lease saves work; what keeps two
// from acting on one failure is ifCurrent.
type Leases interface {
	// AcquireLease takes the lease, or renews it for the same holder, until ttl from
	// now, and reports whether holder has it.
	AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	// ReleaseLease gives the lease up; nothing happens if holder does not have it.
	ReleaseLease(ctx context.Context, name, holder string) error
}

// Config is what a Controller is made of. Every field is required.
type Config struct {
	Holder      string // names this process in the lease; no two alike
	Rates       Rates
	Deployments Deployments
	Leases      Leases
	Log         *slog.Logger
	Now         func() time.Time
}

// Controller judges every watched script, step by step. It is not safe for
// concurrent use: one goroutine calls Run or Step.
type Controller struct {
	Config
	leasedAt time.Time // when the lease was last taken or renewed; zero without it
	// unwatched are the current deployments that nothing can judge, by id; empty
	// without the lease.
	unwatched map[string]bool
	// refused are the current deployments, by id, whose successor was refused.
	refused map[string]bool
	metrics metrics
}

// New returns a controller that does nothing before Run or Step.
func New(config Config) (*Controller, error) {
	m, err := newMetrics()
	if err != nil {
		return nil, fmt.Errorf("rollback: declare the metrics: %w", err)
	}
	return &Controller{Config: config, refused: make(map[string]bool), metrics: m}, nil
}

// Run steps every 500 ms until ctx ends, then gives up the lease and returns nil.
// A step that fails is logged and tried again.
func (c *Controller) Run(ctx context.Context) error {
	ticker := time.NewTicker(stepInterval)
	defer ticker.Stop()
	var logged time.Time
	for {
		if err := c.Step(ctx); err != nil && ctx.Err() == nil && c.Now().Sub(logged) >= logInterval {
			logged = c.Now()
			c.Log.ErrorContext(ctx, "rollback step failed, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			c.release(ctx)
			return nil
		case <-ticker.C:
		}
	}
}

// Step judges every watched script once, if this controller has the lease, and
// stores what follows. It may be killed and repeated at any line. It returns the
// errors of all scripts together; a script that fails does not stop the others.
func (c *Controller) Step(ctx context.Context) error {
	start := time.Now()
	defer func() {
		c.metrics.steps.Add(ctx, 1)
		c.metrics.duration.Record(ctx, time.Since(start).Seconds())
	}()
	held, err := c.lease(ctx)
	if err != nil {
		return err
	}
	if !held {
		c.reportUnwatched(ctx, nil)
		return nil
	}
	watched, err := c.watched(ctx)
	if err != nil {
		return err
	}
	c.reportUnwatched(ctx, watched)
	c.forgetRefused(watched)
	var failures []error
	for i := range watched {
		// A long step keeps its lease, or ends.
		if c.Now().Sub(c.leasedAt) >= stepInterval {
			if held, err := c.lease(ctx); err != nil || !held {
				return errors.Join(append(failures, err)...)
			}
		}
		failures = append(failures, c.stepScript(ctx, &watched[i]))
	}
	return errors.Join(failures...)
}

// stepScript judges one script and stores the change. An error in reading the
// rates is itself a verdict: it is acted upon and returned.
func (c *Controller) stepScript(ctx context.Context, w *deploy.Watched) error {
	if len(w.Deployments) == 0 {
		return nil
	}
	now := c.Now().UTC()
	j, failure := c.judge(ctx, w, now)
	if ctx.Err() != nil {
		return ctx.Err() // stopping is no outage of the rates
	}
	if j.Verdict != "" {
		c.metrics.verdicts.Add(ctx, 1, metric.WithAttributes(attribute.String("verdict", string(j.Verdict))))
	}
	if ch := decide(w, j, now); !ch.empty() && !c.skips(w, ch) {
		failure = errors.Join(failure, c.apply(ctx, w, ch))
	}
	return failure
}

// judge assesses every trial of a script: the first that fails or cannot be judged
// decides, then the first that is inconclusive.
func (c *Controller) judge(ctx context.Context, w *deploy.Watched, now time.Time) (judgement, error) {
	var worst judgement
	for _, t := range trialsOf(w.Deployments) {
		j, err := c.judgeTrial(ctx, w, t, now)
		if err != nil {
			c.countError(ctx, "rates")
			return judgement{trial: t, Assessment: Assessment{
				Verdict: deploy.VerdictError, Sentence: "the rates could not be read",
			}}, fmt.Errorf("judge version %s of script %s/%s: %w", t.candidate, w.AccountID, w.Script, err)
		}
		if j.Verdict == deploy.VerdictFail {
			return j, nil
		}
		if worst.Verdict == "" || worst.Verdict == deploy.VerdictPass {
			worst = j
		}
	}
	return worst, nil
}

func (c *Controller) judgeTrial(ctx context.Context, w *deploy.Watched, t trial, now time.Time) (judgement, error) {
	window := lookBack(w.Policy)
	since := now.Add(-window)
	if t.since.After(since) {
		since = t.since
	}
	if r := w.Ramp; r != nil && r.VersionID == t.candidate && r.ResumedAt.After(since) {
		since = r.ResumedAt
	}
	rows, err := c.rates(ctx, w, since, now)
	if err != nil {
		return judgement{}, err
	}
	baseline := rowOf(rows, t.baseline)
	j := judgement{trial: t, Assessment: Assess(w.Policy, rowOf(rows, t.candidate), baseline)}
	if j.Verdict != deploy.VerdictFail || w.Policy.Action != deploy.ActionRollback {
		return j, nil
	}
	// Where to go to: what the baseline does beside the candidate tells most; with
	// too little of that, what it did when it last served.
	j.target = baseline
	if assigned(baseline) < requestsMin(w.Policy) {
		until := now
		if !t.baselineUntil.IsZero() {
			until = t.baselineUntil
		}
		if rows, err = c.rates(ctx, w, until.Add(-window), until); err != nil {
			return judgement{}, err
		}
		j.target = rowOf(rows, t.baseline)
	}
	return j, nil
}

// apply stores a change, with the deployment that was judged as its condition.
// Losing to somebody else is no error: the next step judges what they left.
func (c *Controller) apply(ctx context.Context, w *deploy.Watched, ch change) (err error) {
	judged := w.Deployments[0].ID
	ctx, span := telemetry.Tracer("tidegate/internal/rollback").Start(ctx, "rollback.apply", trace.WithAttributes(
		attribute.String("account_id", w.AccountID), attribute.String("script", w.Script), attribute.String("from_deployment", judged)))
	defer func() { telemetry.End(span, err) }()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = c.Deployments.ApplyDecision(call, w.AccountID, w.Script, judged, ch.deployment, ch.ramp, ch.decision)
	switch kind := errs.KindOf(err); kind {
	case "":
	case errs.Conflict, errs.NotFound:
		c.Log.InfoContext(ctx, "script changed while it was judged, starting over",
			"account_id", w.AccountID, "script", w.Script, "from_deployment", judged)
		return nil
	case errs.Invalid:
		if ch.deployment != nil {
			c.countError(ctx, "refused")
			return c.applyRefused(ctx, w, ch, reasonOf(err))
		}
		fallthrough
	default:
		c.countError(ctx, "apply")
		return fmt.Errorf("store the decision about script %s/%s, deployment %s: %w", w.AccountID, w.Script, judged, err)
	}
	c.report(ctx, w, ch)
	return nil
}

// report comes after traffic has moved, and cannot delay it.
func (c *Controller) report(ctx context.Context, w *deploy.Watched, ch change) {
	log := c.Log.With("account_id", w.AccountID, "script", w.Script, "from_deployment", w.Deployments[0].ID)
	action := ""
	if ch.deployment != nil {
		action = "ramp"
		log = log.With("to_deployment", ch.deployment.ID)
	}
	if d := ch.decision; d != nil {
		if d.Action != "" {
			action = string(d.Action)
		}
		log.InfoContext(ctx, "rollback decision", "verdict", d.Verdict, "action", action, "version_id", d.VersionID, "sentence", d.Sentence)
	} else if r := ch.ramp; r != nil {
		log.InfoContext(ctx, "ramp changed", "version_id", r.VersionID, "state", r.State, "step", r.Step+1, "reason", r.Reason)
	}
	if action != "" {
		c.metrics.actions.Add(ctx, 1, metric.WithAttributes(attribute.String("action", action)))
	}
}

// reportUnwatched counts the scripts whose policy cannot protect them, and logs each
// once for a deployment: protection must not end in silence. The watched are nil
// when another controller has the lease, and counts them.
func (c *Controller) reportUnwatched(ctx context.Context, watched []deploy.Watched) {
	known := c.unwatched
	c.unwatched = make(map[string]bool)
	for _, w := range watched {
		if !unwatched(w.Deployments) {
			continue
		}
		id := w.Deployments[0].ID
		c.unwatched[id] = true
		if !known[id] {
			c.Log.WarnContext(ctx, "script has a rollback policy, but no version to go back to: none had all traffic in the deployments before this one",
				"account_id", w.AccountID, "script", w.Script, "deployment_id", id, "deployments", len(w.Deployments))
		}
	}
	c.metrics.unwatched.Record(ctx, int64(len(c.unwatched)))
}

func (c *Controller) lease(ctx context.Context) (bool, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := c.Now()
	held, err := c.Leases.AcquireLease(call, leaseName, c.Holder, leaseTTL)
	if err != nil {
		c.countError(ctx, "lease")
		return false, fmt.Errorf("acquire the lease %q for %s: %w", leaseName, c.Holder, err)
	}
	c.leasedAt = time.Time{}
	if held {
		c.leasedAt = now
	}
	return held, nil
}

// release lets the next controller start at once. ctx has ended already.
func (c *Controller) release(ctx context.Context) {
	if c.leasedAt.IsZero() {
		return
	}
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := c.Leases.ReleaseLease(call, leaseName, c.Holder); err != nil {
		c.countError(ctx, "lease")
		c.Log.WarnContext(ctx, "lease not released, it runs out by itself", "lease", leaseName, "ttl", leaseTTL, "error", err)
	}
	c.leasedAt = time.Time{}
}

func (c *Controller) watched(ctx context.Context) ([]deploy.Watched, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	watched, err := c.Deployments.Watched(call)
	if err != nil {
		c.countError(ctx, "watched")
		return nil, fmt.Errorf("read the watched scripts: %w", err)
	}
	return watched, nil
}

// rates of a script in [since, until), from the first whole second on: the second
// in which a version began may hold what it did in an earlier run.
func (c *Controller) rates(ctx context.Context, w *deploy.Watched, since, until time.Time) ([]schema.VersionRate, error) {
	since = wholeSecond(since)
	if !since.Before(until) {
		return nil, nil
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rows, err := c.Rates.RatesBetween(call, w.AccountID, w.Script, since, until)
	if err != nil {
		return nil, fmt.Errorf("read the rates from %s to %s: %w", since.Format(time.RFC3339), until.Format(time.RFC3339), err)
	}
	for _, row := range rows {
		if row.AssignedFailures < 0 || row.AssignedFailures > row.Assigned {
			return nil, fmt.Errorf("read the rates from %s to %s: version %s has %d failures in %d requests, which cannot be",
				since.Format(time.RFC3339), until.Format(time.RFC3339), row.VersionID, row.AssignedFailures, row.Assigned)
		}
	}
	return rows, nil
}

func (c *Controller) countError(ctx context.Context, stage string) {
	c.metrics.errors.Add(ctx, 1, metric.WithAttributes(attribute.String("stage", stage)))
}

// wholeSecond rounds up to the start of a bucket.
func wholeSecond(t time.Time) time.Time {
	return t.Add(time.Second - 1).Truncate(time.Second)
}

func rowOf(rows []schema.VersionRate, version string) *schema.VersionRate {
	for i := range rows {
		if rows[i].VersionID == version {
			return &rows[i]
		}
	}
	return nil
}

func lookBack(policy deploy.RollbackPolicy) time.Duration {
	if policy.LookBackSeconds <= 0 {
		return deploy.DefaultLookBackSeconds * time.Second
	}
	return time.Duration(policy.LookBackSeconds) * time.Second
}
