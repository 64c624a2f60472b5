package exactlyonce

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go"

	"tidegate/schema"
)

// commits of the group, by partition; those without one are at offset -1.
func (b *broker) commits(ctx context.Context) ([]kafka.OffsetFetchPartition, error) {
	n, err := b.partitions(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]int, n)
	for id := range ids {
		ids[id] = id
	}
	answer, err := b.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: ingestGroup, Topics: map[string][]int{schema.Topic: ids}})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		return nil, err
	}
	committed := answer.Topics[schema.Topic]
	for _, o := range committed {
		if o.Error != nil {
			return nil, o.Error
		}
	}
	return committed, nil
}

// unsettled says in which partitions the group is not at the end.
func (b *broker) unsettled(ctx context.Context) error {
	committed, err := b.commits(ctx)
	if err != nil {
		return err
	}
	ask := make([]kafka.OffsetRequest, len(committed))
	for i, o := range committed {
		ask[i] = kafka.LastOffsetOf(o.Partition)
	}
	listed, err := b.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{schema.Topic: ask}})
	if err != nil {
		return err
	}
	ends := map[int]int64{}
	for _, o := range listed.Topics[schema.Topic] {
		ends[o.Partition] = o.LastOffset
	}
	for _, o := range committed {
		if end := ends[o.Partition]; o.CommittedOffset != end && (end > 0 || o.CommittedOffset > 0) {
			return fmt.Errorf("partition %d is committed up to %d of %d, %s", o.Partition, o.CommittedOffset, end, o.Metadata)
		}
	}
	return nil
}

// openBlocks says which blocks are planned and not committed.
func (b *broker) openBlocks(ctx context.Context) error {
	committed, err := b.commits(ctx)
	if err != nil {
		return err
	}
	for _, o := range committed {
		if strings.Contains(o.Metadata, `"end"`) {
			return fmt.Errorf("a block of partition %d is open: %s", o.Partition, o.Metadata)
		}
	}
	return nil
}

// forgetOffsets removes the group, which must have no members.
func (b *broker) forgetOffsets(ctx context.Context) error {
	answer, err := b.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{ingestGroup}})
	if err != nil {
		return err
	}
	if err := answer.Errors[ingestGroup]; err != nil && !errors.Is(err, kafka.GroupIdNotFound) { // the answer of an earlier try was lost
		return err
	}
	return nil
}

// setBack moves the offsets of the group, which must have no members, as
// kafka-consumer-groups does.
func (b *broker) setBack(ctx context.Context, by int64) error {
	committed, err := b.commits(ctx)
	if err != nil {
		return err
	}
	var commits []kafka.OffsetCommit
	for _, o := range committed {
		if o.CommittedOffset > 0 {
			commits = append(commits, kafka.OffsetCommit{Partition: o.Partition, Offset: max(0, o.CommittedOffset-by)})
		}
	}
	answer, err := b.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: ingestGroup, GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{schema.Topic: commits}})
	if err != nil {
		return err
	}
	for _, o := range answer.Topics[schema.Topic] {
		if o.Error != nil {
			return o.Error
		}
	}
	return nil
}
