package rollback

import (
	"fmt"
	"slices"
	"time"

	"tidegate/internal/deploy"
)

// stepRamp moves a script's ramp on by at most one step. A ramp starts when a
// person gives a new version a share beside the one that served everything; it is
// bound to its deployment, so the next deployment by a person ends it or starts
// another. It keeps the steps that the policy had when it started. What promotes is
// a pass on the step's own requests at the end of its bake time, if the step's gate is
// open, nothing builds up against the version and the policy's hours allow it; anything
// else waits, and Reason says for what.
//
// No ramp starts from 0 %, where a version is tested by override before it goes
// live: no request is drawn for it, so no pass could ever come, and its first
// traffic is for the person to give.
//
// The ramp is done once its last step is deployed: nothing follows that step's
// bake time, and the version stays on trial without a ramp.
func stepRamp(w *deploy.Watched, j judgement, now time.Time) change {
	r := w.Ramp
	if r == nil || r.DeploymentID != w.Deployments[0].ID {
		return startRamp(w, j, now)
	}
	if r.State != deploy.RampRunning || r.Step+1 >= len(r.Steps) {
		return change{}
	}
	if len(w.Policy.Ramp) == 0 {
		return change{ramp: ended(r, "the policy has no ramp any more")}
	}
	if j.Silent && j.candidate == r.VersionID {
		return pauseUnwatched(w, r, j, now)
	}
	baked := now.Sub(r.StepStartedAt) >= time.Duration(r.Steps[r.Step].BakeSeconds)*time.Second
	next := *r
	next.Reason = waitsFor(&w.Policy, r, j, baked, now)
	switch {
	case baked && next.Reason == "":
		return promote(w, r, j, now)
	case next.Reason == r.Reason:
		return change{}
	}
	return change{ramp: &next}
}

// pauseUnwatched pauses a ramp of which nothing was counted for so long that nobody knows
// how the version does, or what its requests met meanwhile: a person is to say when it goes on.
func pauseUnwatched(w *deploy.Watched, r *deploy.Ramp, j judgement, now time.Time) change {
	d := decision(w, j, now)
	d.Action = deploy.ActionPause
	d.Sentence = fmt.Sprintf("paused the ramp of %s: no request of either version was counted for %s; traffic stopped, or its events do not arrive",
		short(r.VersionID), minutes(outageMax))
	paused := *r
	paused.State, paused.Reason = deploy.RampPaused, d.Sentence
	return change{ramp: &paused, decision: d}
}

// waitsFor is why a ramp does not go on; empty while it only bakes, and when nothing
// speaks against the next step. It has no number that changes while the ramp waits,
// because each new reason is a write.
func waitsFor(policy *deploy.RollbackPolicy, r *deploy.Ramp, j judgement, baked bool, now time.Time) string {
	if j.Verdict == deploy.VerdictFail {
		return "held: " + passedIts(j.candidate, j.Metric)
	}
	if !baked {
		return ""
	}
	switch {
	case j.Verdict == deploy.VerdictError:
		return "waiting: the rates could not be read"
	case j.catchingUp:
		return "waiting: the rates of the last day are being read"
	case j.Quiet && j.candidate == r.VersionID:
		return fmt.Sprintf("waiting: no request of %s was counted in the last %d seconds", short(r.VersionID), quietAfter/time.Second)
	case j.Verdict != deploy.VerdictPass || j.candidate != r.VersionID:
		return fmt.Sprintf("waiting: too little data for a verdict since this step began (at least %s requests of each version that is judged)",
			grouped(float64(requestsMin(*policy))))
	case j.Building != "":
		return fmt.Sprintf("held: evidence is building up that %s passes its %s", short(r.VersionID), j.Building)
	}
	switch gate := r.Steps[r.Step].Gate; {
	case gate == deploy.GateManual:
		return "waiting: a person lets this step go on, by skipping the rest of it"
	case gate == deploy.GateProven && !compares(policy):
		return "waiting: the policy has no ratio any more that could be proven; a person lets this step go on, by skipping the rest of it"
	case gate == deploy.GateProven && j.Unproven != "":
		return fmt.Sprintf("waiting: it is not proven yet that %s keeps its %s", short(r.VersionID), j.Unproven)
	}
	if ok, reason := policy.MayPromote(now); !ok {
		return "waiting: " + reason
	}
	return ""
}

