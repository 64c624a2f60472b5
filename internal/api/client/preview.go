package client

import (
	"context"
	"encoding/json"
	"net/http"

	"tidegate/internal/logjob"
)

// PreviewRequest says what to try a job on; the members of a job that are not nil are
// tried instead of the stored ones.
type PreviewRequest struct {
	logjob.Update
	Events []json.RawMessage `json:"events,omitempty"` // none: the newest ones
	Limit  *int              `json:"limit,omitempty"`
}

// TestJob returns what a stored job would send. Nothing is sent.
func (c *Client) TestJob(ctx context.Context, accountID string, id int64, r PreviewRequest) (logjob.Preview, error) {
	return send[logjob.Preview](ctx, c, http.MethodPost, jobPath(accountID, id)+join("test"), r)
}

// TestNewJob returns what a job would send that is not stored.
func (c *Client) TestNewJob(ctx context.Context, accountID string, r PreviewRequest) (logjob.Preview, error) {
	return send[logjob.Preview](ctx, c, http.MethodPost, accountPath(accountID, "logpush", "test"), r)
}

// InstantLogs is a session that shows events as they come.
type InstantLogs struct {
	URL string `json:"destination_conf"` // of its WebSocket; secret
	logjob.InstantSettings
}

// InstantLogs returns the account's session, if there is one.
func (c *Client) InstantLogs(ctx context.Context, accountID string) ([]InstantLogs, error) {
	return get[[]InstantLogs](ctx, c, accountPath(accountID, "logpush", "edge", "jobs"))
}

// CreateInstantLogs begins a session for the account.
func (c *Client) CreateInstantLogs(ctx context.Context, accountID string, r logjob.InstantRequest) (InstantLogs, error) {
	return send[InstantLogs](ctx, c, http.MethodPost, accountPath(accountID, "logpush", "edge", "jobs"), r)
}
