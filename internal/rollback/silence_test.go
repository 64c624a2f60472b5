package rollback

import (
	"context"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// silenced has a ramp whose events stop after a minute while the rates can still be read:
// those of all versions, or of one. Traffic itself goes on.
func silenced(t *testing.T, perSecond float64, silent func(version string) bool) (*world, *Controller, *clock, *bool) {
	t.Helper()
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback,
		deploy.RampStep{Percentage: 10_000, BakeSeconds: 1800}, deploy.RampStep{Percentage: deploy.Full}))
	w.policy.MinRequests = 5
	w.requestsPerSecond = perSecond
	f := w.fakes("a")
	end, over := clk.now().Add(2*time.Minute), false
	f.rates = func(_ context.Context, _, _ string, since, until time.Time) ([]schema.RateBlock, error) {
		blocks, err := w.blocks(since, until)
		var there []schema.RateBlock
		for _, b := range blocks {
			if b.Time.Before(end) || over || !silent(b.VersionID) {
				there = append(there, b)
			}
		}
		return there, err
	}
	w.deploy(split{v1: 90, v2: 10})
	return w, w.controller("a", f), clk, &over
}

func TestRampPausesWhenEventsStop(t *testing.T) {
	w, c, clk, over := silenced(t, 100, func(string) bool { return true })
	w.steps(c, clk, 40*time.Minute)
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person"},
		Decisions:   []string{"inconclusive pause"},
		Ramp:        "paused 10%",
	})
	const want = "paused the ramp of 22222222: no request of either version was counted for 5 minutes; traffic stopped, or its events do not arrive"
	if w.ramp.Reason != want || w.decisions[0].Sentence != want {
		t.Errorf("reason %q, sentence %q", w.ramp.Reason, w.decisions[0].Sentence)
	}
	if paused := w.decisions[0].At.Sub(epoch); (paused - 7*time.Minute).Abs() > 2*time.Second {
		t.Errorf("paused after %v, events stopped after 2 minutes", paused)
	}
	// It stays with the person, and resumed it waits for requests without being paused again.
	w.control(deploy.RampResume)
	w.steps(c, clk, 10*time.Minute)
	if got := w.summary(); got.Ramp != "running 10%" || len(got.Decisions) != 1 {
		t.Errorf("resumed in silence: %+v", got)
	}
	*over = true
	w.steps(c, clk, 31*time.Minute)
	if got := w.summary().Ramp; got != "done 100%" {
		t.Errorf("ramp %q after the events came again, %s", got, w.ramp.Reason)
	}
}

func TestRampWaitsWhileItsVersionIsSilent(t *testing.T) {
	w, c, clk, over := silenced(t, 100, func(version string) bool { return version == v2 })
	w.steps(c, clk, 40*time.Minute)
	const want = "waiting: no request of 22222222 was counted in the last 150 seconds"
	if got := w.summary(); got.Ramp != "running 10%" || len(got.Decisions) != 0 || w.ramp.Reason != want {
		t.Errorf("%+v, reason %q", got, w.ramp.Reason)
	}
	*over = true
	w.steps(c, clk, 5*time.Second)
	if got := w.summary().Ramp; got != "done 100%" {
		t.Errorf("ramp %q after its version was heard again", got)
	}
}

// With a request in 20 seconds, five minutes without any may be chance.
func TestQuietRampIsNotPaused(t *testing.T) {
	w, c, clk, _ := silenced(t, 0.05, func(string) bool { return true })
	w.steps(c, clk, 40*time.Minute)
	if got := w.summary(); got.Ramp != "running 10%" || len(got.Decisions) != 0 {
		t.Errorf("%+v", got)
	}
}
