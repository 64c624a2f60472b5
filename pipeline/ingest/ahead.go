package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// skipStored goes on behind what ClickHouse holds of the records from offset from on,
// and reports whether there was any. There never is while the group's offsets are what
// ingest committed last: nothing is stored before it is planned. It is how ingest goes on
// after Kafka has forgotten them, lost the latest, or was told others by hand.
func (r *reader) skipStored(ctx context.Context, from int64) (bool, error) {
	first, end, err := r.p.Bounds(ctx)
	if err != nil {
		return false, fmt.Errorf("find what is stored already: %w", err)
	}
	if from = max(from, first); from >= end {
		return false, nil
	}
	stored, gone, err := r.stored(ctx, from, end)
	if err != nil || stored.Rows == 0 {
		return false, err
	}
	records, err := r.readAt(ctx, stored.Last)
	if err != nil {
		return false, err
	}
	if len(records) == 0 || !isStored(r.p.ID(), records, gone, stored) {
		r.seek(from)
		r.log.Info("ClickHouse holds other records of these offsets: the topic was made anew, or lost its end and has grown again", "from_offset", from, "to_offset", stored.Last)
		return false, nil
	}
	next := stored.Last + 1
	r.metrics.failed(ctx, "behind")
	log := r.log.With("from_offset", from, "to_offset", next)
	log.Error("Kafka does not know how far ingest was: the group's offsets were removed, set by hand or lost; going on behind what ClickHouse holds")
	if missing := next - from - stored.Rows; missing != 0 {
		log.Error("between these offsets ClickHouse holds another number of records than there are: compare them", "records", stored.Rows, "missing", missing)
	}
	r.newest = stream.Newest(r.newest, records)
	if err := r.p.Commit(ctx, next, newMark(plan{}, r.newest).String()); err != nil {
		return false, fmt.Errorf("go on at offset %d: %w", next, err)
	}
	r.seek(next)
	return true, nil
}

// stored asks until ClickHouse answers: without it ingest could not go on anyway.
func (r *reader) stored(ctx context.Context, from, end int64) (s tables.Stored, gone *schema.Tombstones, err error) {
	var logged time.Time
	for attempt := 0; ; attempt++ {
		if s, err = r.writer.Stored(ctx, r.p.ID(), from, end); err == nil && slices.ContainsFunc(s.Records, func(one tables.StoredRecord) bool { return one.Deleted }) {
			gone, err = r.deleted.current(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return s, gone, err
		}
		r.metrics.failed(ctx, "stored")
		if time.Since(logged) >= logInterval {
			logged = time.Now()
			r.log.Error("ClickHouse does not tell what it holds of the partition; asking again", "error", err.Error())
		}
		if err := stream.Sleep(ctx, stream.Backoff(attempt)); err != nil {
			return s, gone, err
		}
	}
}

// readAt returns the record at an offset, or nothing if there is none. One in a batch that
// cannot be decoded has the time that its row in the quarantine has, and nothing else.
func (r *reader) readAt(ctx context.Context, offset int64) ([]stream.Record, error) {
	found, err := stream.FirstFrom(ctx, r.p, offset)
	if _, gone := errors.AsType[*stream.OutOfRangeError](err); gone {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the record at offset %d, which is stored: %w", offset, err)
	}
	if found.Offset != offset {
		return nil, nil
	}
	return []stream.Record{found}, nil
}

// isStored reports whether a record is the one, or one of those, that are stored.
func isStored(partition int, record []stream.Record, gone *schema.Tombstones, s tables.Stored) bool {
	var b block
	decodeBlock(&b, partition, record)
	is := tables.StoredRecord{TimeMs: clamp(record[0].Time).UnixMilli()}
	event := tables.StoredRecord{}
	if b.events.Len() == 1 {
		event = tables.StoredRecord{Event: true, RayID: string(b.events.RayID[0]), TimeMs: b.events.Time[0].UnixMilli() + b.events.SkewMs[0]}
	}
	b.tombstones = gone
	decodeBlock(&b, partition, record)
	return slices.ContainsFunc(s.Records, func(stored tables.StoredRecord) bool {
		switch {
		case stored.Deleted: // no more is known than the day, of the record or of its event
			far := time.UnixMilli(stored.TimeMs).Sub(record[0].Time).Abs() > schema.EventBehindMax+2*24*time.Hour
			return b.deleted.Len() == 1 && !far
		case stored.Event:
			return stored == event
		default: // an event may have been refused because of others in its block
			return stored == is
		}
	})
}
