package deploy

// Watched is a script with an enabled rollback policy, and all that the
// controller needs to judge it except the rates.
type Watched struct {
	AccountID string
	Script    string
	Policy    RollbackPolicy
	// Deployments, newest first: the first one serves. Enough of them to find the
	// version that served before, past the longest ramp.
	Deployments []Deployment
	Ramp        *Ramp // nil when none was ever started
	// LastDecision is the newest decision about the current deployment, nil if none.
	LastDecision *RollbackDecision
}
