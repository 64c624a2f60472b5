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

// RollbackPolicy says when a version of a script is taken out of traffic. Nil limits
// are not checked. All limits are tested at every moment of a trial, and together
// they take a version out that keeps all of them at most once in 1/(1-Confidence)
// trials: docs/rollback.md has the tests and what they assume.
type RollbackPolicy struct {
	Enabled bool `json:"enabled"`
	// MaxFailureRate is a share of requests, 0 < r < 1: 0.02 is 2 %.
	MaxFailureRate *float64 `json:"max_failure_rate,omitempty"`
	// MaxFailureRatio bounds the new version's failure rate as a multiple of the
	// baseline's in the same seconds; 1 is "not worse".
	MaxFailureRatio *float64 `json:"max_failure_ratio,omitempty"`
	// MinFailureDifference is the least difference of the two failure rates, as a share
	// of requests, on which MaxFailureRatio acts. Nil acts on any.
	MinFailureDifference *float64 `json:"min_failure_difference,omitempty"`
	// Limits of quantiles of the wall time, in milliseconds and as multiples of the
	// baseline's in the same seconds, and the same of CPU time where it is measured.
	MaxP50WallMs    *float64 `json:"max_p50_wall_ms,omitempty"`
	MaxP90WallMs    *float64 `json:"max_p90_wall_ms,omitempty"`
	MaxP99WallMs    *float64 `json:"max_p99_wall_ms,omitempty"`
	MaxP50WallRatio *float64 `json:"max_p50_wall_ratio,omitempty"`
	MaxP90WallRatio *float64 `json:"max_p90_wall_ratio,omitempty"`
	MaxP99WallRatio *float64 `json:"max_p99_wall_ratio,omitempty"`
	MaxP99CPUMs     *float64 `json:"max_p99_cpu_ms,omitempty"`
	MaxP99CPURatio  *float64 `json:"max_p99_cpu_ratio,omitempty"`
	// MinTrafficRatio, 0 < r < 1, is the least share of the requests that its
	// percentage promises which a version must answer. It supposes that each request is
	// drawn by itself: with affinity rules or keys good versions fail it.
	MinTrafficRatio *float64 `json:"min_traffic_ratio,omitempty"`

	// MinRequests of a version before anything is done about it.
	MinRequests int64 `json:"min_requests"`
	// LookBackSeconds is how often the tests begin anew, beside those that run on, so
	// that a version that was good for long is found out soon when it turns bad.
	LookBackSeconds int64 `json:"look_back_seconds"`
	// Confidence is one minus the chance that a version is acted upon in its whole
	// trial though it keeps every limit.
	Confidence float64 `json:"confidence"`
	// GraceSeconds after a version's first deployment that count neither for nor
	// against it, such as a cold start.
	GraceSeconds int64     `json:"grace_seconds"`
	Count        CountKind `json:"count"`
	// Evidence is EvidenceRequests unless failures come in bursts that are no chance;
	// BlockSeconds is the length of a block for EvidenceBlocks.
	Evidence     EvidenceKind `json:"evidence"`
	BlockSeconds int64        `json:"block_seconds,omitempty"`

	Action Action         `json:"action"`
	Ramp   []RampStep     `json:"ramp,omitempty"`
	Notify []NotifyTarget `json:"notify,omitempty"`
	// Promote names the hours of the week in which ramps go on by themselves; empty
	// is always. Freeze names times in which they do not. Neither stops a rollback.
	Promote []WeeklyWindow `json:"promote,omitempty"`
	Freeze  []FreezeWindow `json:"freeze,omitempty"`
}

// PolicySource says whose policy it is that a script follows.
type PolicySource string

const (
	PolicyOfScript  PolicySource = "script"  // its own, enabled or not
	PolicyOfAccount PolicySource = "account" // the account's default, for scripts without one of their own
)

// PolicyRevision is a policy as it was saved once. It is immutable.
type PolicyRevision struct {
	Source   PolicySource
	Revision int64           // 1, 2, 3, ... of that script, or of the account's default
	Policy   *RollbackPolicy // nil: it was deleted
	By       string          // the e-mail address of who did it; empty if it has none
	At       time.Time       // zero if it was saved before revisions were kept, and it is not known
	// Since is when a script began to follow it: At or, if that was later, when the script's
	// own was deleted. Zero if that is not known, or nobody asked for what a script follows.
	Since time.Time
}

// PolicyRevisionsMax is how many revisions are kept of each policy, the newest ones.
const PolicyRevisionsMax = 100

// CountKind says which requests count as failures.
type CountKind string

const (
	CountAny        CountKind = "any"        // schema.Failed: an outcome that is neither ok nor canceled, or a status of 500 or more
	CountExceptions CountKind = "exceptions" // an outcome that is neither ok nor canceled
	CountStatus5xx  CountKind = "status_5xx" // a status of 500 or more
)

// EvidenceKind says what one observation is.
type EvidenceKind string

const (
	EvidenceRequests EvidenceKind = "requests" // each request, taken for independent
	EvidenceBlocks   EvidenceKind = "blocks"   // the mean of a block of seconds, whatever ties its requests together
)

// Gate says what a ramp's step asks for, besides its time, before the next one.
type Gate string

const (
	GateWatched Gate = "watched" // enough requests, and nothing that speaks against the version
	GateProven  Gate = "proven"  // also: shown not to exceed the limits of the policy that compare with the baseline
	GateManual  Gate = "manual"  // a person says so, with RampSkip
)

