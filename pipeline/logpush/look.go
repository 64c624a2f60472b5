package logpush

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// counts of events since they were last added to the metrics.
type counts struct {
	in, disabled, deleted, filtered, sampled, malformed, long, truncated int64
}

// textKept is how much memory for one record's text is kept for the next one's.
const textKept = 1 << 20

// turnRecords end a delivery's turn at a desk: some milliseconds. With shorter ones
// the windows of many jobs would fill at the same time, and each stay open for longer.
const turnRecords = 8192

// look takes records into the window, of the chunk and of those behind it that are at
// hand, until the window is due or the turn is over.
func (d *delivery) look(ctx context.Context) error {
	defer d.leave()
	if d.ticket.flight != nil && d.ticket.err != nil {
		return d.unread(d.ticket.err)
	}
	chunks := d.shared.chunks
	select { // one of as many as there are processors
	case <-ctx.Done():
		return ctx.Err()
	case chunks.desks <- struct{}{}:
	}
	defer func() { <-chunks.desks }()
	defer d.count(ctx)
	defer func() {
		if cap(d.text) > textKept {
			d.text = nil
		}
	}()
	for looked := 0; looked < turnRecords; {
		c := d.ticket.take()
		if c == nil { // others needed the memory
			return nil
		}
		before := d.position
		err := d.lookAt(ctx, c)
		looked += int(d.position - before)
		through := d.position >= c.next
		chunks.put(c)
		if err != nil {
			return err
		}
		d.holding.set(d.held())
		chunks.pass(d.seat, d.position)
		if !through || d.due(time.Now()) {
			return nil
		}
		d.leave()
		if d.ticket = chunks.atHand(d.partition.ID(), d.position); d.ticket == nil {
			return nil
		}
	}
	return nil
}

// unread takes note of why there is no chunk.
func (d *delivery) unread(err error) error {
	gone, ok := errors.AsType[*stream.OutOfRangeError](err)
	if !ok {
		return err
	}
	d.gone = gone
	// The partition is not the one that the plans were made for, or lost its
	// end. What was read of it is nowhere but here: it leaves as a batch of its own.
	if !gone.Removed() {
		d.rebuild = nil
		d.closing = true
	}
	return nil
}

// lookAt takes what a chunk has from the position on into the window.
func (d *delivery) lookAt(ctx context.Context, c *chunk) error {
	now := time.Now()
	records, bad := c.from(d.position), c.undecodable(d.position)
	for i := range records {
		r := &records[i]
		for len(bad) > 0 && bad[0].First < r.Offset {
			if !d.pass(ctx, &bad[0]) {
				return nil
			}
			bad = bad[1:]
		}
		d.newest = stream.Newer(d.newest, r.Time, now)
		taken, err := d.take(now, r)
		if err != nil {
			return err
		}
		if !taken || d.due(now) {
			return nil
		}
	}
	for i := range bad {
		if !d.pass(ctx, &bad[i]) {
			return nil
		}
	}
	d.position = c.next // what is in between has no records
	return nil
}

// take adds a record to the window, if the job wants it. It returns false if the
// window has to be closed before.
func (d *delivery) take(now time.Time, r *entry) (bool, error) {
	if len(d.rebuild) > 0 && r.Offset >= d.rebuild[0].End {
		d.position = d.rebuild[0].End // retention may have left nothing before it
		return false, nil
	}
	if len(d.rebuild) > 0 && d.rebuild[0].isNot(r) {
		d.rebuild, d.told = nil, nil // the topic was made anew
		d.closing = true
		return false, nil
	}
	before := d.counts
	var sent bool
	if d.text, sent = d.textOf(&d.counts, d.text, d.partition.ID(), r); !sent {
		d.passOver(r)
		return true, nil
	}
	g, item := d.facts.of(&r.event, r.Time)
	if !d.fits(r, g) {
		d.counts = before // it is looked at again
		d.rebuild = nil   // of other records than the plan's, or there would be room
		d.closing = true
		return false, nil
	}
	held := d.window.held
	if err := d.window.Add(now, g, d.text, r.Offset, r.Time, item); err != nil {
		return false, err
	}
	d.position = r.Offset + 1
	if d.window.held != held {
		d.holding.set(d.held())
		// Plans that are rebuilt end where they end.
		if len(d.rebuild) == 0 && d.holding.over() {
			d.closing = true
			d.metrics.early(context.Background())
		}
	}
	return true, nil
}

