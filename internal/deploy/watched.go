package deploy

import "time"

// WatchedDeployments is how far back the controller looks for a baseline: past the
// longest ramp, and a handful of changes by people in the middle of it.
const WatchedDeployments = 32

// Watched is a script with an enabled rollback policy, and all that the
// controller needs to judge it except the rates.
type Watched struct {
	AccountID string
	Script    string
	// Policy is the script's own or, if it has none, the account's default; it is enabled.
	// PolicySource says which, and PolicyRevision is its revision.
	Policy         RollbackPolicy
	PolicyRevision int64
	PolicySource   PolicySource
	// PolicySince is when the script began to follow that revision: when it was saved or,
	// if that was later, when the script's own was deleted. Zero if that is not known.
	PolicySince time.Time
	// Deployments, newest first: the first one serves. At most WatchedDeployments.
	Deployments []Deployment
	Ramp        *Ramp // nil when none was ever started
	// Decisions about the current deployment, newest first. Their evidence has no series.
	Decisions []RollbackDecision
}

// Judged is what a decision about a script rests on: it is worth nothing once any of it
// has changed.
type Judged struct {
	DeploymentID string // the one that served
	// PolicySource and PolicyRevision name the policy that was followed; with an empty
	// source the decision follows none.
	PolicySource   PolicySource
	PolicyRevision int64
	// DecisionID is the newest decision about the deployment, empty if there was none. It is
	// not looked at where the decision follows no policy.
	DecisionID string
}

// Judged is what a decision rests on that is made of w, which has a deployment.
func (w *Watched) Judged() Judged {
	j := Judged{DeploymentID: w.Deployments[0].ID, PolicySource: w.PolicySource, PolicyRevision: w.PolicyRevision}
	if len(w.Decisions) > 0 {
		j.DecisionID = w.Decisions[0].ID
	}
	return j
}
