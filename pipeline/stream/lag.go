package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// Lag is how far a group is in one partition.
type Lag struct {
	Partition int
	Committed int64 // offset of the next record to be read; -1: none was committed
	First     int64 // oldest offset that Kafka has
	Next      int64 // offset that the next record will have
	// Offsets of the first record of the last minute, and of the last five; Next where there
	// is none, -1 where Kafka did not tell. All records before them are older.
	Minute, FiveMinutes int64
}

// Lags tells how far a group is in each partition of cfg.Topic. It asks once, over
// connections of its own; an error is about a broker that is away, or about ctx. If it is
// about times alone, ages is that error, and what came before them holds.
func Lags(ctx context.Context, cfg Config, groupID string) (list []Lag, ages, err error) {
	if err := cfg.validate(); err != nil {
		return nil, nil, err
	}
	client := newClient(cfg)
	defer closeClient(client)
	// The commits first: what is written meanwhile makes the lag larger, and none negative.
	commits, err := commitsOf(ctx, client, cfg.Topic, groupID)
	if err != nil {
		return nil, nil, cfg.Security.explain(err)
	}
	partitions, err := topicPartitions(ctx, client, cfg.Topic)
	if err != nil {
		return nil, nil, cfg.Security.explain(err)
	}
	var ask []kafka.OffsetRequest
	for _, p := range partitions {
		ask = append(ask, kafka.FirstOffsetOf(p.ID), kafka.LastOffsetOf(p.ID))
	}
	listed, err := listOffsets(ctx, client, cfg.Topic, ask)
	if err != nil {
		return nil, nil, fmt.Errorf("lag of group %s: %w", groupID, cfg.Security.explain(err))
	}
	list = make([]Lag, len(partitions))
	for i, p := range partitions {
		list[i] = Lag{Partition: p.ID, Committed: -1, First: listed[p.ID].FirstOffset, Next: listed[p.ID].LastOffset, Minute: -1, FiveMinutes: -1}
		if c, ok := commits[p.ID]; ok {
			list[i].Committed = c.Offset
		}
	}
	// Times after ends: what is written in between is young.
	if ages = addAges(ctx, client, cfg.Topic, list); ages != nil {
		ages = fmt.Errorf("age of what waits for group %s: %w", groupID, cfg.Security.explain(ages))
	}
	return list, ages, nil
}

// addAges asks for one time after the other, because answers do not tell which they are for.
func addAges(ctx context.Context, client *kafka.Client, topic string, list []Lag) error {
	now := time.Now()
	for _, age := range []struct {
		time.Duration
		of func(l *Lag) *int64
	}{
		{time.Minute, func(l *Lag) *int64 { return &l.Minute }},
		{5 * time.Minute, func(l *Lag) *int64 { return &l.FiveMinutes }},
	} {
		ask := make([]kafka.OffsetRequest, len(list))
		for i, l := range list {
			ask[i] = kafka.TimeOffsetOf(l.Partition, now.Add(-age.Duration))
		}
		listed, err := listOffsets(ctx, client, topic, ask)
		if err != nil {
			return err
		}
		for i := range list {
			offset := age.of(&list[i])
			*offset = list[i].Next
			for found := range listed[list[i].Partition].Offsets { // at most one
				if found >= 0 {
					*offset = found
				}
			}
		}
	}
	return nil
}