// passOver goes on behind a record that is not sent.
func (d *delivery) passOver(r *entry) {
	if !d.window.Empty() {
		d.window.Extend(r.Offset+1, r.Time)
	}
	d.position = r.Offset + 1
}

// fits reports whether there is room in the window for a record and its text. One
// that is built again ends with its plan; it only may not outgrow what a window is.
func (d *delivery) fits(r *entry, g part) bool {
	if len(d.rebuild) > 0 {
		return d.window.HasRoom(g, len(d.text))
	}
	return d.window.Fits(g, len(d.text), r.Time)
}

// due reports whether the window has to be closed before another record is looked at.
func (d *delivery) due(now time.Time) bool {
	if len(d.rebuild) > 0 {
		return d.closing || d.position >= d.rebuild[0].End
	}
	if d.window.Empty() {
		d.closing = false
		return false
	}
	return d.closing || d.window.Full(now)
}

// held returns how many bytes the delivery holds.
func (d *delivery) held() int64 {
	held := d.window.held
	for _, u := range d.uploads {
		held += u.held
	}
	return held
}

// textOf decides whether a record of a partition is sent, by live delivery, a replay or a
// preview, and counts it. It returns the record as it is sent in the memory of text.
func (s *settings) textOf(c *counts, text []byte, partition int, r *entry) (_ []byte, sent bool) {
	if r.Account != s.job.AccountID {
		return text, false
	}
	c.in++
	switch {
	case r.Header(schema.HeaderLogpush) == schema.LogpushDisabled:
		c.disabled++
	case s.deleted.covers(r.Record, &r.event, r.malformed):
		c.deleted++
	case r.malformed:
		c.malformed++
	case !s.filter.Match(&r.event):
		c.filtered++
	case !sampled(s.rate, s.job.ID, partition, r.Offset):
		c.sampled++
	default:
		if text = s.format.AppendRecord(text[:0], &r.event); len(text) > logjob.RecordBytesMax {
			c.long++
			return text, false
		}
		if r.truncated {
			c.truncated++
		}
		return text, true
	}
	return text, false
}

// add adds other counts.
func (c *counts) add(o counts) {
	c.in += o.in
	c.disabled += o.disabled
	c.deleted += o.deleted
	c.filtered += o.filtered
	c.sampled += o.sampled
	c.malformed += o.malformed
	c.long += o.long
	c.truncated += o.truncated
}

// count adds counts to the metrics, but for those of long records: these are losses.
func (j *jobMetrics) count(ctx context.Context, c *counts) {
	if c.in > 0 {
		j.in.Add(ctx, c.in, j.attrs)
	}
	j.drop(ctx, droppedLogpush, c.disabled)
	j.drop(ctx, droppedDeleted, c.deleted)
	j.drop(ctx, droppedFilter, c.filtered)
	j.drop(ctx, droppedSample, c.sampled)
	j.drop(ctx, droppedMalformed, c.malformed)
	if c.truncated > 0 {
		j.truncated.Add(ctx, c.truncated, j.attrs)
	}
}

func (d *delivery) count(ctx context.Context) {
	c := d.counts
	d.counts = counts{}
	d.metrics.count(ctx, &c)
	if c.long > 0 {
		d.lost(ctx, droppedLong, c.long, fmt.Sprintf(
			"left out %d records of partition %d, before offset %d: formatted by the job's record_template, each has more than %d bytes",
			c.long, d.partition.ID(), d.position, logjob.RecordBytesMax))
	}
	if c.malformed > 0 && d.logged.allow(time.Now()) {
		d.log.WarnContext(ctx, "events that are not JSON objects were left out", "events", c.malformed)
	}
}
