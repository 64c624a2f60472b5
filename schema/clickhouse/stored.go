package clickhouse

// RememberedBlocks is how many of a table's latest blocks ClickHouse remembers by their
// token. A repeated block is recognised as long as fewer came in between; a block of
// several days counts once for each, and one whose events stand for others once more.
const RememberedBlocks = 30_000

// Stored is what the tables hold of a range of a partition's offsets.
type Stored struct {
	Rows int64 // 0: nothing, and the rest is zero
	Last int64 // the highest offset
	// Records are those that are stored under Last: several where the topic was made anew.
	Records []StoredRecord
}

// StoredRecord is what tells one record from another one at the same offset.
type StoredRecord struct {
	Event  bool   // or else it is in the quarantine
	RayID  string // of an event
	TimeMs int64  // of an event its own, of another record Kafka's; in Unix milliseconds
	// Deleted says that of an event only its offset was left, and as TimeMs the day.
	Deleted bool
}
