package clickhouse

import "time"

// EventFilter chooses events of one script. Zero members choose all.
type EventFilter struct {
	Since      time.Time // the first millisecond
	Until      time.Time // the first millisecond that is too late
	VersionID  string
	Outcome    string
	RayID      string
	FailedOnly bool // schema.Failed
	StatusMin  int
	StatusMax  int
	// After continues behind the page that answered with this cursor.
	After string
	Limit int // events of a page; EventsDefault when zero, EventsMax at most
}

// Bounds of EventFilter.Limit.
const (
	EventsDefault = 100
	EventsMax     = 1000
)
