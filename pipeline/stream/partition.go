package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	// fetchBytesMax is the size of one answer as it is on the wire, compressed.
	// Our batches come to a twelfth of their size, so this is about 6 MB of events.
	fetchBytesMax = 512 << 10
	// fetchWait is how long the broker holds a fetch while there is nothing to
	// read. It answers at once when a record arrives, and FetchBatches returns at once
	// when its ctx ends, so this adds no latency; it bounds how many empty answers
	// an idle partition costs.
	fetchWait = 2 * time.Second
	// tailBytes and tailWait let a Reader get what comes in a fifth of a second with
	// one fetch: many wait for each.
	tailBytes = 64 << 10
	tailWait  = 200 * time.Millisecond
)

// partition implements Partition. It belongs to the goroutine of its handler.
// Every method repeats what failed for a passing reason until its ctx ends.
type partition struct {
	group  *Group
	client *kafka.Client
	id     int
	tenure *tenure

	committed   int64
	metadata    string
	isCommitted bool
	position    int64   // of the next fetch; negative until it is known
	reader      *Reader // of the group; fetches by it do not count as its own
}

func (p *partition) ID() int { return p.id }

func (p *partition) Committed() (int64, string, bool) {
	return p.committed, p.metadata, p.isCommitted
}

func (p *partition) SeekTo(offset int64) { p.position = offset }

// reset reads what the group committed and goes there. It fails only when ctx ends.
func (p *partition) reset(ctx context.Context) error {
	topic := p.group.cfg.Topic
	return p.retry(ctx, "offsets", func() error {
		answer, err := p.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{
			GroupID: p.group.cfg.GroupID, Topics: map[string][]int{topic: {p.id}},
		})
		if err != nil {
			return err
		}
		if answer.Error != nil {
			return answer.Error
		}
		for _, o := range answer.Topics[topic] {
			if o.Partition != p.id {
				continue
			}
			if o.Error != nil {
				return o.Error
			}
			p.committed, p.metadata, p.isCommitted = o.CommittedOffset, o.Metadata, o.CommittedOffset >= 0
			p.position = -1
			if p.isCommitted {
				p.position = p.committed
			}
			return nil
		}
		return errors.New("the answer to an offset fetch lacks the partition")
	})
}

func (p *partition) Bounds(ctx context.Context) (first, next int64, err error) {
	err = p.retry(ctx, "offsets", func() error {
		listed, err := p.listOffsets(ctx, kafka.FirstOffsetOf(p.id), kafka.LastOffsetOf(p.id))
		first, next = listed.FirstOffset, listed.LastOffset
		return err
	})
	return first, next, err
}

func (p *partition) OffsetAt(ctx context.Context, t time.Time) (offset int64, err error) {
	// Records carry milliseconds: round up, or a record before t could match.
	// Negative milliseconds mean something else to a broker.
	at := time.UnixMilli(max(t.Add(time.Millisecond-1).UnixMilli(), 0))
	// The end first, in a question of its own: what is written before the second
	// one is answered lies behind this end, and would be skipped by a later one.
	_, offset, err = p.Bounds(ctx)
	if err != nil {
		return 0, err
	}
	err = p.retry(ctx, "offsets", func() error {
		listed, err := p.listOffsets(ctx, kafka.TimeOffsetOf(p.id, at))
		for found := range listed.Offsets {
			if found >= 0 { // -1 when every record is older
				offset = found
			}
		}
		return err
	})
	return offset, err
}

func (p *partition) listOffsets(ctx context.Context, ask ...kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
	listed, err := listOffsets(ctx, p.client, p.group.cfg.Topic, ask)
	return listed[p.id], err
}

