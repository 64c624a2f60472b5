package clickhouse

import "time"

// Values of Events.Logpush and of the table's column. Rows from before the column are
// LogpushUnknown.
const (
	LogpushUnknown = ""
	LogpushYes     = "yes"
	LogpushNo      = "no"
)

// ArchiveQuery asks for the events of an account in a range of offsets of one
// partition whose time (schema.EventTime) is in a range, too.
type ArchiveQuery struct {
	AccountID string
	Partition int
	// Offsets [Begin, End). Begin -1 is the oldest that is kept, whatever was before.
	Begin, End int64
	From, To   time.Time // [From, To); To zero is without an end
}

// Archived is one event as Kafka had it.
type Archived struct {
	Offset  int64
	Time    time.Time // schema.EventTime
	Logpush string    // LogpushYes, LogpushNo or LogpushUnknown
	Value   []byte    // the record's
}

// ArchiveRange is where the events of a range of times lie in a partition, those of
// all accounts. Between Begin and End are Held records, and what else was there is not
// held. Held is 0 and Begin is End where nothing is known of such events.
type ArchiveRange struct {
	Begin, End int64 // offsets [Begin, End)
	Held       int64 // events, and records that were no events
}

// Missing is how many offsets of the range are not held.
func (r ArchiveRange) Missing() int64 { return max(0, r.End-r.Begin-r.Held) }
