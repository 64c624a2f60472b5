// Package logjob holds Logpush jobs: their settings, the filter tree, sampling
// and output options, and the rules that refuse what cannot be honoured. It is
// pure: no clock, no I/O.
package logjob

import (
	"encoding/json"
	"time"
)

// Values of Job.Frequency, the deprecated way to ask for larger batches. Empty means high.
const (
	FrequencyHigh = "high" // about every 30 s or 100,000 records
	FrequencyLow  = "low"  // about every 5 minutes or 1,000,000 records
)

// Job is one Logpush job. Its JSON is the answer of the API: settings that were
// never set are left out, as Cloudflare leaves them out, and the three health
// members are null while unknown.
type Job struct {
	ID              int64          `json:"id"`
	AccountID       string         `json:"-"`
	Dataset         string         `json:"dataset"`
	Kind            string         `json:"kind"`
	Name            string         `json:"name"`
	Enabled         bool           `json:"enabled"`
	DestinationConf string         `json:"destination_conf"` // holds credentials: mask it in logs
	Frequency       string         `json:"frequency,omitempty"`
	Filter          string         `json:"filter,omitempty"`
	OutputOptions   *OutputOptions `json:"output_options,omitempty"`
	LogpullOptions  string         `json:"logpull_options,omitempty"`

	// Bounds of a batch; nil leaves the service's default, 0 turns the bound off.
	MaxUploadBytes           *int64 `json:"max_upload_bytes,omitempty"` // uncompressed
	MaxUploadIntervalSeconds *int64 `json:"max_upload_interval_seconds,omitempty"`
	MaxUploadRecords         *int64 `json:"max_upload_records,omitempty"`

	LastComplete *time.Time `json:"last_complete"` // end of the newest time range delivered
	LastError    *time.Time `json:"last_error"`    // time of the last failure; null after a success
	ErrorMessage *string    `json:"error_message"` // text of the last failure; null after a success

	// EnabledAt is when the job was last switched on. Records from before are not
	// sent: a job starts at "now", as in Logpush. Zero while it never was.
	EnabledAt time.Time `json:"-"`
	// Start, of a job that is being created, is where a replay begins that sends what
	// happened until EnabledAt. It is not kept.
	Start time.Time `json:"-"`
	// Revision grows with every change of settings (not of health), so that a
	// running delivery notices.
	Revision int64 `json:"-"`
}

// OutputOptions are the members of output_options. Nil means "not given".
type OutputOptions struct {
	FieldNames      []string `json:"field_names,omitempty"`
	OutputType      string   `json:"output_type,omitempty"` // "ndjson" (default) or "csv"
	BatchPrefix     *string  `json:"batch_prefix,omitempty"`
	BatchSuffix     *string  `json:"batch_suffix,omitempty"`
	RecordPrefix    *string  `json:"record_prefix,omitempty"`
	RecordSuffix    *string  `json:"record_suffix,omitempty"`
	RecordDelimiter *string  `json:"record_delimiter,omitempty"`
	FieldDelimiter  *string  `json:"field_delimiter,omitempty"`
	RecordTemplate  *string  `json:"record_template,omitempty"`
	TimestampFormat string   `json:"timestamp_format,omitempty"`
	SampleRate      *float64 `json:"sample_rate,omitempty"`
	CVE202144228    *bool    `json:"CVE-2021-44228,omitempty"`
	MergeSubreqs    *bool    `json:"merge_subrequests,omitempty"` // refused: only for http_requests
	StringifyObject *bool    `json:"stringify_object,omitempty"`  // lists and objects as strings of their JSON
}

// Update is the body of a create or an update. Members that are nil keep their
// value; output_options is replaced whole; "filter": "" clears the filter.
type Update struct {
	Dataset                  *string        `json:"dataset"`
	Kind                     *string        `json:"kind"`
	Name                     *string        `json:"name"`
	Enabled                  *bool          `json:"enabled"`
	DestinationConf          *string        `json:"destination_conf"`
	Frequency                *string        `json:"frequency"`
	Filter                   *string        `json:"filter"`
	FilterAttackTraffic      *bool          `json:"filter_attack_traffic"`
	OutputOptions            *OutputOptions `json:"output_options"`
	LogpullOptions           *string        `json:"logpull_options"`
	MaxUploadBytes           *int64         `json:"max_upload_bytes"`
	MaxUploadIntervalSeconds *int64         `json:"max_upload_interval_seconds"`
	MaxUploadRecords         *int64         `json:"max_upload_records"`
	OwnershipChallenge       *string        `json:"ownership_challenge"`

	// TransformerID is refused, whatever its type, which nobody publishes.
	TransformerID json.RawMessage `json:"transformer_id"`

	// Start is ours, and only for a new job: it delivers from this time on.
	Start *time.Time `json:"start,omitempty"`
}

// Delivery is what one job reports after an upload or a failure of one.
type Delivery struct {
	JobID int64
	// CompleteUntil is set after a success: the end of the time range delivered.
	CompleteUntil time.Time
	// FailedAt and Message are set after a failure.
	FailedAt time.Time
	Message  string
}
