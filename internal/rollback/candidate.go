package rollback

import (
	"slices"
	"time"

	"tidegate/internal/deploy"
)

// triggeredByDeployment is the Annotations.TriggeredBy (reference/deployments.md, section 2.3)
// of the deployments of a ramp's steps.
const triggeredByDeployment = "deployment"

// trial is one version in traffic and the version that it must not be worse than.
type trial struct {
	candidate string
	baseline  string
	// since is when the candidate began to serve in the present run of deployments:
	// what it did in an earlier run is another trial's matter.
	since time.Time
	// baselineUntil is when the baseline last served; zero when it still does.
	baselineUntil time.Time
}

// trialsOf finds what is on trial in a script's deployments, newest first: the
// versions that serve now and are newer at 100 % than the baseline, or have never
// been there. With the usual two versions there is one. A version serves when its
// share is above 0 %: at 0 % only overrides reach it, which are no sample.
//
// A version that has reached 100 % stays on trial for as long as there is a
// baseline: versions fail on the day the traffic changes too. Nothing is on trial
// after a rollback, by the controller or by hand: the version that was put back
// must not be judged against the one it replaced.
func trialsOf(deployments []deploy.Deployment) []trial {
	baseline, _ := baselineOf(deployments)
	if baseline == "" {
		return nil
	}
	var trials []trial
	for _, split := range deployments[0].Versions {
		if split.VersionID == baseline || split.Percentage == 0 || isReturn(deployments, split.VersionID, baseline) {
			continue
		}
		trials = append(trials, trial{
			candidate:     split.VersionID,
			baseline:      baseline,
			since:         servesSince(deployments, split.VersionID),
			baselineUntil: servedUntil(deployments, baseline),
		})
	}
	return trials
}

// baselineOf finds the version to go back to. It is empty when there is none to be had; the
// search has ended then if it came to a rollback, and not if it only came to the end of the
// deployments.
func baselineOf(deployments []deploy.Deployment) (baseline string, ended bool) {
	baseline, at := deploy.Baseline(deployments)
	return baseline, at < len(deployments)
}

// isReturn reports whether candidate had all traffic before baseline ever had, as
// far back as the deployments go. Who deploys such a version again, at once or step
// by step, leaves the baseline, and nothing may put that back in their place. A
// version that is tried again after it was rolled back is no return: what it is
// tried against was there first.
func isReturn(deployments []deploy.Deployment, candidate, baseline string) bool {
	for _, d := range slices.Backward(deployments[1:]) {
		switch full, _ := d.FullVersion(); full {
		case candidate:
			return true
		case baseline:
			return false
		}
	}
	return false
}

// unjudged is why nothing that serves can be judged, though it should be, and what ends that. It is
// empty where something is on trial, and where nothing need be.
func unjudged(w *deploy.Watched, now time.Time) string {
	if from := datedAhead(*w, now); !from.IsZero() {
		return "its deployment, its policy or what a person did to its ramp is dated " + from.Format(time.RFC3339) +
			", because of a clock that was ahead of this process's, or this one is behind: nothing is judged before that time; change the policy, or hold and resume the ramp, if it is theirs"
	}
	if untried(w.Deployments, w.Policy) {
		return "a rollback put a version back that had had all traffic for less than a look-back time; deploy the one before it at 100 %, and then this one again if it is to be judged, or a new version"
	}
	if !unwatched(w.Deployments) {
		return ""
	}
	if _, alone := w.Deployments[0].FullVersion(); alone {
		return "there is no version to go back to: no other had all traffic in the deployments before this one; the next version that is deployed is judged against this one"
	}
	return "there is no version to go back to: none had all traffic in the deployments before this one; deploy one version at 100 % first, and then the new one beside it or in its place"
}

// unwatched reports whether versions serve that cannot be judged, because none of
// the known deployments tells what to go back to. A script that has had only one
// version is no such case: nothing can be expected of its policy yet.
func unwatched(deployments []deploy.Deployment) bool {
	if len(deployments) == 0 {
		return false
	}
	if _, ended := baselineOf(deployments); ended {
		return false
	}
	now, alone := deployments[0].FullVersion()
	first, _ := deployments[len(deployments)-1].FullVersion()
	onlyOne := alone && now == first && len(deployments) < deploy.WatchedDeployments
	return !onlyOne
}

// datedAhead is from when on what is on trial is judged, if that lies ahead although no grace
// period makes it: by a clock that was. It is zero otherwise.
func datedAhead(w deploy.Watched, now time.Time) time.Time {
	w.Policy.GraceSeconds = 0
	for _, t := range trialsOf(w.Deployments) {
		if from := scopeOf(&w, t).from; from.After(now.Add(clockAhead)) {
			return from
		}
	}
	return time.Time{}
}

// untried reports whether a rollback put back a version that was on trial itself: it replaced
// another at 100 %, and had had all traffic for less than a look-back time. Nothing judges it
// now, because nobody knows that what it replaced was better; so it is told of.
func untried(deployments []deploy.Deployment, policy deploy.RollbackPolicy) bool {
	baseline, at := deploy.Baseline(deployments)
	if baseline != "" || at >= len(deployments) {
		return false // there is a baseline, or none because it came to no rollback
	}
	restored, _ := deployments[at].FullVersion()
	had, replaced := time.Duration(0), false
	for i := at + 1; i < len(deployments); i++ {
		switch full, ok := deployments[i].FullVersion(); {
		case !ok:
		case full == restored:
			had, replaced = had+deployments[i-1].CreatedOn.Sub(deployments[i].CreatedOn), false
		default:
			replaced = true
		}
	}
	return replaced && had > 0 && had < lookBack(policy)
}

// servesSince is the start of the run of deployments, up to the present one, in
// which version serves.
func servesSince(deployments []deploy.Deployment, version string) time.Time {
	since := deployments[0].CreatedOn
	for _, d := range deployments {
		if share(d, version) <= 0 {
			break
		}
		since = d.CreatedOn
	}
	return since
}

// servedUntil is when the deployment after the last one in which version served
// began; zero when it serves now or never did.
func servedUntil(deployments []deploy.Deployment, version string) time.Time {
	var until time.Time
	for _, d := range deployments {
		if share(d, version) > 0 {
			return until
		}
		until = d.CreatedOn
	}
	return time.Time{}
}

// growing finds the two versions of a deployment that a ramp can move between: the
// one on trial, and its baseline beside it with the rest of the traffic.
func growing(deployments []deploy.Deployment) (t trial, ok bool) {
	trials := trialsOf(deployments)
	if len(trials) != 1 || len(deployments[0].Versions) != 2 {
		return trial{}, false
	}
	return trials[0], share(deployments[0], trials[0].baseline) > 0
}

// share returns a version's percentage in a deployment, -1 when it is not in it.
func share(d deploy.Deployment, version string) deploy.Percentage {
	for _, split := range d.Versions {
		if split.VersionID == version {
			return split.Percentage
		}
	}
	return -1
}

// byController tells the controller's own deployments from those of people.
func byController(d deploy.Deployment) bool {
	return d.AuthorEmail == Author
}
