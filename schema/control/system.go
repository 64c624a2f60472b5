package control

import (
	"cmp"
	"time"
)

// RouterReportEvery is how often a router tells of itself.
const RouterReportEvery = 10 * time.Second

// RouterState is what a router tells of itself. Counts are since StartedOn.
type RouterState struct {
	ID        string    `json:"id"`
	Version   string    `json:"version"` // of the build
	StartedOn time.Time `json:"started_on"`
	// Revision of the snapshot that it serves; 0 before the first.
	Revision int64 `json:"revision"`
	// ConfirmedOn is when the control plane last told it that Revision is the newest, by
	// its own clock; zero before.
	ConfirmedOn   time.Time `json:"confirmed_on,omitzero"`
	SnapshotError string    `json:"snapshot_error,omitempty"` // of the last attempt to get a newer one

	EventsEmitted int64 `json:"events_emitted"`
	EventsSent    int64 `json:"events_sent"`  // that Kafka has confirmed
	QueueEvents   int64 `json:"queue_events"` // in memory, now
	SpoolBytes    int64 `json:"spool_bytes"`  // on disk, now
	SpoolBytesMax int64 `json:"spool_bytes_max"`
	// Dropped counts events that were lost, by reason; reasons without any are left out.
	Dropped   map[string]int64 `json:"dropped,omitempty"`
	DroppedOn time.Time        `json:"dropped_on,omitzero"` // the last time that Dropped grew; zero: never
	// ProducerIDsRefused says that Kafka does not recognise events that are sent again.
	ProducerIDsRefused bool `json:"producer_ids_refused,omitempty"`

	SentOn time.Time `json:"sent_on,omitzero"` // by the router's own clock, as all times above
	// Stopping says good-bye: the router stops in order, and is forgotten.
	Stopping bool `json:"stopping,omitempty"`

	// Set by the control plane, by its clock.
	SeenSince  time.Time `json:"-"`
	ReportedOn time.Time `json:"-"`
}

// Lease is who plays a role of which there is to be one.
type Lease struct {
	Holder    string
	ExpiresOn time.Time
}

// PartitionLag is how far the readers of a topic are in one partition.
type PartitionLag struct {
	Partition int
	Committed int64 // offset of the next record to be read; -1: none was committed
	First     int64 // oldest offset that Kafka has
	Next      int64 // offset that the next record will have
	// Offsets of the first record of the last minute, and of the last five; Next where there
	// is none, -1 where Kafka did not tell.
	Minute, FiveMinutes int64
}

// Lag is the number of records that wait.
func (p PartitionLag) Lag() int64 { return max(0, p.Next-p.position()) }

func (p PartitionLag) position() int64 { return max(p.Committed, p.First) }

// Late reports whether a record waits for more than a minute, and Stopped for more than
// five; false where Kafka did not tell.
func (p PartitionLag) Late() bool { return p.position() < p.Minute }

// Stopped is described at Late.
func (p PartitionLag) Stopped() bool { return p.position() < p.FiveMinutes }

// DeliveryState is how a Logpush job does.
type DeliveryState struct {
	JobID         int64
	AccountID     string
	Name          string
	Enabled       bool
	EnabledOn     time.Time
	FailingSince  time.Time // zero: it does not fail
	DisabledOn    time.Time // by the service itself; zero: not
	ReportedOn    time.Time // the oldest report of its partitions; zero: none
	LagEvents     int64     // where ReportedOn is not zero
	OldestEventOn time.Time // that waits; zero: a partition does not know its own, or none does
}

// Outbox is what waits to be told about rollback decisions.
type Outbox struct {
	Waiting     int64
	OldestOn    time.Time // of those; zero for none
	FailedToday int64     // given up within 24 h
}

// Answer is what became of a question to one part. A fact is nothing unless Err is nil.
type Answer struct {
	Err  error
	Took time.Duration
}

// Build says of which source, and by which Go, a binary was made. What is not known is
// empty.
type Build struct {
	Version string
	Commit  string    // of the source, in full
	Date    time.Time // of the commit, not of the build: two builds of one commit are the same
	Go      string    // version of Go
}

// String is for people, on a line for each fact.
func (b Build) String() string {
	line := func(name, value string) string { return "\n" + name + cmp.Or(value, "unknown") }
	var date string
	if !b.Date.IsZero() {
		date = b.Date.UTC().Format(time.RFC3339)
	}
	return b.Version + line("commit ", b.Commit) + line("date   ", date) + line("go     ", b.Go)
}

// SystemFacts are what the control plane can learn of all parts. Each has the answer by
// which it came.
type SystemFacts struct {
	Build        Build // of this process
	DatabaseKind string
	Database     Answer
	Revision     int64 // of the newest snapshot; with Database

	Routers  []RouterState // with Database
	Rollback *Lease        // with Database; nil: nobody has it
	Outbox   Outbox        // with Database
	Delivery []DeliveryState
	Kafka    Answer
	Ingest   []PartitionLag // with Kafka
	Ages     error          // why Kafka did not tell the ages of what waits
	Engine   Answer         // of ClickHouse
	Newest   Answer
	NewestOn time.Time // time of the newest event that is stored; zero: there is none. With Newest
}
