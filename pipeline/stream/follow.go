package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// followPatience is how long reading may fail before it is an outage: a leader
// moves in less.
const followPatience = time.Second

// followLate is how long a follower may be short of a partition's end before it is
// late: it reads more slowly than others write.
const followLate = 10 * time.Second

// FollowConfig describes a Follow.
type FollowConfig struct {
	Config
	// Since is the time of the first records that are wanted, on the clock of who
	// wrote them.
	Since time.Time
	// Handle gets every record, from one goroutine at a time. Those of a partition
	// come in order. Its value is valid until Handle returns.
	Handle func(*Record)
	// Outage is called with an error when reading has failed for a second, and with
	// nil when it works again; one call at a time.
	Outage func(error)
	// Late is called with true when the end of a partition was not reached for ten
	// seconds, and with false when all are read to their ends again; one call at a time.
	Late func(bool)
	// Logger must be set.
	Logger *slog.Logger
}

// follower reads a topic without a group.
type follower struct {
	cfg     FollowConfig
	reader  *Reader
	trouble troubleLog
	errors  metric.Int64Counter
	lost    metric.Int64Counter
	passed  metric.Int64Counter

	handling sync.Mutex
	memory   Memory // of the batch whose records are handled, guarded by handling

	mu      sync.Mutex
	failing some // partitions, and allPartitions
	late    some // partitions
}

// allPartitions stands for the list of partitions where an id of one is wanted.
const allPartitions = -1

