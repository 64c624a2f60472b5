package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"tidegate/internal/errs"
	"tidegate/internal/telemetry"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// logInterval is the shortest time between two lines about one partition's trouble.
const logInterval = 5 * time.Second

// The lag is looked up so often, and for so long at most.
const (
	lagInterval = time.Second
	lagTimeout  = time.Second
)

// resume settles the block that was planned before and perhaps not committed.
func (r *reader) resume(ctx context.Context) error {
	offset, metadata, committed := r.p.Committed()
	if !committed { // the first reader ever, or Kafka forgot the others; Fetch begins at the oldest record
		_, err := r.skipStored(ctx, 0)
		return err
	}
	m, err := parseMark(metadata)
	if err == nil && m.plan != (plan{}) && m.Begin != offset {
		err = fmt.Errorf("the plan in %q begins elsewhere than the commit, at %d", metadata, offset)
		m = mark{}
	}
	if err != nil {
		// Nobody but ingest writes marks. Somebody has set the group's offset by
		// hand; that is where to go on.
		r.metrics.failed(ctx, "plan")
		r.log.Error("the group's metadata is not what ingest writes; going on at the committed offset", "offset", offset, "error", err.Error())
	}
	r.newest = m.newest()
	r.seek(offset)
	if err := r.look(ctx); err != nil {
		return err
	}
	// A plan is settled before the next block is planned: rows behind it say that it was.
	if skipped, err := r.skipStored(ctx, max(offset, m.End)); skipped || err != nil {
		return err
	}
	r.seek(offset)
	if m.plan == (plan{}) {
		return nil
	}
	return r.repeat(ctx, m.plan)
}

// repeat builds a planned block again and settles it.
func (r *reader) repeat(ctx context.Context, planned plan) error {
	first, next, err := r.p.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("repeat block %d to %d: %w", planned.Begin, planned.End, err)
	}
	if next < planned.Begin {
		return nil // the partition is another one now; the next fetch says so
	}
	from, to := max(planned.Begin, first), min(planned.End, next)
	if err := r.readRange(ctx, from, to); err != nil {
		return fmt.Errorf("repeat block %d to %d: %w", planned.Begin, planned.End, err)
	}
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	records := r.rebuild(from, to)
	if len(records) > 0 && records[0].Offset == planned.Begin && records[0].Time.UnixMilli() != planned.At {
		r.log.Error("the planned block's first record is another one now: the topic was made anew; starting at its beginning",
			"from_offset", planned.Begin, "to_offset", first)
		r.newest = time.Time{}
		r.seek(first)
		return nil
	}
	r.newest = stream.Newest(r.newest, records)
	// Where the first try stored the block, ClickHouse drops this one, and nothing
	// is missing. Nobody knows here whether it did, so these are the most it can be.
	r.missing(ctx, reasonRetention, planned.Begin, min(from, to))
	r.missing(ctx, reasonTruncated, to, planned.End)
	r.log.Info("repeating the block that was planned last", "begin", planned.Begin, "end", planned.End, "records", len(records))
	if err := r.settle(ctx, planned, to); err != nil {
		return err
	}
	r.seek(to)
	return nil
}

// seek makes offset the next to be fetched, with an empty hand.
func (r *reader) seek(offset int64) {
	r.p.SeekTo(offset)
	r.hand.drop()
	r.hand.settled(offset)
}

// rebuild decodes what is in hand from offset from up to, but not including, to.
func (r *reader) rebuild(from, to int64) []stream.Record {
	batches, _ := r.hand.list()
	r.slots.build(r.slot, batches, from, to, r.cfg.RowsMax, r.cfg.BytesMax)
	return r.slot.records
}

// missing counts and tells that Kafka no longer has a planned block's offsets
// from from up to to, if there are any.
func (r *reader) missing(ctx context.Context, reason string, from, to int64) {
	if to <= from {
		return
	}
	r.metrics.lost(ctx, reason, to-from)
	r.log.Error("Kafka no longer has a part of a planned block; its events are missing unless they were stored before",
		"reason", reason, "from_offset", from, "to_offset", to)
}

// readRange takes in hand what holds the records from offset from up to, but not
// including, to: a block as it was planned, whatever the bounds are now.
func (r *reader) readRange(ctx context.Context, from, to int64) error {
	r.seek(from)
	for from < to {
		batches, err := r.p.FetchBatches(ctx)
		if err != nil {
			return fmt.Errorf("fetch from offset %d: %w", from, err)
		}
		r.hand.put(batches)
		from = batches[len(batches)-1].Next
	}
	return nil
}

