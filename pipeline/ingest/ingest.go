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
	// no backlog, over time: after a quiet time a few follow each other at once. A
	// block makes a part in each of ClickHouse's tables, and merging many small parts
	// is what small blocks cost. With a backlog, full blocks follow each other without a
	// pause, as long as ClickHouse remembers enough of them (openBlocks).
	Interval time.Duration
	// Linger is how long the first event of a block waits for others, at least. What
	// comes while the block waits for Interval, or for a slot, is in it as well.
	Linger   time.Duration
	RowsMax  int // of a block
	BytesMax int // of a block's record values; one record may be larger
	// InsertsMax is how many blocks are decoded and stored at once, those of all
	// partitions together.
	InsertsMax int
	// MemoryBytes bounds what is held of events that are not stored. Half of it is for
	// what was fetched, compressed as Kafka has it, of which each partition may have an
	// equal part, but one answer to a fetch in any case. The other half is for the blocks
	// that are being stored, so it may make blocks smaller than BytesMax.
	MemoryBytes int64
	// StopGrace is how long a block whose plan is committed may go on after its
	// partition's context ended. Less than the group's rebalance timeout.
	StopGrace time.Duration
	// NamesMax is how many combinations of script, version and outcome may be in use of an
	// account: see NamesDefault. Events of further ones go to the quarantine. Blocks that are
	// stored at the same time may pass it by ten thousand each.
	NamesMax int
	// OpenEntriesMax is about how much may be settled while another block of the group stays
	// open, until that one is waited for; in entries of what ClickHouse remembers
	// (tables.Events.Entries).
	OpenEntriesMax int64
}

// SessionTimeoutMax bounds how long the group waits for a reader that fell silent.
// Until then its last block may be half stored, and in the end the others wait for it
// (Config.OpenEntriesMax).
const SessionTimeoutMax = 30 * time.Second

// Bounds of a process that names none.
const (
	InsertsDefault     = 4
	MemoryBytesDefault = 512 << 20
	// InsertsMax is about as many as clickhouse.DB has connections.
	InsertsMax = 64
)

// MemoryBytesMin has room for blocks of a thousand events or two.
func MemoryBytesMin(inserts int) int64 {
	const smallest, blockBytes = 32 << 20, 1 << 20
	return max(smallest, int64(inserts)*2*blockShare*blockBytes)
}

// blockShare is what a block takes for each byte of its values: itself, in memory of which
// half may be larger blocks' (slots.keep), the columns made of it, and the body of the
// insert, which has it again.
const blockShare = 4

// DefaultConfig returns the configuration for a topic.
func DefaultConfig(topic string) Config {
	return Config{
		Topic:       topic,
		Interval:    200 * time.Millisecond,
		Linger:      10 * time.Millisecond,
		RowsMax:     50_000,
		BytesMax:    32 << 20,
		InsertsMax:  InsertsDefault,
		MemoryBytes: MemoryBytesDefault,
		StopGrace:   3 * time.Second,
		NamesMax:    NamesDefault,

		OpenEntriesMax: tables.RememberedBlocks / 2,
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
	case c.Linger < 0:
		return fmt.Errorf("ingest: Linger is %s: it must not be negative", c.Linger)
	case c.InsertsMax < 1 || c.InsertsMax > InsertsMax:
		return fmt.Errorf("ingest: InsertsMax is %d: it must be from 1 to %d", c.InsertsMax, InsertsMax)
	case c.MemoryBytes < MemoryBytesMin(c.InsertsMax):
		return fmt.Errorf("ingest: MemoryBytes is %d: it must be %d or more for %d inserts at once", c.MemoryBytes, MemoryBytesMin(c.InsertsMax), c.InsertsMax)
	case c.StopGrace <= 0:
		return fmt.Errorf("ingest: StopGrace is %s: it must be positive", c.StopGrace)
	case c.NamesMax < NamesMin || c.NamesMax > NamesMax:
		return fmt.Errorf("ingest: NamesMax is %d: it must be from %d to %d", c.NamesMax, NamesMin, NamesMax)
	case c.OpenEntriesMax < 1:
		return fmt.Errorf("ingest: OpenEntriesMax is %d: it must be 1 or more", c.OpenEntriesMax)
	}
	return nil
}

// blockBytesMax is BytesMax, or what MemoryBytes leaves of it.
func (c Config) blockBytesMax() int {
	return int(min(int64(c.BytesMax), c.MemoryBytes/2/int64(c.InsertsMax)/blockShare))
}

// Ingest reads the partitions that it is handed. It is safe for concurrent use.
type Ingest struct {
	cfg     Config
	writer  Writer
	log     *slog.Logger
	slots   *slots
	metrics *metrics
	deleted *deleted
	names   *names
	open    openBlocks
}

// New returns an Ingest that stores blocks with writer.
func New(cfg Config, writer Writer, logger *slog.Logger) (*Ingest, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s, n := newSlots(cfg.InsertsMax, cfg.blockBytesMax()), newNames(cfg.NamesMax)
	return &Ingest{cfg: cfg, writer: writer, log: logger, slots: s, names: n, metrics: newMetrics(s, n, cfg), deleted: &deleted{read: writer.Tombstones}}, nil
}

