// Package rollback watches the versions in traffic and takes a bad one out.
//
// Controller.Step is the whole loop body: read what is watched, read the seconds of
// what is on trial (trialsOf), fold them into evidence, judge it (evidence.assess), turn
// the judgement into a change (decide, stepRamp), store the change. All but the reading
// and the storing is pure. What Step keeps between calls can be lost at any time: it is
// read again from the seconds.
package rollback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
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
	stepInterval = 500 * time.Millisecond
	// judgedAtOnce bounds the scripts that are judged side by side, and with them the
	// questions to ClickHouse.
	judgedAtOnce = 8
	// slowAtOnce bounds those of which a judgement is known to take long: they catch up, or
	// their rates could not be read the last time. They leave the other slots alone.
	slowAtOnce = 2
	// askedAtOnce bounds the scripts of one question to ClickHouse.
	askedAtOnce = 128
	leaseName   = "rollback"
	// clockAhead is how far the clocks of those who deploy may differ from ours for nothing
	// to be said about it.
	clockAhead = time.Minute
	// callTimeout bounds each call to the rates and the store: one script whose rates
	// hang must not stop the others.
	callTimeout = 2 * time.Second
	// leaseTTL is how long nobody judges after a holder was killed.
	leaseTTL = 3 * callTimeout
	// logInterval between two lines about a step that fails every time.
	logInterval = 10 * time.Second
)

// Blocks reads what versions did, second by second.
type Blocks interface {
	// RateBlocks returns what each version of the script did in each second that begins
	// in [since, until), ordered by time and then version; one without a drawn request is
	// absent. Durations are filled in where they are asked for. It blocks until the answer
	// or ctx ends, and is safe for concurrent use.
	RateBlocks(ctx context.Context, account, script string, since, until time.Time, durations bool) ([]schema.RateBlock, error)
}

// Rates reads that of many scripts, too.
type Rates interface {
	Blocks
	// RateBlocksOf is RateBlocks of several scripts, in one question. Scripts without such
	// requests are absent.
	RateBlocksOf(ctx context.Context, scripts []schema.ScriptRef, since, until time.Time, durations bool) (map[schema.ScriptRef][]schema.RateBlock, error)
}

// Deployments is the control plane's store.
type Deployments interface {
	// Watched returns every script with an enabled policy. The caller does not change
	// what it is given.
	Watched(ctx context.Context) ([]deploy.Watched, error)
	// ApplyDecision stores a new current deployment, the progress of the ramp and a
	// decision in one transaction; nil ones are left as they are. It returns
	// errs.Conflict and stores nothing when what was judged has changed: another deployment
	// serves, another policy is followed or none, or a person has changed the ramp, where a
	// rollback ends a held one all the same; errs.NotFound when the script is gone;
	// errs.Invalid when the deployment is refused. It may name any version that exists,
	// however old.
	ApplyDecision(ctx context.Context, accountID, script string, judged deploy.Judged,
		d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error
}

// Leases lets one controller of several act. A lease saves work; what keeps two
// from acting on one failure is what they judged.
type Leases interface {
	// AcquireLease takes the lease, or renews it for the same holder, until ttl from
	// now, and reports whether holder has it. An error names both.
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
	// scripts is what is remembered of the watched ones; empty without the lease.
	scripts map[scriptKey]*script
	judging sync.WaitGroup
	slots   chan struct{} // of judgedAtOnce
	slow    chan struct{} // of slowAtOnce
	// patience is how long a step waits for its judgements. Those that take longer go on,
	// and delay nobody but their own script.
	patience time.Duration
	// closest are the metrics of which tidegate_rollback_evidence was recorded.
	closest map[deploy.Metric]bool
	metrics metrics
}

type scriptKey struct{ account, name string }

// New returns a controller that does nothing before Run or Step.
func New(config Config) (*Controller, error) {
	m, err := newMetrics()
	if err != nil {
		return nil, fmt.Errorf("rollback: declare the metrics: %w", err)
	}
	return &Controller{
		Config: config, metrics: m, patience: stepInterval, slots: make(chan struct{}, judgedAtOnce), slow: make(chan struct{}, slowAtOnce),
		scripts: make(map[scriptKey]*script), closest: make(map[deploy.Metric]bool),
	}, nil
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
			c.judging.Wait()
			c.release(ctx)
			return nil
		case <-ticker.C:
		}
	}
}

