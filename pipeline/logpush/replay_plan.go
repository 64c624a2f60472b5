package logpush

import (
	"context"
	"errors"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// plan finds the offsets that may hold what is asked for.
//
// An event's time is at most schema.EventAheadMax after its record's, so nothing before
// OffsetAt(From - EventAheadMax) is wanted, late records of a gateway's spool included.
// There is no such end: a record may come days after its event began. So a replay
// with an end in time reads what the partitions hold when it begins.
func (p *replaying) plan(ctx context.Context) (list []logjob.ReplayPartition, err error) {
	began, err := p.borders(ctx)
	if err != nil {
		return nil, err
	}
	var ids []int
	err = p.ask(ctx, "list the partitions", func(ctx context.Context) (err error) {
		ids, err = p.config.Topic.Partitions(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		at := logjob.ReplayPartition{ID: id, Counted: -1}
		var first int64
		err := p.ask(ctx, "find the offsets of the time", func(ctx context.Context) (err error) {
			if first, at.End, err = p.config.Topic.Bounds(ctx, id); err != nil {
				return err
			}
			at.Begin, err = p.config.Topic.OffsetAt(ctx, id, p.row.From.Add(-schema.EventAheadMax))
			return err
		})
		if err != nil {
			return nil, err
		}
		next := at.End
		if began != nil {
			border, ok := began[id]
			if !ok {
				continue // made since: all of it is live delivery's
			}
			at.End = min(at.End, border)
		}
		if first > 0 && at.Begin <= first {
			if err := p.noteKept(ctx, id, first, next); err != nil {
				return nil, err
			}
		}
		if p.config.Archive != nil && first > 0 {
			r, err := p.archiveRange(ctx, id, -1, min(first, at.End))
			if err != nil {
				return nil, err
			}
			if r.Begin < r.End {
				at.Begin = min(at.Begin, r.Begin)
			}
		}
		at.Begin = min(at.Begin, at.End)
		at.Next = at.Begin
		if at.Begin >= first {
			at.Counted = at.Begin
		}
		list = append(list, at)
	}
	if list == nil {
		list = []logjob.ReplayPartition{}
	}
	return list, nil
}

// noteKept notes from when on a partition is kept whose first record in Kafka, of those
// from first up to next, need not be older than what is asked for. Where ClickHouse goes back is the same for all partitions,
// some of which may have had no events for long.
func (p *replaying) noteKept(ctx context.Context, id int, first, next int64) error {
	kept, err := p.timeAt(ctx, id, first, next)
	if err != nil {
		return err
	}
	if p.config.Archive != nil {
		err := p.insist(p.stopping, ctx, "look for the oldest event in ClickHouse", "ClickHouse does not answer", func(ctx context.Context) error {
			oldest, ok, err := p.config.Archive.OldestArchived(ctx)
			if err == nil && ok && oldest.Before(kept) {
				kept = oldest
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if p.row.To != nil && kept.After(*p.row.To) {
		kept = *p.row.To
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if kept.After(p.row.From) && (p.row.KeptFrom == nil || kept.After(*p.row.KeptFrom)) {
		p.row.KeptFrom = &kept
	}
	return nil
}

// timeAt returns the time of the first record that a partition has between two offsets, and
// now where it has none. That nothing is sent of it, however often, does not say so: a new leader
// may not know yet how far its predecessor was.
func (p *replaying) timeAt(ctx context.Context, id int, offset, end int64) (time.Time, error) {
	for short := 0; offset < end && short < shortAsks; {
		var batches []stream.Batches
		err := p.ask(ctx, "read the first event", func(ctx context.Context) (err error) {
			batches, err = p.config.Topic.FetchBatches(ctx, id, offset, false)
			return err
		})
		if gone, ok := errors.AsType[*stream.OutOfRangeError](err); ok && gone.Removed() { // retention goes on
			offset = gone.First
			continue
		}
		if err != nil {
			return time.Time{}, err
		}
		if len(batches) == 0 {
			var next int64
			err := p.ask(ctx, "find the partition's bounds", func(ctx context.Context) (err error) {
				_, next, err = p.config.Topic.Bounds(ctx, id)
				return err
			})
			if err == nil {
				err = p.pause(ctx, stream.Backoff(short))
			}
			if err != nil {
				return time.Time{}, err
			}
			if next > offset {
				short = 0
			} else { // a broker lost the end of the partition, or tells of it in a moment
				short++
			}
			continue
		}
		short = 0
		for i := range batches {
			records, _ := batches[i].Decode(&p.memory)
			for _, r := range records {
				if r.Offset >= offset {
					return r.Time.UTC(), nil
				}
			}
			offset = max(offset, batches[i].Next) // what cannot be decoded has no time
		}
	}
	return time.Now().UTC().Truncate(time.Millisecond), nil
}

// borders returns where live delivery began, for a replay up to there, once it has
// begun in every partition; nil for one with an end in time.
func (p *replaying) borders(ctx context.Context) (map[int]int64, error) {
	if p.row.To != nil {
		return nil, nil
	}
	if !p.job.Enabled {
		return nil, &failedError{"the job is switched off, so there is no live delivery up to whose begin to replay: say to when"}
	}
	began := map[int]int64{}
	for {
		var ids []int
		var marks map[int]string
		err := p.ask(ctx, "find where live delivery began", func(ctx context.Context) (err error) {
			if ids, err = p.config.Topic.Partitions(ctx); err != nil {
				return err
			}
			marks, err = p.config.Topic.Committed(ctx, groupID(p.job.ID))
			return err
		})
		if err != nil {
			return nil, err
		}
		for id, metadata := range marks {
			if m := parseMark(0, metadata); m.EnabledAt == p.job.EnabledAt.UnixMicro() {
				if m.Began == nil {
					return nil, &failedError{"live delivery began under an earlier version of Tidegate, which did not note where: say to when"}
				}
				began[id] = *m.Began
			}
		}
		if len(began) >= len(ids) {
			p.wait("")
			return began, nil
		}
		p.wait("waiting until live delivery has begun in every partition")
		if err := p.pause(ctx, p.manager.config.PollInterval); err != nil {
			return nil, err
		}
	}
}
