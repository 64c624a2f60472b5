package clickhouse

import (
	"math"
	"time"
)

// BucketOffsets is how many offsets of a partition one OffsetSum is about: those from a
// multiple of it on.
const BucketOffsets = 1 << 16

// OffsetRange is the offsets [Begin, End) of a partition.
type OffsetRange struct {
	Partition  int
	Begin, End int64
}

// OffsetSum is what trace_events and trace_events_quarantine hold together of one bucket.
type OffsetSum struct {
	Partition int
	Bucket    int64 // its offsets divided by BucketOffsets
	Rows      uint64
	Sum       uint64 // of OffsetHash over the rows; it wraps around
	OldestMS  int64  // the least time of an event; NoTime without one
}

// NoTime is later than all times.
const NoTime = math.MaxInt64

// OffsetHash is what ClickHouse calls intHash64, the finalizer of MurmurHash3 on a
// number with a constant mixed in. No two numbers have the same, so sums over two sets of
// offsets are equal by chance once in 2^64.
func OffsetHash(offset int64) uint64 {
	x := uint64(offset) ^ 0x4cf2d2baae6da887 // #nosec G115 -- the same bits
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// OffsetRows is what the tables hold of one offset.
type OffsetRows struct {
	Partition           int
	Offset              int64
	Events, Quarantined uint64 // rows in each table; not both are 0
	Deleted             uint64 // of those in quarantine: events that were deleted by request, of which only the offset is kept
	// Alike says that the rows of each table are about the same record. What that record
	// was is below, for each table that has rows.
	Alike            bool
	TimeMS, SkewMS   int64 // of the event, as schema.EventTime has them
	RayID            string
	QuarantineTimeMS int64  // of the record
	QuarantineBytes  uint64 // of its value
}

// Rows is how many the record counts for. While a deletion is under way, a row and the
// note that only its offset is left are both there, for one.
func (r *OffsetRows) Rows() uint64 {
	if n := r.Events + r.Quarantined - r.Deleted; n > 0 {
		return n
	}
	return min(r.Deleted, 1)
}

// BatchRowsMax bounds the rows in the quarantine that one batch of Kafka's becomes which
// cannot be decoded: one for each of its first offsets. How many offsets it takes is what
// its header says, which nobody has checked.
const BatchRowsMax = 10_000

// StrayRows are rows of a partition with offsets that it does not have: below 0, or at
// or above an end.
type StrayRows struct {
	Partition   int
	Rows        uint64
	First, Last int64 // the least and the greatest offset
	// Recent rows were inserted at or after a given time. Notes of deleted offsets are
	// none: they tell when the deletion was, and not when the record was stored.
	Recent uint64
}

// PartitionEnd is where the offsets of a partition end, and since when a row behind it
// counts as recent.
type PartitionEnd struct {
	End    int64
	Recent time.Time
}

// Kept is for how many days the tables keep rows; 0 is for ever.
type Kept struct {
	EventDays, QuarantineDays int
	Rollups                   []KeptRollup // from fine to coarse
}

// KeptRollup is one of the tables that hold rates.
type KeptRollup struct {
	Table  string
	Bucket time.Duration // that a row is about
	Days   int
}

// RateSum is what a rollup, or the raw events in its place, count in one hour.
type RateSum struct {
	Hour     time.Time
	Requests uint64
	Sum      uint64 // of requests times a hash of their cell; it wraps around
}

// RateCell is a version's row in a rollup, and what the raw events make of it.
type RateCell struct {
	Key                              uint64 // a hash of all that names the cell
	AccountID, ScriptName, VersionID string
	Time                             time.Time // the beginning of its bucket
	Requests                         uint64    // in the rollup
	// Rows are the requests that the raw events stand for: each for itself and for those
	// that were sampled out. Settled are those of them that belong to settled blocks.
	Rows, Settled uint64
}
