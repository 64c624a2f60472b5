package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// followPatience is how long reading may fail before it is an outage: a leader
// moves in less.
const followPatience = time.Second

// Message is one record of a topic that is only looked at.
type Message struct {
	Headers map[string]string
	Value   []byte // the receiver's
}

// FollowConfig describes a Follow.
type FollowConfig struct {
	Config
	// Since is the time of the first records that are wanted, on the clock of who
	// wrote them.
	Since time.Time
	// Handle gets every record, from one goroutine at a time. Those of a partition
	// come in order.
	Handle func(Message)
	// Outage is called with an error when reading has failed for a second, and with
	// nil when it works again; one call at a time.
	Outage func(error)
	// Logger must be set.
	Logger *slog.Logger
}

// follower reads a topic without a group.
type follower struct {
	cfg     FollowConfig
	client  *kafka.Client
	trouble troubleLog
	errors  metric.Int64Counter
	lost    metric.Int64Counter

	handling sync.Mutex

	mu       sync.Mutex
	failing  map[int]bool // partitions, and allPartitions
	reported bool
}

// allPartitions stands for the list of partitions where an id of one is wanted.
const allPartitions = -1

// Follow reads all partitions of a topic, also those that are added later, until
// ctx ends. It has no group, so nothing is committed and every follower gets
// everything. A broker that is away, or a topic that is not there yet, is waited
// for; what retention removed meanwhile is counted and skipped. It returns nil when
// ctx has ended, and an error only for a configuration that cannot work.
func Follow(ctx context.Context, cfg FollowConfig) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	if cfg.Logger == nil || cfg.Handle == nil || cfg.Outage == nil {
		return errors.New("stream: Logger, Handle or Outage is nil")
	}
	f := &follower{cfg: cfg, client: newClient(cfg.Config), trouble: troubleLog{logger: cfg.Logger}, failing: map[int]bool{}}
	defer closeClient(f.client)
	meter := telemetry.Meter(meterName)
	f.errors = must(meter.Int64Counter("tidegate_stream_follow_errors_total",
		metric.WithDescription("Attempts to read a followed topic that failed, by stage: partitions, offsets, fetch.")))
	f.lost = must(meter.Int64Counter("tidegate_stream_follow_lost_total",
		metric.WithDescription("Records of a followed topic that were gone before they were read.")))

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
		list, err := topicPartitions(ctx, f.client, f.cfg.Topic)
		for _, p := range list {
			ids = append(ids, p.ID)
		}
		return err
	})
	return ids, err
}

func (f *follower) followPartition(ctx context.Context, id int) {
	position, err := f.offsetSince(ctx, id)
	for err == nil {
		var records []followed
		err = f.retry(ctx, id, "fetch", func() (err error) {
			records, err = f.fetch(ctx, id, position)
			if !errors.Is(err, kafka.OffsetOutOfRange) {
				return err
			}
			return f.skip(ctx, id, &position)
		})
		for _, r := range records {
			position = r.offset + 1
			if r.Headers != nil && ctx.Err() == nil {
				f.handling.Lock()
				f.cfg.Handle(r.Message)
				f.handling.Unlock()
			}
		}
	}
}

// offsetSince fails only when ctx ends.
func (f *follower) offsetSince(ctx context.Context, id int) (offset int64, err error) {
	err = f.retry(ctx, id, "offsets", func() error {
		// The end first: see partition.OffsetAt.
		end, err := listOffsets(ctx, f.client, f.cfg.Topic, []kafka.OffsetRequest{kafka.LastOffsetOf(id)})
		if err != nil {
			return err
		}
		offset = end[id].LastOffset
		at, err := listOffsets(ctx, f.client, f.cfg.Topic, []kafka.OffsetRequest{kafka.TimeOffsetOf(id, f.cfg.Since)})
		for found := range at[id].Offsets {
			if found >= 0 {
				offset = found
			}
		}
		return err
	})
	return offset, err
}

// skip moves the position to the first record that is kept: retention removed what
// was there, or the topic was made anew.
func (f *follower) skip(ctx context.Context, id int, position *int64) error {
	kept, err := listOffsets(ctx, f.client, f.cfg.Topic, []kafka.OffsetRequest{kafka.FirstOffsetOf(id)})
	if err != nil {
		return err
	}
	first := kept[id].FirstOffset
	if gone := first - *position; gone > 0 {
		f.lost.Add(ctx, gone, metric.WithAttributes(attribute.String("topic", f.cfg.Topic)))
	}
	*position = first
	return nil
}

// followed is a record at its place; without Headers it is only a place.
type followed struct {
	offset int64
	Message
}

// fetch asks once. It returns nothing when no record came within fetchWait.
func (f *follower) fetch(ctx context.Context, id int, position int64) ([]followed, error) {
	ctx, cancel := withoutDeadline(ctx)
	defer cancel()
	answer, err := f.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: f.cfg.Topic, Partition: id, Offset: position,
		MinBytes: 1, MaxBytes: fetchBytesMax, MaxWait: fetchWait,
	})
	if err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	batches, ok := answer.Records.(*protocol.RecordStream)
	if !ok {
		return nil, nil // nothing, or the first part of a batch
	}
	records, err := decodeFollowed(batches, position)
	if err == nil && len(records) == 0 {
		records = []followed{{offset: position}} // see partition.fetch
	}
	return records, err
}

func decodeFollowed(stream *protocol.RecordStream, first int64) ([]followed, error) {
	var records []followed
	for {
		r, err := stream.ReadRecord()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, fmt.Errorf("read a record: %w", err)
		}
		if r.Key != nil {
			_ = r.Key.Close() // gives its page back; can't fail
		}
		value, err := protocol.ReadAll(r.Value)
		if r.Value != nil {
			_ = r.Value.Close()
		}
		if err != nil {
			return records, fmt.Errorf("read the value of offset %d: %w", r.Offset, err)
		}
		if r.Offset < first {
			continue
		}
		headers := make(map[string]string, len(r.Headers))
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		records = append(records, followed{r.Offset, Message{headers, value}})
	}
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

// report tells of the first part that fails, and of the last one that works again.
func (f *follower) report(id int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.failing[id] = true
	} else {
		delete(f.failing, id)
	}
	if down := len(f.failing) > 0; down != f.reported {
		f.reported = down
		f.cfg.Outage(err)
	}
}

// withoutDeadline returns a context that is canceled when ctx ends, and does not
// tell beforehand when that will be.
func withoutDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	open, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	return open, func() {
		stop()
		cancel()
	}
}
