package deploy

import "slices"

// TriggeredByRollback is the Annotations.TriggeredBy of deployments that the rollback
// controller makes to put a version back.
const TriggeredByRollback = "rollback"

// Baseline finds the version to go back to in a script's deployments, newest first: that
// of the newest earlier deployment that had a version at exactly 100 %, as a rollback by
// hand would choose it, and that leaves another version serving now. It is empty when there
// is none to be had. at is the index at which the search ended: that of this deployment, or
// of a rollback, past which it does not look; len(deployments) if it came to neither.
func Baseline(deployments []Deployment) (version string, at int) {
	for i, d := range deployments {
		if full, ok := d.FullVersion(); ok && i > 0 && deployments[0].serves(func(id string) bool { return id != full }) {
			return full, i
		}
		if d.Annotations.TriggeredBy == TriggeredByRollback {
			return "", i
		}
	}
	return "", len(deployments)
}

// FullVersion returns the version that has exactly 100 % of a deployment.
func (d Deployment) FullVersion() (string, bool) {
	for _, split := range d.Versions {
		if split.Percentage == Full {
			return split.VersionID, true
		}
	}
	return "", false
}

// serves reports whether a version with traffic is as asked.
func (d Deployment) serves(is func(id string) bool) bool {
	return slices.ContainsFunc(d.Versions, func(s Split) bool { return s.Percentage > 0 && is(s.VersionID) })
}

// HoldsBaseline reports whether another version might be the one to go back to, or might be
// on trial, without a past deployment: it is one of those from the baseline's on, or its
// version, which had all traffic, is the baseline or serves now, and which of the two came
// first tells which is on trial. Deployments are newest first.
func HoldsBaseline(deployments []Deployment, id string) bool {
	version, ended := Baseline(deployments)
	i := slices.IndexFunc(deployments, func(d Deployment) bool { return d.ID == id })
	if i < 0 || ended == len(deployments) {
		return false
	}
	if i <= ended {
		return true
	}
	full, ok := deployments[i].FullVersion()
	return ok && version != "" && (full == version || deployments[0].serves(func(id string) bool { return id == full }))
}