// Follow reads all partitions of a topic, also those that are added later, until
// ctx ends. It has no group, so nothing is committed and every follower gets
// everything. A broker that is away, or a topic that is not there yet, is waited
// for; what retention removed meanwhile, and what cannot be decoded, is counted and
// skipped. It returns nil when ctx has ended, and an error only for a configuration
// that cannot work.
func Follow(ctx context.Context, cfg FollowConfig) error {
	if cfg.Logger == nil || cfg.Handle == nil || cfg.Outage == nil || cfg.Late == nil {
		return errors.New("stream: Logger, Handle, Outage or Late is nil")
	}
	reader, err := NewReader(cfg.Config, cfg.Logger)
	if err != nil {
		return err
	}
	defer reader.Close()
	f := &follower{cfg: cfg, reader: reader, trouble: troubleLog{logger: cfg.Logger}, failing: some{}, late: some{}}
	meter := telemetry.Meter(meterName)
	f.errors = must(meter.Int64Counter("tidegate_stream_follow_errors_total",
		metric.WithDescription("Attempts to read a followed topic that failed, by stage: partitions, offsets, fetch.")))
	f.lost = must(meter.Int64Counter("tidegate_stream_follow_lost_total",
		metric.WithDescription("Records of a followed topic that were gone before they were read.")))
	f.passed = must(meter.Int64Counter("tidegate_stream_follow_undecodable_total",
		metric.WithDescription("Offsets of a followed topic that were passed because they lie in batches that cannot be decoded.")))

	var partitions sync.WaitGroup
	defer partitions.Wait()
	var known []int
	for ctx.Err() == nil {
		ids, err := f.partitions(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		for _, id := range ids {
			if !slices.Contains(known, id) {
				known = append(known, id)
				partitions.Go(func() { f.followPartition(ctx, id) })
			}
		}
		if Sleep(ctx, partitionWatchInterval) != nil {
			return nil
		}
	}
	return nil
}

// partitions fails only when ctx ends.
func (f *follower) partitions(ctx context.Context) (ids []int, err error) {
	err = f.retry(ctx, allPartitions, "partitions", func() error {
		list, err := topicPartitions(ctx, f.reader.client, f.cfg.Topic)
		for _, p := range list {
			ids = append(ids, p.ID)
		}
		return err
	})
	return ids, err
}

func (f *follower) followPartition(ctx context.Context, id int) {
	since := f.cfg.Since
	position, err := f.offsetSince(ctx, id, since)
	var behind pursuit
	for err == nil {
		var pieces []Batches
		var end int64
		next := position
		outOfRange := false
		err = f.retry(ctx, id, "fetch", func() error {
			a, err := f.reader.ask(ctx, id, position, 1, fetchWait)
			if err == nil {
				end = a.end
				pieces, next, err = cut(a.batches, position)
			}
			if outOfRange = errors.Is(err, kafka.OffsetOutOfRange); outOfRange {
				return nil
			}
			return err
		})
		if err == nil && outOfRange {
			next, err = f.skip(ctx, id, position, since)
		}
		for i := range pieces {
			for _, batch := range pieces[i].Single() {
				since = f.handle(ctx, id, &batch, position, since)
			}
		}
		position = next
		if err == nil && !outOfRange {
			f.tellLate(id, behind.isLate(time.Now(), next, end))
		}
	}
}

// pursuit tells whether a partition is read as fast as it is written.
type pursuit struct {
	since time.Time // when its end was out of reach first; zero when it was reached
}

// isLate is asked after each fetch, with the next offset to read and the partition's end.
func (p *pursuit) isLate(now time.Time, next, end int64) bool {
	if next >= end {
		p.since = time.Time{}
		return false
	}
	if p.since.IsZero() {
		p.since = now
	}
	return now.Sub(p.since) >= followLate
}

// memoryKept is what a follower keeps for its next batch. A batch may be compressed very
// well by whoever wants to fill our memory.
const memoryKept = 8 << 20

// handle decodes one batch and hands on its records from an offset on. It returns the
// time of the newest record so far.
func (f *follower) handle(ctx context.Context, id int, batch *Batches, from int64, newest time.Time) time.Time {
	f.handling.Lock()
	defer f.handling.Unlock()
	records, bad := batch.Decode(&f.memory)
	newest = Newest(newest, records)
	for i := range records {
		if records[i].Offset >= from && ctx.Err() == nil {
			f.cfg.Handle(&records[i])
		}
	}
	for _, b := range bad {
		f.passed.Add(ctx, b.Next-max(b.First, from), metric.WithAttributes(attribute.String("topic", f.cfg.Topic)))
		f.trouble.warn(ctx, "pass a batch of a followed topic", b.Err, "topic", f.cfg.Topic, "partition", id)
	}
	if f.memory.Size() > memoryKept {
		f.memory = Memory{}
	}
	return newest
}

// offsetSince fails only when ctx ends.
func (f *follower) offsetSince(ctx context.Context, id int, since time.Time) (offset int64, err error) {
	err = f.retry(ctx, id, "offsets", func() error {
		// The end first: see partition.OffsetAt.
		end, err := listOffsets(ctx, f.reader.client, f.cfg.Topic, []kafka.OffsetRequest{kafka.LastOffsetOf(id)})
		if err != nil {
			return err
		}
		offset = end[id].LastOffset
		at, err := listOffsets(ctx, f.reader.client, f.cfg.Topic, []kafka.OffsetRequest{kafka.TimeOffsetOf(id, since)})
		for found := range at[id].Offsets {
			if found >= 0 {
				offset = found
			}
		}
		return err
	})
	return offset, err
}

// skip returns where to go on when a position is not kept. Retention removed what was
// there; or a broker lost the end, or the topic was made anew, and what is no older than
// the newest record so far is wanted. It fails only when ctx ends.
func (f *follower) skip(ctx context.Context, id int, position int64, newest time.Time) (int64, error) {
	var first int64
	err := f.retry(ctx, id, "offsets", func() error {
		kept, err := listOffsets(ctx, f.reader.client, f.cfg.Topic, []kafka.OffsetRequest{kafka.FirstOffsetOf(id)})
		first = kept[id].FirstOffset
		return err
	})
	if gone := first - position; err == nil && gone > 0 {
		f.lost.Add(ctx, gone, metric.WithAttributes(attribute.String("topic", f.cfg.Topic)))
		return first, nil
	}
	if err != nil {
		return position, err
	}
	return f.offsetSince(ctx, id, newest)
}

// retry repeats do, with growing pauses, until it succeeds or ctx ends.
func (f *follower) retry(ctx context.Context, id int, stage string, do func() error) error {
	var since time.Time
	for attempt := 0; ctx.Err() == nil; attempt++ {
		err := do()
		if err == nil {
			f.report(id, nil)
			return nil
		}
		if ctx.Err() != nil {
			break
		}
		f.errors.Add(ctx, 1, metric.WithAttributes(attribute.String("topic", f.cfg.Topic), attribute.String("stage", stage)))
		f.trouble.warn(ctx, "follow a topic", err, "topic", f.cfg.Topic, "stage", stage, "partition", id)
		if since.IsZero() {
			since = time.Now()
		} else if time.Since(since) >= followPatience {
			f.report(id, fmt.Errorf("%s of topic %s: %w", stage, f.cfg.Topic, err))
		}
		if Sleep(ctx, Backoff(attempt)) != nil {
			break
		}
	}
	return ctx.Err()
}

// some are the partitions of which something is true.
type some map[int]bool

// set reports whether it has become true of the first one, or untrue of the last.
func (s some) set(id int, is bool) (changed bool) {
	before := len(s) > 0
	if is {
		s[id] = true
	} else {
		delete(s, id)
	}
	return before != (len(s) > 0)
}

// report tells of the first part that fails, and of the last one that works again.
func (f *follower) report(id int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failing.set(id, err != nil) {
		f.cfg.Outage(err)
	}
}

// tellLate does the same for partitions that are read late.
func (f *follower) tellLate(id int, late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.late.set(id, late) {
		f.cfg.Late(late)
	}
}
