package rollback

import (
	"slices"
	"strings"
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
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, 10*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{
			"v1 100% by a person", "v1 95% v2 5% by a person", "v1 75% v2 25% by deployment", "v2 100% by deployment",
		},
		Decisions: []string{"pass ", "pass "},
		Ramp:      "done 100%",
	})
	if got := w.deployments[1].Annotations.Message; got != "ramp: step 2 of 3, 25%" {
		t.Errorf("message %q", got)
	}
	if got := w.decisions[1].Sentence; got != "promoted 22222222 to step 2 of 3, 25%: 0 failures in 300 requests (0 %) against 0 % on the baseline" {
		t.Errorf("first sentence %q", got)
	}
	if got := w.decisions[0].Sentence; got != "ended the ramp of 22222222 at step 3 of 3, 100%: 0 failures in 1,500 requests (0 %) against 0 % on the baseline" {
		t.Errorf("last sentence %q", got)
	}
	for i := range 2 {
		if baked := w.deployments[i].CreatedOn.Sub(w.deployments[i+1].CreatedOn); baked < time.Minute {
			t.Errorf("deployment %q came after %v", w.deployments[i].Annotations.Message, baked)
		}
	}
	// At 100 % the version is still on trial.
	w.fails(v2, 1)
	w.steps(c, clk, 20*time.Second)
	if got := w.decisions[0].Action; got != deploy.ActionRollback {
		t.Errorf("newest decision %q", w.decisions[0].Sentence)
	}
}

// A ramp jumped from a person's split to the next step of its policy: deployed at
// 70 % under 5, 25, 100 %, a version without a single request was at 100 % two
// seconds later, with no verdict. Now it stands at the deployed share, and goes up
// after that share's bake time and a pass only.
func TestRampStartsAtTheDeployedShare(t *testing.T) {
	f := func(percent float64, steps []deploy.RampStep, wantStart, wantNext string) {
		t.Helper()
		clk := newClock()
		w := newWorld(t, clk.now, policy(deploy.ActionRollback, steps...))
		w.requestsPerSecond = 0
		w.deploy(split{v1: 100 - percent, v2: percent})
		c := w.controller("a", w.fakes("a"))
		expect := func(when, ramp string, deployments int) {
			t.Helper()
			if got := w.summary(); got.Ramp != ramp || len(got.Deployments)-2 != deployments {
				t.Errorf("from %v %%, %s: ramp %q, deployments %q", percent, when, got.Ramp, got.Deployments)
			}
		}
		w.steps(c, clk, 2*time.Minute)
		expect("baked without requests", wantStart, 0)
		w.requestsPerSecond = 1000
		if wantNext == "" {
			w.steps(c, clk, 10*time.Minute)
			expect("with requests", wantStart, 0)
			return
		}
		w.steps(c, clk, stepInterval)
		expect("with requests", wantNext, 1)
		if d := w.decisions[0]; d.Verdict != deploy.VerdictPass || d.ToDeployment != w.deployments[0].ID {
			t.Errorf("from %v %%: promoted by %+v", percent, d)
		}
	}
	f(1, threeSteps, "running 1%", "running 5%")
	f(5, threeSteps, "running 5%", "running 25%")
	f(10, threeSteps, "running 10%", "running 25%")
	f(30, threeSteps, "running 30%", "done 100%")
	f(70, threeSteps, "running 70%", "done 100%")
	f(10, threeSteps[:2], "running 10%", "done 25%")

	f(25, threeSteps[:2], "", "")
	f(30, threeSteps[:2], "", "")
	f(5, nil, "", "")
}

func TestRampBakesAtAShareOfItsOwn(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 30, v2: 70})
	w.steps(c, clk, time.Minute)
	if got := w.summary().Ramp; got != "running 70%" {
		t.Fatalf("ramp %q before the bake time of the step below was over", got)
	}
	w.steps(c, clk, time.Second)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 30% v2 70% by a person", "v2 100% by deployment"},
		Decisions:   []string{"pass "},
		Ramp:        "done 100%",
	})
	const sentence = "ended the ramp of 22222222 at step 4 of 4, 100%: 0 failures in 4,200 requests (0 %) against 0 % on the baseline"
	if got := w.decisions[0].Sentence; got != sentence {
		t.Errorf("sentence %q, want %q", got, sentence)
	}
}

// A version at 0 % is tested by override before it goes live. A ramp took it into
// live traffic within a second; now that is for the person to do.
func TestNoRampStartsFromZero(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 100, v2: 0})
	w.steps(c, clk, 10*time.Minute)
	want := summary{Deployments: []string{"v1 100% by a person", "v1 100% v2 0% by a person"}}
	expectSummary(t, w, want)
	w.deploy(split{v1: 99, v2: 1})
	w.steps(c, clk, 2*time.Minute) // 1 request/s: the hundredth comes after the bake time
	want.Deployments = append(want.Deployments, "v1 99% v2 1% by a person", "v1 95% v2 5% by deployment")
	want.Decisions = []string{"pass "}
	want.Ramp = "running 5%"
	expectSummary(t, w, want)
}

