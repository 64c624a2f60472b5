package stream

import (
	"context"
	"fmt"
	"time"
)

// GapCause says why a position was not, or no longer, in its partition.
type GapCause int

const (
	GapRetention GapCause = iota // Kafka removed the records before they were read
	GapTruncated                 // a broker lost the end of the partition
	GapRemade                    // the topic was deleted and made again
)

// Gap is what became of a position that was out of range.
type Gap struct {
	Cause GapCause
	Next  int64 // where to go on; Resume has gone there
	// Lost is how many offsets Kafka had before and no longer has, as far as the
	// position tells. After GapTruncated that is what lies between Next and the
	// position: read before, perhaps for nothing, and given to other records now or
	// later. Records that nobody had read are lost too, and nobody knows how many. 0
	// after GapRemade.
	Lost int64
}

// Resume decides where to go on after e, and seeks p there. Newest is the time of
// the newest record that was ever read from the partition (see Newest), and zero
// when that is not known.
//
// Where the partition is, or was, shorter than the position, its first record tells
// what happened. In a partition that lost its end, that record was read before, so it
// is no newer than newest. A newer one is that of another topic, which is read from its
// beginning. A new topic that begins with events which waited for long in a
// producer's spool looks like the old one. Nothing known counts as another topic.
//
// A partition that lost its end may have grown since, even beyond the position. All
// that is left of what was read is no newer than newest either, so the first newer
// record is the place to go on, unless it lies behind what was surely never read: the
// position, and the end. Of what was written since the loss, records that are no newer,
// of spools or in batches that overtook each other, look as if they had been read: they
// are passed, and nobody knows how many. What a producer wrote whose clock is ahead
// looks new: some of it may be read again.
func (e *OutOfRangeError) Resume(ctx context.Context, p Partition, newest time.Time) (Gap, error) {
	gap := Gap{Cause: GapRemade, Next: e.First}
	switch {
	case e.Removed():
		gap = Gap{Cause: GapRetention, Next: e.First, Lost: e.First - e.Position}
	case e.First < e.Next && !newest.IsZero():
		kept, err := FirstFrom(ctx, p, e.First)
		if err != nil {
			return Gap{}, fmt.Errorf("read the first record of a partition that became shorter: %w", err)
		}
		if kept.Time.After(newest) {
			break
		}
		newer, err := p.OffsetAt(ctx, newest.Truncate(time.Millisecond).Add(time.Millisecond))
		if err != nil {
			return Gap{}, fmt.Errorf("find what was written to a partition since it lost its end: %w", err)
		}
		next := min(newer, e.Position, e.Next)
		gap = Gap{Cause: GapTruncated, Next: next, Lost: e.Position - next}
	}
	p.SeekTo(gap.Next)
	return gap, nil
}

// Newest returns the latest of newest and the times of records. A time that is
// still to come, of a producer whose clock is ahead, counts as now: it would make
// every later topic look like this one.
func Newest(newest time.Time, records []Record) time.Time {
	now := time.Now()
	for i := range records {
		newest = Newer(newest, records[i].Time, now)
	}
	return newest
}

// Newer is Newest for the time of one record.
func Newer(newest, at, now time.Time) time.Time {
	if at.After(now) {
		at = now
	}
	if at.After(newest) {
		return at
	}
	return newest
}
