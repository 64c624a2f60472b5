package rollback

import (
	"testing"
	"time"

	"tidegate/internal/deploy"
)

var threeSteps = []deploy.RampStep{
	{Percentage: 5_000, BakeSeconds: 60}, {Percentage: 25_000, BakeSeconds: 60}, {Percentage: deploy.Full, BakeSeconds: 60},
}

func TestGoodVersionRampsToTheEnd(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 100, v2: 0})
	w.steps(c, clk, 10*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{
			"v1 100% by a person", "v1 100% v2 0% by a person", "v1 95% v2 5% by deployment",
			"v1 75% v2 25% by deployment", "v2 100% by deployment",
		},
		Decisions: []string{"pass ", "pass "},
		Ramp:      "done 100%",
	})
	if got := w.deployments[1].Annotations.Message; got != "ramp: step 2 of 3, 25%" {
		t.Errorf("message %q", got)
	}
	if got := w.decisions[1].Sentence; got != "promoted 22222222 to step 2 of 3, 25%: 0 of 300 requests failed (0 % ≤ 2 %)" {
		t.Errorf("first sentence %q", got)
	}
	if got := w.decisions[0].Sentence; got != "ended the ramp of 22222222 at step 3 of 3, 100%: 0 of 1 800 requests failed (0 % ≤ 2 %)" {
		t.Errorf("last sentence %q", got)
	}
	for i := range 2 {
		if baked := w.deployments[i].CreatedOn.Sub(w.deployments[i+1].CreatedOn); baked < time.Minute {
			t.Errorf("deployment %q came after %v", w.deployments[i].Annotations.Message, baked)
		}
	}
	// At 100 % the version is still on trial.
	w.failureRate[v2] = 1
	w.steps(c, clk, 10*time.Second)
	if got := w.decisions[0].Action; got != deploy.ActionRollback {
		t.Errorf("newest decision %q", w.decisions[0].Sentence)
	}
}

func TestRampStartsAtTheDeployedShare(t *testing.T) {
	f := func(percent float64, steps []deploy.RampStep, wantRamp string, wantDeployments int) {
		t.Helper()
		clk := newClock()
		w := newWorld(t, clk.now, policy(deploy.ActionRollback, steps...))
		w.deploy(split{v1: 100 - percent, v2: percent})
		w.steps(w.controller("a", w.fakes("a")), clk, 10*time.Second)
		if got := w.summary().Ramp; got != wantRamp || len(w.deployments)-2 != wantDeployments {
			t.Errorf("from %v %%: ramp %q after %d deployments of the controller, want %q after %d",
				percent, got, len(w.deployments)-2, wantRamp, wantDeployments)
		}
	}
	f(5, threeSteps, "running 5%", 0)
	f(1, threeSteps, "running 5%", 1)
	f(10, threeSteps, "running 25%", 1)
	f(30, threeSteps, "done 100%", 1)
	f(25, threeSteps[:2], "", 0)
	f(30, threeSteps[:2], "", 0)
	f(10, threeSteps[:2], "done 25%", 1)
	f(5, nil, "", 0)
}

func TestRampThatEndsBelowFullShareKeepsTheBaseline(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps[:2]...))
	w.deploy(split{v1: 95, v2: 5})
	w.steps(w.controller("a", w.fakes("a")), clk, 10*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 95% v2 5% by a person", "v1 75% v2 25% by deployment"},
		Decisions:   []string{"pass "},
		Ramp:        "done 25%",
	})
}

func TestRampWaitsForRequests(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	w.requestsPerSecond = 2 // 5 % of it make 30 requests in the look-back window
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, time.Hour)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 95% v2 5% by a person"},
		Ramp:        "running 5%",
	})
	const reason = "waiting: too little data for a verdict in the last 300 s (at least 100 requests of each version that is judged)"
	if w.ramp.Reason != reason {
		t.Errorf("reason %q, want %q", w.ramp.Reason, reason)
	}
	w.requestsPerSecond = 100
	w.steps(c, clk, stepInterval)
	if got := w.summary().Ramp; got != "running 25%" || w.ramp.Reason != "" {
		t.Errorf("ramp %q, reason %q after the requests came", got, w.ramp.Reason)
	}
}

