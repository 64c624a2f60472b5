package logpush

import (
	"context"
	"fmt"
	"time"

	"tidegate/pipeline/stream"
)

// resume repeats the upload that was begun, if its records can still be there. A
// plan that ends behind the partition's end would never be complete, or take in
// whatever is written there next.
func (d *delivery) resume(ctx context.Context, planned *plan) error {
	_, next, err := d.partition.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("find the end of partition %d for job %d: %w", d.partition.ID(), d.job.ID, err)
	}
	switch {
	case planned.End <= next:
		d.rebuild = planned
		return nil
	case d.position > next:
		return nil // the first fetch says what happened
	}
	d.lost(ctx, droppedTruncated, planned.End-next, fmt.Sprintf(
		"lost up to %d records of partition %d, offsets %d to %d: a broker lost the end of the partition, and they may not have been delivered before",
		planned.End-next, d.partition.ID(), next, planned.End-1))
	return d.commit(ctx, d.position, nil) // counted: not to be counted again
}

// skip goes on where a partition continues that no longer has the next record,
// and says what is lost.
func (d *delivery) skip(ctx context.Context, gone *stream.OutOfRangeError) error {
	if gone.Position > gone.Next {
		// The partition is not the one that the plan was made for. What was read of
		// it is nowhere but here: it leaves as a batch of its own.
		d.rebuild = nil
		if !d.batch.Empty() {
			if err := d.upload(ctx); err != nil {
				return err
			}
		}
	}
	gap, err := gone.Resume(ctx, d.partition, d.newest)
	if err != nil {
		return err
	}
	id := d.partition.ID()
	switch gap.Cause {
	case stream.GapRetention:
		d.lost(ctx, droppedRetention, gap.Lost, fmt.Sprintf(
			"lost %d records of partition %d, offsets %d to %d: the topic's retention removed them before they were delivered",
			gap.Lost, id, gone.Position, gap.Next-1))
	case stream.GapTruncated:
		d.lost(ctx, droppedTruncated, gap.Lost, fmt.Sprintf(
			"a broker lost the end of partition %d, offsets %d to %d and perhaps later ones that were not delivered: going on at the new end",
			id, gap.Next, gone.Position-1))
	case stream.GapRemade:
		d.newest = time.Time{}
		d.lost(ctx, droppedTruncated, 0, fmt.Sprintf("partition %d was made anew: going on at offset %d", id, gap.Next))
	}
	d.position = gap.Next
	if d.rebuild != nil || !d.batch.Empty() {
		return nil // the commit behind the batch comes soon
	}
	return d.commit(ctx, gap.Next, nil) // counted: not to be counted again
}

// lost counts and tells that offsets are gone.
func (d *delivery) lost(ctx context.Context, reason string, offsets int64, message string) {
	d.metrics.drop(ctx, reason, offsets)
	d.health.Lost(time.Now(), message)
	d.log.ErrorContext(ctx, "records were lost", "reason", message)
}
