package client

import (
	"context"
	"net/http"
	"time"

	"tidegate/internal/deploy"
)

// Report tells the control plane how versions do on a router; it needs the
// operator's token.
func (c *Client) Report(ctx context.Context, reports []deploy.VersionReport) error {
	_, err := c.call(ctx, http.MethodPut, "/routing/reports", map[string]any{"reports": reports}, nil)
	return err
}

// ClaimCron reports whether the caller is the first to claim a run of a schedule;
// it needs the operator's token.
func (c *Client) ClaimCron(ctx context.Context, accountID, script, cron string, at time.Time) (bool, error) {
	body := map[string]any{"account_id": accountID, "script": script, "cron": cron, "scheduled_on": at}
	result, err := send[struct {
		Claimed bool `json:"claimed"`
	}](ctx, c, http.MethodPost, "/routing/cron-claims", body)
	return result.Claimed, err
}
