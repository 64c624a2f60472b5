package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// Reader reads partitions of a topic at any offset, without a group. It is safe
// for concurrent use.
type Reader struct {
	cfg     Config
	client  *kafka.Client
	trouble troubleLog
	errors  metric.Int64Counter
	headers sync.Pool // of *interned
}

// NewReader returns a reader; it connects when it is used.
func NewReader(cfg Config, log *slog.Logger) (*Reader, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Reader{
		cfg: cfg, client: newClient(cfg), trouble: troubleLog{logger: log},
		errors: must(telemetry.Meter(meterName).Int64Counter("tidegate_stream_read_errors_total",
			metric.WithDescription("Attempts to read a partition without a group that failed, by stage: offsets, fetch."))),
		headers: sync.Pool{New: func() any { return new(interned) }},
	}, nil
}

// Close gives its connections back. Nobody may read any more.
func (r *Reader) Close() { closeClient(r.client) }

// Fetch returns the records of a partition from offset on, as many as fit into
// one answer, the first being the first that is kept. Where there is none yet it
// returns none, or, if it is to wait, blocks until there is one. A broker that is
// away is waited for in any case. The error is ctx's, or an *OutOfRangeError.
func (r *Reader) Fetch(ctx context.Context, partition int, offset int64, wait bool) ([]Record, error) {
	for {
		var records []Record
		var next int64
		outOfRange := false
		err := r.retry(ctx, partition, "fetch", func() (err error) {
			records, next, err = r.fetch(ctx, partition, offset, wait)
			if outOfRange = errors.Is(err, kafka.OffsetOutOfRange); outOfRange {
				return nil
			}
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case outOfRange:
			return nil, r.outOfRange(ctx, partition, offset)
		case len(records) > 0 || next == offset && !wait:
			return records, nil
		}
		offset = next
	}
}

func (r *Reader) outOfRange(ctx context.Context, partition int, offset int64) error {
	gone := &OutOfRangeError{Position: offset}
	err := r.retry(ctx, partition, "offsets", func() error {
		listed, err := listOffsets(ctx, r.client, r.cfg.Topic, []kafka.OffsetRequest{kafka.FirstOffsetOf(partition), kafka.LastOffsetOf(partition)})
		gone.First, gone.Next = listed[partition].FirstOffset, listed[partition].LastOffset
		return err
	})
	if err != nil {
		return err
	}
	return gone
}

// fetch asks once. It returns the offset behind what it looked at: the same, when
// there was nothing.
func (r *Reader) fetch(ctx context.Context, partition int, offset int64, wait bool) ([]Record, int64, error) {
	ctx, cancel := withoutDeadline(ctx) // see partition.fetch
	defer cancel()
	ask := &kafka.FetchRequest{Topic: r.cfg.Topic, Partition: partition, Offset: offset, MinBytes: 1, MaxBytes: fetchBytesMax}
	if wait {
		ask.MinBytes, ask.MaxWait = tailBytes, tailWait
	}
	answer, err := r.client.Fetch(ctx, ask)
	if err != nil {
		return nil, 0, err
	}
	if answer.Error != nil {
		return nil, 0, answer.Error
	}
	batches, ok := answer.Records.(*protocol.RecordStream)
	if !ok {
		return nil, offset, nil // nothing, or the first part of a batch
	}
	headers := r.headers.Get().(*interned)
	defer r.headers.Put(headers)
	records, err := headers.decode(batches, offset)
	if err != nil {
		return nil, 0, err
	}
	if len(records) == 0 {
		return nil, offset + 1, nil // see partition.fetch
	}
	return records, records[len(records)-1].Offset + 1, nil
}

// retry repeats do, with growing pauses, until it succeeds or ctx ends.
func (r *Reader) retry(ctx context.Context, partition int, stage string, do func() error) error {
	for attempt := 0; ; attempt++ {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			r.errors.Add(ctx, 1, metric.WithAttributes(attribute.String("topic", r.cfg.Topic), attribute.String("stage", stage)))
			r.trouble.warn(ctx, "speak to Kafka", err, "stage", stage, "topic", r.cfg.Topic, "partition", partition)
			err = Sleep(ctx, Backoff(attempt))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s of %s/%d: %w", stage, r.cfg.Topic, partition, errors.Join(ctx.Err(), err))
		}
	}
}
