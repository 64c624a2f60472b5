package logpush

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

const (
	// replayTry bounds one question to Kafka or the database; then the replay shows
	// what it waits for.
	replayTry = 15 * time.Second
	// replayArchiveTry does so for the archive, which may have to scan a lot.
	replayArchiveTry = 6 * time.Minute
	replayPauseMax   = 30 * time.Second
	// replaySave is how often the position is saved while there is nothing to send.
	replaySave = 2 * time.Second
	// emptyFetches in a row, with the end ahead, are how often a partition is asked before its bounds are again.
	emptyFetches = 3
	// shortAsks in a row, some two seconds, are how often a partition has to end before
	// what it held: a broker that just became its leader may tell of less for a moment.
	shortAsks = 6
)

// Reasons of losses.
const (
	lossHole      = "neither Kafka nor ClickHouse has them"
	lossNoArchive = "Kafka no longer has them, and no ClickHouse is configured for replays"
	lossLong      = "formatted by the job's record_template, they have more than 8 MiB"
	lossBroken    = "they are in a batch that cannot be decoded"
)

// work does what is left of the replay.
func (p *replaying) work(ctx context.Context) error {
	if p.row.Partitions == nil {
		partitions, err := p.plan(ctx)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.row.Partitions = partitions
		p.mu.Unlock()
		if err := p.save(ctx); err != nil {
			return err
		}
	}
	for i := range p.row.Partitions {
		if err := p.partition(ctx, &p.row.Partitions[i]); err != nil {
			return err
		}
	}
	return p.end(ctx, logjob.ReplayDone, "")
}

