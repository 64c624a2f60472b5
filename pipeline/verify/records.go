package verify

import (
	"context"
	"fmt"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// record is what is kept of a record of Kafka, or of a batch that cannot be decoded.
type record struct {
	offset int64
	ms     int64 // its time
	bytes  int   // of its value
	// broken says that it is a batch, whose offsets are those from offset up to next, and
	// nobody knows of which of them there are records.
	broken bool
	next   int64
	event  bool  // that it decodes as one; whether it counts as one is for ingest to say
	at     int64 // the event's time, as schema.EventTime has it, and how far that is off
	skew   int64
	ray    string
}

func recordOf(r *stream.Record) record {
	known := record{offset: r.Offset, ms: r.Time.UnixMilli(), bytes: len(r.Value)}
	var e schema.TraceEvent
	if schema.DecodeEvent(r.Value, &e) != nil {
		return known
	}
	at, skew, ok := schema.EventTime(e.EventTimestampMs, r.Time)
	known.event, known.at, known.skew, known.ray = ok, at.UnixMilli(), skew, e.Gateway.RayID
	return known
}

// end returns the offset behind it.
func (r *record) end() int64 {
	if r.broken {
		return r.next
	}
	return r.offset + 1
}

// hasRow reports whether ingest makes a row of an offset of the record.
func (r *record) hasRow(offset int64) bool {
	return !r.broken || offset < r.offset+tables.BatchRowsMax
}

// of reports whether rows of one of its offsets were made of the record. Of a batch that
// cannot be decoded any row in quarantine is.
func (r *record) of(rows *tables.OffsetRows) bool {
	if !rows.Alike {
		return false
	}
	if rows.Events > 0 && !(r.event && rows.TimeMS == r.at && rows.SkewMS == r.skew && rows.RayID == r.ray) {
		return false
	}
	if r.broken {
		return true
	}
	// The quarantine's column holds no time before 1970.
	return rows.Quarantined == rows.Deleted || rows.QuarantineTimeMS == min(max(r.ms, 0), schema.TimeLatest.UnixMilli()) && rows.QuarantineBytes == uint64(r.bytes)
}

// String is how a sentence speaks of a record.
func (r *record) String() string {
	at := time.UnixMilli(r.ms).UTC().Format(time.RFC3339Nano)
	switch {
	case r.broken:
		return fmt.Sprintf("a batch of %s with %d bytes that cannot be decoded", at, r.bytes)
	case !r.event:
		return fmt.Sprintf("a record of %s with %d bytes", at, r.bytes)
	}
	return fmt.Sprintf("the event %q of %s", r.ray, time.UnixMilli(r.at).UTC().Format(time.RFC3339Nano))
}

// records reads those from an offset on, as many as come at once; none where there are
// none any more, or where Kafka has just removed them. The first may be a batch that
// cannot be decoded and begins before the offset.
func (v *verifier) records(ctx context.Context, partition int, offset int64) (list []record, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	for next := offset; len(list) == 0; {
		batches, err := v.log.FetchBatches(ctx, partition, next, false)
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("read partition %d of %s from offset %d: %w", partition, v.cfg.Topic, offset, err)
		}
		if len(batches) == 0 {
			return nil, nil
		}
		for i := range batches {
			list = v.decode(list, &batches[i], offset)
			next = batches[i].Next
		}
	}
	return list, nil
}

// decode appends the records of batches that lie at an offset or behind it. It calls a
// batch broken when ingest does.
func (v *verifier) decode(list []record, batches *stream.Batches, offset int64) []record {
	for _, single := range batches.Single() {
		records, err := single.DecodeAll(&v.memory)
		if err != nil && single.Next > offset {
			raw := single.Raw()
			list = append(list, record{offset: single.First, ms: raw.Time.UnixMilli(), bytes: len(raw.Value), broken: true, next: single.Next})
		}
		for i := range records {
			if records[i].Offset >= offset {
				list = append(list, recordOf(&records[i]))
			}
		}
	}
	return list
}
