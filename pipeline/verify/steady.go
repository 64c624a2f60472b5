package verify

import (
	"context"
	"time"

	"tidegate/pipeline/stream"
)

// steady asks a Log that moves its leaders, or was just started, again.
type steady struct{ Log }

// again asks up to a few times.
func again[T any](ctx context.Context, ask func() (T, error)) (answer T, err error) {
	for attempt := range attempts {
		if answer, err = ask(); err == nil || ctx.Err() != nil {
			break
		}
		if attempt < attempts-1 {
			if stream.Sleep(ctx, pause) != nil {
				break
			}
		}
	}
	return answer, err
}

func (s steady) Partitions(ctx context.Context) ([]int, error) {
	return again(ctx, func() ([]int, error) { return s.Log.Partitions(ctx) })
}

func (s steady) Bounds(ctx context.Context, partition int) (first, next int64, err error) {
	bounds, err := again(ctx, func() (b [2]int64, err error) {
		b[0], b[1], err = s.Log.Bounds(ctx, partition)
		return b, err
	})
	return bounds[0], bounds[1], err
}

func (s steady) OffsetAt(ctx context.Context, partition int, t time.Time) (int64, error) {
	return again(ctx, func() (int64, error) { return s.Log.OffsetAt(ctx, partition, t) })
}

func (s steady) Commits(ctx context.Context, groupID string) (map[int]stream.Commit, error) {
	return again(ctx, func() (map[int]stream.Commit, error) { return s.Log.Commits(ctx, groupID) })
}
