package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
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
	conns   fetchConns
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
		conns: fetchConns{security: cfg.Security, idle: map[string][]*fetchConn{}},
	}, nil
}

// Close gives its connections back. Nobody may read any more.
func (r *Reader) Close() {
	closeClient(r.client)
	r.conns.close()
}

// FetchBatches returns the record batches of a partition from offset on, as many as fit
// into one answer, the first being the first that is kept. They may turn out to have no
// record, as those up to the partition's end where that is the marker of a transaction, and the first may
// begin with records before offset. Where there is none yet, so says the leader, it
// returns none, or, if it is to wait, blocks until there is one. A broker that is away is
// waited for in any case. The error is ctx's, or an *OutOfRangeError.
func (r *Reader) FetchBatches(ctx context.Context, partition int, offset int64, wait bool) ([]Batches, error) {
	for from := offset; ; {
		var got []Batches
		var next, end int64
		outOfRange := false
		err := r.retry(ctx, partition, "fetch", func() error {
			a, err := r.fetch(ctx, partition, from, wait)
			switch end = a.end; {
			case err != nil:
			case !wait && len(a.batches) == 0 && end > from:
				err = fmt.Errorf("the broker sent nothing from offset %d, and has records up to %d", from, end)
			default:
				got, next, err = cut(a.batches, from)
			}
			if outOfRange = errors.Is(err, kafka.OffsetOutOfRange); outOfRange {
				return nil
			}
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case outOfRange:
			return nil, r.outOfRange(ctx, partition, from)
		case len(got) > 0:
			return got, nil
		case wait || next < end:
		case next > offset:
			return []Batches{{First: offset, Next: next}}, nil
		default:
			return nil, nil
		}
		from = next
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

// fetch asks once.
func (r *Reader) fetch(ctx context.Context, partition int, offset int64, wait bool) (answer, error) {
	minBytes, patience := 1, time.Duration(0)
	if wait {
		minBytes, patience = tailBytes, tailWait
	}
	return r.ask(ctx, partition, offset, minBytes, patience)
}

// ask is fetch for those who say how much they wait for, and for how long.
func (r *Reader) ask(ctx context.Context, partition int, offset int64, minBytes int, patience time.Duration) (answer, error) {
	leader, err := r.leader(ctx, partition)
	if err != nil {
		return answer{}, err
	}
	return r.conns.fetch(ctx, leader, r.cfg.Topic, partition, offset, minBytes, patience)
}

// leader returns the address of the broker that leads a partition, as the client
// knows it for at most metadataTTL.
func (r *Reader) leader(ctx context.Context, partition int) (string, error) {
	partitions, err := topicPartitions(ctx, r.client, r.cfg.Topic)
	if err != nil {
		return "", err
	}
	for _, p := range partitions {
		if p.ID == partition && p.Leader.Host != "" {
			return net.JoinHostPort(p.Leader.Host, strconv.Itoa(p.Leader.Port)), nil
		}
	}
	return "", fmt.Errorf("find the leader of %s/%d: %w", r.cfg.Topic, partition, kafka.LeaderNotAvailable)
}

// Brokers returns where each broker of the cluster says that it is, as host:port: those of
// the last answer, if Kafka went away since.
func (r *Reader) Brokers(ctx context.Context) ([]string, error) {
	meta, err := r.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{r.cfg.Topic}})
	if err != nil {
		return nil, fmt.Errorf("ask Kafka for its brokers: %w", r.cfg.Security.explain(err))
	}
	if len(meta.Brokers) == 0 {
		return nil, errors.New("ask Kafka for its brokers: it names none")
	}
	list := make([]string, len(meta.Brokers))
	for i, b := range meta.Brokers {
		list[i] = net.JoinHostPort(b.Host, strconv.Itoa(b.Port))
	}
	return list, nil
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
