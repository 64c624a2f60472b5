package deploy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/errs"
)

func TestRampControl(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	allowed := map[RampState]map[string]RampState{
		RampRunning: {RampPause: RampPaused, RampHold: RampPaused, RampSkip: RampRunning, RampAbort: RampAborted},
		RampPaused:  {RampResume: RampRunning, RampSkip: RampRunning, RampAbort: RampAborted},
		RampDone:    {},
		RampAborted: {},
	}
	steps := []RampStep{{Percentage: 1000}, {Percentage: 5000}, {Percentage: 25_000, Gate: GateManual}, {Percentage: Full}, {Percentage: Full}}
	for state, actions := range allowed {
		for _, action := range []string{RampPause, RampHold, RampResume, RampSkip, RampAbort} {
			before := Ramp{State: state, Step: 2, Steps: steps, DeploymentID: "d", Reason: "waiting"}
			after, err := before.Control(action, "ann@example.com", now)
			want, fits := actions[action]
			if !fits {
				if errs.KindOf(err) != errs.Conflict || after.State != state || after.LastChange != nil {
					t.Errorf("%s while %s: %+v, error %v", action, state, after, err)
				}
				continue
			}
			step, resumed := 2, action == RampResume || action == RampSkip
			if action == RampSkip {
				step = 3
			}
			if err != nil || after.State != want || after.Step != step || after.DeploymentID != "d" || after.Reason == "waiting" {
				t.Errorf("%s while %s: %+v, error %v", action, state, after, err)
			}
			if resumed != after.StepStartedAt.Equal(now) || resumed != after.ResumedAt.Equal(now) {
				t.Errorf("%s while %s: judged since %s, baked since %s", action, state, after.ResumedAt, after.StepStartedAt)
			}
			if action == RampHold {
				action = RampPause
			}
			if diff := cmp.Diff(&RampChange{Action: action, By: "ann@example.com", At: now}, after.LastChange); diff != "" {
				t.Errorf("%s while %s: (-want +got)\n%s", action, state, diff)
			}
		}
	}
	if _, err := (Ramp{State: RampRunning}).Control("jump", "", now); errs.KindOf(err) != errs.Invalid {
		t.Errorf("an unknown action: %v", err)
	}
}

func TestSkipEndsARampAtItsLastStep(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r := Ramp{State: RampPaused, Steps: []RampStep{{Percentage: 1000}, {Percentage: Full}}}
	r, err := r.Control(RampSkip, "", now)
	if err != nil || r.State != RampDone || r.Step != 1 {
		t.Fatalf("%+v, error %v", r, err)
	}
	r.State = RampPaused // as a controller may have left it, before anybody ended it
	if after, err := r.Control(RampSkip, "", now); errs.KindOf(err) != errs.Conflict || after.Step != 1 {
		t.Fatalf("%+v, error %v", after, err)
	}
}

func TestSplitsOfAStep(t *testing.T) {
	r := Ramp{VersionID: "new", Step: 1, Steps: []RampStep{{Percentage: 1000}, {Percentage: 12_346}, {Percentage: Full}}}
	current := []Split{{VersionID: "old", Percentage: 99_000}, {VersionID: "new", Percentage: 1000}}
	want := []Split{{VersionID: "old", Percentage: 87_654}, {VersionID: "new", Percentage: 12_346}}
	if diff := cmp.Diff(want, r.Splits(current)); diff != "" || current[0].Percentage != 99_000 {
		t.Errorf("(-want +got)\n%s, from %v", diff, current)
	}
	if got := r.StepMessage(); got != "ramp: step 2 of 3, 12.346%" {
		t.Error(got)
	}
	r.Step = 2
	if diff := cmp.Diff([]Split{{VersionID: "new", Percentage: Full}}, r.Splits(current)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
