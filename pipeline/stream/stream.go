// Package stream is the only place that speaks to Kafka. It produces records in
// batches without ever making its caller wait, and hands the partitions of a
// consumer group to one goroutine each.
package stream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Config names a Kafka cluster.
type Config struct {
	Brokers  []string // host:port, at least one
	Topic    string
	Security Security
}

// Record is one Kafka record. Value is owned by the receiver of the record.
type Record struct {
	Offset  int64
	Time    time.Time // when the producer stamped it
	Account string    // header "account"
	Schema  string    // header "schema"
	Headers []Header  // the others, in the record's order
	Value   []byte
}

// Header is a record header beside those of every record.
type Header struct{ Name, Value string }

// Header returns the value of a header of Headers, "" if there is none.
func (r *Record) Header(name string) string {
	for _, h := range r.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
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
	// Bounds returns the first offset that is kept and the next one to be written. Alone
	// among the methods it may be called from any goroutine, also while others run.
	Bounds(ctx context.Context) (first, next int64, err error)
	// OffsetAt returns the first offset whose time is at or after t, or the next
	// one to be written when there is none.
	OffsetAt(ctx context.Context, t time.Time) (int64, error)
	// SeekTo makes the next FetchBatches start at offset.
	SeekTo(offset int64)
	// FetchBatches returns at least one batch, in order, or an error. The first of a
	// group that never committed is the oldest that is kept. It blocks until there is
	// one or ctx ends. Offsets may have gaps, batches may turn out to have no record, and
	// the first may begin with records before the position. The error is ctx's, or an
	// *OutOfRangeError; a broker that is away is waited for.
	FetchBatches(ctx context.Context) ([]Batches, error)
	// Marks returns the metadata of the group's commits of all partitions; those without
	// a commit are absent. It asks once.
	Marks(ctx context.Context) (map[int]string, error)
	// Commit stores offset as the next one to read, with metadata (at most 4 kB).
	// A refusal is ErrFenced, and so is a lost answer: the member joins the group anew
	// then, because a commit that a broker carries out late would undo later ones. After
	// an error the commit may or may not be stored. One other goroutine may call it, also
	// while other methods than Committed run.
	Commit(ctx context.Context, offset int64, metadata string) error
}

// Handler processes one partition until ctx ends. After a returned error it is
// called again for the same partition, after a pause and with Committed read
// anew; the group does not rebalance because of it.
type Handler func(ctx context.Context, p Partition) error

// ErrFenced is in the chain of a commit's error when the group went on without this
// member, or goes on as another generation: the partition is handed out anew. The handler
// returns it; what it did after its last commit will be done again.
var ErrFenced = errors.New("the group has moved on without this member")

// OutOfRangeError is returned by FetchBatches when its position is not, or no longer,
// in the partition: retention removed it, a broker lost it, or the topic was made
// anew. Resume tells which and where to go on; the handler counts what is lost.
type OutOfRangeError struct {
	Position int64 // that was asked for
	First    int64 // that is kept
	Next     int64 // to be written, as was asked afterwards: it may be behind Position by then
}

// Removed reports whether retention took what was at the position. Otherwise the
// partition was shorter, for a moment at least.
func (e *OutOfRangeError) Removed() bool { return e.Position < e.First }

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d is not kept: the partition holds %d to %d", e.Position, e.First, e.Next-1)
}