// Step judges every watched script once, if this controller has the lease, and
// stores what follows. It may be killed and repeated at any line. It returns the
// errors of all scripts together; a script that fails does not stop the others, and one
// that is slow does not delay them: it goes on after Step has returned.
func (c *Controller) Step(ctx context.Context) error {
	start, active := time.Now(), int64(0)
	defer func() {
		c.metrics.steps.Add(ctx, 1)
		c.metrics.active.Record(ctx, active)
		c.metrics.duration.Record(ctx, time.Since(start).Seconds())
	}()
	held, err := c.lease(ctx)
	if err != nil {
		return err
	}
	if !held {
		// Another controller acts: what is remembered grows old. Judgements that are under
		// way end by themselves, and can change nothing that the other one has changed.
		clear(c.scripts)
		c.reportUnwatched(ctx, nil)
		c.reportEvidence(ctx)
		return nil
	}
	watched, err := c.watched(ctx)
	if err != nil {
		c.release(ctx) // another control plane, of a newer release say, may be able to
		return err
	}
	active = 1
	c.reportUnwatched(ctx, watched)
	failures := c.begin(ctx, watched)
	failures = append(failures, c.collect(ctx)...)
	c.reportEvidence(ctx)
	return errors.Join(failures...)
}

// begin begins to judge every script that is not being judged still. It returns the
// errors of judgements that have ended since the last step.
func (c *Controller) begin(ctx context.Context, watched []deploy.Watched) (failures []error) {
	before := c.scripts
	c.scripts = make(map[scriptKey]*script, len(watched))
	now := c.Now().UTC()
	together := map[bool][]task{} // by whether durations are needed
	for i := range watched {
		w := &watched[i]
		key := scriptKey{w.AccountID, w.Script}
		s := before[key]
		if s == nil {
			s = &script{}
		}
		c.scripts[key] = s
		select {
		case err := <-s.done: // never ready where it is nil
			failures, s.done = append(failures, err), nil
		default:
		}
		if s.done != nil || len(w.Deployments) == 0 {
			continue
		}
		trials := trialsOf(w.Deployments)
		if s.canWait(w, trials, now) {
			continue
		}
		s.keep(w, trials, now)
		s.lookedAt, s.lookedFor, s.done = now, looksFor(w), make(chan error, 1)
		if s.caughtUp(now) {
			durations := needsDurations(w.Policy)
			together[durations] = append(together[durations], task{s, w})
		} else {
			c.beginAlone(ctx, task{s, w}, now)
		}
	}
	for durations, tasks := range together {
		for some := range slices.Chunk(tasks, askedAtOnce) {
			c.beginTogether(ctx, some, now, durations)
		}
	}
	return failures
}

// collect waits for the judgements under way, but no longer than patience.
func (c *Controller) collect(ctx context.Context) (failures []error) {
	enough, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.patience)
	defer cancel()
	for _, s := range c.scripts {
		if s.done == nil {
			continue
		}
		if ended, err := s.outcome(enough.Done()); ended {
			failures = append(failures, err)
		}
	}
	return failures
}

// outcome of the judgement under way, if it ends before enough is closed. One that has
// ended already is taken in any case.
func (s *script) outcome(enough <-chan struct{}) (ended bool, err error) {
	select {
	case err = <-s.done:
	default:
		select {
		case err = <-s.done:
		case <-enough:
			return false, nil
		}
	}
	s.done = nil
	return true, err
}

// stepScript judges one script, by what was read of it already if that is given, and
// stores the change. An error in reading the rates is itself a verdict: it is acted upon
// and returned.
func (c *Controller) stepScript(ctx context.Context, s *script, w *deploy.Watched, read *reading) error {
	now := c.Now().UTC()
	if read != nil {
		now = read.at
	}
	j, failure := c.judge(ctx, s, w, read, now)
	if ctx.Err() != nil {
		return ctx.Err() // stopping is no outage of the rates
	}
	c.countVerdict(ctx, j.Verdict)
	if ch := decide(w, j, now); !ch.empty() && !s.skips(w, ch) {
		_, err := c.apply(ctx, s, w, ch)
		failure = errors.Join(failure, err)
	}
	return failure
}

