package logjob

// Preview is what a job would send of some events.
type Preview struct {
	Source   string          `json:"source"`    // PreviewKafka or PreviewRequest
	LookedAt int64           `json:"looked_at"` // events of the account
	Sent     int64           `json:"sent"`      // of those; LookedAt is this and all of Dropped
	Dropped  PreviewDropped  `json:"dropped"`
	Cut      int64           `json:"truncated"` // of Sent: their Logs or Exceptions were cut to their budget
	Objects  []PreviewObject `json:"objects"`
}

// Sources of the events of a preview.
const (
	PreviewKafka   = "kafka"   // the newest ones of the account
	PreviewRequest = "request" // they came with the request
)

// PreviewDropped are the events that would not be sent, by reason.
type PreviewDropped struct {
	Filter          int64 `json:"filter"`
	Sample          int64 `json:"sample"`
	LogpushDisabled int64 `json:"logpush_disabled"`
	Deleted         int64 `json:"deleted"` // by request
	Malformed       int64 `json:"malformed"`
}

// PreviewObject is one upload.
type PreviewObject struct {
	Name        string `json:"name"` // where the destination keeps objects by name: the key in the bucket, or the file's absolute path
	Records     int    `json:"records"`
	ContentType string `json:"content_type"` // of Output
	// Output is exactly what would be sent, uncompressed. Where it is not UTF-8 it is
	// empty, and OutputBase64 has it.
	Output       string `json:"output"`
	OutputBase64 []byte `json:"output_base64,omitempty"`
	// OneByOne says that the destination takes records one by one and puts its own
	// around them: Output is the records, with the job's delimiter between them.
	OneByOne bool `json:"one_by_one,omitempty"`
}

// Bytes returns what would be sent, uncompressed.
func (o *PreviewObject) Bytes() []byte {
	if o.OutputBase64 != nil {
		return o.OutputBase64
	}
	return []byte(o.Output)
}
