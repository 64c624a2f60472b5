package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema/control"
)

// Report tells the control plane how versions do on a router; it needs the operator's
// token or a router's.
func (c *Client) Report(ctx context.Context, reports []deploy.VersionReport) error {
	_, err := c.call(ctx, http.MethodPut, "/routing/reports", map[string]any{"reports": reports}, nil)
	return err
}

// SaveRouter keeps what a router tells of itself; it needs the operator's token or a
// router's.
func (c *Client) SaveRouter(ctx context.Context, r control.RouterState) error {
	_, err := c.call(ctx, http.MethodPut, "/routing/routers/"+url.PathEscape(r.ID), r, nil)
	return err
}

// ClaimCron reports whether the caller is the first to claim a run of a schedule;
// it needs the operator's token or a router's.
func (c *Client) ClaimCron(ctx context.Context, accountID, script, cron string, at time.Time) (bool, error) {
	body := map[string]any{"account_id": accountID, "script": script, "cron": cron, "scheduled_on": at}
	result, err := send[struct {
		Claimed bool `json:"claimed"`
	}](ctx, c, http.MethodPost, "/routing/cron-claims", body)
	return result.Claimed, err
}
