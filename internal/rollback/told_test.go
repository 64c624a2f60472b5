package rollback

import (
	"slices"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

func TestNotifyIsToldOnce(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionNotify,
		deploy.RampStep{Percentage: 10_000, BakeSeconds: 30}, deploy.RampStep{Percentage: deploy.Full}))
	w.fails(v2, 0.1)
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, time.Minute)
	// An outage in between does not tell it again.
	w.ratesDown = true
	if err := c.Step(t.Context()); err == nil {
		t.Error("step without rates succeeded")
	}
	w.ratesDown = false
	w.steps(c, clk, time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"},
		Decisions:   []string{"fail notify"},
		Ramp:        "running 10%",
	})
	if w.ramp.Reason != "held: 22222222 passed its max_failure_rate" {
		t.Errorf("reason %q", w.ramp.Reason)
	}
}

func TestPauseHoldsTheRamp(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionPause,
		deploy.RampStep{Percentage: 10_000, BakeSeconds: 30}, deploy.RampStep{Percentage: deploy.Full}))
	w.fails(v2, 0.1)
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 20*time.Second)
	w.fails(v2, 0)
	w.steps(c, clk, 10*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"},
		Decisions:   []string{"fail pause"},
		Ramp:        "paused 10%",
	})
	const sentence = "paused the ramp of 22222222 after 110 requests: 11 failures (10 %), above the limit of 2 %; chance of this if the limit were kept: below 1 in 1,000"
	if w.ramp.Reason != sentence || w.decisions[0].Sentence != sentence {
		t.Errorf("reason %q, sentence %q", w.ramp.Reason, w.decisions[0].Sentence)
	}
}

func TestPauseWithoutARampSaysSo(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionPause))
	w.fails(v2, 0.1)
	w.deploy(split{v2: 100})
	w.steps(w.controller("a", w.fakes("a")), clk, time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v2 100% by a person"},
		Decisions:   []string{"fail "},
	})
	const sentence = "kept 22222222 after 150 requests: 15 failures (10 %), above the limit of 2 %; chance of this if the limit were kept: below 1 in 30,000; no ramp is running that could be paused"
	if w.decisions[0].Sentence != sentence {
		t.Errorf("sentence %q", w.decisions[0].Sentence)
	}
}

func TestSecondOfTwoNewVersionsIsJudgedToo(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v3, 0.1)
	w.deploy(split{v1: 80, v2: 10, v3: 10})
	w.steps(w.controller("a", w.fakes("a")), clk, time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 80% v2 10% v3 10% by a person", "v1 100% by rollback"},
		Decisions:   []string{"fail rollback"},
	})
	if w.decisions[0].VersionID != v3 {
		t.Errorf("blamed %s", w.decisions[0].VersionID)
	}
}

// What the controller decides holds for the deployment and the policy that it judged.
func TestDecisionsNameWhatWasJudged(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.revision = 7
	w.fails(v2, 0.1)
	w.deploy(split{v2: 100})
	f := w.fakes("a")
	w.steps(w.controller("a", f), clk, time.Minute)
	if len(w.decisions) != 1 {
		t.Fatalf("decisions %+v", w.decisions)
	}
	want := deploy.Judged{DeploymentID: w.decisions[0].FromDeployment, PolicySource: deploy.PolicyOfScript, PolicyRevision: 7}
	if got := f.judged.Load(); got == nil || *got != want {
		t.Errorf("judged %+v, want %+v", got, want)
	}
}

// The first of two new versions fails, and the baseline is no better; the second comes to
// fail worse than the baseline.
func TestFailureThatActsDecides(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v1, 0.1)
	w.fails(v2, 0.1)
	w.deploy(split{v1: 60, v2: 20, v3: 20})
	c := w.controller("a", w.fakes("a"))
	w.steps(c, clk, time.Minute)
	w.fails(v3, 0.6)
	w.steps(c, clk, time.Minute)
	if got := w.summary().Deployments; got[len(got)-1] != "v1 100% by rollback" || w.decisions[0].VersionID != v3 {
		t.Errorf("end state %+v", w.summary())
	}
}

