package rollback

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

const (
	v1 = "11111111-0000-4000-8000-000000000000"
	v2 = "22222222-0000-4000-8000-000000000000"
	v3 = "33333333-0000-4000-8000-000000000000"
)

func policy(action deploy.Action, ramp ...deploy.RampStep) deploy.RollbackPolicy {
	p := limits(0.02, 0)
	p.Action, p.Ramp = action, ramp
	return p
}

func block(version string, at time.Time, requests, failures int64) schema.RateBlock {
	return schema.RateBlock{VersionID: version, Time: at, Requests: requests, Failures: failures}
}

func limits(rate, ratio float64) deploy.RollbackPolicy {
	p := deploy.DefaultPolicy()
	p.Enabled, p.MinRequests = true, 100
	if rate > 0 {
		p.MaxFailureRate = &rate
	}
	if ratio > 0 {
		p.MaxFailureRatio = &ratio
	}
	return p
}

func expectSummary(t *testing.T, w *world, want summary) {
	t.Helper()
	if diff := cmp.Diff(want, w.summary()); diff != "" {
		t.Errorf("end state (-want +got):\n%s", diff)
	}
	w.checkChain()
}

func TestBadVersionIsRolledBack(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v2, 0.1)
	c := w.controller("a", w.fakes("a"))
	w.steps(c, clk, time.Minute)
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person", "v1 100% by rollback"},
		Decisions:   []string{"fail rollback"},
	})
	d := w.decisions[0]
	const sentence = "rolled back 22222222 after 110 requests: 11 failures (10 %), above the limit of 2 %; chance of this if the limit were kept: below 1 in 1,000"
	if d.Sentence != sentence || w.deployments[0].Annotations.Message != sentence {
		t.Errorf("sentence %q, message %q, want %q", d.Sentence, w.deployments[0].Annotations.Message, sentence)
	}
	if d.VersionID != v2 || d.BaselineVersionID != v1 || *d.Numbers.Limit != 0.02 || *d.Numbers.BaselineRequests != 990 || d.Metric != deploy.MetricFailureRate ||
		len(d.Evidence) != 1 || len(d.Evidence[0].Series) < 5 || d.Evidence[0].LogE < d.Evidence[0].Threshold || d.PolicySource != deploy.PolicyOfScript {
		t.Errorf("decision %+v", d)
	}
	if after := d.At.Sub(w.deployments[1].CreatedOn); after > 11*time.Second {
		t.Errorf("rolled back %v after the deployment", after)
	}
}

func TestVersionAlreadyAtFullShareIsRolledBack(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v2: 100})
	w.steps(c, clk, time.Hour)
	w.fails(v2, 0.5) // long after the look-back window of its start
	w.steps(c, clk, 20*time.Second)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v2 100% by a person", "v1 100% by rollback"},
		Decisions:   []string{"fail rollback"},
	})
	// The baseline's numbers are from when it last served.
	if n := w.decisions[0].Numbers; n.BaselineRequests == nil || *n.BaselineRequests != 30_000 {
		t.Errorf("numbers %+v, want 300 s of the baseline at 100 requests/s", n)
	}
}

func TestEarlierRunOfTheCandidateIsNotHeldAgainstIt(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v2, 0.1)
	w.deploy(split{v1: 90, v2: 10})
	clk.advance(20*time.Second + 300*time.Millisecond)
	w.deploy(split{v1: 100})
	c := w.controller("a", w.fakes("a"))
	clk.advance(time.Second)
	w.deploy(split{v1: 90, v2: 10})
	clk.advance(5 * time.Second)
	if err := c.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	from := c.scripts[scriptKey{"account", "shop"}].evidence[v2].from
	if want := epoch.Add(22 * time.Second); !from.Equal(want) {
		t.Errorf("judged since %v, want %v: the first whole second of the new attempt", from, want)
	}
	w.fails(v2, 0)
	w.steps(c, clk, time.Minute)
	if len(w.decisions) > 0 {
		t.Errorf("decided %q", w.decisions[0].Sentence)
	}
}

