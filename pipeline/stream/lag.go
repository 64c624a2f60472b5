package stream

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// Lag is how far a group is in one partition.
type Lag struct {
	Partition int
	Committed int64 // offset of the next record to be read; -1: none was committed
	First     int64 // oldest offset that Kafka has
	Next      int64 // offset that the next record will have
}

// Lags tells how far a group is in each partition of cfg.Topic. It asks once, over
// connections of its own; an error is about a broker that is away, or about ctx.
func Lags(ctx context.Context, cfg Config, groupID string) ([]Lag, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	client := newClient(cfg)
	defer closeClient(client)
	// The commits first: what is written meanwhile makes the lag larger, and none negative.
	commits, err := commitsOf(ctx, client, cfg.Topic, groupID)
	if err != nil {
		return nil, cfg.Security.explain(err)
	}
	partitions, err := topicPartitions(ctx, client, cfg.Topic)
	if err != nil {
		return nil, cfg.Security.explain(err)
	}
	var ask []kafka.OffsetRequest
	for _, p := range partitions {
		ask = append(ask, kafka.FirstOffsetOf(p.ID), kafka.LastOffsetOf(p.ID))
	}
	listed, err := listOffsets(ctx, client, cfg.Topic, ask)
	if err != nil {
		return nil, fmt.Errorf("lag of group %s: %w", groupID, cfg.Security.explain(err))
	}
	list := make([]Lag, len(partitions))
	for i, p := range partitions {
		list[i] = Lag{Partition: p.ID, Committed: -1, First: listed[p.ID].FirstOffset, Next: listed[p.ID].LastOffset}
		if c, ok := commits[p.ID]; ok {
			list[i].Committed = c.Offset
		}
	}
	return list, nil
}
