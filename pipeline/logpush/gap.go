package logpush

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tidegate/pipeline/stream"
)

// resume repeats the uploads that were begun, if their records can still be there.
// A plan that ends behind the partition's end would never be complete, or take in
// whatever is written there next.
func (d *delivery) resume(ctx context.Context, plans []plan) error {
	_, next, err := d.partition.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("find the end of partition %d for job %d: %w", d.partition.ID(), d.job.ID, err)
	}
	end := plans[len(plans)-1].End
	switch {
	case end <= next:
		d.repeat(plans)
		return nil
	case d.position > next:
		return nil // the first fetch says what happened
	}
	for i := range plans {
		if plans[i].End > next {
			plans = plans[:i]
			break
		}
	}
	d.repeat(plans)
	d.told = slices.DeleteFunc(d.told, func(s span) bool { return s.End > next }) // others have these offsets now
	d.lost(ctx, droppedTruncated, end-next, fmt.Sprintf(
		"lost up to %d records of partition %d, offsets %d to %d: a broker lost the end of the partition, and they may not have been delivered before",
		end-next, d.partition.ID(), next, end-1))
	d.commit() // counted: not to be counted again
	return nil
}

// repeat makes the delivery rebuild the windows of plans that are not done. Those
// that are done stay until earlier ones are.
func (d *delivery) repeat(plans []plan) {
	d.rebuild = plans
	d.passDone()
}

// passDone goes on behind plans that are done, where they are the next to be rebuilt.
func (d *delivery) passDone() {
	for len(d.rebuild) > 0 && d.rebuild[0].Done {
		d.position = d.rebuild[0].End
		if len(d.uploads) > 0 {
			over := make(chan struct{})
			close(over)
			d.uploads = append(d.uploads, &upload{plan: d.rebuild[0], over: over, gone: true})
		}
		d.rebuild = d.rebuild[1:]
	}
}

// skip goes on where a partition continues that no longer has the next record,
// and says what is lost. Nothing is being uploaded or, if the partition became
// shorter, built.
func (d *delivery) skip(ctx context.Context) error {
	gone := d.gone
	d.gone = nil
	gap, err := gone.Resume(ctx, d.partition, d.newest)
	if err != nil {
		return err
	}
	id := d.partition.ID()
	if gap.Cause != stream.GapRetention {
		d.told = nil // of offsets that others have now
	}
	switch gap.Cause {
	case stream.GapRetention:
		untold := d.tell(gone.Position, gap.Next)
		if untold == 0 {
			break
		}
		lost := "lost %d records of partition %d, offsets %d to %d: the topic's retention removed them before they were delivered"
		if len(d.rebuild) > 0 {
			lost = "lost up to %d records of partition %d, offsets %d to %d: the topic's retention removed them, and they may not have been delivered before"
		}
		d.lost(ctx, droppedRetention, untold, fmt.Sprintf(lost, untold, id, gone.Position, gap.Next-1))
	case stream.GapTruncated:
		d.lost(ctx, droppedTruncated, gap.Lost, fmt.Sprintf(
			"a broker lost the end of partition %d, offsets below %d and perhaps later ones that were not delivered: going on at offset %d, where newer records begin; older ones that were written since the loss are left out, nobody knows how many",
			id, gone.Position, gap.Next))
	case stream.GapRemade:
		d.newest = time.Time{}
		d.lost(ctx, droppedTruncated, 0, fmt.Sprintf("partition %d was made anew: going on at offset %d", id, gap.Next))
	}
	d.position = gap.Next
	d.commit() // counted: not to be counted again
	return nil
}

// toldMax bounds the spans of a commit. With more, the first ones are counted again by who
// rebuilds their window.
const toldMax = 16

// tell notes that offsets are told as lost from now on, and returns how many were not before.
func (d *delivery) tell(begin, end int64) (untold int64) {
	untold = end - begin
	others := d.told[:0]
	for _, s := range d.told {
		if s.Begin > end || s.End < begin {
			others = append(others, s)
			continue
		}
		untold -= min(s.End, end) - max(s.Begin, begin)
		begin, end = min(s.Begin, begin), max(s.End, end)
	}
	d.told = append(others, span{begin, end})
	d.told = d.told[max(len(d.told)-toldMax, 0):]
	return untold
}

// pass goes on behind a batch that cannot be decoded, now or ever, and says so: at it,
// the job would stand until the topic's retention takes the batch, and what else is
// there by then. It returns false if the window has to be closed before.
func (d *delivery) pass(ctx context.Context, b *stream.Undecodable) bool {
	from, until := max(b.First, d.position), b.Next
	if len(d.rebuild) > 0 {
		until = min(until, d.rebuild[0].End)
	}
	untold := int64(0)
	if from < until {
		if untold = d.tell(from, until); untold > 0 {
			d.lost(ctx, droppedUndecodable, untold, fmt.Sprintf(
				"lost up to %d records of partition %d, offsets %d to %d: %v", untold, d.partition.ID(), from, until-1, b.Err))
		}
		if !d.window.Empty() {
			d.window.Extend(until, d.window.highest)
		}
	}
	d.position = max(d.position, until)
	if untold > 0 {
		d.commit() // counted: not to be counted again
	}
	return until == b.Next
}

// lost counts and tells that offsets are gone.
func (d *delivery) lost(ctx context.Context, reason string, offsets int64, message string) {
	d.metrics.drop(ctx, reason, offsets)
	d.health.Lost(time.Now(), message)
	d.log.ErrorContext(ctx, "records were lost", "reason", message)
}
