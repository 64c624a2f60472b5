package deploy

import (
	"fmt"
	"slices"
	"time"

	"tidegate/internal/errs"
)

// Actions of a person on a ramp.
const (
	RampPause  = "pause"  // hold the current step
	RampHold   = "hold"   // another word for RampPause
	RampResume = "resume" // go on; the current step bakes, and is judged, from now on
	RampSkip   = "skip"   // go to the next step now, whatever the current one's time and gate
	RampAbort  = "abort"  // end it where it is; traffic stays as it is
)

// RampChange is what a person last did to a ramp.
type RampChange struct {
	Action string    `json:"action"`       // one of the constants above, but not RampHold
	By     string    `json:"by,omitempty"` // their e-mail address; empty if unknown
	At     time.Time `json:"at"`
}

// Control returns the ramp after a person's action at time now, or an
// *errs.Error: invalid for an unknown action, conflict for one that does not fit
// the ramp's state.
//
// After RampSkip the ramp stands at the next step, and runs, or is done if that is the
// last one; what is still missing is the deployment. The store makes it, of Splits, in
// the transaction that stores the ramp with its id. So there is no time at which a step
// was asked for and is not deployed yet: nothing to be forgotten by a restart, and it
// works while no controller does. To the controller it is a ramp that stands at
// another step of another current deployment: what it decided of the one before is
// refused as a conflict, and as after RampResume only what came since ResumedAt counts.
func (r Ramp) Control(action, by string, now time.Time) (Ramp, error) {
	if action == RampHold {
		action = RampPause
	}
	from := map[string][]RampState{
		RampPause:  {RampRunning},
		RampResume: {RampPaused},
		RampSkip:   {RampRunning, RampPaused},
		RampAbort:  {RampRunning, RampPaused},
	}
	states, known := from[action]
	if !known {
		return r, errs.New(errs.Invalid, 0, "action %.60q must be %q (or %q), %q, %q or %q", action, RampPause, RampHold, RampResume, RampSkip, RampAbort).At("/action")
	}
	if !slices.Contains(states, r.State) {
		return r, errs.New(errs.Conflict, 0, "action %q does not fit a ramp that is %s", action, r.State).At("/action")
	}
	switch action {
	case RampPause:
		r.State, r.Reason = RampPaused, "paused by request"
	case RampResume:
		r.State, r.Reason, r.StepStartedAt, r.ResumedAt = RampRunning, "", now, now
	case RampSkip:
		if r.Step+1 >= len(r.Steps) {
			return r, errs.New(errs.Conflict, 0, "action %q does not fit a ramp at its last step: there is none to go to", action).At("/action")
		}
		r = r.AtStep(r.Step+1, now)
		r.ResumedAt = now
	case RampAbort:
		r.State, r.Reason = RampAborted, "aborted by request"
	}
	r.LastChange = &RampChange{Action: action, By: by, At: now}
	return r, nil
}

// RampTakenOver is the reason of a ramp that ended with somebody's next deployment.
const RampTakenOver = "another deployment took over"

// Beside is the ramp as people see it while a deployment serves: one that another deployment
// took over from is over, also before the controller has written that, or where none does.
func (r Ramp) Beside(serving string) Ramp {
	if r.DeploymentID != serving && (r.State == RampRunning || r.State == RampPaused) {
		r.State, r.Reason = RampAborted, RampTakenOver
	}
	return r
}

// AtStep is the ramp as it begins a step, whose deployment the caller names: it runs, or is
// done if that step is the last one.
func (r Ramp) AtStep(step int, now time.Time) Ramp {
	r.Step, r.StepStartedAt, r.State, r.Reason = step, now, RampRunning, ""
	if step == len(r.Steps)-1 {
		r.State = RampDone
	}
	return r
}

// Splits are those of the step at which the ramp stands, in the order of the
// deployment that it replaces.
func (r Ramp) Splits(current []Split) []Split {
	percentage := r.Steps[r.Step].Percentage
	if percentage >= Full {
		return []Split{{VersionID: r.VersionID, Percentage: Full}}
	}
	splits := slices.Clone(current)
	for i := range splits {
		splits[i].Percentage = Full - percentage
		if splits[i].VersionID == r.VersionID {
			splits[i].Percentage = percentage
		}
	}
	return splits
}

// StepMessage says in a deployment which step it is: "ramp: step 2 of 3, 25%".
func (r Ramp) StepMessage() string {
	return fmt.Sprintf("ramp: step %d of %d, %s", r.Step+1, len(r.Steps), r.Steps[r.Step].Percentage)
}
