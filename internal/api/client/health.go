package client

import (
	"context"
	"net/http"
)

// AlertHook is where an account is told of its jobs' failures.
type AlertHook struct {
	URL       string `json:"url"`
	HasSecret bool   `json:"has_secret"`
	PolicyID  string `json:"policy_id"`
}

// AlertHook returns it, or is a not_found error.
func (c *Client) AlertHook(ctx context.Context, accountID string) (AlertHook, error) {
	return get[AlertHook](ctx, c, accountPath(accountID, "logpush", "alerts"))
}

// SetAlertHook replaces it. Secret "" is none.
func (c *Client) SetAlertHook(ctx context.Context, accountID, url, secret string) (AlertHook, error) {
	return send[AlertHook](ctx, c, http.MethodPut, accountPath(accountID, "logpush", "alerts"), map[string]string{"url": url, "secret": secret})
}

// DeleteAlertHook ends the alerts.
func (c *Client) DeleteAlertHook(ctx context.Context, accountID string) error {
	return c.delete(ctx, accountPath(accountID, "logpush", "alerts"))
}
