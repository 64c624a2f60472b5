package rollback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// refusing is a store that takes no deployment, and counts how often it was asked.
func refusing(f *fakes, asked *int) *fakes {
	apply := f.apply
	f.apply = func(ctx context.Context, account, script, ifCurrent string, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
		if d != nil {
			*asked++
			return errs.New(errs.Invalid, 0, "a Durable Object lifecycle change lies between")
		}
		return apply(ctx, account, script, ifCurrent, d, ramp, decision)
	}
	return f
}

func TestRefusedRollbackIsRecordedOnce(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v2, 0.1)
	var asked int
	c := w.controller("a", refusing(w.fakes("a"), &asked))
	w.deploy(split{v2: 100})
	w.steps(c, clk, time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v2 100% by a person"},
		Decisions:   []string{"fail notify"},
	})
	const sentence = "kept 22222222 after 150 requests: 15 failures (10 %), above the limit of 2 %; chance of this if the limit were kept: below 1 in 30,000; " +
		"going back to 11111111 was refused: a Durable Object lifecycle change lies between"
	if asked != 1 || w.decisions[0].ToDeployment != "" || w.decisions[0].Sentence != sentence {
		t.Errorf("asked %d times, decision %+v", asked, w.decisions[0])
	}
	// A controller that starts tries once more, and told once more.
	w.release("a")
	c = w.controller("b", refusing(w.fakes("b"), &asked))
	w.steps(c, clk, time.Minute)
	if asked != 2 || len(w.decisions) != 1 {
		t.Errorf("asked %d times, decisions %+v", asked, w.decisions)
	}
	// The next deployment is another matter.
	w.deploy(split{v2: 100})
	w.steps(c, clk, time.Minute)
	if asked != 3 || len(w.decisions) != 2 {
		t.Errorf("asked %d times, decisions %+v", asked, w.decisions)
	}
}

func TestRefusedStepEndsTheRamp(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	var asked int
	c := w.controller("a", refusing(w.fakes("a"), &asked))
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, 10*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 95% v2 5% by a person"},
		Decisions:   []string{"pass notify"},
		Ramp:        "aborted 5%",
	})
	const sentence = "ended the ramp of 22222222 at step 1 of 3, 5%: 0 failures in 300 requests (0 %) against 0 % on the baseline; " +
		"going on was refused: a Durable Object lifecycle change lies between"
	if asked != 1 || w.ramp.Reason != "refused: a Durable Object lifecycle change lies between" || w.decisions[0].Sentence != sentence {
		t.Errorf("asked %d times, reason %q, sentence %q", asked, w.ramp.Reason, w.decisions[0].Sentence)
	}
}

// A refusal that the store could not record is recorded by a later step.
func TestRefusalIsRecordedAfterAFailure(t *testing.T) {
	for _, failure := range []error{errors.New("deadline exceeded"), errs.New(errs.Conflict, 0, "paused meanwhile")} {
		clk := newClock()
		w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
		f := w.fakes("a")
		apply, failed := f.apply, false
		f.apply = func(ctx context.Context, account, script, ifCurrent string, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
			if decision != nil && !failed {
				failed = true
				return failure
			}
			return apply(ctx, account, script, ifCurrent, d, ramp, decision)
		}
		var asked int
		c := w.controller("a", refusing(f, &asked))
		w.deploy(split{v1: 95, v2: 5})
		for range 600 {
			clk.advance(time.Second)
			if err := c.Step(t.Context()); err != nil && !errors.Is(err, failure) {
				t.Fatal(err)
			}
		}
		expectSummary(t, w, summary{
			Deployments: []string{"v1 100% by a person", "v1 95% v2 5% by a person"},
			Decisions:   []string{"pass notify"},
			Ramp:        "aborted 5%",
		})
		if !failed || asked != 2 {
			t.Errorf("failed %v, asked %d times, want twice", failed, asked)
		}
	}
}

