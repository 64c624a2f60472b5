package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// Commit is how far a group is in one partition.
type Commit struct {
	Offset   int64 // the next one to read
	Metadata string
}

// Commits returns a group's commits by partition; partitions without one are absent. It
// asks once, like Partitions.
func (r *Reader) Commits(ctx context.Context, groupID string) (map[int]Commit, error) {
	return commitsOf(ctx, r.client, r.cfg.Topic, groupID)
}

// Committed returns the metadata of Commits.
func (r *Reader) Committed(ctx context.Context, groupID string) (map[int]string, error) {
	commits, err := r.Commits(ctx, groupID)
	return metadataOf(commits), err
}

func metadataOf(commits map[int]Commit) map[int]string {
	metadata := make(map[int]string, len(commits))
	for partition, c := range commits {
		metadata[partition] = c.Metadata
	}
	return metadata
}

func commitsOf(ctx context.Context, client *kafka.Client, topic, groupID string) (map[int]Commit, error) {
	list, err := topicPartitions(ctx, client, topic)
	if err != nil {
		return nil, err
	}
	ids := make([]int, len(list))
	for i, p := range list {
		ids[i] = p.ID
	}
	answer, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: groupID, Topics: map[string][]int{topic: ids}})
	if err == nil {
		err = answer.Error
	}
	if errors.Is(err, kafka.GroupIdNotFound) { // the embedded broker's way to say that it has no commit
		return map[int]Commit{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the offsets of group %s: %w", groupID, err)
	}
	commits := map[int]Commit{}
	for _, o := range answer.Topics[topic] {
		if o.Error != nil {
			return nil, fmt.Errorf("read the offset of group %s in partition %d: %w", groupID, o.Partition, o.Error)
		}
		if o.CommittedOffset >= 0 {
			commits[o.Partition] = Commit{o.CommittedOffset, o.Metadata}
		}
	}
	return commits, nil
}