// NotifyTarget is somebody who is told of decisions.
type NotifyTarget struct {
	Type NotifyType `json:"type"`
	URL  string     `json:"url,omitempty"` // of all but NotifyEmail
	// Secret signs a webhook's body: docs/rollback.md has the header. It is kept when a
	// policy is saved with the masked one that reading it shows.
	Secret string   `json:"secret,omitempty"`
	To     []string `json:"to,omitempty"` // addresses of NotifyEmail
	// On lists what is told; empty is all but promotions.
	On []NotifyOn `json:"on,omitempty"`
}

// NotifyType is the form in which somebody is told.
type NotifyType string

const (
	NotifyWebhook      NotifyType = "webhook"
	NotifySlack        NotifyType = "slack" // Slack's incoming webhooks, and what is compatible
	NotifyAlertmanager NotifyType = "alertmanager"
	NotifyEmail        NotifyType = "email"
)

// NotifyOn is a kind of decision that somebody wants to know of.
type NotifyOn string

const (
	OnRollback NotifyOn = "rollback"
	OnPause    NotifyOn = "pause"
	OnFail     NotifyOn = "fail"  // a failed verdict that moved nothing
	OnError    NotifyOn = "error" // no verdict could be had
	OnPromote  NotifyOn = "promote"
	OnDone     NotifyOn = "done" // a ramp reached its last step
)

// WeeklyWindow is a span of hours on some days of each week.
type WeeklyWindow struct {
	Days     []string `json:"days,omitempty"`      // mon to sun; empty is each day
	From     string   `json:"from"`                // HH:MM, in it
	Until    string   `json:"until"`               // HH:MM, not in it; 24:00 is midnight
	TimeZone string   `json:"time_zone,omitempty"` // IANA name; empty is UTC
}

// FreezeWindow is a time in which ramps hold.
type FreezeWindow struct {
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
}

// RampStep is one step of a ramp: the share of the new version, and how long it
// must pass before the next step.
type RampStep struct {
	Percentage  Percentage `json:"percentage"`
	BakeSeconds int64      `json:"bake_seconds"`
	Gate        Gate       `json:"gate,omitempty"` // empty is GateWatched
}

// Defaults of a policy, as in docs/design.md, section 5.1.
const (
	DefaultMinRequests     = 20
	DefaultLookBackSeconds = 300
	DefaultConfidence      = 0.999
	DefaultBlockSeconds    = 10
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
	// Metric is what decided; empty when nothing failed.
	Metric Metric `json:"metric,omitempty"`
	// Evidence is what each limit's test said, the deciding one first.
	Evidence []Evidence `json:"evidence,omitempty"`
	// PolicyRevision is the revision of the policy that was followed, and PolicySource
	// whose it was.
	PolicyRevision int64        `json:"policy_revision,omitempty"`
	PolicySource   PolicySource `json:"policy_source,omitempty"`
}

// Metric names a limit of a policy by the member that sets it.
type Metric string

const (
	MetricFailureRate  Metric = "max_failure_rate"
	MetricFailureRatio Metric = "max_failure_ratio"
	MetricP50Wall      Metric = "max_p50_wall_ms"
	MetricP90Wall      Metric = "max_p90_wall_ms"
	MetricP99Wall      Metric = "max_p99_wall_ms"
	MetricP50WallRatio Metric = "max_p50_wall_ratio"
	MetricP90WallRatio Metric = "max_p90_wall_ratio"
	MetricP99WallRatio Metric = "max_p99_wall_ratio"
	MetricP99CPU       Metric = "max_p99_cpu_ms"
	MetricP99CPURatio  Metric = "max_p99_cpu_ratio"
	MetricTraffic      Metric = "min_traffic_ratio"
)

// Evidence is what the test of one limit says at one moment. LogE is the natural
// logarithm of an e-value: were the limit kept, it would reach Threshold once in
// exp(Threshold) trials at most, however often one looks.
type Evidence struct {
	Metric    Metric  `json:"metric"`
	Limit     float64 `json:"limit"`
	LogE      float64 `json:"log_e"`
	Threshold float64 `json:"threshold"`
	// PValue bounds the chance to see as much, ever, if the limit were kept.
	PValue float64 `json:"p_value"`
	// What was observed: Events of Trials, and how many were to be expected at most.
	Trials   int64   `json:"trials"`
	Events   int64   `json:"events"`
	Expected float64 `json:"expected"`
	// Low and High are the ends of a confidence sequence for what the limit bounds: the
	// failure rate, the ratio of both rates, or the part of its traffic that the version
	// answers. Each is on the wrong side of the truth, at any time of the trial, with a chance
	// of at most exp(-Threshold); or the limit, if its test is passed and the end lies beyond,
	// which is wrong when that is a false alarm. Nil where nothing can be said: of quantiles, of blocks, of too
	// few requests, and of a trial whose beginning was not read, being more than a day ago then.
	// High is nil, too, once a second's kinds of failures were not known, if the policy's Count
	// asks for one.
	Low  *float64 `json:"low,omitempty"`
	High *float64 `json:"high,omitempty"`
	// Series is the way there, oldest first.
	Series []EvidencePoint `json:"series,omitempty"`
}

// EvidencePoint is the statistic of a test at a moment.
type EvidencePoint struct {
	At   time.Time `json:"at"`
	LogE float64   `json:"log_e"`
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
	// ResumedAt is when a person last resumed the ramp, or skipped a step of it, zero if
	// never. They knew what came before, so only what came since is judged.
	ResumedAt time.Time `json:"resumed_at,omitzero"`
	State     RampState `json:"state"`
	Reason    string    `json:"reason,omitempty"`
	// LastChange is what a person did to it; nil if nobody did. The controller leaves it
	// as it is.
	LastChange *RampChange `json:"last_change,omitempty"`
}

// RampState is where a ramp stands.
type RampState string

const (
	RampRunning RampState = "running"
	RampPaused  RampState = "paused"
	RampDone    RampState = "done"
	RampAborted RampState = "aborted"
)
