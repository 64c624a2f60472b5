package rollback

import (
	"time"

	"tidegate/internal/deploy"
)

// Values of Annotations.TriggeredBy (reference/deployments.md, section 2.3) that
// the controller writes, and one that it reads.
const (
	triggeredByRollback   = "rollback"
	triggeredByDeployment = "deployment"
)

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

// trialsOf finds what is on trial in a script's deployments, newest first. The
// baseline is the version of the newest earlier deployment that had a version at
// exactly 100 %, as a rollback by hand would choose it, and that leaves another
// version serving now. Each of those others is a candidate; with the usual two
// versions there is one. A version serves when its share is above 0 %: at 0 % only
// overrides reach it, which are no sample.
//
// A version that has reached 100 % stays on trial for as long as such a baseline
// exists: versions fail on the day the traffic changes too. Nothing is on trial
// after a rollback, and no trial looks past one: the version that a rollback put
// back must not be judged against the one it replaced.
func trialsOf(deployments []deploy.Deployment) []trial {
	if len(deployments) == 0 || isRollback(deployments[0]) {
		return nil
	}
	for _, d := range deployments[1:] {
		if full, ok := fullVersion(d); ok {
			if trials := trialsAgainst(full, deployments); len(trials) > 0 {
				return trials
			}
		}
		if isRollback(d) {
			return nil
		}
	}
	return nil
}

func trialsAgainst(baseline string, deployments []deploy.Deployment) []trial {
	var trials []trial
	for _, split := range deployments[0].Versions {
		if split.VersionID == baseline || split.Percentage == 0 {
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

// growing finds the two versions of a deployment that a ramp can move between:
// the one that served everything before, and one beside it below 100 %. A version
// that was taken down to 0 % by hand is not growing: only one that is new at 0 %.
func growing(deployments []deploy.Deployment) (candidate deploy.Split, baseline string, ok bool) {
	if len(deployments) < 2 || len(deployments[0].Versions) != 2 {
		return deploy.Split{}, "", false
	}
	for _, d := range deployments[1:] {
		if baseline, ok = fullVersion(d); ok {
			break
		}
	}
	a, b := deployments[0].Versions[0], deployments[0].Versions[1]
	switch baseline {
	case a.VersionID:
		candidate = b
	case b.VersionID:
		candidate = a
	default:
		return deploy.Split{}, "", false
	}
	takenDown := candidate.Percentage == 0 && share(deployments[1], candidate.VersionID) >= 0
	return candidate, baseline, candidate.Percentage < deploy.Full && !takenDown
}

// fullVersion returns the version that has exactly 100 % of a deployment.
func fullVersion(d deploy.Deployment) (string, bool) {
	for _, split := range d.Versions {
		if split.Percentage == deploy.Full {
			return split.VersionID, true
		}
	}
	return "", false
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

func isRollback(d deploy.Deployment) bool {
	return d.Annotations.TriggeredBy == triggeredByRollback
}

// byController tells the controller's own deployments from those of people.
func byController(d deploy.Deployment) bool {
	return d.AuthorEmail == Author
}