// partition does what is left of one partition.
func (p *replaying) partition(ctx context.Context, at *logjob.ReplayPartition) error {
	p.at, p.position, p.rebuild = at, at.Next, nil
	if planned := at.Plan; planned != nil && planned.Revision == p.job.Revision {
		p.rebuild = &plan{Begin: planned.Begin, End: planned.End, From: planned.From, Until: planned.Until, ID: planned.ID}
	}
	log := p.log.With("partition", at.ID)
	p.uploader = &uploader{
		settings: p.settings, partition: at.ID, stopping: p.stopping, health: p.health, metrics: p.metrics, log: log,
		logged: throttle{every: logInterval},
	}
	for short := 0; p.position < at.End; {
		var first, next int64
		err := p.ask(ctx, "find the partition's bounds", func(ctx context.Context) (err error) {
			first, next, err = p.config.Topic.Bounds(ctx, at.ID)
			return err
		})
		switch {
		case err != nil:
		case first <= p.position && p.position < next:
			short = 0
			err = p.fromKafka(ctx, min(at.End, next))
		case p.position < first:
			err = p.fromArchive(ctx, min(at.End, first))
		case short < shortAsks:
			err = p.pause(ctx, stream.Backoff(short))
			short++
		default: // a broker lost the end of the partition
			err = p.fromArchive(ctx, at.End)
		}
		if err != nil {
			return err
		}
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	return p.saveAt(ctx, at.End)
}

// fromKafka reads up to an offset, or up to where retention overtakes it.
func (p *replaying) fromKafka(ctx context.Context, end int64) error {
	for empty := 0; p.position < end; {
		var batches []stream.Batches
		err := p.ask(ctx, "read events", func(ctx context.Context) (err error) {
			batches, err = p.config.Topic.FetchBatches(ctx, p.at.ID, p.position, false)
			return err
		})
		if _, ok := errors.AsType[*stream.OutOfRangeError](err); ok {
			return nil
		}
		if err != nil {
			return err
		}
		if len(batches) == 0 {
			if empty++; empty < emptyFetches {
				if err := p.pause(ctx, stream.Backoff(empty)); err != nil {
					return err
				}
				continue
			}
			return nil // a new leader may not know yet how far its predecessor was
		}
		empty = 0
		for i := range batches {
			if err := p.takeBatches(ctx, &batches[i], end); err != nil {
				return err
			}
		}
		if err := p.tick(ctx); err != nil {
			return err
		}
	}
	return nil
}

// takeBatches takes what batches have from the position on up to an offset.
func (p *replaying) takeBatches(ctx context.Context, b *stream.Batches, end int64) error {
	records, bad := b.Decode(&p.memory)
	for i := range records {
		r := &records[i]
		for len(bad) > 0 && bad[0].First < r.Offset {
			if err := p.passUndecodable(ctx, &bad[0], end); err != nil {
				return err
			}
			bad = bad[1:]
		}
		if r.Offset >= end {
			break
		}
		if r.Offset < p.position {
			continue
		}
		if err := p.take(ctx, r, p.timeOf(r)); err != nil {
			return err
		}
	}
	for i := range bad {
		if err := p.passUndecodable(ctx, &bad[i], end); err != nil {
			return err
		}
	}
	p.position = max(p.position, min(b.Next, end)) // what is in between has no records
	return nil
}

// passUndecodable goes on behind a batch that cannot be decoded, up to an offset. The
// loss is saved together with the position behind it.
func (p *replaying) passUndecodable(ctx context.Context, b *stream.Undecodable, end int64) error {
	for from, last := max(b.First, p.position), min(b.Next, end); from < last; from = p.position {
		until := last
		if p.rebuild != nil {
			if from >= p.rebuild.End {
				if err := p.flush(ctx); err != nil {
					return err
				}
			} else {
				until = min(until, p.rebuild.End)
			}
		}
		p.lose(droppedUndecodable, from, until, lossBroken)
		p.log.ErrorContext(ctx, "records cannot be replayed", "partition", p.at.ID, "begin", from, "end", until, "reason", b.Err)
		p.pass(until)
	}
	return nil
}

// lose notes that offsets are lost.
func (p *replaying) lose(reason string, begin, end int64, why string) {
	p.pending.losses = append(p.pending.losses,
		lostRange{logjob.ReplayLoss{Partition: p.at.ID, Begin: begin, End: end, Missing: end - begin, Reason: why}, reason})
}

// timeOf returns the event's time, and the zero time where it is not that of the
// replay. It leaves the event split in p.entry if it is.
func (p *replaying) timeOf(r *stream.Record) time.Time {
	if r.Account != p.job.AccountID {
		return time.Time{}
	}
	// Most records can be told from their own time, without a look at the event.
	if schema.PlausibleTime(r.Time) && (r.Time.Before(p.row.From.Add(-schema.EventAheadMax)) ||
		p.row.To != nil && !r.Time.Before(p.row.To.Add(schema.EventBehindMax))) {
		return time.Time{}
	}
	p.entry.malformed = p.entry.event.Split(r.Value) != nil
	at := timeOf(&p.entry.event, r.Time)
	if at.Before(p.row.From) || p.row.To != nil && !at.Before(*p.row.To) {
		return time.Time{}
	}
	return at
}

// fromArchive reads up to an offset what Kafka no longer has. It tells what is missing
// there first, once.
func (p *replaying) fromArchive(ctx context.Context, end int64) error {
	if p.at.Counted < end {
		begin := p.at.Counted // -1: what lies below the position may be a hole, too
		if begin >= 0 {
			begin = max(begin, p.position)
		}
		loss := logjob.ReplayLoss{Partition: p.at.ID, Begin: p.position, End: end, Missing: end - p.position, Reason: lossNoArchive}
		if p.config.Archive != nil {
			r, err := p.archiveRange(ctx, p.at.ID, begin, end)
			if err != nil {
				return err
			}
			loss = logjob.ReplayLoss{Partition: p.at.ID, Begin: r.Begin, End: r.End, Missing: r.Missing(), Reason: lossHole}
		}
		p.mu.Lock()
		p.at.Counted = end
		if loss.Missing > 0 {
			p.row.Lose(loss)
		}
		p.mu.Unlock()
		if loss.Missing > 0 {
			p.metrics.drop(ctx, droppedRetention, loss.Missing)
			p.log.ErrorContext(ctx, "records are gone and cannot be replayed", "partition", loss.Partition,
				"begin", loss.Begin, "end", loss.End, "missing", loss.Missing, "reason", loss.Reason)
		}
	}
	if p.config.Archive == nil {
		p.position = end
		return nil
	}
	for p.position < end {
		q := p.query(p.at.ID, p.position, end)
		var list []tables.Archived
		var next int64
		err := p.insist(p.stopping, ctx, "read events from ClickHouse", "ClickHouse does not answer", func(ctx context.Context) (err error) {
			list, next, err = p.config.Archive.ArchivedEvents(ctx, q)
			return err
		})
		if err != nil {
			return err
		}
		for i := range list {
			if err := p.takeArchived(ctx, &list[i]); err != nil {
				return err
			}
		}
		p.pass(next)
		if err := p.tick(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *replaying) takeArchived(ctx context.Context, a *tables.Archived) error {
	r := stream.Record{Offset: a.Offset, Time: a.Time, Account: p.job.AccountID, Value: a.Value}
	switch {
	case a.Logpush == tables.LogpushNo:
		r.Headers = []stream.Header{{Name: schema.HeaderLogpush, Value: schema.LogpushDisabled}}
	case a.Logpush != tables.LogpushYes && !p.row.IncludeUnmarked:
		err := p.take(ctx, &r, time.Time{})
		p.pending.unmarked++ // behind what take may have saved
		return err
	}
	p.entry.malformed = p.entry.event.Split(r.Value) != nil
	return p.take(ctx, &r, a.Time)
}

func (p *replaying) query(partition int, begin, end int64) tables.ArchiveQuery {
	q := tables.ArchiveQuery{AccountID: p.job.AccountID, Partition: partition, Begin: begin, End: end, From: p.row.From}
	if p.row.To != nil {
		q.To = *p.row.To
	}
	return q
}

func (p *replaying) archiveRange(ctx context.Context, partition int, begin, end int64) (r tables.ArchiveRange, err error) {
	err = p.insist(p.stopping, ctx, "look for events in ClickHouse", "ClickHouse does not answer", func(ctx context.Context) (err error) {
		r, err = p.config.Archive.ArchiveRange(ctx, p.query(partition, begin, end))
		return err
	})
	return r, err
}

// ask asks Kafka, until there is an answer.
func (p *replaying) ask(ctx context.Context, what string, question func(context.Context) error) error {
	return p.insist(p.stopping, ctx, what, "Kafka does not answer", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, replayTry)
		defer cancel()
		return question(ctx)
	})
}

// insist repeats do until it succeeds, fails for good, or the replay is to stop. While
// it fails, the replay shows why.
func (p *replaying) insist(stopping, ctx context.Context, what, why string, do func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		if stopping.Err() != nil {
			return errStopping
		}
		trying, cancel := context.WithTimeout(ctx, replayArchiveTry)
		stopped := context.AfterFunc(stopping, cancel) // questions are cheap to ask again
		err := do(trying)
		stopped()
		cancel()
		_, failed := errors.AsType[*failedError](err)
		_, gone := errors.AsType[*stream.OutOfRangeError](err)
		switch {
		case err == nil, failed, gone:
			p.wait("")
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case stopping.Err() != nil:
			return errStopping
		}
		p.wait(why + ": trying again")
		if p.logged.allow(time.Now()) {
			p.log.WarnContext(ctx, "a replay cannot "+what+", trying again", "tries", attempt+1, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-stopping.Done():
			return errStopping
		case <-time.After(min(replayPauseMax, pauseAfter(attempt, 0, dice()))):
		}
	}
}

func (p *replaying) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.stopping.Done():
		return errStopping
	case <-time.After(d):
		return nil
	}
}

// wait notes what the replay waits for.
func (p *replaying) wait(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = text
}

// end stores the last state.
func (p *replaying) end(ctx context.Context, state, text string) error {
	p.mu.Lock()
	p.row.State, p.waiting = state, text
	p.health = nil
	p.mu.Unlock()
	if err := p.save(ctx); err != nil {
		return fmt.Errorf("end replay %d: %w", p.row.ID, err)
	}
	return nil
}
