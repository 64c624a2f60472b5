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
	ids, err := r.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := r.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: groupID, Topics: map[string][]int{r.cfg.Topic: ids}})
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
	for _, o := range answer.Topics[r.cfg.Topic] {
		if o.Error != nil {
			return nil, fmt.Errorf("read the offset of group %s in partition %d: %w", groupID, o.Partition, o.Error)
		}
		if o.CommittedOffset >= 0 {
			commits[o.Partition] = Commit{o.CommittedOffset, o.Metadata}
		}
	}
	return commits, nil
}
