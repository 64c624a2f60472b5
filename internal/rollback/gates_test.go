package rollback

import (
	"context"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// twoSteps go to 100 % after a minute at 10 %, if a gate opens.
func twoSteps(gate deploy.Gate) []deploy.RampStep {
	return []deploy.RampStep{{Percentage: 10_000, BakeSeconds: 60, Gate: gate}, {Percentage: deploy.Full}}
}

// expectRamp checks where a ramp stands and what its reason holds.
func expectRamp(t *testing.T, w *world, when, ramp, reason string) {
	t.Helper()
	if got := w.summary().Ramp; got != ramp || !strings.Contains(w.ramp.Reason, reason) || (reason == "") != (w.ramp.Reason == "") {
		t.Errorf("%s: ramp %q, reason %q; want %q, %q", when, got, w.ramp.Reason, ramp, reason)
	}
}

func TestManualGateWaitsForAPerson(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, twoSteps(deploy.GateManual)...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 5*time.Minute)
	expectRamp(t, w, "baked", "running 10%", "a person lets this step go on")
	w.control(deploy.RampSkip)
	w.steps(c, clk, time.Minute)
	expectRamp(t, w, "skipped", "done 100%", "")
	// It is judged by what came after, and still is.
	w.fails(v2, 0.5)
	w.steps(c, clk, 10*time.Second)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person", "v2 100% by a person", "v1 100% by rollback"},
		Decisions:   []string{"fail rollback"},
		Ramp:        "done 100%",
	})
}

func TestProvenGateAsksForProof(t *testing.T) {
	clk := newClock()
	p := policy(deploy.ActionRollback, twoSteps(deploy.GateProven)...)
	p.MaxFailureRate, p.MaxFailureRatio = nil, new(3.0)
	w := newWorld(t, clk.now, p)
	c := w.controller("a", w.fakes("a"))
	w.fails(v1, 0.01)
	w.fails(v2, 0.01)
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 70*time.Second)
	expectRamp(t, w, "baked", "running 10%", "not proven yet that 22222222 keeps its max_failure_ratio")
	w.steps(c, clk, 15*time.Minute)
	expectRamp(t, w, "proven", "done 100%", "")
}

// A policy that lost its ratio in the middle of a ramp proved nothing, and the gate opened.
func TestProvenGateWithoutARatioWaits(t *testing.T) {
	clk := newClock()
	p := policy(deploy.ActionRollback, twoSteps(deploy.GateProven)...)
	p.MaxFailureRatio = new(3.0)
	w := newWorld(t, clk.now, p)
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 10*time.Second)
	w.policy.MaxFailureRatio, w.policy.Ramp, w.revision, w.policySince = nil, twoSteps(""), 2, w.now()
	w.steps(c, clk, 5*time.Minute)
	expectRamp(t, w, "baked", "running 10%", "the policy has no ratio any more that could be proven")
}

// A version that was proven in its first minute to fail less than three times as often fails three
// times as often from then on: when its step is over, nothing of that proof is left.
func TestProofOfThePastOpensNoGate(t *testing.T) {
	p := limits(0, 3)
	e := evidenceOf(p)
	proven := func(n, failures int64) bool {
		end := e.at.Add(time.Duration(n) * time.Second)
		e.fold(seconds(e.at, int(n), func(int) (c, b schema.RateBlock) { return counted2(10, failures), counted2(90, 9) }), end, split90(10))
		return e.assess(false).Unproven == ""
	}
	e.advance(epoch)
	if !proven(40, 1) {
		t.Fatal("as many failures as the baseline: not proven")
	}
	if proven(1800, 3) {
		t.Error("three times as many since: still proven")
	}
}

