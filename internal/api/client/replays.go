package client

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"tidegate/internal/logjob"
)

// Replay is a replay as the API shows it.
type Replay struct {
	logjob.Replay
	OffsetsDone  int64      `json:"offsets_done"`
	OffsetsTotal int64      `json:"offsets_total"` // 0 until it is known
	EstimatedEnd *time.Time `json:"estimated_end"`
}

func replayPath(accountID string, job int64, rest ...string) string {
	return jobPath(accountID, job) + join(append([]string{"replays"}, rest...)...)
}

// CreateReplay queues a replay of a job.
func (c *Client) CreateReplay(ctx context.Context, accountID string, job int64, q logjob.ReplayRequest) (Replay, error) {
	return send[Replay](ctx, c, http.MethodPost, replayPath(accountID, job), q)
}

// Replays returns the replays of a job, newest first.
func (c *Client) Replays(ctx context.Context, accountID string, job int64) ([]Replay, error) {
	return get[[]Replay](ctx, c, replayPath(accountID, job))
}

// Replay returns one replay with its progress.
func (c *Client) Replay(ctx context.Context, accountID string, job, id int64) (Replay, error) {
	return get[Replay](ctx, c, replayPath(accountID, job, strconv.FormatInt(id, 10)))
}

// CancelReplay ends a replay.
func (c *Client) CancelReplay(ctx context.Context, accountID string, job, id int64) (Replay, error) {
	return send[Replay](ctx, c, http.MethodPost, replayPath(accountID, job, strconv.FormatInt(id, 10), "cancel"), nil)
}