func TestBaselineThatIsNoBetterIsNotRestored(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v1, 0.1)
	w.fails(v2, 0.1)
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, time.Minute)
	want := summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"},
		Decisions:   []string{"fail "},
	}
	expectSummary(t, w, want)
	const sentence = "kept 22222222 after 110 requests: 11 failures (10 %), above the limit of 2 %; chance of this if the limit were kept: below 1 in 1,000; " +
		"11111111 was no better: 99 failures in 990 requests (10 %)"
	if w.decisions[0].Sentence != sentence {
		t.Errorf("sentence %q, want %q", w.decisions[0].Sentence, sentence)
	}
	// Once the baseline is better, the standing failure is acted upon.
	w.fails(v1, 0)
	w.steps(c, clk, time.Minute)
	want.Deployments = append(want.Deployments, "v1 100% by rollback")
	want.Decisions = append(want.Decisions, "fail rollback")
	expectSummary(t, w, want)
}

// One bad release after the other: v2 was bad, and v3, a minute later, was worse. v3 was rolled
// back to v2, which nothing judged from then on, and nothing said so.
func TestVersionThatWasOnTrialIsPutBack(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v2, 0.05)
	w.fails(v3, 0.5)
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v2: 100})
	w.steps(c, clk, 2*time.Second)
	w.deploy(split{v3: 100})
	w.steps(c, clk, time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v2 100% by a person", "v3 100% by a person", "v2 100% by rollback"},
		Decisions:   []string{"fail rollback"},
	})
	const want = "; 22222222 is above the limit itself: 10 failures in 200 requests (5 %); 22222222 had had all traffic for less than a look-back time, and nothing judges it now"
	if got := w.decisions[0].Sentence; !strings.HasSuffix(got, want) || w.deployments[0].Annotations.Message != got {
		t.Errorf("sentence %q, message %q", got, w.deployments[0].Annotations.Message)
	}
	if len(c.unwatched) != 1 {
		t.Errorf("%d scripts are counted as unwatched", len(c.unwatched))
	}
	w.deploy(split{v1: 100})
	w.steps(c, clk, time.Minute)
	if len(w.decisions) != 1 || len(c.unwatched) != 0 {
		t.Errorf("after a person went back to v1: decisions %q, %d unwatched", w.summary().Decisions, len(c.unwatched))
	}
}

// A script without traffic at night got a bad release in the morning. The release
// stayed, because nothing was known of the version before it in its last minutes;
// nor would a few failed requests of those minutes have been evidence against it.
func TestBaselineThatLittleIsKnownOfIsRestored(t *testing.T) {
	f := func(baselineRequests, baselineFailures int64, sentence string) {
		t.Helper()
		clk := newClock()
		w := newWorld(t, clk.now, policy(deploy.ActionRollback))
		w.deploy(split{v2: 100})
		f := w.fakes("a")
		f.rates = func(_ context.Context, _, _ string, since, until time.Time) ([]schema.RateBlock, error) {
			blocks := []schema.RateBlock{block(v1, epoch.Add(-100*time.Second), baselineRequests, baselineFailures), block(v2, epoch.Add(30*time.Second), 400, 40)}
			return slices.DeleteFunc(blocks, func(b schema.RateBlock) bool { return b.Time.Before(since) || !b.Time.Before(until) || b.Requests == 0 }), nil
		}
		clk.advance(time.Minute)
		w.steps(w.controller("a", f), clk, time.Second)
		expectSummary(t, w, summary{
			Deployments: []string{"v1 100% by a person", "v2 100% by a person", "v1 100% by rollback"},
			Decisions:   []string{"fail rollback"},
		})
		if got := w.decisions[0].Sentence; got != sentence || w.deployments[0].Annotations.Message != sentence {
			t.Errorf("sentence %q, message %q, want %q", got, w.deployments[0].Annotations.Message, sentence)
		}
	}
	const fails = "rolled back 22222222 after 400 requests: 40 failures (10 %), above the limit of 2 %; chance of this if the limit were kept: below 1 in 1,000,000,000"
	f(0, 0, fails+"; nothing is known of 11111111, which had no requests in its last look-back time")
	f(40, 8, fails+"; little is known of 11111111: 8 failures in 40 requests of its last look-back time, and it takes 100 to tell")
	f(99, 99, fails+"; little is known of 11111111: 99 failures in 99 requests of its last look-back time, and it takes 100 to tell")
	f(100, 2, fails)
	f(100, 9, fails+"; 11111111 is above the limit itself: 9 failures in 100 requests (9 %)")
	f(400, 36, fails+"; 11111111 is above the limit itself: 36 failures in 400 requests (9 %)")
}

