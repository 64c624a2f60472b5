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
// another. It keeps the steps that the policy had when it started. Only a pass at
// the end of a step's bake time promotes, from the deployed share on; anything else
// waits, and Reason says for what.
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
	baked := now.Sub(r.StepStartedAt) >= time.Duration(r.Steps[r.Step].BakeSeconds)*time.Second
	if baked && j.Verdict == deploy.VerdictPass && j.candidate == r.VersionID {
		return promote(w, r, j, now)
	}
	next := *r
	next.Reason = waitsFor(w.Policy, j, baked)
	if next.Reason == r.Reason {
		return change{}
	}
	return change{ramp: &next}
}

// waitsFor is why a ramp does not go on; empty while it only bakes. It has no
// number that changes while the ramp waits, because each new reason is a write.
func waitsFor(policy deploy.RollbackPolicy, j judgement, baked bool) string {
	switch {
	case j.Verdict == deploy.VerdictFail:
		return fmt.Sprintf("held: %s passed its %s", short(j.candidate), j.Limit)
	case !baked:
		return ""
	case j.Verdict == deploy.VerdictError:
		return "waiting: the rates could not be read"
	default:
		return fmt.Sprintf("waiting: too little data for a verdict in the last %d s (at least %s requests of each version that is judged)",
			lookBack(policy)/time.Second, grouped(requestsMin(policy)))
	}
}

// startRamp begins a ramp for a deployment made by a person, and ends the ramp
// that this deployment replaced.
func startRamp(w *deploy.Watched, j judgement, now time.Time) change {
	current := w.Deployments[0]
	t, ok := growing(w.Deployments)
	steps, standing := stepsFrom(w.Policy.Ramp, share(current, t.candidate))
	if !ok || len(steps) == 0 || byController(current) {
		if r := w.Ramp; r != nil && (r.State == deploy.RampRunning || r.State == deploy.RampPaused) {
			return change{ramp: ended(r, "another deployment took over")}
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
	return ch
}

// enter writes the deployment of a step, with the versions in the order in which
// the person gave them, and the ramp that stands at it.
func enter(w *deploy.Watched, r *deploy.Ramp, step int, now time.Time) change {
	next := *r
	percentage := r.Steps[step].Percentage
	message := fmt.Sprintf("ramp: step %d of %d, %s", step+1, len(r.Steps), percentage)
	splits := []deploy.Split{{VersionID: r.VersionID, Percentage: deploy.Full}}
	if percentage < deploy.Full {
		splits = nil
		for _, split := range w.Deployments[0].Versions {
			split.Percentage = deploy.Full - percentage
			if split.VersionID == r.VersionID {
				split.Percentage = percentage
			}
			splits = append(splits, split)
		}
	}
	d := newDeployment(splits, triggeredByDeployment, message, now)
	d.CodeUpdate = w.Deployments[0].CodeUpdate // as the person chose it
	next.DeploymentID, next.Step, next.StepStartedAt, next.Reason = d.ID, step, now, ""
	if step == len(r.Steps)-1 {
		next.State = deploy.RampDone
	}
	return change{deployment: d, ramp: &next}
}

// ended returns a copy of r that is aborted for a reason.
func ended(r *deploy.Ramp, reason string) *deploy.Ramp {
	next := *r
	next.State, next.Reason = deploy.RampAborted, reason
	return &next
}
