package logpush

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidegate/internal/errs"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

const (
	// previewTry bounds how long a preview, for which a person waits, looks for events.
	previewTry = 15 * time.Second
	// previewStep is how many offsets a preview goes back at a time, and
	// previewReach how many in all, in each partition.
	previewStep  = 2_000
	previewReach = 20_000
	// previewBytesMax of events are kept of a partition, and of all in the end.
	previewBytesMax = 8 << 20
)

// PreviewTopic is the event topic, read without a group. Its methods are safe for
// concurrent use.
type PreviewTopic interface {
	Reader
	Partitions(ctx context.Context) ([]int, error)
	Bounds(ctx context.Context, partition int) (first, next int64, err error)
	OffsetAt(ctx context.Context, partition int, t time.Time) (int64, error)
}

// MayHold reports whether the topic may have events from before a time, of whatever
// account: whether it has a record of which schema.EventTime allows that. It is an error
// when the topic cannot be asked.
func (p *Previews) MayHold(ctx context.Context, before time.Time) (bool, error) {
	if p.topic == nil {
		return false, errors.New("find the oldest records: this server was started without Kafka")
	}
	ids, err := p.topic.Partitions(ctx)
	if err != nil {
		return false, fmt.Errorf("list the partitions: %w", err)
	}
	for _, id := range ids {
		next, err := p.topic.OffsetAt(ctx, id, before.Add(schema.EventBehindMax))
		if err != nil {
			return false, fmt.Errorf("find the oldest records of partition %d: %w", id, err)
		}
		first, _, err := p.topic.Bounds(ctx, id)
		if err != nil {
			return false, fmt.Errorf("find the bounds of partition %d: %w", id, err)
		}
		if first < next {
			return true, nil
		}
	}
	return false, nil
}

// piece is records of one partition, in the order of their offsets.
type piece struct {
	partition int
	records   []stream.Record
}

// newest returns the newest records of an account, in pieces by partition.
func (p *Previews) newest(ctx context.Context, account string, limit int) ([]piece, error) {
	if p.topic == nil {
		return nil, errs.New(errs.Unavailable, 0, "there are no events to try the job on: this server was started without Kafka; send some in events")
	}
	trying, cancel := context.WithTimeout(ctx, previewTry)
	defer cancel()
	ids, err := p.topic.Partitions(trying)
	var pieces []piece
	for _, id := range ids {
		var records []stream.Record
		if err == nil {
			records, err = p.back(trying, id, account, limit)
		}
		pieces = append(pieces, piece{id, records})
	}
	if err != nil && ctx.Err() == nil {
		return nil, errs.New(errs.Unavailable, 0, "Kafka does not answer, so there are no events to try the job on: try again, or send some in events")
	}
	if err != nil {
		return nil, err
	}
	return newestOf(pieces, limit), nil
}

// back reads a partition from its end backwards, until it has enough of the account
// or has gone far enough.
func (p *Previews) back(ctx context.Context, partition int, account string, limit int) ([]stream.Record, error) {
	first, next, err := p.topic.Bounds(ctx, partition)
	if err != nil {
		return nil, err
	}
	var found []stream.Record
	size := 0
	for begin := next; begin > max(first, next-previewReach) && len(found) < limit && size < previewBytesMax; {
		end := begin
		begin = max(begin-previewStep, first)
		records, err := p.between(ctx, partition, begin, end, account)
		if _, gone := errors.AsType[*stream.OutOfRangeError](err); gone {
			break // retention was faster
		}
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			size += len(r.Value)
		}
		found = append(records, found...)
	}
	return found[max(0, len(found)-limit):], nil
}

// between returns the account's records of a range of offsets, the newest
// previewBytesMax of them.
func (p *Previews) between(ctx context.Context, partition int, begin, end int64, account string) ([]stream.Record, error) {
	var found []stream.Record
	size := 0
	for short := 0; begin < end && short < shortAsks; {
		batches, err := p.topic.FetchBatches(ctx, partition, begin, false)
		if err != nil {
			return nil, err
		}
		if len(batches) == 0 { // a new leader may not know yet how far its predecessor was
			_, next, err := p.topic.Bounds(ctx, partition)
			if err == nil {
				err = stream.Sleep(ctx, stream.Backoff(short))
			}
			if err != nil {
				return nil, err
			}
			if next > begin {
				short = 0
			} else { // a broker lost the end of the partition, or tells of it in a moment
				short++
			}
			continue
		}
		short = 0
		for i := range batches {
			// A memory of their own: what is found stays. What cannot be decoded is nobody's.
			records, _ := batches[i].Decode(new(stream.Memory))
			for _, r := range records {
				if begin <= r.Offset && r.Offset < end && r.Account == account {
					found = append(found, r)
					size += len(r.Value)
				}
			}
			begin = batches[i].Next
		}
		for size > previewBytesMax && len(found) > 1 {
			size -= len(found[0].Value)
			found = found[1:]
		}
	}
	return found, nil
}

// newestOf leaves in the pieces the newest records of all, up to limit and
// previewBytesMax, but always one.
func newestOf(pieces []piece, limit int) []piece {
	left := 0
	for _, of := range pieces {
		left += len(of.records)
	}
	size := 0
	kept := make([]int, len(pieces)) // from the end of each
	for range min(left, limit) {
		// The one whose newest record that is not kept yet is the newest.
		best := -1
		var at time.Time
		for i, of := range pieces {
			if n := len(of.records) - kept[i]; n > 0 && (best < 0 || of.records[n-1].Time.After(at)) {
				best, at = i, of.records[n-1].Time
			}
		}
		records := pieces[best].records
		size += len(records[len(records)-kept[best]-1].Value)
		if size > previewBytesMax && size > len(records[len(records)-kept[best]-1].Value) {
			break
		}
		kept[best]++
	}
	list := make([]piece, 0, len(pieces))
	for i, of := range pieces {
		if kept[i] > 0 {
			list = append(list, piece{of.partition, of.records[len(of.records)-kept[i]:]})
		}
	}
	slices.SortFunc(list, func(a, b piece) int { return cmp.Compare(a.partition, b.partition) })
	return list
}