func TestBadVersionIsRolledBackDuringItsRamp(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, 90*time.Second)
	w.failureRate[v2] = 0.1
	w.steps(c, clk, 10*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{
			"v1 100% by a person", "v1 95% v2 5% by a person", "v1 75% v2 25% by deployment", "v1 100% by rollback",
		},
		Decisions: []string{"pass ", "fail rollback"},
		Ramp:      "aborted 25%",
	})
	if w.ramp.Reason != w.decisions[0].Sentence {
		t.Errorf("reason %q, want the decision's sentence", w.ramp.Reason)
	}
}

// afterHalfARamp has a ramp at 25 % and lets a person do something.
func afterHalfARamp(t *testing.T, do func(w *world)) *world {
	t.Helper()
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, 90*time.Second)
	if got := w.summary().Ramp; got != "running 25%" {
		t.Fatalf("ramp %q", got)
	}
	do(w)
	w.steps(c, clk, 90*time.Second)
	w.checkChain()
	return w
}

func TestPersonEndsARamp(t *testing.T) {
	f := func(name string, do func(w *world), wantRamp, wantReason string, wantDeployments int) {
		t.Helper()
		w := afterHalfARamp(t, do)
		if got := w.summary().Ramp; got != wantRamp || w.ramp.Reason != wantReason || len(w.deployments) != wantDeployments {
			t.Errorf("%s: ramp %q, reason %q, %d deployments: %q", name, got, w.ramp.Reason, len(w.deployments), w.summary().Deployments)
		}
	}
	const took = "another deployment took over"
	f("goes back", func(w *world) { w.deploy(split{v1: 100}) }, "aborted 25%", took, 4)
	f("takes the version down to 0 %", func(w *world) { w.deploy(split{v1: 100, v2: 0}) }, "aborted 25%", took, 4)
	f("goes to the end", func(w *world) { w.deploy(split{v2: 100}) }, "aborted 25%", took, 4)
	f("deploys something else", func(w *world) { w.deploy(split{v2: 50, v3: 50}) }, "aborted 25%", took, 4)
	f("pauses", func(w *world) { w.ramp.State, w.ramp.Reason = deploy.RampPaused, "lunch" }, "paused 25%", "lunch", 3)
	f("aborts", func(w *world) { w.ramp.State = deploy.RampAborted }, "aborted 25%", "", 3)
	f("removes the ramp from the policy", func(w *world) { w.policy.Ramp = nil }, "aborted 25%", "the policy has no ramp any more", 3)
	f("changes the steps for the next ramp", func(w *world) { w.policy.Ramp = threeSteps[:1] }, "done 100%", "", 4)
	f("goes one step back: a new ramp from there", func(w *world) { w.deploy(split{v1: 95, v2: 5}) }, "running 25%", "", 5)
	f("starts with another version", func(w *world) { w.deploy(split{v1: 99, v3: 1}) }, "running 25%", "", 6)
}

func TestRampThatWasDeletedDoesNotStartAgain(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 99, v2: 1})
	w.steps(c, clk, time.Second)
	w.ramp = nil
	w.steps(c, clk, 10*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 99% v2 1% by a person", "v1 95% v2 5% by deployment"},
	})
}

func TestRampDoesNotStartOnAFailureOrInAnOutage(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionNotify, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 90, v2: 10})
	clk.advance(time.Minute)
	w.ratesDown = true
	if err := c.Step(t.Context()); err == nil {
		t.Error("step without rates succeeded")
	}
	w.ratesDown, w.failureRate[v2] = false, 0.1
	w.steps(c, clk, time.Minute)
	want := summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"},
		Decisions:   []string{"error ", "fail notify"},
	}
	expectSummary(t, w, want)
	w.failureRate[v2] = 0
	w.steps(c, clk, time.Second)
	want.Deployments = append(want.Deployments, "v1 75% v2 25% by deployment")
	want.Ramp = "running 25%"
	expectSummary(t, w, want)
}
