package deploy

import "time"

// Action is what a failed verdict does.
type Action string

const (
	ActionRollback Action = "rollback" // deploy the baseline version at 100 %
	ActionPause    Action = "pause"    // hold the ramp where it is
	ActionNotify   Action = "notify"   // record the decision only
)

// Verdict is the outcome of one judgement of a deployment.
type Verdict string

const (
	VerdictPass         Verdict = "pass"
	VerdictFail         Verdict = "fail"
	VerdictInconclusive Verdict = "inconclusive" // too little data
	VerdictError        Verdict = "error"        // the data could not be had
)

// RollbackPolicy says when a version of a script is taken out of traffic. Nil
// limits are not checked; the zero policy watches nothing.
type RollbackPolicy struct {
	Enabled bool `json:"enabled"`
	// MaxFailureRate is a share of requests, 0 < r <= 1: 0.02 is 2 %.
	MaxFailureRate *float64 `json:"max_failure_rate,omitempty"`
	// MaxFailureRatio bounds the new version's failure rate as a multiple of the baseline's.
	MaxFailureRatio *float64 `json:"max_failure_ratio,omitempty"`
	// MinRequests of a version before it is judged at all.
	MinRequests     int64      `json:"min_requests"`
	LookBackSeconds int64      `json:"look_back_seconds"`
	Action          Action     `json:"action"`
	Ramp            []RampStep `json:"ramp,omitempty"`
}

// RampStep is one step of a ramp: the share of the new version, and how long it
// must pass before the next step.
type RampStep struct {
	Percentage  Percentage `json:"percentage"`
	BakeSeconds int64      `json:"bake_seconds"`
}

// Defaults of a policy, as in docs/design.md, section 5.1.
const (
	DefaultMinRequests     = 100
	DefaultLookBackSeconds = 300
)

// RollbackDecision is one verdict that changed something, with its numbers.
type RollbackDecision struct {
	ID                string    `json:"id"` // UUID v4
	At                time.Time `json:"at"`
	Verdict           Verdict   `json:"verdict"`
	Action            Action    `json:"action,omitempty"` // what was done; empty when nothing was
	FromDeployment    string    `json:"from_deployment"`
	ToDeployment      string    `json:"to_deployment,omitempty"`
	VersionID         string    `json:"version_id"`
	BaselineVersionID string    `json:"baseline_version_id,omitempty"`
	Numbers           Numbers   `json:"numbers"`
	Sentence          string    `json:"sentence"`
}

// Numbers are the counts behind a decision. Nil is unknown, not zero.
type Numbers struct {
	Requests         *int64   `json:"requests,omitempty"`
	Failures         *int64   `json:"failures,omitempty"`
	FailureRate      *float64 `json:"failure_rate,omitempty"`
	BaselineRequests *int64   `json:"baseline_requests,omitempty"`
	BaselineFailures *int64   `json:"baseline_failures,omitempty"`
	BaselineRate     *float64 `json:"baseline_failure_rate,omitempty"`
	Limit            *float64 `json:"limit,omitempty"` // the limit that was passed
}

// Ramp is the progress of one ramp of one script: stored, so that a restart at
// any line goes on where it was.
type Ramp struct {
	VersionID         string `json:"version_id"`          // the version that grows
	BaselineVersionID string `json:"baseline_version_id"` // the one it replaces
	DeploymentID      string `json:"deployment_id"`       // the deployment of the current step; another current one means a person took over
	Step              int    `json:"step"`                // index into Steps
	// Steps of the policy when the ramp started, and the deployed share that it
	// started from, if that is none of them.
	Steps         []RampStep `json:"steps"`
	StepStartedAt time.Time  `json:"step_started_at"`
	// ResumedAt is when a person last resumed the ramp, zero if never. They knew what
	// came before, so only what came since is judged.
	ResumedAt time.Time `json:"resumed_at,omitzero"`
	State     RampState `json:"state"`
	Reason    string    `json:"reason,omitempty"`
}

// RampState is where a ramp stands.
type RampState string

const (
	RampRunning RampState = "running"
	RampPaused  RampState = "paused"
	RampDone    RampState = "done"
	RampAborted RampState = "aborted"
)
