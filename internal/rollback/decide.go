package rollback

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
)

// Author is the author_email of the deployments that the controller makes.
const Author = "tidegate rollback controller"

// change is all that one step does to one script. It is stored whole or not at
// all, so a controller may be killed at any line; nil members change nothing.
type change struct {
	deployment *deploy.Deployment
	ramp       *deploy.Ramp
	decision   *deploy.RollbackDecision
	// refused is the decision's sentence where the deployment is refused, but for the reason.
	refused string
}

func (ch change) empty() bool {
	return ch.deployment == nil && ch.ramp == nil && ch.decision == nil
}

// decide turns a judgement into a change. No clock, no I/O. Only a fail takes a
// version out of traffic; an error holds everything where it is.
func decide(w *deploy.Watched, j judgement, now time.Time) change {
	var ch change
	if baseline, is := strayed(w); is && runningRamp(w) != nil {
		return pauseStrayed(w, w.Ramp, baseline, now)
	}
	switch j.Verdict {
	case deploy.VerdictFail:
		ch = onFail(w, j, now)
	case deploy.VerdictError:
		ch = onError(w, j, now)
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
// recorded once for each version in it, because the failure stands at every step until somebody
// acts; pausing is bounded by the state of the ramp instead.
func onFail(w *deploy.Watched, j judgement, now time.Time) change {
	ch := change{decision: decision(w, j, now)}
	version := short(j.candidate)
	running := runningRamp(w)
	elsewhere, is := strayed(w)
	switch {
	case w.Policy.Action == deploy.ActionRollback && is:
		ch.decision.Sentence = fmt.Sprintf("kept %s %s; its ramp %s", version, j.Sentence, strayedTo(w.Ramp, elsewhere))
	case w.Policy.Action == deploy.ActionRollback && !baselineNoBetter(w.Policy, j):
		return rollBack(w, j, now)
	case w.Policy.Action == deploy.ActionRollback:
		b := j.onBaseline()
		ch.decision.Sentence = fmt.Sprintf("kept %s %s; %s was no better: %s in %s requests (%s)",
			version, j.Sentence, short(j.baseline), j.passed.hits(b, baseline), grouped(b.requests), percent(rate(b)))
	case w.Policy.Action == deploy.ActionPause && running != nil:
		ch.decision.Action = deploy.ActionPause
		ch.decision.Sentence = fmt.Sprintf("paused the ramp of %s %s", version, j.Sentence)
		paused := *running
		paused.State, paused.Reason = deploy.RampPaused, ch.decision.Sentence
		ch.ramp = &paused
		return ch
	case w.Policy.Action == deploy.ActionPause:
		ch.decision.Sentence = fmt.Sprintf("kept %s %s; no ramp is running that could be paused", version, j.Sentence)
	default:
		// An unknown action tells, and moves nothing.
		ch.decision.Action = deploy.ActionNotify
		ch.decision.Sentence = fmt.Sprintf("noticed %s %s", version, j.Sentence)
	}
	if failed(w, j.trial) {
		ch.decision = nil
	}
	return ch
}

// strayed is the version to go back to if it is not the one beside which the ramp of the
// current deployment began: deployments between them are missing. Nothing is known of what
// came in its place.
func strayed(w *deploy.Watched) (baseline string, is bool) {
	r := w.Ramp
	if r == nil || r.DeploymentID != w.Deployments[0].ID {
		return "", false
	}
	baseline, _ = baselineOf(w.Deployments)
	return baseline, baseline != "" && baseline != r.BaselineVersionID
}

func strayedTo(r *deploy.Ramp, baseline string) string {
	return fmt.Sprintf("began beside %s, whose deployment at 100 %% is missing, and nothing goes back to %s in its place",
		short(r.BaselineVersionID), short(baseline))
}

func pauseStrayed(w *deploy.Watched, r *deploy.Ramp, baseline string, now time.Time) change {
	d := decision(w, judgement{trial: trial{candidate: r.VersionID, baseline: baseline}, Assessment: Assessment{Verdict: deploy.VerdictInconclusive}}, now)
	d.Action = deploy.ActionPause
	d.Sentence = fmt.Sprintf("paused the ramp of %s: it %s", short(r.VersionID), strayedTo(r, baseline))
	paused := *r
	paused.State, paused.Reason = deploy.RampPaused, d.Sentence
	return change{ramp: &paused, decision: d}
}

// outageMax is how long a ramp goes on to wait for rates that cannot be read.
const outageMax = 5 * time.Minute

// onError records that the rates could not be had: once for a deployment, and not
// over a failure that is on record, which would be recorded again after the outage. A
// long outage pauses a running ramp: nobody has watched the version meanwhile, so a
// person is to say when it goes on.
func onError(w *deploy.Watched, j judgement, now time.Time) change {
	if r := runningRamp(w); r != nil && now.Sub(j.down) >= outageMax && r.Step+1 < len(r.Steps) {
		d := decision(w, j, now)
		d.Action = deploy.ActionPause
		d.Sentence = fmt.Sprintf("paused the ramp of %s: %s for %s", short(j.candidate), j.Sentence, minutes(outageMax))
		paused := *r
		paused.State, paused.Reason = deploy.RampPaused, d.Sentence
		return change{ramp: &paused, decision: d}
	}
	if decided(w, deploy.VerdictError) || decided(w, deploy.VerdictFail) {
		return change{}
	}
	d := decision(w, j, now)
	d.Sentence = fmt.Sprintf("could not judge %s: %s", short(j.candidate), j.Sentence)
	return change{decision: d}
}

func minutes(d time.Duration) string { return fmt.Sprintf("%d minutes", d/time.Minute) }

func rollBack(w *deploy.Watched, j judgement, now time.Time) change {
	ch := change{
		decision: decision(w, j, now),
		refused:  fmt.Sprintf("kept %s %s; going back to %s was refused", short(j.candidate), j.Sentence, short(j.baseline)),
	}
	ch.decision.Action = deploy.ActionRollback
	ch.decision.Sentence = fmt.Sprintf("rolled back %s %s%s", short(j.candidate), j.Sentence, caveat(w.Policy, j))
	ch.deployment = newDeployment([]deploy.Split{{VersionID: j.baseline, Percentage: deploy.Full}},
		deploy.TriggeredByRollback, ch.decision.Sentence, now)
	ch.decision.ToDeployment = ch.deployment.ID
	if untried(slices.Insert(slices.Clone(w.Deployments), 0, *ch.deployment), w.Policy) {
		ch.decision.Sentence += fmt.Sprintf("; %s had had all traffic for less than a look-back time, and nothing judges it now", short(j.baseline))
		ch.deployment.Annotations.Message = cut(ch.decision.Sentence, deploy.MessageBytesMax)
	}
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
	if j.Baseline != standingUnknown {
		return j.Baseline == standingNoBetter
	}
	before := rate(j.before)
	return j.before.requests >= float64(requestsMin(policy)) && before > j.passed.allowed() && before >= rate(j.window.of[candidate])
}

// onBaseline is what the baseline did beside the candidate or, where too little is
// known of that, when it last served.
func (j judgement) onBaseline() tally {
	if j.Baseline == standingUnknown {
		return j.before
	}
	return j.window.of[baseline]
}

// caveat says that a version is put back that passes the limit itself, or about which too
// little is known to call it better; empty when enough is.
func caveat(policy deploy.RollbackPolicy, j judgement) string {
	least := requestsMin(policy)
	last := "look-back time"
	if span := beforeSpan(policy); span < lookBack(policy) {
		last = minutes(span)
	}
	if on := j.onBaseline(); j.passed.kind == absolute && on.requests >= float64(least) && rate(on) > j.passed.allowed() {
		return fmt.Sprintf("; %s is above the limit itself: %s in %s requests (%s)",
			short(j.baseline), j.passed.hits(on, baseline), grouped(on.requests), percent(rate(on)))
	}
	switch known := j.before; {
	case j.Baseline != standingUnknown || known.requests >= float64(least):
		return ""
	case j.beforeUnread:
		return fmt.Sprintf("; nothing is known of %s: what it did in its last %s could not be read", short(j.baseline), last)
	case known.requests == 0:
		return fmt.Sprintf("; nothing is known of %s, which had no requests in its last %s", short(j.baseline), last)
	default:
		return fmt.Sprintf("; little is known of %s: %s in %s requests of its last %s, and it takes %s to tell",
			short(j.baseline), j.passed.hits(known, baseline), grouped(known.requests), last, grouped(float64(least)))
	}
}

// decided reports whether a decision about the current deployment has this verdict. Others may
// have come since, such as the pause of an outage.
func decided(w *deploy.Watched, verdict deploy.Verdict) bool {
	return slices.ContainsFunc(w.Decisions, func(d deploy.RollbackDecision) bool { return d.Verdict == verdict })
}

// failed reports whether it is on record that a version fails in the current deployment, by
// the evidence that there is: what began anew since, with a change of the policy or of the
// ramp, is another matter.
func failed(w *deploy.Watched, t trial) bool {
	from := scopeOf(w, t).from
	return slices.ContainsFunc(w.Decisions, func(d deploy.RollbackDecision) bool {
		return d.Verdict == deploy.VerdictFail && d.VersionID == t.candidate && byPolicy(w, d) && !d.At.Before(from)
	})
}

// byPolicy reports whether a decision was made by the revision that is followed. Times do not tell:
// the clock of who decided may have been ahead of that of who changed the policy.
func byPolicy(w *deploy.Watched, d deploy.RollbackDecision) bool {
	return d.PolicyRevision == w.PolicyRevision && d.PolicySource == w.PolicySource
}

// runningRamp returns the ramp if it runs on the current deployment, else nil.
func runningRamp(w *deploy.Watched) *deploy.Ramp {
	if r := w.Ramp; r != nil && r.State == deploy.RampRunning && r.DeploymentID == w.Deployments[0].ID {
		return r
	}
	return nil
}

// decision is a decision with its evidence, and neither action nor sentence yet. The
// way of a test is kept where it led to something.
func decision(w *deploy.Watched, j judgement, now time.Time) *deploy.RollbackDecision {
	evidence := bounded(j.Evidence, j.measures)
	if j.Verdict != deploy.VerdictFail {
		for i := range evidence {
			evidence[i].Series = nil
		}
	}
	numbers := j.Numbers
	if j.Verdict == deploy.VerdictFail && j.Baseline == standingUnknown && !j.beforeUnread && j.passed.quantile == 0 {
		numbers.BaselineRequests, numbers.BaselineFailures, numbers.BaselineRate = counts(j.before)
	}
	return &deploy.RollbackDecision{
		ID:                uuid.NewString(),
		At:                now,
		Verdict:           j.Verdict,
		FromDeployment:    w.Deployments[0].ID,
		VersionID:         j.candidate,
		BaselineVersionID: j.baseline,
		Numbers:           numbers,
		Metric:            j.Metric,
		Evidence:          evidence,
		PolicyRevision:    w.PolicyRevision,
		PolicySource:      w.PolicySource,
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