// See TestVersionThatAPersonWentBackToIsNotOnTrial: what it did to traffic.
func TestVersionThatAPersonLeftIsNotRestored(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v2: 100})
	w.steps(c, clk, time.Minute)
	w.deploy(split{v1: 100})
	w.deployments[0].Annotations = deploy.Annotations{Message: "Rollback", TriggeredBy: triggeredByDeployment}
	w.fails(v1, 0.1)
	w.steps(c, clk, time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v2 100% by a person", "v1 100% by deployment"},
	})
}

func TestBaselineWithLittleTrafficIsJudgedByItsOwnWindow(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v2, 0.1)
	w.deploy(split{v1: 1, v2: 99})
	w.steps(w.controller("a", w.fakes("a")), clk, 10*time.Second)
	if len(w.decisions) != 1 || w.decisions[0].Action != deploy.ActionRollback {
		t.Fatalf("end state %+v", w.summary())
	}
	// 2 requests beside the candidate tell less than 300 s with those before it.
	if n := *w.decisions[0].Numbers.BaselineRequests; n < 29_000 {
		t.Errorf("the baseline was judged by %d requests", n)
	}
}

func TestOutageOfTheRatesMovesNothing(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback,
		deploy.RampStep{Percentage: 10_000, BakeSeconds: 30}, deploy.RampStep{Percentage: deploy.Full}))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 20*time.Second)
	w.ratesDown = true
	w.fails(v2, 0.1)
	for range 120 {
		if err := c.Step(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Fatalf("step without rates: %v", err)
		}
		clk.advance(stepInterval)
	}
	want := summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"},
		Decisions:   []string{"error "},
		Ramp:        "running 10%",
	}
	expectSummary(t, w, want)
	if w.ramp.Reason != "waiting: the rates could not be read" {
		t.Errorf("reason %q", w.ramp.Reason)
	}
	if d := w.decisions[0]; d.Sentence != "could not judge 22222222: the rates could not be read" || d.Numbers != (deploy.Numbers{}) {
		t.Errorf("decision %+v", d)
	}
	// A failure during the outage is found after it.
	w.ratesDown = false
	w.steps(c, clk, time.Second)
	want.Deployments = append(want.Deployments, "v1 100% by rollback")
	want.Decisions = append(want.Decisions, "fail rollback")
	want.Ramp = "aborted 10%"
	expectSummary(t, w, want)
}

func TestImpossibleCountsAreNoFailure(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	f := w.fakes("a")
	f.rates = func(context.Context, string, string, time.Time, time.Time) ([]schema.RateBlock, error) {
		at := epoch.Add(30 * time.Second)
		return []schema.RateBlock{block(v1, at, 900, 0), block(v2, at, 100, 101)}, nil
	}
	w.deploy(split{v1: 90, v2: 10})
	clk.advance(time.Minute)
	w.steps(w.controller("a", f), clk, time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"},
	})
}

func TestStoppingIsNoOutage(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.deploy(split{v1: 90, v2: 10})
	clk.advance(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	f := w.fakes("a")
	f.rates = func(ctx context.Context, _, _ string, _, _ time.Time) ([]schema.RateBlock, error) {
		cancel()
		return nil, ctx.Err()
	}
	if err := w.controller("a", f).Step(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("step: %v", err)
	}
	if len(w.decisions) > 0 {
		t.Errorf("recorded %q", w.decisions[0].Sentence)
	}
}

func TestOneBrokenScriptDoesNotStopTheOthers(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v2, 0.1)
	w.deploy(split{v1: 90, v2: 10})
	clk.advance(20 * time.Second)
	f := w.fakes("a")
	f.watched = func(ctx context.Context) ([]deploy.Watched, error) {
		watched, err := w.watched(ctx)
		gone, empty := watched[0], watched[0]
		gone.Script, empty.Script, empty.Deployments = "gone", "empty", nil
		return append([]deploy.Watched{gone, empty}, watched...), err
	}
	c := w.controller("a", f)
	if err := c.Step(t.Context()); err != nil {
		t.Errorf("a script that was deleted meanwhile: %v", err)
	}
	if len(w.deployments) != 3 {
		t.Errorf("%d deployments, want the rollback as the third", len(w.deployments))
	}
	f.watched = func(context.Context) ([]deploy.Watched, error) {
		return nil, errs.New(errs.Unavailable, 0, "database is away")
	}
	if err := c.Step(t.Context()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("step without a store: %v", err)
	}
}

