package rollback

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Scripts that are caught up cost one question, and are judged as if each had been asked
// about alone.
func TestCaughtUpScriptsAreAskedAboutTogether(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.deploy(split{v1: 90, v2: 10})
	f := w.fakes("a")
	fakesOfMany(f, 20)
	c := w.controller("a", f)
	w.steps(c, clk, 5*time.Minute)
	before := f.together.Load()
	w.steps(c, clk, 10*time.Second)
	if n := f.together.Load() - before; n != 20 {
		t.Errorf("%d questions about several scripts in 20 steps", n)
	}
	w.fails(v2, 0.5)
	w.steps(c, clk, 20*time.Second)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person", "v1 100% by rollback"},
		Decisions:   []string{"fail rollback"},
	})
}

// One script whose rates cannot be read spoils the question about all. The others are
// judged in the same step.
func TestScriptThatSpoilsTheQuestionDelaysNoOther(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.deploy(split{v1: 90, v2: 10})
	f := w.fakes("a")
	fakesOfMany(f, 3)
	rates, spoilt := f.rates, false
	f.rates = func(ctx context.Context, account, script string, since, until time.Time) ([]schema.RateBlock, error) {
		if spoilt && script == "other1" {
			return nil, errors.New("too many rows")
		}
		return rates(ctx, account, script, since, until)
	}
	c := w.controller("a", f)
	w.steps(c, clk, time.Minute)
	expect := func(when string, together int64) {
		t.Helper()
		clk.advance(20 * time.Second)
		before := f.together.Load()
		err := c.Step(t.Context())
		if err == nil || !strings.Contains(err.Error(), "account/other1") || strings.Contains(err.Error(), "account/other2") {
			t.Errorf("%s: %v", when, err)
		}
		if n := f.together.Load() - before; n != together {
			t.Errorf("%s: %d questions about several scripts, want %d", when, n, together)
		}
	}
	spoilt = true
	expect("spoilt", 1)
	w.fails(v2, 0.5)
	expect("asked about alone", 1)
	if got := w.decisions; len(got) != 1 || got[0].Action != deploy.ActionRollback {
		t.Errorf("end state %+v", w.summary())
	}
}

func TestScriptWithNothingToCompareIsLookedAtSeldom(t *testing.T) {
	asked := func(p deploy.RollbackPolicy) int {
		clk := newClock()
		w := newWorld(t, clk.now, p)
		w.deploy(split{v2: 100})
		c := w.controller("a", w.fakes("a"))
		w.steps(c, clk, 3*time.Minute)
		before := w.ratesCalls["a"]
		w.steps(c, clk, 50*time.Second)
		n := w.ratesCalls["a"] - before
		w.fails(v2, 0.5)
		w.deploy(split{v2: 50, v3: 50}) // of which much is learned
		before = w.ratesCalls["a"]
		w.steps(c, clk, 10*time.Second)
		if n := w.ratesCalls["a"] - before; n < 10 {
			t.Errorf("asked %d times about a version beside its baseline", n)
		}
		return n
	}
	if n := asked(limits(0, 1.5)); n != 10 {
		t.Errorf("asked %d times in 50 s, want every 5 s", n)
	}
	if n := asked(limits(0.02, 1.5)); n != 100 {
		t.Errorf("with an absolute limit: asked %d times in 50 s, want at each step", n)
	}
}
