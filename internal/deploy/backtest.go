package deploy

import "time"

// BacktestQuery asks what a policy would have done in the past.
type BacktestQuery struct {
	AccountID, Script string
	Policy            RollbackPolicy
	Since, Until      time.Time // zero: as far back as can be had, and until now
}

// BacktestProgress tells how far a backtest is: what is before At has been replayed.
type BacktestProgress struct {
	Since time.Time
	Until time.Time
	At    time.Time
}

// BacktestResult is what a policy would have done in the past.
type BacktestResult struct {
	// Since and Until bound what was replayed.
	Since  time.Time       `json:"since"`
	Until  time.Time       `json:"until"`
	Trials []BacktestTrial `json:"trials"` // oldest first
	// FailuresSaved sums those of the trials, without those of which it is not known: they are
	// FailuresSavedUnknown. It is nil if it is known of none of those that would have been acted
	// upon, and 0 if there are none.
	FailuresSaved        *float64 `json:"failures_saved,omitempty"`
	FailuresSavedUnknown int      `json:"failures_saved_unknown"`
	FalseAlarms          int      `json:"false_alarms"`
}

// BacktestTrial is one judgement of one version, from something that a person did to the
// next such thing.
type BacktestTrial struct {
	VersionID         string    `json:"version_id"`
	BaselineVersionID string    `json:"baseline_version_id"`
	Since             time.Time `json:"since"`
	Until             time.Time `json:"until"`
	Numbers           Numbers   `json:"numbers"` // of all of it
	// FailedAt is when it would have been acted upon; nil if never. Metric and Sentence say
	// why, and so does Evidence, whose series go on to the end of the trial. Without FailedAt
	// Evidence is that of the end.
	FailedAt *time.Time `json:"failed_at,omitempty"`
	Metric   Metric     `json:"metric,omitempty"`
	Sentence string     `json:"sentence,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
	// FailuresSaved are the version's failures after FailedAt, less those that its requests
	// would have had on the baseline: of what a rollback does. The baseline's rate is that of
	// this trial or, with too few requests in it, of its last look-back time before. It is nil
	// where that is not known either, and 0 without FailedAt, or without failures after it.
	FailuresSaved *float64 `json:"failures_saved,omitempty"`
	// FalseAlarm says that people had the version at 100 % for a day on end after it would
	// have been acted upon. It is their judgement that is taken for right, and a bad version
	// that nobody noticed is counted, too.
	FalseAlarm bool `json:"false_alarm"`
}

// LiveEvidence is what the tests of a script's policy say at a moment.
type LiveEvidence struct {
	At             time.Time    `json:"at"`
	PolicySource   PolicySource `json:"policy_source"`
	PolicyRevision int64        `json:"policy_revision"`
	// Enabled is that of the policy: without it nobody acts on the evidence.
	Enabled bool `json:"enabled"`
	// Reason is why nothing that serves can be judged, and what ends that; empty where something
	// is judged, and where nothing need be.
	Reason string      `json:"reason,omitempty"`
	Trials []LiveTrial `json:"trials"` // none: nothing is judged
}

// LiveTrial is the judgement of one version.
type LiveTrial struct {
	VersionID         string     `json:"version_id"`
	BaselineVersionID string     `json:"baseline_version_id"`
	Since             time.Time  `json:"since"` // the first second that counts
	Verdict           Verdict    `json:"verdict"`
	Sentence          string     `json:"sentence"`
	Metric            Metric     `json:"metric,omitempty"` // that fails
	Numbers           Numbers    `json:"numbers"`
	Evidence          []Evidence `json:"evidence"`
	// Heard is the end of the last second in which a request of the version was counted, and
	// BaselineHeard that of its baseline's: how far the counts are behind while there is
	// traffic. Nil if none was counted.
	Heard         *time.Time `json:"heard_on,omitempty"`
	BaselineHeard *time.Time `json:"baseline_heard_on,omitempty"`
}
