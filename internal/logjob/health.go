package logjob

import "time"

// HealthReport is what one process tells of one job's delivery since its last report.
type HealthReport struct {
	JobID      int64
	Revision   int64 // of the settings that it delivers under; 0: any
	At         time.Time
	Partitions []PartitionHealth
	Minutes    []MinuteHealth
	Drops      []MinuteDrops
	Failures   []Failure

	// SucceededAt is when the destination took something last; zero: not since the
	// last report. FailingSince is when uploads began to fail after that; zero: they don't.
	SucceededAt  time.Time
	FailingSince time.Time
}

// PartitionHealth is how far a job has come in one partition.
type PartitionHealth struct {
	Partition  int
	ReportedOn time.Time
	Committed  int64 // offset of the next record to be delivered
	Next       int64 // offset that the partition's next record will have
	// OldestOn is when the oldest record that is not delivered was written, or up to
	// one report earlier; zero is unknown.
	OldestOn time.Time
	Message  string // of the failure that lasts; empty: none
}

// Lag is the number of records that are not delivered, those of other accounts among them.
func (p PartitionHealth) Lag() int64 { return max(p.Next-p.Committed, 0) }

// Uploads are sums over tries of uploads.
type Uploads struct {
	Uploads int64 `json:"uploads"`
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// BytesCompressed is of those to destinations that take objects; 0: none did, and how a client
	// compresses records is not known.
	BytesCompressed int64 `json:"bytes_compressed,omitzero"`
	DurationMS      int64 `json:"duration_ms"`     // of all together
	DurationMaxMS   int64 `json:"duration_max_ms"` // of the longest one
}

// Add adds the sums of other tries.
func (u *Uploads) Add(v Uploads) {
	u.Uploads += v.Uploads
	u.Records += v.Records
	u.Bytes += v.Bytes
	u.BytesCompressed += v.BytesCompressed
	u.DurationMS += v.DurationMS
	u.DurationMaxMS = max(u.DurationMaxMS, v.DurationMaxMS)
}

// MinuteHealth is the sums of one job's tries in one minute that ended alike.
type MinuteHealth struct {
	JobID  int64
	Minute time.Time
	// Status is 200 for a success, else the answer's, or a synthetic one; 0 is none.
	Status int
	// Final is false where the same upload is tried again, or its parts are.
	Final           bool
	DestinationType string // the scheme of the destination_conf
	Destination     string // the destination_conf without credentials
	Uploads
}

// MinuteDrops is how many events were not sent for a reason, in one minute.
type MinuteDrops struct {
	Minute time.Time
	Reason string
	Events int64
}

// Failure is one message for as long as a partition repeats it.
type Failure struct {
	ID        string
	Partition int // -1: of the whole job
	FirstOn   time.Time
	LastOn    time.Time
	Times     int64
	Message   string
}

// Health is what is known of a job's delivery.
type Health struct {
	FailingSince time.Time // since then no upload has succeeded; zero: the last one did
	DisabledOn   time.Time // by the service itself; zero: not
	ResumedFrom  time.Time // CompleteUntil when the job was last switched on; zero is unknown
	Partitions   []PartitionHealth
	Minutes      []MinuteHealth
	Drops        map[string]int64
	Failures     []Failure // newest first
	Letters      int64     // dead letters that wait
}

// CompleteUntil is the time before which no record was written that a reported
// partition has not delivered or passed over: partitions that are ahead do not count.
// Zero is unknown.
func (h Health) CompleteUntil() (until time.Time) {
	for _, p := range h.Partitions {
		at := p.ReportedOn
		if p.Lag() > 0 {
			at = p.OldestOn
		}
		if at.IsZero() {
			return at
		}
		if until.IsZero() || at.Before(until) {
			until = at
		}
	}
	return until
}

// HealthFilter chooses minutes.
type HealthFilter struct {
	AccountID    string
	JobID        int64 // 0: all jobs
	Since, Until time.Time
	// Most is how many minutes there may be; with more the error is too_large. 0: any number.
	Most int
}