// A policy of old may have no limit at all: its ramps go on, whatever fails.
func TestAPolicyWithoutLimitsWatchesNothing(t *testing.T) {
	clk := newClock()
	p := limits(0, 0)
	p.Ramp = threeSteps
	w := newWorld(t, clk.now, p)
	w.fails(v2, 0.5)
	w.deploy(split{v1: 95, v2: 5})
	w.steps(w.controller("a", w.fakes("a")), clk, 10*time.Minute+10*time.Second)
	if got := w.summary(); got.Ramp != "done 100%" || slices.ContainsFunc(got.Decisions, func(d string) bool { return d != "pass " }) {
		t.Errorf("%+v", got)
	}
}

// A controller that cannot read what is watched, because another release has changed the
// tables, kept the lease: nobody judged anything.
func TestAControllerThatCannotReadLetsAnotherAct(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v2, 0.1)
	w.deploy(split{v2: 100})
	blind := w.fakes("a")
	blind.watched = func(context.Context) ([]deploy.Watched, error) { return nil, errors.New("no such column") }
	a, b := w.controller("a", blind), w.controller("b", w.fakes("b"))
	for i := range 60 {
		if err := a.Step(t.Context()); err == nil && i == 0 { // later on b has the lease
			t.Fatal("it could read")
		}
		w.steps(b, clk, time.Second)
	}
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v2 100% by a person", "v1 100% by rollback"},
		Decisions:   []string{"fail rollback"},
	})
}

func TestALeaseErrorIsSaidOnce(t *testing.T) {
	w := newWorld(t, newClock().now, policy(deploy.ActionRollback))
	f := w.fakes("a")
	const text = "acquire lease rollback for a: the database is away" // as the store has it
	f.acquire = func(context.Context, string, string, time.Duration) (bool, error) { return false, errors.New(text) }
	if err := w.controller("a", f).Step(t.Context()); err == nil || err.Error() != text {
		t.Errorf("error %v, want %s", err, text)
	}
}

// What the baseline did before is asked of a short time only, and where even that cannot
// be read the known failure is acted upon.
func TestUnreadBaselineDoesNotKeepABadVersion(t *testing.T) {
	f := func(tooSlow func(w *world, since, until time.Time) bool, suffix string) {
		t.Helper()
		clk := newClock()
		p := policy(deploy.ActionRollback)
		p.LookBackSeconds = 86_400
		w := newWorld(t, clk.now, p)
		w.deploy(split{v2: 100})
		w.fails(v2, 0.5)
		f := w.fakes("a")
		f.rates = func(_ context.Context, _, _ string, since, until time.Time) ([]schema.RateBlock, error) {
			if tooSlow(w, since, until) {
				return nil, errors.New("deadline exceeded")
			}
			return w.blocks(since, until)
		}
		c := w.controller("a", f)
		for range 40 {
			clk.advance(time.Second)
			if err := c.Step(t.Context()); err != nil && !strings.Contains(err.Error(), "what version "+v1) {
				t.Fatal(err)
			}
		}
		expectSummary(t, w, summary{
			Deployments: []string{"v1 100% by a person", "v2 100% by a person", "v1 100% by rollback"},
			Decisions:   []string{"fail rollback"},
		})
		if got := w.decisions[0].Sentence; !strings.HasSuffix(got, suffix) {
			t.Errorf("sentence %q", got)
		}
	}
	f(func(_ *world, since, until time.Time) bool { return until.Sub(since) > readAtOnce }, "below 1 in 1,000,000,000")
	f(func(w *world, _, until time.Time) bool { return !until.After(w.deployments[0].CreatedOn) },
		"; nothing is known of 11111111: what it did in its last 20 minutes could not be read")
}

func TestEndedJudgementsAreCollectedAtOnce(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	c := w.controller("a", w.fakes("a"))
	c.patience = 0
	const scripts = 64
	for i := range scripts {
		s := &script{done: make(chan error, 1)}
		s.done <- errors.New("refused")
		c.scripts[scriptKey{"account", strconv.Itoa(i)}] = s
	}
	if got := c.collect(t.Context()); len(got) != scripts {
		t.Errorf("collected %d of %d judgements that had ended", len(got), scripts)
	}
}
