package verify

import (
	"cmp"
	"time"
)

// Verdict is what came of a comparison.
type Verdict string

// Verdicts.
const (
	Exact     Verdict = "exact"     // everything that could be looked at agrees
	Different Verdict = "different" // something is wrong
	Unknown   Verdict = "unknown"   // nobody can tell, for the reason in the notes
)

// worse returns the verdict over two parts: a difference counts more than ignorance.
func worse(a, b Verdict) Verdict {
	rank := map[Verdict]int{Exact: 0, Unknown: 1, Different: 2}
	if cmp.Less(rank[a], rank[b]) {
		return b
	}
	return a
}

// Report is what Run found out.
type Report struct {
	Verdict    Verdict     `json:"verdict"`
	Topic      string      `json:"topic"`
	Group      string      `json:"group"`
	StartedAt  time.Time   `json:"started_at"`
	Since      *time.Time  `json:"since,omitempty"`
	Partitions []Partition `json:"partitions"`
	Rollups    []Rollup    `json:"rollups"`
	Notes      []string    `json:"notes"` // sentences about the whole
}

// Partition is one partition of the topic, held against trace_events and
// trace_events_quarantine. Offsets [From, To) were looked at: To is where ingest was when the verifier began.
type Partition struct {
	ID      int     `json:"partition"`
	Verdict Verdict `json:"verdict"`
	From    int64   `json:"from"`
	To      int64   `json:"to"`
	Behind  int64   `json:"behind"` // offsets from there to the end of the partition as it was then
	Rows    uint64  `json:"rows"`   // of the offsets looked at, in both tables

	Missing  int64 `json:"missing"`  // records of Kafka without a row
	Repeated int64 `json:"repeated"` // rows beyond the first of their record
	Stray    int64 `json:"stray"`    // rows without a record: Kafka never had them
	Expired  int64 `json:"expired"`  // offsets whose rows the tables' retention may have taken
	Gaps     int64 `json:"gaps"`     // offsets without a record, of those that were looked at one by one
	// Undecodable offsets lie in batches that cannot be decoded and have no row, as only
	// the first of each batch have one; of the offsets that were looked at one by one.
	Undecodable int64 `json:"undecodable"`

	Faults []Fault `json:"faults"`
	// More faults were found than are listed. Unexamined stretches of up to 65,536
	// offsets differ, too, and were not looked at one by one: the counts above leave them out.
	More       int64    `json:"more"`
	Unexamined int64    `json:"unexamined"`
	Notes      []string `json:"notes"`
}

// Kinds of faults.
const (
	Missing  = "missing"
	Repeated = "repeated"
	Stray    = "stray"
)

// Fault is a run of offsets that have the same thing wrong with them.
type Fault struct {
	Kind    string `json:"kind"`
	First   int64  `json:"first"` // offset
	Last    int64  `json:"last"`  // offset; the run has no other offsets between the two than such
	Offsets int64  `json:"offsets"`
	Rows    uint64 `json:"rows"` // of each offset; of strays that lie behind the end of the partition, of all
	// Time of the first offset's record; absent where there is none.
	Time *time.Time `json:"time,omitempty"`
}

// Rollup is one of the tables of rates, held against trace_events.
type Rollup struct {
	Table     string    `json:"table"`
	Verdict   Verdict   `json:"verdict"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Requests  uint64    `json:"requests"`  // that the rollup counts from From to To
	Different int64     `json:"different"` // its rows that do not agree with the events
	Faults    []Cell    `json:"faults"`
	// More rows than are listed do not agree. Hours that differ, too, and were not looked at row by row are Unexamined.
	More       int64    `json:"more"`
	Unexamined int64    `json:"unexamined"`
	Notes      []string `json:"notes"`
}

// Cell is a row of a rollup that does not agree with the events.
type Cell struct {
	AccountID  string    `json:"account_id"`
	ScriptName string    `json:"script_name"`
	VersionID  string    `json:"version_id"`
	Time       time.Time `json:"time"`
	Requests   uint64    `json:"requests"` // that the rollup counts
	Events     uint64    `json:"events"`   // requests that the events stand for, with those that were sampled out
}

// sum fills in the verdict over all parts.
func (r *Report) sum() {
	r.Verdict = Exact
	for _, p := range r.Partitions {
		r.Verdict = worse(r.Verdict, p.Verdict)
	}
	for _, t := range r.Rollups {
		r.Verdict = worse(r.Verdict, t.Verdict)
	}
	if len(r.Notes) > 0 {
		r.Verdict = worse(r.Verdict, Unknown)
	}
}
