package deploy

import (
	"fmt"
	"slices"
	"time"

	"tidegate/internal/errs"
)

// Bounds of a policy. They keep a typing error from becoming a policy that never
// or always fires.
const (
	minRequestsMax     = 1_000_000_000
	lookBackSecondsMax = 86_400 // a day: the rates by the second are read whole
	rampStepsMax       = 20
	bakeSecondsMax     = 7 * 86_400
	failureRatioMax    = 1000
)

// DefaultPolicy returns the values of the members that a policy does not name.
func DefaultPolicy() RollbackPolicy {
	return RollbackPolicy{
		MinRequests:     DefaultMinRequests,
		LookBackSeconds: DefaultLookBackSeconds,
		Action:          ActionRollback,
	}
}

// Validate returns an invalid *errs.Error that names the first member with a bad
// value.
func (p *RollbackPolicy) Validate() error {
	if r := p.MaxFailureRate; r != nil && !(*r > 0 && *r <= 1) {
		return badPolicy("max_failure_rate", "%v must be above 0 and at most 1: it is a share of requests, 0.02 is 2%%", *r)
	}
	if r := p.MaxFailureRatio; r != nil && !(*r >= 1 && *r <= failureRatioMax) {
		return badPolicy("max_failure_ratio", "%v must be from 1 to %d: it is a multiple of the baseline's failure rate", *r, failureRatioMax)
	}
	if p.MinRequests < 1 || p.MinRequests > minRequestsMax {
		return badPolicy("min_requests", "%d must be from 1 to %d", p.MinRequests, int64(minRequestsMax))
	}
	if p.LookBackSeconds < 1 || p.LookBackSeconds > lookBackSecondsMax {
		return badPolicy("look_back_seconds", "%d must be from 1 to %d", p.LookBackSeconds, lookBackSecondsMax)
	}
	switch p.Action {
	case ActionRollback, ActionPause, ActionNotify:
	default:
		return badPolicy("action", "%q must be %q, %q or %q", string(p.Action), ActionRollback, ActionPause, ActionNotify)
	}
	return validateRamp(p.Ramp)
}

func validateRamp(steps []RampStep) error {
	if len(steps) > rampStepsMax {
		return badPolicy("ramp", "has %d steps: at most %d are allowed", len(steps), rampStepsMax)
	}
	var last Percentage
	for i, step := range steps {
		if step.Percentage <= last || step.Percentage > Full {
			return badPolicy(fmt.Sprintf("ramp[%d].percentage", i), "%s must be above %s, the step before, and at most 100%%", step.Percentage, last).
				At(fmt.Sprintf("/ramp/%d/percentage", i))
		}
		if step.BakeSeconds < 0 || step.BakeSeconds > bakeSecondsMax {
			return badPolicy(fmt.Sprintf("ramp[%d].bake_seconds", i), "%d must be from 0 to %d", step.BakeSeconds, bakeSecondsMax).
				At(fmt.Sprintf("/ramp/%d/bake_seconds", i))
		}
		last = step.Percentage
	}
	return nil
}

func badPolicy(member, format string, args ...any) *errs.Error {
	return errs.New(errs.Invalid, 0, member+" "+format, args...).At("/" + member)
}

// Actions of a person on a ramp.
const (
	RampPause  = "pause"  // hold the current step
	RampResume = "resume" // go on; the current step bakes, and is judged, from now on
	RampAbort  = "abort"  // end it where it is; traffic stays as it is
)

// Control returns the ramp after a person's action at time now, or an
// *errs.Error: invalid for an unknown action, conflict for one that does not fit
// the ramp's state.
func (r Ramp) Control(action string, now time.Time) (Ramp, error) {
	from := map[string][]RampState{
		RampPause:  {RampRunning},
		RampResume: {RampPaused},
		RampAbort:  {RampRunning, RampPaused},
	}
	states, known := from[action]
	if !known {
		return r, errs.New(errs.Invalid, 0, "action %q must be %q, %q or %q", action, RampResume, RampPause, RampAbort).At("/action")
	}
	if !slices.Contains(states, r.State) {
		return r, errs.New(errs.Conflict, 0, "action %q does not fit a ramp that is %s", action, r.State).At("/action")
	}
	switch action {
	case RampPause:
		r.State, r.Reason = RampPaused, "paused by request"
	case RampResume:
		r.State, r.Reason, r.StepStartedAt, r.ResumedAt = RampRunning, "", now, now
	case RampAbort:
		r.State, r.Reason = RampAborted, "aborted by request"
	}
	return r, nil
}