// Two new versions fail, one after the other, and neither is acted upon: both are told of.
func TestEachFailingVersionIsToldOf(t *testing.T) {
	f := func(action deploy.Action, prepare func(w *world), decisions ...string) {
		t.Helper()
		clk := newClock()
		w := newWorld(t, clk.now, policy(action))
		prepare(w)
		c := w.controller("a", w.fakes("a"))
		w.deploy(split{v1: 60, v2: 20, v3: 20})
		w.steps(c, clk, 30*time.Second)
		w.fails(v2, 0.5)
		w.steps(c, clk, 3*time.Minute)
		w.fails(v3, 0.5)
		w.steps(c, clk, 3*time.Minute)
		var told []string
		for _, d := range slices.Backward(w.decisions) {
			told = append(told, d.VersionID[:1]+" "+string(d.Verdict)+" "+string(d.Action))
		}
		if !slices.Equal(told, decisions) {
			t.Errorf("%s: decisions %q, want %q", action, told, decisions)
		}
	}
	f(deploy.ActionNotify, func(*world) {}, "2 fail notify", "3 fail notify")
	f(deploy.ActionPause, func(*world) {}, "2 fail ", "3 fail ")
	f(deploy.ActionRollback, func(w *world) { w.fails(v1, 0.6) }, "2 fail ", "3 fail ")
}

// A failure is told once; but what fails a policy that somebody has changed since is another.
func TestAFailureOfAChangedPolicyIsToldOf(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionNotify))
	w.revision = 1
	w.fails(v2, 0.1)
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, 3*time.Minute)
	if len(w.decisions) != 1 {
		t.Fatalf("decisions %+v", w.decisions)
	}
	w.policy.MaxFailureRate, w.revision, w.policySince = new(0.2), 2, clk.now()
	w.steps(c, clk, 3*time.Minute)
	w.fails(v2, 0.9)
	w.steps(c, clk, 3*time.Minute)
	w.release("a")
	w.steps(w.controller("b", w.fakes("b")), clk, 3*time.Minute)
	if len(w.decisions) != 2 || w.decisions[0].Verdict != deploy.VerdictFail || w.decisions[0].PolicyRevision != 2 {
		t.Errorf("decisions %+v", w.decisions)
	}
}

// Who decided may have had a clock that was ahead of that of who then changed the policy.
func TestAFailureOfAPolicyThatWasChangedByAnotherClockIsToldOf(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionNotify))
	w.revision = 1
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	w.steps(c, clk, time.Minute)
	w.fails(v2, 0.5)
	for deadline := clk.Add(time.Minute); len(w.decisions) == 0; w.steps(c, clk, time.Second) {
		if clk.After(deadline) {
			t.Fatal("nothing was decided")
		}
	}
	w.policy.MaxFailureRate, w.revision, w.policySince = new(0.3), 2, clk.now().Add(-30*time.Second)
	w.steps(c, clk, 10*time.Minute)
	if len(w.decisions) != 2 || w.decisions[0].PolicyRevision != 2 {
		t.Errorf("decisions %+v", w.decisions)
	}
}

// What was deployed, or a policy that was saved, by a clock that was an hour ahead is not
// judged for that hour. That is told of; a grace period is no such thing.
func TestWhatIsDatedAheadIsCountedAsUnwatched(t *testing.T) {
	f := func(counted int, change func(w *world, now time.Time)) {
		t.Helper()
		clk := newClock()
		w := newWorld(t, clk.now, policy(deploy.ActionRollback))
		w.fails(v2, 0.5)
		w.deploy(split{v1: 90, v2: 10})
		change(w, clk.now())
		c := w.controller("a", w.fakes("a"))
		w.steps(c, clk, time.Second)
		if len(c.unwatched) != counted {
			t.Errorf("%d scripts are counted as unwatched, want %d", len(c.unwatched), counted)
		}
		w.steps(c, clk, time.Hour+2*time.Minute)
		if len(c.unwatched) != 0 || len(w.decisions) != 1 || w.decisions[0].Action != deploy.ActionRollback {
			t.Errorf("after the hour %d are unwatched, decisions %q", len(c.unwatched), w.summary().Decisions)
		}
	}
	f(1, func(w *world, now time.Time) { w.policySince = now.Add(time.Hour) })
	f(0, func(w *world, now time.Time) { w.policy.GraceSeconds = 3600 })
	f(0, func(w *world, now time.Time) { w.policySince = now.Add(clockAhead) }) // clocks are never quite the same
	f(0, func(*world, time.Time) {})
}