// apply stores a change, with what was judged as its condition.
// Losing to somebody else is no error, and nothing is stored: the next step judges what
// they left.
func (c *Controller) apply(ctx context.Context, s *script, w *deploy.Watched, ch change) (stored bool, err error) {
	judged := w.Deployments[0].ID
	ctx, span := telemetry.Tracer("tidegate/internal/rollback").Start(ctx, "rollback.apply", trace.WithAttributes(
		attribute.String("account_id", w.AccountID), attribute.String("script", w.Script), attribute.String("from_deployment", judged)))
	defer func() { telemetry.End(span, err) }()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = c.Deployments.ApplyDecision(call, w.AccountID, w.Script, w.Judged(), ch.deployment, ch.ramp, ch.decision)
	switch kind := errs.KindOf(err); kind {
	case "":
	case errs.Conflict, errs.NotFound:
		c.Log.InfoContext(ctx, "script changed while it was judged, starting over",
			"account_id", w.AccountID, "script", w.Script, "from_deployment", judged)
		return false, nil
	case errs.Invalid:
		if ch.deployment != nil {
			c.countError(ctx, "refused")
			return c.applyRefused(ctx, s, w, ch, reasonOf(err))
		}
		fallthrough
	default:
		c.countError(ctx, "apply")
		return false, fmt.Errorf("store the decision about script %s/%s, deployment %s: %w", w.AccountID, w.Script, judged, err)
	}
	c.report(ctx, w, ch)
	return true, nil
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
	known, now := c.unwatched, c.Now()
	c.unwatched = make(map[string]bool)
	for i := range watched {
		w := &watched[i]
		why := unjudged(w, now)
		if why == "" {
			continue
		}
		id := w.Deployments[0].ID
		c.unwatched[id] = true
		if !known[id] {
			c.Log.WarnContext(ctx, "script has a rollback policy, and nothing that serves can be judged", "reason", why,
				"account_id", w.AccountID, "script", w.Script, "deployment_id", id, "deployments", len(w.Deployments))
		}
	}
	c.metrics.unwatched.Record(ctx, int64(len(c.unwatched)))
}

// reportEvidence records how near any version is to being acted upon, by limit.
func (c *Controller) reportEvidence(ctx context.Context) {
	now := make(map[deploy.Metric]float64, len(c.closest))
	for m := range c.closest {
		now[m] = 0
	}
	for _, s := range c.scripts {
		if s.done != nil {
			continue // it belongs to somebody else
		}
		for m, part := range s.closest {
			now[m] = max(now[m], part)
		}
	}
	for m, part := range now {
		c.closest[m] = true
		c.metrics.evidence.Record(ctx, part, metric.WithAttributes(attribute.String("metric", string(m))))
	}
}

func (c *Controller) lease(ctx context.Context) (bool, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := c.Now()
	held, err := c.Leases.AcquireLease(call, leaseName, c.Holder, leaseTTL)
	if err != nil {
		c.countError(ctx, "lease")
		return false, err
	}
	c.leasedAt = time.Time{}
	if held {
		c.leasedAt = now
	}
	return held, nil
}

// release lets the next controller start at once, also after ctx has ended.
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

func (c *Controller) countError(ctx context.Context, stage string) {
	c.metrics.errors.Add(ctx, 1, metric.WithAttributes(attribute.String("stage", stage)))
}

// wholeSecond rounds up to the start of a bucket.
func wholeSecond(t time.Time) time.Time {
	return t.Add(time.Second - 1).Truncate(time.Second)
}

func lookBack(policy deploy.RollbackPolicy) time.Duration {
	if policy.LookBackSeconds <= 0 {
		return deploy.DefaultLookBackSeconds * time.Second
	}
	return time.Duration(policy.LookBackSeconds) * time.Second
}