// FetchBatches asks until it gets something, and moves the position behind what it looked
// at.
func (p *partition) FetchBatches(ctx context.Context) ([]Batches, error) {
	if p.position < 0 {
		first, _, err := p.Bounds(ctx)
		if err != nil {
			return nil, err
		}
		p.position = first
	}
	for {
		var got []Batches
		next, outOfRange := p.position, false
		err := p.retry(ctx, "fetch", func() error {
			a, err := p.reader.ask(ctx, p.id, p.position, 1, fetchWait)
			if err == nil {
				got, next, err = cut(a.batches, p.position)
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
			first, next, err := p.Bounds(ctx)
			if err != nil {
				return nil, err
			}
			return nil, &OutOfRangeError{Position: p.position, First: first, Next: next}
		}
		// Also behind what holds no record: the marker of a transaction, or what was
		// compacted away.
		if p.position = next; len(got) > 0 {
			return got, nil
		}
	}
}

func (p *partition) Marks(ctx context.Context) (map[int]string, error) {
	commits, err := commitsOf(ctx, p.client, p.group.cfg.Topic, p.group.cfg.GroupID)
	return metadataOf(commits), err
}

func (p *partition) Commit(ctx context.Context, offset int64, metadata string) error {
	group, topic := p.group.cfg.GroupID, p.group.cfg.Topic
	var refused, lost error
	err := p.retry(ctx, "commit", func() error {
		answer, err := p.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
			GroupID: group, GenerationID: p.tenure.generation, MemberID: p.tenure.member,
			Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: p.id, Offset: offset, Metadata: metadata}}},
		})
		if wasSent(err) {
			p.tenure.unsure.Store(true)
			if ctx.Err() == nil {
				// A broker that hung may carry it out at any time. Sent again on another
				// connection, it might overtake itself and whatever is committed next.
				p.tenure.giveUp()
				lost = err
				return nil
			}
		}
		if err != nil {
			return err
		}
		for _, o := range answer.Topics[topic] {
			if o.Partition != p.id {
				continue
			}
			if isFenced(o.Error) || errors.Is(o.Error, kafka.OffsetMetadataTooLarge) {
				refused = o.Error
				return nil
			}
			return o.Error
		}
		return errors.New("the answer to a commit lacks the partition")
	})
	attempt := fmt.Sprintf("commit offset %d of %s/%d for group %s, generation %d", offset, topic, p.id, group, p.tenure.generation)
	switch {
	case err != nil:
		return err
	case lost != nil:
		return fmt.Errorf("%s: no answer came, so this member joins anew: %w: %w", attempt, ErrFenced, lost)
	case isFenced(refused):
		return fmt.Errorf("%s: %w: %w", attempt, ErrFenced, refused)
	case refused != nil:
		return fmt.Errorf("%s with %d bytes of metadata: %w", attempt, len(metadata), refused)
	}
	p.committed, p.metadata, p.isCommitted = offset, metadata, true
	return nil
}

// wasSent reports whether a request that ended with err may have reached a broker. It
// has not when no connection came about, or when a broker said that the group cannot be
// found: what a commit itself is answered is no err of the request.
func wasSent(err error) bool {
	if _, refused := errors.AsType[kafka.Error](err); err == nil || refused {
		return false
	}
	failed, ok := errors.AsType[*net.OpError](err)
	return !ok || failed.Op != "dial"
}

// isFenced tells that the group went on without this member, or is about to. A
// rebalance in progress counts: this generation is over and can't commit again.
func isFenced(err error) bool {
	return errors.Is(err, kafka.IllegalGeneration) || errors.Is(err, kafka.UnknownMemberId) ||
		errors.Is(err, kafka.RebalanceInProgress) || errors.Is(err, kafka.FencedInstanceID)
}

// retry repeats do, with growing pauses, until it succeeds or ctx ends. What
// fails here is a broker that is away, restarting or moving a leader, and a
// configuration that an operator can mend meanwhile.
func (p *partition) retry(ctx context.Context, stage string, do func() error) error {
	for attempt := 0; ; attempt++ {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			g := p.group
			g.errors.Add(ctx, 1, metric.WithAttributes(g.attrs, attribute.String("stage", stage)))
			g.trouble.warn(ctx, "speak to Kafka", err, "stage", stage, "group", g.cfg.GroupID, "partition", p.id)
			err = Sleep(ctx, Backoff(attempt))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s of %s/%d for group %s: %w", stage, p.group.cfg.Topic, p.id, p.group.cfg.GroupID,
				errors.Join(ctx.Err(), err))
		}
	}
}