// settle stores the records in the slot, those of a plan that is committed, gives the
// slot back, commits end and lets go of what lies before it. It repeats what fails until
// it succeeds or ctx ends; an insert that is under way then may still finish.
func (r *reader) settle(ctx context.Context, planned plan, end int64) (err error) {
	token := planned.token(r.cfg.Topic, r.p.ID())
	ctx, span := telemetry.Tracer("tidegate/pipeline/ingest").Start(ctx, "ingest.block", trace.WithAttributes(
		attribute.String("token", token), attribute.Int("records", len(r.slot.records))))
	defer func() { telemetry.End(span, err) }()
	finishing, cancel := outlive(ctx, r.cfg.StopGrace)
	defer cancel()

	start := time.Now()
	refused, err := planned.refused()
	if err != nil {
		return fmt.Errorf("store block %s: %w", token, err)
	}
	var gone *schema.Tombstones
	err = r.store(ctx, planned, end, func() (err error) {
		gone, err = r.deleted.current(finishing)
		return err
	})
	if err != nil {
		return fmt.Errorf("look up what is deleted before block %s: %w", token, err)
	}
	var stored counts
	var entries int64
	err = r.store(ctx, planned, end, func() error {
		r.slot.block.tombstones, r.slot.block.refused = gone, refused
		decodeBlock(&r.slot.block, r.p.ID(), r.slot.records)
		r.names.use(r.slot.block.cells.known, time.Now())
		stored, entries = countsOf(r.slot), r.slot.block.entries()
		if err := r.stamp(ctx, planned, &r.slot.block); err != nil {
			return err
		}
		return r.insert(finishing, token, &r.slot.block)
	})
	r.give()
	if err != nil {
		return fmt.Errorf("store block %s: %w", token, err)
	}
	if err := r.p.Commit(finishing, end, newMark(plan{}, r.newest).String()); err != nil {
		return fmt.Errorf("commit block %s: %w", token, err)
	}
	r.open.settle(entries, time.Now())
	r.hand.settled(end)
	r.metrics.settled(finishing, stored, time.Since(start))
	r.lag(end)
	return nil
}

func (r *reader) insert(ctx context.Context, token string, b *block) error {
	// The quarantine first: its rows are few, and events that are visible
	// mean that the block is complete.
	if b.quarantine.Len() > 0 {
		if err := r.writer.InsertQuarantine(ctx, token, &b.quarantine); err != nil {
			return err
		}
	}
	if b.deleted.Len() > 0 {
		if err := r.writer.InsertQuarantine(ctx, deletedToken(token, b.deleted.KafkaOffset), &b.deleted); err != nil {
			return err
		}
	}
	if b.events.Len() == 0 {
		return nil
	}
	return r.writer.InsertEvents(ctx, token, &b.events)
}

// store calls insert until it succeeds, with growing pauses, or ctx ends. There is
// no error after which giving up would be right: skipping the block would lose
// events, and the next one would fail as well. So it stays, and makes it heard.
//
// It waits without its slot, which others can use if it is only this block that
// ClickHouse refuses, and decodes the block again when it has another one.
func (r *reader) store(ctx context.Context, planned plan, end int64, insert func() error) error {
	token := planned.token(r.cfg.Topic, r.p.ID())
	defer r.status.blockedSince.Store(0)
	for attempt := 0; ; attempt++ {
		err := insert()
		if err == nil {
			if attempt > 0 {
				r.log.Info("block stored after all", "token", token, "attempts", attempt+1)
			}
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, stream.ErrFenced) {
			return err
		}
		now := time.Now()
		r.status.blockedSince.CompareAndSwap(0, now.UnixMilli())
		reason := "refused"
		if errs.KindOf(err) == errs.Unavailable {
			reason = "unavailable"
		}
		r.metrics.retried(ctx, reason)
		if now.Sub(r.logged) >= logInterval {
			r.logged = now
			r.log.Error("the block could not be stored; trying again", "token", token, "attempts", attempt+1, "reason", reason, "error", err.Error())
		}
		r.give()
		r.lookAgain(ctx)
		if err := stream.Sleep(ctx, stream.Backoff(attempt)); err != nil {
			return err
		}
		if err := r.take(ctx); err != nil {
			return err
		}
		r.rebuild(planned.Begin, end)
	}
}

// lookAgain keeps the lag fresh without delaying a block for long.
func (r *reader) lookAgain(ctx context.Context) {
	if time.Since(r.looked) < lagInterval {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	_ = r.look(ctx) // when Kafka is away too, the lag is unknown
}

// outlive returns a context with ctx's values that ends grace after ctx does.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() {
		stop()
		cancel()
	}
}
