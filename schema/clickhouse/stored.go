package clickhouse

import (
	"math"
	"slices"
)

// RememberedBlocks is how many of a table's latest blocks ClickHouse remembers by their
// token. A repeated block is recognised as long as fewer came in between. One counts as
// often as it makes Entries.
const RememberedBlocks = 30_000

// Entries is how many blocks ClickHouse remembers of this one in the table that has most of
// them: one of each UTC day, by which tables are partitioned, and where events stand for
// others the rollups get each of those a second time.
func (b *Events) Entries() int64 {
	var days []int64
	last, others := int64(math.MinInt64), int64(1)
	for i, at := range b.Time {
		if day := at.Unix() / (24 * 3600); day != last { // most are of the day of the one before
			if last = day; !slices.Contains(days, day) {
				days = append(days, day)
			}
		}
		if b.SampledOut[i] > 0 {
			others = 2
		}
	}
	return others * int64(len(days))
}

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
