package stream

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
)

// Partitions returns the ids of the topic's partitions. This and the methods below
// ask once: an error is about a broker that is away, or about ctx.
func (r *Reader) Partitions(ctx context.Context) ([]int, error) {
	list, err := topicPartitions(ctx, r.client, r.cfg.Topic)
	ids := make([]int, len(list))
	for i, p := range list {
		ids[i] = p.ID
	}
	return ids, err
}

// Bounds returns the first offset of a partition that is kept and the next one to be
// written.
func (r *Reader) Bounds(ctx context.Context, partition int) (first, next int64, err error) {
	listed, err := listOffsets(ctx, r.client, r.cfg.Topic, []kafka.OffsetRequest{kafka.FirstOffsetOf(partition), kafka.LastOffsetOf(partition)})
	return listed[partition].FirstOffset, listed[partition].LastOffset, err
}

// OffsetAt returns the first offset whose record's time is at or after t, or the next
// one to be written when there is none. All records before it are older than t: times
// need not grow with offsets.
func (r *Reader) OffsetAt(ctx context.Context, partition int, t time.Time) (int64, error) {
	// See partition.OffsetAt for why the end is asked for first, and for the rounding.
	_, offset, err := r.Bounds(ctx, partition)
	if err != nil {
		return 0, err
	}
	at := time.UnixMilli(max(t.Add(time.Millisecond-1).UnixMilli(), 0))
	listed, err := listOffsets(ctx, r.client, r.cfg.Topic, []kafka.OffsetRequest{kafka.TimeOffsetOf(partition, at)})
	for found := range listed[partition].Offsets {
		if found >= 0 {
			offset = found
		}
	}
	return offset, err
}
