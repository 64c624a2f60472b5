// Package ingest moves trace events from Kafka into ClickHouse, each exactly once.
//
// A block is a contiguous range of one partition's records. Its plan is committed
// to Kafka as the metadata of its first offset; then it is inserted under a name
// made of the plan; then its end is committed. Whatever dies in between, the next
// reader of the partition finds the plan, builds the same block and inserts it
// under the same name, and ClickHouse drops what it has already. (The protocol of
// eBay's Block Aggregator, 2021.)
//
// ClickHouse remembers names for some time only. So an insert has to come soon after
// its reader proved to be the partition's owner (prove), nobody goes on for long while
// another partition's block is open (hold), and what ClickHouse holds is believed more
// than what Kafka says was read (skipStored).
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// Writer stores blocks. A method returns when the block is stored for good, or an
// error after which it may be stored in part. A second block under the token of
// an earlier one must complete that one and change nothing else, whatever its
// rows. A block that was proven too long ago (tables.Events.ProvenAt) must be refused.
// Writers keep nothing of rows, and are safe for concurrent use.
type Writer interface {
	InsertEvents(ctx context.Context, token string, rows *tables.Events) error
	InsertQuarantine(ctx context.Context, token string, rows *tables.Quarantine) error
	// Tombstones returns what is deleted and not to be stored, however often it comes.
	Tombstones(ctx context.Context) ([]schema.Tombstone, error)
	// Now is the time by the clock that proofs are held against. It does not wait.
	Now() time.Time
	// Stored tells which records of a partition, from offset begin up to, but not
	// including, end, are stored.
	Stored(ctx context.Context, partition int, begin, end int64) (tables.Stored, error)
}

// Config of an Ingest.
type Config struct {
	Topic string // part of every block's name; the group's topic
	// Interval is the shortest time between two blocks of one partition that has
	// no backlog. A block makes a part in each of ClickHouse's tables, and merging
	// many small parts is what small blocks cost. An event waits half of it on
	// average. With a backlog, full blocks follow each other without a pause.
	Interval time.Duration
	RowsMax  int // of a block
	BytesMax int // of a block's record values; one record may be larger
	// StopGrace is how long a block whose plan is committed may go on after its
	// partition's context ended. Less than the group's rebalance timeout.
	StopGrace time.Duration
	// OpenBlocksMax is about how many blocks are settled while another one of the group
	// stays open, until it is waited for: a quarter of what ClickHouse remembers, because
	// a block may be four in a table.
	OpenBlocksMax int64
}

// SessionTimeoutMax bounds how long the group waits for a reader that fell silent.
// Until then its last block may be half stored, and in the end the others wait for it
// (Config.OpenBlocksMax).
const SessionTimeoutMax = 30 * time.Second

// DefaultConfig returns the configuration for a topic.
func DefaultConfig(topic string) Config {
	return Config{
		Topic:     topic,
		Interval:  200 * time.Millisecond,
		RowsMax:   50_000,
		BytesMax:  32 << 20,
		StopGrace: 3 * time.Second,

		OpenBlocksMax: tables.RememberedBlocks / 4,
	}
}

func (c Config) validate() error {
	switch {
	case c.Topic == "":
		return errors.New("ingest: Topic is empty")
	case c.Interval <= 0:
		return fmt.Errorf("ingest: Interval is %s: it must be positive", c.Interval)
	case c.RowsMax < 1:
		return fmt.Errorf("ingest: RowsMax is %d: it must be 1 or more", c.RowsMax)
	case c.BytesMax < 1:
		return fmt.Errorf("ingest: BytesMax is %d: it must be 1 or more", c.BytesMax)
	case c.StopGrace <= 0:
		return fmt.Errorf("ingest: StopGrace is %s: it must be positive", c.StopGrace)
	case c.OpenBlocksMax < 1:
		return fmt.Errorf("ingest: OpenBlocksMax is %d: it must be 1 or more", c.OpenBlocksMax)
	}
	return nil
}

// Ingest reads the partitions that it is handed. It is safe for concurrent use.
type Ingest struct {
	cfg     Config
	writer  Writer
	log     *slog.Logger
	metrics *metrics
	deleted *deleted
	open    openBlocks
}

// New returns an Ingest that stores blocks with writer.
func New(cfg Config, writer Writer, logger *slog.Logger) (*Ingest, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Ingest{cfg: cfg, writer: writer, log: logger, metrics: newMetrics(), deleted: &deleted{read: writer.Tombstones}}, nil
}

// HandlePartition is a stream.Handler: it settles the block that the partition's
// last reader left, and then block after block until ctx ends. The block in hand
// is finished within Config.StopGrace. While ClickHouse is away it waits, without
// losing its place. The error is stream.ErrFenced in the chain when the partition
// went to another reader, who will do the block in hand again.
func (in *Ingest) HandlePartition(ctx context.Context, p stream.Partition) error {
	r := &reader{Ingest: in, p: p, log: in.log.With("topic", in.cfg.Topic, "partition", p.ID())}
	defer in.metrics.track(p.ID(), &r.status)()
	defer in.open.join()()
	err := r.resume(ctx)
	for err == nil && ctx.Err() == nil {
		err = r.step(ctx)
	}
	if ctx.Err() != nil {
		return nil // stopped: what was not committed is done again by the next reader
	}
	return err
}