// The baseline's failures came at once, the version's were time-outs of a minute. The seconds
// in which these were missing proved that it keeps its ratio, and the gate opened.
func TestProvenGateWaitsForLateFailures(t *testing.T) {
	for _, evidence := range []deploy.EvidenceKind{deploy.EvidenceRequests, deploy.EvidenceBlocks} {
		clk := newClock()
		p := policy(deploy.ActionRollback, twoSteps(deploy.GateProven)...)
		p.MaxFailureRate, p.MaxFailureRatio = nil, new(3.0)
		p.Ramp[0].Percentage, p.Ramp[0].BakeSeconds = 50_000, 30
		p.Evidence, p.BlockSeconds, p.MinRequests = evidence, 1, 20
		w := newWorld(t, clk.now, p)
		edges := w.fakes("a")
		edges.rates = func(_ context.Context, _, _ string, since, until time.Time) ([]schema.RateBlock, error) {
			blocks, err := w.blocks(since, until)
			for i := range blocks {
				if b := &blocks[i]; b.VersionID == v2 && b.Time.After(clk.Add(-time.Minute)) {
					b.Requests, b.Failures, b.Status5xx = b.Requests-b.Failures, 0, 0
				}
			}
			return blocks, err
		}
		w.fails(v1, 0.02)
		w.fails(v2, 0.8)
		w.deploy(split{v1: 50, v2: 50})
		c := w.controller("a", edges)
		w.steps(c, clk, 55*time.Second)
		expectRamp(t, w, string(evidence)+": baked", "running 50%", "not proven yet that 22222222 keeps its max_failure_ratio")
		w.steps(c, clk, 10*time.Minute)
		if got := w.summary().Decisions; len(got) != 1 || got[0] != "fail rollback" {
			t.Errorf("%s: decisions %q", evidence, got)
		}
	}
}

func TestRampHoldsOutsideOfItsHours(t *testing.T) {
	clk := newClock() // 12:00 UTC on a Sunday
	p := policy(deploy.ActionRollback, twoSteps("")...)
	p.Promote = []deploy.WeeklyWindow{{From: "12:10", Until: "13:00"}}
	p.Freeze = []deploy.FreezeWindow{{From: at(5), Until: at(12), Reason: "inventory"}}
	w := newWorld(t, clk.now, p)
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 2*time.Minute)
	expectRamp(t, w, "before", "running 10%", "outside of the hours")
	w.steps(c, clk, 4*time.Minute)
	expectRamp(t, w, "frozen", "running 10%", "inventory")
	w.steps(c, clk, 5*time.Minute)
	expectRamp(t, w, "frozen in the hours", "running 10%", "inventory")
	w.steps(c, clk, 2*time.Minute)
	expectRamp(t, w, "after", "done 100%", "")
}

// A window and a freeze hold ramps, and no rollback.
func TestFreezeStopsNoRollback(t *testing.T) {
	clk := newClock()
	p := policy(deploy.ActionRollback, twoSteps("")...)
	p.Freeze = []deploy.FreezeWindow{{From: at(0), Until: at(600)}}
	w := newWorld(t, clk.now, p)
	w.fails(v2, 0.2)
	w.deploy(split{v1: 90, v2: 10})
	w.steps(w.controller("a", w.fakes("a")), clk, time.Minute)
	if got := w.summary().Decisions; len(got) != 1 || got[0] != "fail rollback" {
		t.Errorf("decisions %q", got)
	}
}

func TestRampHoldsWhileEvidenceBuildsUp(t *testing.T) {
	clk := newClock()
	p := policy(deploy.ActionRollback, twoSteps("")...)
	p.Confidence = 0.999_999
	w := newWorld(t, clk.now, p)
	w.fails(v2, 0.045)
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 70*time.Second)
	expectRamp(t, w, "baked", "running 10%", "held: evidence is building up that 22222222 passes its max_failure_rate")
	w.fails(v2, 0)
	w.steps(c, clk, 10*time.Minute)
	expectRamp(t, w, "nothing more came", "done 100%", "")
}

func TestLongOutagePausesTheRamp(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, twoSteps("")...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 20*time.Second)
	outage := func(d time.Duration) {
		w.ratesDown = true
		for end := clk.Add(d); clk.Before(end); clk.advance(stepInterval) {
			if err := c.Step(t.Context()); err == nil {
				t.Fatal("step without rates succeeded")
			}
		}
		w.ratesDown = false
	}
	outage(4 * time.Minute)
	w.steps(c, clk, time.Second) // a short one after another is no long one
	if got := w.summary().Ramp; got != "done 100%" {
		t.Fatalf("ramp %q after a short outage", got)
	}

	w.deploy(split{v1: 100})
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 20*time.Second)
	before := len(w.decisions)
	outage(7 * time.Minute)
	const reason = "paused the ramp of 22222222: the rates could not be read for 5 minutes"
	expectRamp(t, w, "a long outage", "paused 10%", reason)
	if made := w.decisions[:len(w.decisions)-before]; len(made) != 2 || made[0].Sentence != reason || made[0].Verdict != deploy.VerdictError || made[0].Action != deploy.ActionPause {
		t.Errorf("%d decisions, the newest %+v", len(made), made[0])
	}
	w.steps(c, clk, 5*time.Minute)
	expectRamp(t, w, "over", "paused 10%", reason)
	w.control(deploy.RampResume)
	w.steps(c, clk, 2*time.Minute)
	expectRamp(t, w, "resumed", "done 100%", "")
}

