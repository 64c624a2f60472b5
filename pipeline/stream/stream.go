// Package stream is the only place that speaks to Kafka. It produces records in
// batches without ever making its caller wait, and hands the partitions of a
// consumer group to one goroutine each.
package stream

import (
	"context"
	"time"
)

// Config names a Kafka cluster.
type Config struct {
	Brokers []string // host:port, at least one
	Topic   string
}

// Record is one Kafka record. Value is owned by the receiver of the record.
type Record struct {
	Offset  int64
	Time    time.Time // when the producer stamped it
	Account string    // header "account"
	Schema  string    // header "schema"
	Value   []byte
}

// Partition is one partition that the group gave to this member. Its methods are
// for the goroutine that Handle runs in. After a rebalance or a stop ctx ends,
// and every commit is refused by the broker, so that a member that lost the
// partition without noticing cannot move the group.
type Partition interface {
	ID() int
	// Committed returns the group's offset and its metadata, and false when the
	// group never committed one here.
	Committed() (offset int64, metadata string, ok bool)
	// Bounds returns the first offset that is kept and the next one to be written.
	Bounds(ctx context.Context) (first, next int64, err error)
	// OffsetAt returns the first offset whose time is at or after t, or the next
	// one to be written when there is none.
	OffsetAt(ctx context.Context, t time.Time) (int64, error)
	// SeekTo makes the next Fetch start at offset.
	SeekTo(offset int64)
	// Fetch returns at least one record, in order, or an error. It blocks until
	// there is one or ctx ends. Offsets may have gaps.
	Fetch(ctx context.Context) ([]Record, error)
	// Commit stores offset as the next one to read, with metadata (at most 4 kB).
	Commit(ctx context.Context, offset int64, metadata string) error
}

// Handler processes one partition until ctx ends. A returned error gives the
// partition back to the group, after a pause.
type Handler func(ctx context.Context, p Partition) error