// reader is the state of one partition, owned by the goroutine of HandlePartition.
type reader struct {
	*Ingest
	p   stream.Partition
	log *slog.Logger

	hand      []stream.Record // fetched and in no block yet, in order
	handBytes int
	block     block     // memory used again for each block
	newest    time.Time // of the records seen in the partition; see mark
	notBefore time.Time // when the next block may begin
	logged    time.Time // when the last failure of an insert was logged
	looked    time.Time // when the end of the partition was last looked for
	provenAt  time.Time // of a proof that no attempt has used yet; see prove
	status    status    // read by the metrics
}

// step makes one block and settles it.
func (r *reader) step(ctx context.Context) error {
	if err := r.fill(ctx); err != nil || len(r.hand) == 0 {
		return err
	}
	if err := r.hold(ctx); err != nil {
		return err
	}
	n := cut(r.hand, r.cfg.RowsMax, r.cfg.BytesMax)
	records := r.hand[:n]
	next := plan{Begin: records[0].Offset, End: records[n-1].Offset + 1, At: records[0].Time.UnixMilli()}
	r.newest = stream.Newest(r.newest, records)
	if err := r.prove(ctx, next); err != nil {
		return err
	}
	r.notBefore = time.Now().Add(r.cfg.Interval)
	if r.full() {
		r.notBefore = time.Time{}
	}
	if err := r.settle(ctx, next, next.End, records); err != nil {
		return err
	}
	r.drop(n)
	return nil
}

// fill takes records in hand: at least one, then what the partition holds beyond
// it, up to a full block. It may return with empty hands after a gap.
func (r *reader) fill(ctx context.Context) error {
	if len(r.hand) == 0 {
		if err := stream.Sleep(ctx, time.Until(r.notBefore)); err != nil {
			return err
		}
		if err := r.fetch(ctx); err != nil {
			return r.afterGap(ctx, err)
		}
	}
	if r.full() {
		return nil
	}
	// Up to the end as it is now; what is written meanwhile is for the next block.
	end, err := r.look(ctx, r.hand[0].Offset)
	if err != nil {
		return err
	}
	for !r.full() && r.position() < end {
		// The last offsets may hold no record (the marker of a transaction), and
		// then a fetch waits for the next one: not with records in hand.
		fctx, cancel := context.WithTimeout(ctx, r.cfg.Interval)
		err := r.fetch(fctx)
		cancel()
		if err != nil && fctx.Err() != nil && ctx.Err() == nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fetch from offset %d: %w", r.position(), err)
		}
	}
	return nil
}

func (r *reader) fetch(ctx context.Context) error {
	records, err := r.p.Fetch(ctx)
	if err != nil {
		return err
	}
	for i := range records {
		r.handBytes += len(records[i].Value)
	}
	r.hand = append(r.hand, records...)
	return nil
}

// look finds the end of the partition, and keeps its distance from offset, up to
// which everything is stored, as the lag.
func (r *reader) look(ctx context.Context, offset int64) (end int64, err error) {
	r.looked = time.Now()
	_, end, err = r.p.Bounds(ctx)
	if err != nil {
		r.status.lag.Store(lagUnknown)
		return 0, fmt.Errorf("find the end of the partition: %w", err)
	}
	r.status.lag.Store(max(0, end-offset))
	return end, nil
}

// afterGap goes on elsewhere when the next record is not in the partition, and
// returns any other error. All before that record was stored, so that a partition
// which lost its end is not read again: each event counts once.
func (r *reader) afterGap(ctx context.Context, err error) error {
	gone, ok := errors.AsType[*stream.OutOfRangeError](err)
	if !ok {
		return fmt.Errorf("fetch: %w", err)
	}
	gap, err := gone.Resume(ctx, r.p, r.newest)
	if err != nil {
		return err
	}
	log := r.log.With("from_offset", gone.Position, "to_offset", gap.Next, "offsets", gap.Lost)
	switch gap.Cause {
	case stream.GapRetention:
		r.metrics.lost(ctx, reasonRetention, gap.Lost)
		log.ErrorContext(ctx, "events were removed from Kafka before they were ingested: give the topic a longer retention, or ingest more room")
	case stream.GapTruncated:
		r.metrics.lost(ctx, reasonRewound, gap.Lost)
		log.ErrorContext(ctx, "a broker lost the end of the partition: what was ingested of it is stored, and events behind it are lost, nobody knows how many; "+
			"going on at the new end. Look for an unclean leader election or a disk that lost writes")
	case stream.GapRemade:
		r.newest = time.Time{}
		log.ErrorContext(ctx, "the topic was made anew: the partition is another one than what was ingested; starting at its beginning")
	}
	// Counted: not to be counted again after a restart.
	if err := r.p.Commit(ctx, gap.Next, newMark(plan{}, r.newest).String()); err != nil {
		return fmt.Errorf("go on at offset %d: %w", gap.Next, err)
	}
	return nil
}

// position is the offset after the last record in hand, which must not be empty.
func (r *reader) position() int64 { return r.hand[len(r.hand)-1].Offset + 1 }

// full reports whether there is a block's worth of records in hand.
func (r *reader) full() bool { return len(r.hand) >= r.cfg.RowsMax || r.handBytes >= r.cfg.BytesMax }

// drop lets go of the first n records in hand.
func (r *reader) drop(n int) {
	for _, record := range r.hand[:n] {
		r.handBytes -= len(record.Value)
	}
	rest := copy(r.hand, r.hand[n:])
	clear(r.hand[rest:])
	r.hand = r.hand[:rest]
}

// cut returns how many of records, which must not be empty, make one block.
func cut(records []stream.Record, rowsMax, bytesMax int) int {
	bytes := 0
	for i := range records {
		bytes += len(records[i].Value)
		if i == rowsMax || (i > 0 && bytes > bytesMax) {
			return i
		}
	}
	return len(records)
}
