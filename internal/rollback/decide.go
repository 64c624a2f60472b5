package rollback

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Author is the author_email of the deployments that the controller makes.
const Author = "tidegate rollback controller"

// change is all that one step does to one script. It is stored whole or not at
// all, so a controller may be killed at any line; nil members change nothing.
type change struct {
	deployment *deploy.Deployment
	ramp       *deploy.Ramp
	decision   *deploy.RollbackDecision
}

func (ch change) empty() bool {
	return ch.deployment == nil && ch.ramp == nil && ch.decision == nil
}

// judgement is an assessment and what was judged. The zero judgement is that of a
// script with nothing on trial.
type judgement struct {
	trial
	Assessment
	// target is what the baseline did when it last had data; nil when nothing is
	// known. Set only with a fail whose action is rollback.
	target *schema.VersionRate
}

// decide turns a judgement into a change. No clock, no I/O. Only a fail takes a
// version out of traffic; an error holds everything where it is.
func decide(w *deploy.Watched, j judgement, now time.Time) change {
	var ch change
	switch j.Verdict {
	case deploy.VerdictFail:
		ch = onFail(w, j, now)
	case deploy.VerdictError:
		ch.decision = onError(w, j, now)
	}
	if ch.deployment != nil || ch.ramp != nil {
		return ch // the failure has dealt with the ramp
	}
	ramped := stepRamp(w, j, now)
	if ramped.decision == nil {
		ramped.decision = ch.decision
	}
	return ramped
}

// onFail does what the policy says. Whatever leaves the deployment in place is
// recorded once for it, because the failure stands at every step until somebody
// acts; pausing is bounded by the state of the ramp instead.
func onFail(w *deploy.Watched, j judgement, now time.Time) change {
	ch := change{decision: decision(w, j, now)}
	version := short(j.candidate)
	running := runningRamp(w)
	switch {
	case w.Policy.Action == deploy.ActionRollback && !baselineNoBetter(w.Policy, j):
		return rollBack(w, j, now)
	case w.Policy.Action == deploy.ActionRollback:
		_, _, rate := counts(j.target)
		ch.decision.Sentence = fmt.Sprintf("kept %s: %s, but %s was no better: %s (%s %%)",
			version, j.Sentence, short(j.baseline), failed(j.target), decimal(100**rate, 2))
	case w.Policy.Action == deploy.ActionPause && running != nil:
		ch.decision.Action = deploy.ActionPause
		ch.decision.Sentence = fmt.Sprintf("paused the ramp of %s: %s", version, j.Sentence)
		paused := *running
		paused.State, paused.Reason = deploy.RampPaused, ch.decision.Sentence
		ch.ramp = &paused
		return ch
	case w.Policy.Action == deploy.ActionPause:
		ch.decision.Sentence = fmt.Sprintf("kept %s: %s, but no ramp is running that could be paused", version, j.Sentence)
	default:
		// An unknown action tells, and moves nothing.
		ch.decision.Action = deploy.ActionNotify
		ch.decision.Sentence = fmt.Sprintf("noticed %s: %s", version, j.Sentence)
	}
	if decided(w, deploy.VerdictFail) {
		ch.decision = nil
	}
	return ch
}

// onError records that the rates could not be had: once for a deployment, and not
// over a failure that is on record, which would be recorded again after the outage.
func onError(w *deploy.Watched, j judgement, now time.Time) *deploy.RollbackDecision {
	if decided(w, deploy.VerdictError) || decided(w, deploy.VerdictFail) {
		return nil
	}
	d := decision(w, j, now)
	d.Sentence = fmt.Sprintf("could not judge %s: %s", short(j.candidate), j.Sentence)
	return d
}

func rollBack(w *deploy.Watched, j judgement, now time.Time) change {
	ch := change{decision: decision(w, j, now)}
	ch.decision.Action = deploy.ActionRollback
	ch.decision.Sentence = fmt.Sprintf("rolled back %s: %s%s", short(j.candidate), j.Sentence, caveat(w.Policy, j))
	ch.deployment = newDeployment([]deploy.Split{{VersionID: j.baseline, Percentage: deploy.Full}},
		triggeredByRollback, ch.decision.Sentence, now)
	ch.decision.ToDeployment = ch.deployment.ID
	if r := w.Ramp; r != nil && (r.State == deploy.RampRunning || r.State == deploy.RampPaused) {
		ch.ramp = ended(r, ch.decision.Sentence)
	}
	return ch
}

// baselineNoBetter reports whether the baseline must not be put back: traffic does
// not move to something worse. That takes evidence, as much as a verdict does. With
// less the baseline is put back: it was good enough for all traffic once, and the
// candidate is known to fail. A quiet hour before a bad release must not be what
// keeps the release. A version that is unknown as such, because the store does not
// have it, is the store's to refuse.
func baselineNoBetter(policy deploy.RollbackPolicy, j judgement) bool {
	if assigned(j.target) < requestsMin(policy) {
		return false
	}
	_, _, rate := counts(j.target)
	return *rate >= *j.Numbers.FailureRate
}

// caveat says that a version is put back about which too little is known to call
// it better; empty when enough is.
func caveat(policy deploy.RollbackPolicy, j judgement) string {
	switch requests, least := assigned(j.target), requestsMin(policy); {
	case requests == 0:
		return fmt.Sprintf("; nothing is known of %s, which had no requests in its last look-back window", short(j.baseline))
	case requests < least:
		return fmt.Sprintf("; little is known of %s: %s in its last look-back window, and it takes %s to tell",
			short(j.baseline), failed(j.target), grouped(least))
	default:
		return ""
	}
}

// decided reports whether the newest decision about the current deployment has
// this verdict.
func decided(w *deploy.Watched, verdict deploy.Verdict) bool {
	last := w.LastDecision
	return last != nil && last.FromDeployment == w.Deployments[0].ID && last.Verdict == verdict
}

// runningRamp returns the ramp if it runs on the current deployment, else nil.
func runningRamp(w *deploy.Watched) *deploy.Ramp {
	if r := w.Ramp; r != nil && r.State == deploy.RampRunning && r.DeploymentID == w.Deployments[0].ID {
		return r
	}
	return nil
}

// decision is a decision with its numbers, and neither action nor sentence yet.
func decision(w *deploy.Watched, j judgement, now time.Time) *deploy.RollbackDecision {
	numbers := j.Numbers
	if j.target != nil {
		numbers.BaselineRequests, numbers.BaselineFailures, numbers.BaselineRate = counts(j.target)
	}
	return &deploy.RollbackDecision{
		ID:                uuid.NewString(),
		At:                now,
		Verdict:           j.Verdict,
		FromDeployment:    w.Deployments[0].ID,
		VersionID:         j.candidate,
		BaselineVersionID: j.baseline,
		Numbers:           numbers,
	}
}

func newDeployment(splits []deploy.Split, triggeredBy, message string, now time.Time) *deploy.Deployment {
	return &deploy.Deployment{
		ID:          uuid.NewString(),
		CreatedOn:   now,
		Source:      "api",
		AuthorEmail: Author,
		Strategy:    "percentage",
		Versions:    splits,
		Annotations: deploy.Annotations{Message: cut(message, deploy.MessageBytesMax), TriggeredBy: triggeredBy},
	}
}

// cut shortens s to at most n bytes without breaking a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
