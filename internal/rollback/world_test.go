package rollback

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

// world is one script in one store, under traffic that follows its deployments: a
// closed loop without a database. The fakes that controllers get are functions
// made of its methods.
type world struct {
	mu          sync.Mutex
	now         func() time.Time
	policy      deploy.RollbackPolicy
	revision    int64
	policySince time.Time
	deployments []deploy.Deployment // newest first
	ramp        *deploy.Ramp
	decisions   []deploy.RollbackDecision // newest first
	holder      string                    // of the lease
	heldUntil   time.Time

	requestsPerSecond float64
	failures          map[string][]failing // by version, newest first
	wallMs            map[string]float64   // of every request, by version
	ratesDown         bool
	ratesCalls        map[string]int // by holder
	t                 *testing.T
}

// failing is a share of a version's requests that fail from some moment on.
type failing struct {
	since time.Time
	rate  float64
}

// newWorld has v1 at 100 %, for ten minutes, without failures, at 100 requests/s.
func newWorld(t *testing.T, now func() time.Time, policy deploy.RollbackPolicy) *world {
	w := &world{
		t: t, now: now, policy: policy,
		requestsPerSecond: 100, failures: map[string][]failing{}, wallMs: map[string]float64{}, ratesCalls: map[string]int{},
	}
	d := person(split{v1: 100})
	d.ID, d.CreatedOn = uuid.NewString(), now().Add(-10*time.Minute)
	w.deployments = []deploy.Deployment{d}
	return w
}

// fails lets a share of a version's requests fail from now on. The past stays as it
// was.
func (w *world) fails(version string, rate float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures[version] = slices.Insert(w.failures[version], 0, failing{w.now(), rate})
}

// control is a person's action on the ramp.
func (w *world) control(action string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	r, err := w.ramp.Control(action, "ann@example.com", w.now())
	if err != nil {
		w.t.Fatalf("%s the ramp: %v", action, err)
	}
	if action == deploy.RampSkip { // as the store does
		d := person(nil)
		d.ID, d.CreatedOn, d.Versions = uuid.NewString(), w.now(), r.Splits(w.deployments[0].Versions)
		w.deployments = slices.Insert(w.deployments, 0, d)
		r.DeploymentID = d.ID
	}
	w.ramp = &r
}

// deploy is a person's deployment.
func (w *world) deploy(s split) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := person(s)
	d.ID, d.CreatedOn = uuid.NewString(), w.now()
	w.deployments = slices.Insert(w.deployments, 0, d)
}

func (w *world) watched(context.Context) ([]deploy.Watched, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := deploy.Watched{
		AccountID: "account", Script: "shop", Policy: w.policy, PolicyRevision: w.revision, PolicySource: deploy.PolicyOfScript, PolicySince: w.policySince,
		Deployments: slices.Clone(w.deployments),
	}
	if w.ramp != nil {
		one.Ramp = new(*w.ramp)
	}
	for _, d := range w.decisions {
		if d.FromDeployment == w.deployments[0].ID {
			one.Decisions = append(one.Decisions, d)
		}
	}
	return []deploy.Watched{one}, nil
}

// apply checks what any store would refuse, so that every test checks it.
func (w *world) apply(_ context.Context, account, script, ifCurrent string, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if account != "account" || script != "shop" {
		return errs.New(errs.NotFound, 10007, "no script %s/%s", account, script)
	}
	if w.deployments[0].ID != ifCurrent {
		return errs.New(errs.Conflict, 0, "the current deployment is %s", w.deployments[0].ID)
	}
	if d != nil {
		if err := deploy.ValidateSplits(d.Versions, deploy.DefaultMaxVersions); err != nil {
			w.t.Errorf("deployment of the controller: %v", err)
		}
		if d.AuthorEmail != Author || d.Source != "api" || d.Strategy != "percentage" || d.Annotations.Message == "" || uuid.Validate(d.ID) != nil {
			w.t.Errorf("deployment of the controller lacks something: %+v", d)
		}
		w.deployments = slices.Insert(w.deployments, 0, *d)
	}
	if ramp != nil {
		w.ramp = new(*ramp)
	}
	if decision != nil {
		if decision.FromDeployment != ifCurrent || decision.Sentence == "" || uuid.Validate(decision.ID) != nil ||
			(d != nil) != (decision.ToDeployment != "") {
			w.t.Errorf("decision %q does not fit what was done: deployment %v", decision.Sentence, d)
			return errors.New("refused")
		}
		w.decisions = slices.Insert(w.decisions, 0, *decision)
	}
	return nil
}

