package schema

import (
	"math"
	"time"
)

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

// ScriptRef names a script.
type ScriptRef struct {
	AccountID, ScriptName string
}

// RateBlock is what one version of a script did in one second, as far as it is a
// random sample: requests whose version was drawn (VersionRate.Assigned).
type RateBlock struct {
	VersionID  string
	Time       time.Time // start of the second, UTC
	Requests   int64
	Failures   int64 // as Failed defines them
	Exceptions int64 // outcome neither ok nor canceled
	Status5xx  int64
	// KindsUnknown says that Exceptions and Status5xx are not known, and zero for that reason.
	KindsUnknown bool
	// Of the requests whose time was measured; nil where it was of none, or was not kept.
	// Of a sampled script they are estimates: an event's time counts for SampledOut others,
	// too, at most. Divided by 1 + SampledOut they are no more than were really measured.
	Wall       Durations
	CPU        Durations
	SampledOut int64
}

// Durations counts durations by bucket. Bucket i holds those above DurationEdge(i-1)
// and up to DurationEdge(i), bucket 0 all up to a millisecond.
type Durations map[uint16]int64

// durationSteps is how many buckets double a duration: each edge is 4.4 % above the last.
const durationSteps = 16

// DurationEdge is the upper edge of a bucket, in milliseconds.
func DurationEdge(bucket uint16) float64 { return math.Exp2(float64(bucket) / durationSteps) }

// DurationBucket is the bucket that holds a duration in milliseconds.
func DurationBucket(ms float64) uint16 {
	if !(ms > 1) {
		return 0
	}
	bucket := uint16(min(math.Ceil(durationSteps*math.Log2(ms)), math.MaxUint16))
	if DurationEdge(bucket-1) >= ms { // an edge itself, and the logarithm was rounded up
		bucket--
	}
	return bucket
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
