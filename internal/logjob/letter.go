package logjob

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
)

// States of a dead letter.
const (
	LetterNew     = "new"     // it waits for somebody to send it again, or to delete it
	LetterResent  = "resent"  // the destination took it at last; the content is gone
	LetterDeleted = "deleted" // somebody let it go; the content is gone
)

// DeadLetter is a part of a batch, often a single record, that a destination refused
// for good while it took the rest.
type DeadLetter struct {
	ID          string     `json:"id"`
	JobID       int64      `json:"job_id"`
	Partition   int        `json:"partition"`
	BatchID     string     `json:"batch_id"`     // of what was sent
	BeginOffset int64      `json:"begin_offset"` // of the first record
	EndOffset   int64      `json:"end_offset"`   // after the last record
	Records     int        `json:"records"`
	From        time.Time  `json:"from"`   // time range of the batch that the records are from,
	Until       time.Time  `json:"until"`  // whole seconds
	Status      int        `json:"status"` // of the last refusal; 0 is none
	Reason      string     `json:"reason"` // of the last refusal, in the destination's words
	Attempts    int        `json:"attempts"`
	State       string     `json:"state"`
	Bytes       int64      `json:"bytes"` // stored for it; 0 once the content is gone
	CreatedOn   time.Time  `json:"created_on"`
	ResentOn    *time.Time `json:"resent_on"`

	Object LetterObject `json:"-"`
	Body   []byte       `json:"-"` // gzip of exactly what was sent
}

// LetterObject is what it takes, besides the body, to send a letter as it was sent.
type LetterObject struct {
	Name        string       `json:"name"`
	ContentType string       `json:"content_type"`
	Script      string       `json:"script,omitempty"`
	Version     string       `json:"version,omitempty"`
	Items       []LetterItem `json:"items,omitempty"` // where the destination takes records one by one
}

// LetterItem is a record of a letter.
type LetterItem struct {
	Begin     int       `json:"begin"` // in the uncompressed body
	End       int       `json:"end"`
	Time      time.Time `json:"time"`
	Script    string    `json:"script,omitempty"`
	Version   string    `json:"version,omitempty"`
	Outcome   string    `json:"outcome,omitempty"`
	EventType string    `json:"event_type,omitempty"`
	Offset    int64     `json:"offset,omitempty"`
}

// LetterLimits bound the letters of one job that wait. Zero is no limit; one letter is taken
// whatever its bytes.
type LetterLimits struct {
	Letters int64
	Bytes   int64
}

// Content returns the uncompressed body: what the destination would have read.
func (l *DeadLetter) Content() ([]byte, error) {
	zip, err := gzip.NewReader(bytes.NewReader(l.Body))
	if err != nil {
		return nil, fmt.Errorf("read dead letter %s: %w", l.ID, err)
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		return nil, fmt.Errorf("read dead letter %s: %w", l.ID, err)
	}
	return text, nil
}