// blocks counts the requests of each second by the deployment that served when it ended,
// and by the failure rates of then. What has happened of the open second has been counted.
func (w *world) blocks(since, until time.Time) ([]schema.RateBlock, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ratesDown {
		return nil, errors.New("connection refused")
	}
	if since.Nanosecond() != 0 {
		w.t.Errorf("rates asked from %v: not a whole second", since)
	}
	var blocks []schema.RateBlock
	for at := since; at.Before(until); at = at.Add(time.Second) {
		end := at.Add(time.Second)
		if now := w.now(); end.After(now) {
			end = now
		}
		serving := slices.IndexFunc(w.deployments, func(d deploy.Deployment) bool { return d.CreatedOn.Before(end) })
		if serving < 0 || !end.After(at) {
			continue
		}
		first := len(blocks)
		for _, s := range w.deployments[serving].Versions {
			share := float64(s.Percentage) / float64(deploy.Full)
			failureRate := w.failureRate(s.VersionID, at)
			// Whole numbers, evenly over time: of the counts until two moments.
			count := func(rate float64) int64 {
				until := func(t time.Time) float64 { return math.Floor(t.Sub(epoch).Seconds()*rate + 1e-6) }
				return int64(until(end) - until(at))
			}
			b := schema.RateBlock{
				VersionID: s.VersionID, Time: at,
				Requests: count(w.requestsPerSecond * share), Failures: count(w.requestsPerSecond * share * failureRate),
			}
			b.Failures = min(b.Failures, b.Requests)
			b.Status5xx = b.Failures
			if w.wallMs[s.VersionID] > 0 {
				b.Wall = schema.Durations{schema.DurationBucket(w.wallMs[s.VersionID]): b.Requests}
			}
			if b.Requests > 0 {
				blocks = append(blocks, b)
			}
		}
		slices.SortFunc(blocks[first:], func(a, b schema.RateBlock) int { return strings.Compare(a.VersionID, b.VersionID) })
	}
	return blocks, nil
}

func (w *world) failureRate(version string, at time.Time) float64 {
	for _, f := range w.failures[version] {
		if !f.since.After(at) {
			return f.rate
		}
	}
	return 0
}

func (w *world) acquire(name, holder string, ttl time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name != leaseName {
		w.t.Errorf("lease %q", name)
	}
	if w.holder != holder && w.now().Before(w.heldUntil) {
		return false
	}
	w.holder, w.heldUntil = holder, w.now().Add(ttl)
	return true
}

func (w *world) release(holder string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.holder == holder {
		w.holder, w.heldUntil = "", time.Time{}
	}
}

