package rollback

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// A deployment that the store refuses, because it could not be served, is refused
// for as long as the one that was judged serves: what it depends on, such as the
// classes of Durable Objects, changes with a deployment only. So it is tried once,
// and recorded, for each version that was judged and each revision of the policy. Another one,
// such as a rollback after a step of a ramp, may be taken.

// refusal is what was refused.
type refusal struct {
	occasion
	version string // that was judged
	splits  string // of the deployment
}

func refusalOf(w *deploy.Watched, ch change) refusal {
	return refusal{looksFor(w), ch.decision.VersionID, fmt.Sprint(ch.deployment.Versions)}
}

// refuse remembers that a change was refused.
func (s *script) refuse(w *deploy.Watched, ch change) {
	one := refusalOf(w, ch)
	s.refused = append(slices.DeleteFunc(s.refused, func(r refusal) bool { return r == one || r.occasion != one.occasion }), one)
}

// skips reports whether a change was refused already. A restarted controller tries
// once more, and so does one that finds a ramp which the refusal is to end: it was held
// before.
func (s *script) skips(w *deploy.Watched, ch change) bool {
	return ch.deployment != nil && slices.Contains(s.refused, refusalOf(w, ch)) && runningRamp(w) == nil
}

// applyRefused stores, in place of a change whose deployment was refused, that it
// was: the ramp ends, and the decision moves nothing. Until that is stored, the next step
// tries again.
func (c *Controller) applyRefused(ctx context.Context, s *script, w *deploy.Watched, ch change, reason string) (stored bool, err error) {
	c.Log.WarnContext(ctx, "deployment refused: traffic stays where it is", "account_id", w.AccountID, "script", w.Script,
		"from_deployment", w.Deployments[0].ID, "reason", reason)
	left := withoutDeployment(w, ch, reason)
	if left.empty() { // it is on record
		s.refuse(w, ch)
		return true, nil
	}
	stored, err = c.apply(ctx, s, w, left)
	if stored {
		s.refuse(w, ch)
	}
	return stored, err
}

// withoutDeployment is what is left of a change whose deployment was refused, and which is
// not on record yet. A ramp that is held stays so: only a rollback may end it for a person.
func withoutDeployment(w *deploy.Watched, ch change, reason string) change {
	var left change
	if r := w.Ramp; r != nil && ch.ramp != nil && r.State == deploy.RampRunning {
		left.ramp = ended(r, "refused: "+reason)
	}
	if ch.decision != nil {
		d := *ch.decision
		d.Action, d.ToDeployment = deploy.ActionNotify, "" // a promotion that ends a ramp so is told, too
		d.Sentence = ch.refused + ": " + reason
		onRecord := func(before deploy.RollbackDecision) bool {
			return byPolicy(w, before) && before.Verdict == d.Verdict && before.Action == d.Action && before.VersionID == d.VersionID
		}
		if !slices.ContainsFunc(w.Decisions, onRecord) { // by a controller before this one
			left.decision = &d
		}
	}
	return left
}

// reasonOf is the sentence of a refusal, without what was attempted.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*errs.Error](err); ok {
		return e.Message
	}
	return err.Error()
}