// A failure stood through an outage that paused the ramp, and was told once more when that was over.
func TestFailureThatStandsIsToldOnceOverAnOutage(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionNotify, twoSteps(deploy.GateManual)...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 10*time.Second)
	w.fails(v2, 0.5)
	w.steps(c, clk, time.Minute)
	w.ratesDown = true
	for end := clk.Add(6 * time.Minute); clk.Before(end); clk.advance(stepInterval) {
		if err := c.Step(t.Context()); err == nil {
			t.Fatal("step without rates succeeded")
		}
	}
	w.ratesDown = false
	w.steps(c, clk, time.Minute)
	if got := w.summary().Decisions; len(got) != 2 || got[0] != "fail notify" || got[1] != "error pause" {
		t.Errorf("decisions %q", got)
	}
}

// Whatever a person does begins the judgement anew, and the controller's own steps do not.
func TestWhatBeginsTheJudgementAnew(t *testing.T) {
	f := func(name string, wantMinute int, do func(w *world)) {
		t.Helper()
		clk := newClock()
		w := newWorld(t, clk.now, policy(deploy.ActionRollback,
			deploy.RampStep{Percentage: 5_000, BakeSeconds: 60}, deploy.RampStep{Percentage: 25_000, BakeSeconds: 600}, deploy.RampStep{Percentage: deploy.Full}))
		c := w.controller("a", w.fakes("a"))
		clk.advance(time.Minute)
		w.deploy(split{v1: 95, v2: 5})
		w.steps(c, clk, 4*time.Minute)
		if got := w.summary().Ramp; got != "running 25%" {
			t.Fatalf("ramp %q: it did not go on by itself", got)
		}
		do(w)
		w.steps(c, clk, time.Second)
		e := c.scripts[scriptKey{"account", "shop"}].evidence[v2]
		if want := at(wantMinute); e == nil || !e.from.Equal(want) {
			t.Errorf("%s: evidence %+v, want one from %v on", name, e, want)
		}
	}
	f("nothing", 1, func(*world) {})
	f("another share", 5, func(w *world) { w.deploy(split{v1: 50, v2: 50}) })
	f("another policy", 5, func(w *world) { w.policy.MinRequests, w.revision, w.policySince = 7, 2, w.now() })
	f("a controller that begins", 1, func(w *world) { w.holder, w.heldUntil = "", time.Time{} })
}

func TestGraceTimeCountsForNothing(t *testing.T) {
	clk := newClock()
	p := policy(deploy.ActionRollback)
	p.GraceSeconds = 60
	w := newWorld(t, clk.now, p)
	c := w.controller("a", w.fakes("a"))
	w.fails(v2, 0.9)
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, time.Minute)
	w.fails(v2, 0)
	w.steps(c, clk, 5*time.Minute)
	if len(w.decisions) > 0 {
		t.Fatalf("decided %q", w.decisions[0].Sentence)
	}
	w.fails(v2, 0.9)
	w.steps(c, clk, 10*time.Second)
	if got := w.summary().Decisions; len(got) != 1 {
		t.Errorf("decisions %q", got)
	}
}

// A replica that is behind, or somebody who deletes: fewer requests than a moment ago.
func TestCountsThatGoBackMoveNothing(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 20*time.Second)
	w.fails(v2, 0.9)
	for i := range 60 {
		w.requestsPerSecond = 200 - float64(i)
		clk.advance(stepInterval)
		if err := c.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	expectSummary(t, w, summary{Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"}})
	w.steps(c, clk, 5*time.Second)
	if got := w.summary().Decisions; len(got) != 1 {
		t.Errorf("decisions %q after the counts had come to rest", got)
	}
}

func TestClockThatJumpsMovesNothing(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 5*time.Minute)
	for _, jump := range []time.Duration{-4 * time.Minute, time.Hour, -time.Hour, -10 * time.Minute, 30 * time.Hour, -30 * time.Hour} {
		clk.advance(jump)
		if err := c.Step(t.Context()); err != nil {
			t.Errorf("jump of %v: %v", jump, err)
		}
	}
	expectSummary(t, w, summary{Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"}})
	w.fails(v2, 0.9)
	clk.advance(20 * time.Minute)
	w.steps(c, clk, 10*time.Second)
	if got := w.summary().Decisions; len(got) != 1 {
		t.Errorf("decisions %q", got)
	}
}
