package deploy

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"tidegate/internal/errs"
)

func TestDefaultPolicyIsValid(t *testing.T) {
	p := DefaultPolicy()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	rate, ratio := 1.0, 1.0
	p.MaxFailureRate, p.MaxFailureRatio = &rate, &ratio
	p.Ramp = []RampStep{{Percentage: 1}, {Percentage: 5000, BakeSeconds: 300}, {Percentage: Full}}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestPolicyRefusesBadValues(t *testing.T) {
	f := func(pointer, value string, change func(*RollbackPolicy)) {
		t.Helper()
		p := DefaultPolicy()
		change(&p)
		err, ok := errors.AsType[*errs.Error](p.Validate())
		if !ok || err.Kind != errs.Invalid || err.Pointer != pointer || !strings.Contains(err.Message, value) {
			t.Errorf("%+v: %+v, want %s at %s", p, err, value, pointer)
		}
	}
	for _, rate := range []float64{0, -0.1, 1.1, math.NaN(), math.Inf(1)} {
		f("/max_failure_rate", "max_failure_rate", func(p *RollbackPolicy) { p.MaxFailureRate = &rate })
	}
	for _, ratio := range []float64{0.99, 1001, math.NaN()} {
		f("/max_failure_ratio", "max_failure_ratio", func(p *RollbackPolicy) { p.MaxFailureRatio = &ratio })
	}
	f("/min_requests", "0", func(p *RollbackPolicy) { p.MinRequests = 0 })
	f("/look_back_seconds", "86401", func(p *RollbackPolicy) { p.LookBackSeconds = 86_401 })
	f("/action", `""`, func(p *RollbackPolicy) { p.Action = "" })
	f("/ramp", "21", func(p *RollbackPolicy) { p.Ramp = make([]RampStep, 21) })
	f("/ramp/0/percentage", "0%", func(p *RollbackPolicy) { p.Ramp = []RampStep{{Percentage: 0}} })
	f("/ramp/1/percentage", "5%", func(p *RollbackPolicy) { p.Ramp = []RampStep{{Percentage: 5000}, {Percentage: 5000}} })
	f("/ramp/0/percentage", "100.001%", func(p *RollbackPolicy) { p.Ramp = []RampStep{{Percentage: Full + 1}} })
	f("/ramp/0/bake_seconds", "604801", func(p *RollbackPolicy) { p.Ramp = []RampStep{{Percentage: 1, BakeSeconds: 604_801}} })
}

func TestRampControl(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	allowed := map[RampState]map[string]RampState{
		RampRunning: {RampPause: RampPaused, RampAbort: RampAborted},
		RampPaused:  {RampResume: RampRunning, RampAbort: RampAborted},
		RampDone:    {},
		RampAborted: {},
	}
	for state, actions := range allowed {
		for _, action := range []string{RampPause, RampResume, RampAbort} {
			before := Ramp{State: state, Step: 2, DeploymentID: "d"}
			after, err := before.Control(action, now)
			want, fits := actions[action]
			if !fits {
				if errs.KindOf(err) != errs.Conflict || after.State != state {
					t.Errorf("%s while %s: %+v, error %v", action, state, after, err)
				}
				continue
			}
			if err != nil || after.State != want || after.Step != 2 || after.DeploymentID != "d" {
				t.Errorf("%s while %s: %+v, error %v", action, state, after, err)
			}
			if action == RampResume && (!after.StepStartedAt.Equal(now) || !after.ResumedAt.Equal(now)) {
				t.Errorf("a step resumed at %s began at %s", after.ResumedAt, after.StepStartedAt)
			}
			if action != RampResume && !after.ResumedAt.IsZero() {
				t.Errorf("%s while %s: resumed at %s", action, state, after.ResumedAt)
			}
		}
	}
	if _, err := (Ramp{State: RampRunning}).Control("jump", now); errs.KindOf(err) != errs.Invalid {
		t.Errorf("an unknown action: %v", err)
	}
}