// fakes are the edges of a controller, as functions that a test can replace.
type fakes struct {
	rates   func(ctx context.Context, account, script string, since, until time.Time) ([]schema.RateBlock, error)
	watched func(ctx context.Context) ([]deploy.Watched, error)
	judged  *atomic.Pointer[deploy.Judged] // that of the last decision
	apply   func(ctx context.Context, accountID, script, ifCurrent string, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error
	acquire func(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	release func(ctx context.Context, name, holder string) error

	together *atomic.Int64 // questions about several scripts
}

func (f *fakes) RateBlocks(ctx context.Context, account, script string, since, until time.Time, _ bool) ([]schema.RateBlock, error) {
	return f.rates(ctx, account, script, since, until)
}

// RateBlocksOf fails if the rates of any of the scripts do.
func (f *fakes) RateBlocksOf(ctx context.Context, scripts []schema.ScriptRef, since, until time.Time, _ bool) (map[schema.ScriptRef][]schema.RateBlock, error) {
	f.together.Add(1)
	all := map[schema.ScriptRef][]schema.RateBlock{}
	for _, s := range scripts {
		blocks, err := f.rates(ctx, s.AccountID, s.ScriptName, since, until)
		if err != nil {
			return nil, err
		}
		all[s] = blocks
	}
	return all, nil
}

func (f *fakes) Watched(ctx context.Context) ([]deploy.Watched, error) { return f.watched(ctx) }

func (f *fakes) ApplyDecision(ctx context.Context, accountID, script string, judged deploy.Judged, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
	f.judged.Store(&judged)
	return f.apply(ctx, accountID, script, judged.DeploymentID, d, ramp, decision)
}

func (f *fakes) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	return f.acquire(ctx, name, holder, ttl)
}

func (f *fakes) ReleaseLease(ctx context.Context, name, holder string) error {
	return f.release(ctx, name, holder)
}

func (w *world) fakes(holder string) *fakes {
	return &fakes{
		together: new(atomic.Int64), judged: new(atomic.Pointer[deploy.Judged]),
		watched: w.watched,
		apply:   w.apply,
		rates: func(_ context.Context, _, _ string, since, until time.Time) ([]schema.RateBlock, error) {
			w.mu.Lock()
			w.ratesCalls[holder]++
			w.mu.Unlock()
			return w.blocks(since, until)
		},
		acquire: func(_ context.Context, name, holder string, ttl time.Duration) (bool, error) {
			return w.acquire(name, holder, ttl), nil
		},
		release: func(_ context.Context, _, holder string) error {
			w.release(holder)
			return nil
		},
	}
}

func (w *world) controller(holder string, f *fakes) *Controller {
	w.t.Helper()
	c, err := New(Config{
		Holder: holder, Rates: f, Deployments: f, Leases: f,
		Log: slog.New(slog.DiscardHandler), Now: w.now,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	c.patience = time.Minute // a test waits for every judgement
	return c
}

// clock is a time that a test moves.
type clock struct{ time.Time }

func newClock() *clock                   { return &clock{epoch} }
func (c *clock) now() time.Time          { return c.Time }
func (c *clock) advance(d time.Duration) { c.Time = c.Add(d) }

// steps lets a controller step for a while, every 500 ms; no step may fail.
func (w *world) steps(c *Controller, clk *clock, d time.Duration) {
	w.t.Helper()
	for end := clk.Add(d); clk.Before(end); clk.advance(stepInterval) {
		if err := c.Step(w.t.Context()); err != nil {
			w.t.Fatalf("step at +%v: %v", clk.Sub(epoch), err)
		}
	}
}

// summary is what a script has come to, without ids, times and counts.
type summary struct {
	Deployments []string // oldest first: splits, and who
	Decisions   []string // oldest first: verdict and action
	Ramp        string
}

func (w *world) summary() summary {
	w.mu.Lock()
	defer w.mu.Unlock()
	var s summary
	for _, d := range slices.Backward(w.deployments) {
		line := ""
		for _, v := range d.Versions {
			line += "v" + v.VersionID[:1] + " " + v.Percentage.String() + " "
		}
		if d.Annotations.TriggeredBy == "" {
			line += "by a person"
		} else {
			line += "by " + d.Annotations.TriggeredBy
		}
		s.Deployments = append(s.Deployments, line)
	}
	for _, d := range slices.Backward(w.decisions) {
		s.Decisions = append(s.Decisions, string(d.Verdict)+" "+string(d.Action))
	}
	if w.ramp != nil {
		s.Ramp = string(w.ramp.State) + " " + w.ramp.Steps[w.ramp.Step].Percentage.String()
	}
	return s
}

// checkChain: every deployment by a decision follows right upon the one judged.
func (w *world) checkChain() {
	w.t.Helper()
	for _, decision := range w.decisions {
		i := slices.IndexFunc(w.deployments, func(d deploy.Deployment) bool { return d.ID == decision.ToDeployment })
		if i >= 0 && w.deployments[i+1].ID != decision.FromDeployment {
			w.t.Errorf("%q replaced another deployment than the one it judged", decision.Sentence)
		}
	}
}
