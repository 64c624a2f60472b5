package schema

import "time"

// VersionRate is one row of a per-version rollup: what one version of one script
// did in one bucket of time. Counts are exact, those of a sampled script too: an event
// counts for all requests that it stands for (Gateway.SampledOut). Requests counts every event,
// Assigned only those whose version was chosen by the split or by affinity:
// overrides and preview hosts are not a random sample and may not move traffic.
type VersionRate struct {
	AccountID  string
	ScriptName string
	VersionID  string
	Time       time.Time // start of the bucket, UTC

	Requests         int64
	Failures         int64 // as Failed defines them
	Assigned         int64
	AssignedFailures int64
	Exceptions       int64 // outcome neither ok nor canceled
	Status2xx        int64
	Status3xx        int64
	Status4xx        int64
	Status5xx        int64
	NoStatus         int64 // no response was sent
	// Outcomes counts requests by outcome, ok among them; nil where they were not asked for.
	Outcomes map[string]int64

	// Nil where nobody measured that time of any event. Of a sampled script they are
	// estimates: of the requests left out, the times are taken for those of the events
	// that stand for them.
	WallMs *Quantiles
	CPUMs  *Quantiles
}

// Quantiles of a duration in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

// ScriptRate is what all versions of a script did, and when.
type ScriptRate struct {
	ScriptName string
	Requests   int64
	Failures   int64       // as Failed defines them
	Series     []RatePoint // oldest first; steps without requests are left out
}

// RatePoint is one step of a series.
type RatePoint struct {
	Time     time.Time // start of the step, UTC
	Requests int64
	Failures int64
}