// A ramp that a policy had paused could not be resumed: within half a second the
// failures from before, still in the look-back window, paused it again, and so at
// each later step. A person who resumes knows of them.
func TestResumedRampIsJudgedByWhatComesAfter(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionPause, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.fails(v2, 0.9)
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, time.Minute)
	want := summary{
		Deployments: []string{"v1 100% by a person", "v1 95% v2 5% by a person"},
		Decisions:   []string{"fail pause"},
		Ramp:        "paused 5%",
	}
	expectSummary(t, w, want)

	w.fails(v2, 0)
	w.control(deploy.RampResume)
	w.steps(c, clk, time.Minute)
	want.Ramp = "running 5%"
	expectSummary(t, w, want)
	w.steps(c, clk, 30*time.Second)
	want.Deployments = append(want.Deployments, "v1 75% v2 25% by deployment")
	want.Decisions = append(want.Decisions, "pass ")
	want.Ramp = "running 25%"
	expectSummary(t, w, want)

	// New failures count.
	w.fails(v2, 0.9)
	w.steps(c, clk, 10*time.Second)
	want.Decisions = append(want.Decisions, "fail pause")
	want.Ramp = "paused 25%"
	expectSummary(t, w, want)
	if got := w.decisions[1].Sentence; got != "promoted 22222222 to step 2 of 3, 25%: 0 failures in 300 requests (0 %) against 0 % on the baseline" {
		t.Errorf("sentence of the promotion %q", got)
	}
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
	w.requestsPerSecond = 2 // 5 % of it make 6 requests in a minute
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, 10*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 95% v2 5% by a person"},
		Ramp:        "running 5%",
	})
	const reason = "waiting: too little data for a verdict since this step began (at least 100 requests of each version that is judged)"
	if w.ramp.Reason != reason {
		t.Errorf("reason %q, want %q", w.ramp.Reason, reason)
	}
	w.requestsPerSecond = 100
	w.steps(c, clk, 10*time.Second)
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
	w.fails(v2, 0.1)
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
	const (
		took    = "another deployment took over"
		lacking = "waiting: too little data for a verdict since this step began (at least 100 requests of each version that is judged)"
	)
	f("goes back", func(w *world) { w.deploy(split{v1: 100}) }, "aborted 25%", took, 4)
	f("takes the version down to 0 %", func(w *world) { w.deploy(split{v1: 100, v2: 0}) }, "aborted 25%", took, 4)
	f("goes to the end", func(w *world) { w.deploy(split{v2: 100}) }, "aborted 25%", took, 4)
	f("deploys something else", func(w *world) { w.deploy(split{v2: 50, v3: 50}) }, "aborted 25%", took, 4)
	f("pauses", func(w *world) { w.control(deploy.RampPause) }, "paused 25%", "paused by request", 3)
	f("aborts", func(w *world) { w.control(deploy.RampAbort) }, "aborted 25%", "aborted by request", 3)
	f("removes the ramp from the policy", func(w *world) { w.policy.Ramp = nil }, "aborted 25%", "the policy has no ramp any more", 3)
	f("changes the steps for the next ramp", func(w *world) { w.policy.Ramp = threeSteps[:1] }, "done 100%", "", 4)
	f("goes one step back: a new ramp from there", func(w *world) { w.deploy(split{v1: 95, v2: 5}) }, "running 25%", "", 5)
	f("starts with another version", func(w *world) { w.deploy(split{v1: 99, v3: 1}) }, "running 1%", lacking, 4)
}

func TestRampThatWasDeletedDoesNotStartAgain(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, 90*time.Second)
	w.ramp = nil
	w.steps(c, clk, 10*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 95% v2 5% by a person", "v1 75% v2 25% by deployment"},
		Decisions:   []string{"pass "},
	})
}

// The deployment in which the baseline had all traffic was deleted in the middle of a ramp: the
// version before it became the one to go back to, and a failure put that one back.
func TestRampWhoseBaselineIsMissing(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	w.deploy(split{v2: 100})
	clk.advance(time.Minute)
	w.deploy(split{v2: 95, v3: 5})
	c := w.controller("a", w.fakes("a"))
	w.steps(c, clk, 10*time.Second)
	w.deployments = slices.Delete(w.deployments, 1, 2)
	w.steps(c, clk, 2*time.Minute)
	expectRamp(t, w, "deleted", "paused 5%", "it began beside 22222222, whose deployment at 100 % is missing")
	w.fails(v3, 0.5)
	w.steps(c, clk, 3*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v2 95% v3 5% by a person"},
		Decisions:   []string{"inconclusive pause", "fail "},
		Ramp:        "paused 5%",
	})
	if got := w.decisions[0].Sentence; !strings.Contains(got, "nothing goes back to 11111111 in its place") {
		t.Errorf("sentence %q", got)
	}
	w.fails(v2, 0.5) // it is on trial beside v1, too
	w.steps(c, clk, 3*time.Minute)
	if len(w.decisions) != 3 || w.decisions[0].VersionID != v2 {
		t.Errorf("decisions %+v", w.decisions)
	}
}

func TestRampDoesNotStartOnAFailureOrInAnOutage(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionNotify, threeSteps...))
	c := w.controller("a", w.fakes("a"))
	w.fails(v2, 0.1)
	w.deploy(split{v1: 90, v2: 10})
	clk.advance(time.Minute)
	w.ratesDown = true
	if err := c.Step(t.Context()); err == nil {
		t.Error("step without rates succeeded")
	}
	w.ratesDown = false
	w.steps(c, clk, time.Minute)
	want := summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"},
		Decisions:   []string{"error ", "fail notify"},
	}
	expectSummary(t, w, want)
	w.fails(v2, 0)
	w.steps(c, clk, 15*time.Minute) // less and less of what it has done failed
	if got := w.summary(); got.Ramp != "done 100%" || len(got.Decisions) != 4 {
		t.Errorf("end state %+v", got)
	}
}