// HandlePartition is a stream.Handler: it settles the block that the partition's
// last reader left, and then block after block until ctx ends. The block in hand
// is finished within Config.StopGrace. While ClickHouse is away it waits, without
// losing its place, and soon without fetching more. The error is stream.ErrFenced in
// the chain when the partition went to another reader, who will do the block in hand
// again.
func (in *Ingest) HandlePartition(ctx context.Context, p stream.Partition) error {
	r := &reader{Ingest: in, p: p, log: in.log.With("topic", in.cfg.Topic, "partition", p.ID()), pace: pace{interval: in.cfg.Interval}, end: lagUnknown}
	r.hand = newHand(handLimits{
		rows: int64(in.cfg.RowsMax), share: in.metrics.share,
		held: in.metrics.held, waited: func(d time.Duration) { in.metrics.waited(ctx, waitMemory, d) },
	})
	defer in.metrics.track(p.ID(), &r.status)()
	defer in.open.join()()
	defer r.hand.drop()
	err := r.resume(ctx)
	for err == nil && ctx.Err() == nil {
		err = r.follow(ctx)
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

	hand     *hand
	slot     *slot // while it has one
	pace     pace
	newest   time.Time // of the records seen in the partition; see mark
	logged   time.Time // when the last failure of an insert was logged
	looked   time.Time // when the end of the partition was last looked for
	end      int64     // that was found then, or lagUnknown
	status   status    // read by the metrics
	provenAt time.Time // of a proof that no attempt has used yet; see prove
}

// follow makes block after block of what is fetched meanwhile, until a fetch fails, for
// which it finds a way to go on, or something else does.
func (r *reader) follow(ctx context.Context) error {
	fetching, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	r.hand.begin()
	go func() { ended <- r.hand.fill(fetching, r.p) }()
	for {
		more, err := r.await(ctx)
		if more && err == nil {
			err = r.step(ctx)
		}
		if more && err == nil {
			continue
		}
		stop()
		if fetchErr := <-ended; err == nil {
			err = r.afterGap(ctx, fetchErr)
		}
		return err
	}
}

// await waits until a block may begin, and returns false when nothing is left to make
// one of.
func (r *reader) await(ctx context.Context) (bool, error) {
	for {
		some, enough, ended, since := r.hand.state()
		if some && (enough || ended) || !some && ended {
			return some, ctx.Err()
		}
		var due <-chan time.Time
		if some {
			wait := max(time.Until(since.Add(r.cfg.Linger)), time.Until(r.pace.due))
			if wait <= 0 {
				return true, ctx.Err()
			}
			due = time.After(wait)
		}
		select {
		case <-due:
		case <-r.hand.changed:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// step makes one block of what is in hand when there is a slot for it, and settles it.
func (r *reader) step(ctx context.Context) error {
	r.lookAgain(ctx)
	if err := r.hold(ctx); err != nil {
		return err
	}
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	batches, position := r.hand.list()
	end, full := r.slots.build(r.slot, batches, position, -1, r.cfg.RowsMax, r.cfg.blockBytesMax())
	records := r.slot.records
	if len(records) == 0 { // only what a transaction or a compaction left
		r.hand.settled(end)
		return nil
	}
	next := r.refuse(plan{Begin: records[0].Offset, End: records[len(records)-1].Offset + 1, At: records[0].Time.UnixMilli()})
	full = full || len(r.slot.records) < len(records)
	r.newest = stream.Newest(r.newest, r.slot.records)
	if err := r.prove(ctx, next); err != nil {
		return err
	}
	if !full {
		r.pace.spend(time.Now())
	}
	return r.settle(ctx, next, next.End)
}

// take waits for a slot.
func (r *reader) take(ctx context.Context) (err error) {
	begun := time.Now()
	r.slot, err = r.slots.take(ctx)
	r.metrics.waited(ctx, waitInsert, time.Since(begun))
	return err
}

// give gives the slot back, if there is one.
func (r *reader) give() {
	if r.slot != nil {
		r.slots.give(r.slot)
		r.slot = nil
	}
}

// look finds the end of the partition. Its distance from the offset up to which
// everything is stored is the lag.
func (r *reader) look(ctx context.Context) error {
	r.looked = time.Now()
	first, end, err := r.p.Bounds(ctx)
	if err != nil {
		r.end = lagUnknown
		r.status.lag.Store(lagUnknown)
		return fmt.Errorf("find the end of the partition: %w", err)
	}
	r.end = end
	_, settled := r.hand.list()
	r.lag(max(first, settled))
	return nil
}

// lag shows that everything up to offset settled is stored.
func (r *reader) lag(settled int64) {
	if r.end != lagUnknown {
		r.status.lag.Store(max(0, r.end-settled))
	}
}

// afterGap goes on elsewhere when the next record is not in the partition, and
// returns any other error. All before that record was stored: of a partition which
// lost its end, what is left is not read again. What it has at the same offsets since
// then is stored beside what was lost, under tokens that have other times.
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
			"going on where newer events begin. Older ones that were written since the loss are left out, and offsets that are used again are in ClickHouse twice. "+
			"Look for an unclean leader election or a disk that lost writes")
	case stream.GapRemade:
		r.newest = time.Time{}
		log.ErrorContext(ctx, "the topic was made anew: the partition is another one than what was ingested; starting at its beginning")
	}
	// Counted: not to be counted again after a restart.
	if err := r.p.Commit(ctx, gap.Next, newMark(plan{}, r.newest).String()); err != nil {
		return fmt.Errorf("go on at offset %d: %w", gap.Next, err)
	}
	r.hand.settled(gap.Next)
	return nil
}