// compares reports whether a policy has a limit that compares with the baseline.
func compares(policy *deploy.RollbackPolicy) bool {
	return slices.ContainsFunc(policy.Limits(), func(l deploy.Limit) bool { return l.Metric.IsRatio() })
}

// startRamp begins a ramp for a deployment made by a person, and ends the ramp
// that this deployment replaced.
func startRamp(w *deploy.Watched, j judgement, now time.Time) change {
	current := w.Deployments[0]
	t, ok := growing(w.Deployments)
	steps, standing := stepsFrom(w.Policy.Ramp, share(current, t.candidate))
	if !ok || len(steps) == 0 || byController(current) {
		if r := w.Ramp; r != nil && (r.State == deploy.RampRunning || r.State == deploy.RampPaused) {
			return change{ramp: ended(r, deploy.RampTakenOver)}
		}
		return change{}
	}
	if j.Verdict == deploy.VerdictFail || j.Verdict == deploy.VerdictError {
		return change{}
	}
	return change{ramp: &deploy.Ramp{
		VersionID:         t.candidate,
		BaselineVersionID: t.baseline,
		DeploymentID:      current.ID,
		Step:              standing,
		Steps:             steps,
		StepStartedAt:     now,
		State:             deploy.RampRunning,
	}}
}

// stepsFrom returns the steps of a ramp that starts at share, and which of them it
// stands at. A share between two steps becomes a step that bakes as long as the one
// below it, or as the first if there is none. There are no steps when share is
// where the ramp would end, or beyond.
func stepsFrom(steps []deploy.RampStep, share deploy.Percentage) (from []deploy.RampStep, standing int) {
	next := slices.IndexFunc(steps, func(s deploy.RampStep) bool { return s.Percentage > share })
	if next < 0 {
		return nil, 0
	}
	below := steps[max(next-1, 0)]
	if below.Percentage == share {
		return steps, next - 1
	}
	below.Percentage = share
	return slices.Insert(slices.Clone(steps), next, below), next
}

func promote(w *deploy.Watched, r *deploy.Ramp, j judgement, now time.Time) change {
	ch := enter(w, r, r.Step+1, now)
	did := "promoted %s to step %d of %d, %s"
	if ch.ramp.State == deploy.RampDone {
		did = "ended the ramp of %s at step %d of %d, %s"
	}
	ch.decision = decision(w, j, now)
	ch.decision.ToDeployment = ch.deployment.ID
	ch.decision.Sentence = fmt.Sprintf(did+": %s",
		short(r.VersionID), ch.ramp.Step+1, len(r.Steps), r.Steps[ch.ramp.Step].Percentage, j.Sentence)
	ch.refused = fmt.Sprintf("ended the ramp of %s at step %d of %d, %s: %s; going on was refused",
		short(r.VersionID), r.Step+1, len(r.Steps), r.Steps[r.Step].Percentage, j.Sentence)
	return ch
}

// enter writes the deployment of a step, with the versions in the order in which
// the person gave them, and the ramp that stands at it.
func enter(w *deploy.Watched, r *deploy.Ramp, step int, now time.Time) change {
	next := r.AtStep(step, now)
	d := newDeployment(next.Splits(w.Deployments[0].Versions), triggeredByDeployment, next.StepMessage(), now)
	d.CodeUpdate = w.Deployments[0].CodeUpdate // as the person chose it
	next.DeploymentID = d.ID
	return change{deployment: d, ramp: &next}
}

// ended returns a copy of r that is aborted for a reason.
func ended(r *deploy.Ramp, reason string) *deploy.Ramp {
	next := *r
	next.State, next.Reason = deploy.RampAborted, reason
	return &next
}