// A version fails while a person holds its ramp, and cannot be put out of traffic. A store
// lets nobody but a person, or a rollback, change a held ramp, so it stays held, and the
// refusal is told all the same.
func TestRefusedRollbackOfAHeldRampIsRecordedOnce(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	f := w.fakes("a")
	apply := f.apply
	f.apply = func(ctx context.Context, account, script, ifCurrent string, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
		if d == nil && ramp != nil && w.ramp != nil && w.ramp.State == deploy.RampPaused {
			return errs.New(errs.Conflict, 0, "somebody has changed the ramp")
		}
		return apply(ctx, account, script, ifCurrent, d, ramp, decision)
	}
	var asked int
	c := w.controller("a", refusing(f, &asked))
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, 10*time.Second)
	w.control(deploy.RampPause)
	w.fails(v2, 0.5)
	w.steps(c, clk, 2*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 95% v2 5% by a person"},
		Decisions:   []string{"fail notify"},
		Ramp:        "paused 5%",
	})
	if asked != 1 {
		t.Errorf("asked %d times, want once", asked)
	}
	// Resumed it would neither go on nor say why.
	w.control(deploy.RampResume)
	w.steps(c, clk, 2*time.Minute)
	if got := w.summary(); got.Ramp != "aborted 5%" || len(got.Decisions) != 1 || asked != 2 {
		t.Errorf("after it was resumed: %+v, asked %d times", got, asked)
	}
}

// A step that cannot be deployed is no reason not to take the version out when it fails
// later on.
func TestARefusedStepKeepsNoRollbackBack(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback, threeSteps...))
	f := w.fakes("a")
	apply := f.apply
	f.apply = func(ctx context.Context, account, script, ifCurrent string, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
		if d != nil && d.Annotations.TriggeredBy != deploy.TriggeredByRollback {
			return errs.New(errs.Invalid, 0, "a class is transferred from a script that has none")
		}
		return apply(ctx, account, script, ifCurrent, d, ramp, decision)
	}
	c := w.controller("a", f)
	w.deploy(split{v1: 95, v2: 5})
	w.steps(c, clk, 10*time.Minute)
	w.fails(v2, 0.5)
	w.steps(c, clk, 2*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 95% v2 5% by a person", "v1 100% by rollback"},
		Decisions:   []string{"pass notify", "fail rollback"},
		Ramp:        "aborted 5%",
	})
}

// A refusal is recorded for each version that fails, though it is the same deployment that is
// refused, and once more when the policy was changed.
func TestARefusalHidesNoOtherFailure(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.revision = 1
	var asked int
	c := w.controller("a", refusing(w.fakes("a"), &asked))
	f := func(name string, wantAsked int, want ...string) {
		t.Helper()
		w.steps(c, clk, 3*time.Minute)
		var recorded []string
		for _, d := range slices.Backward(w.decisions) {
			recorded = append(recorded, fmt.Sprintf("%s by revision %d", d.VersionID[:1], d.PolicyRevision))
			if !strings.HasPrefix(d.Sentence, "kept "+short(d.VersionID)+" after ") || !strings.Contains(d.Sentence, "; going back to 11111111 was refused: ") {
				t.Errorf("%s: sentence %q", name, d.Sentence)
			}
		}
		if !slices.Equal(recorded, want) || asked != wantAsked {
			t.Errorf("%s: recorded %q, want %q; asked %d times, want %d", name, recorded, want, asked, wantAsked)
		}
	}
	w.deploy(split{v1: 60, v2: 20, v3: 20})
	w.fails(v2, 0.5)
	f("one fails", 1, "2 by revision 1")
	w.fails(v3, 0.5)
	f("another one does", 2, "2 by revision 1", "3 by revision 1")
	w.release("a")
	c = w.controller("b", refusing(w.fakes("b"), &asked))
	f("another controller tries once more", 4, "2 by revision 1", "3 by revision 1")
	w.policy.MaxFailureRate, w.revision, w.policySince = new(0.3), 2, clk.now()
	f("by another policy", 6, "2 by revision 1", "3 by revision 1", "2 by revision 2", "3 by revision 2")
}
