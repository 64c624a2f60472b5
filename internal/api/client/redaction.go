package client

import (
	"context"
	"net/http"
	"net/url"

	"tidegate/internal/deploy"
)

// redactionPath is that of a script's rules, or of the account's for "".
func redactionPath(accountID, script string) string {
	if script == "" {
		return "/accounts/" + url.PathEscape(accountID) + "/redaction"
	}
	return scriptPath(accountID, script, "redaction")
}

// Redaction returns the redaction rules of a script, or for "" those of the account for
// all of its scripts; not_found where there are none.
func (c *Client) Redaction(ctx context.Context, accountID, script string) (deploy.Redaction, error) {
	return get[deploy.Redaction](ctx, c, redactionPath(accountID, script))
}

// SaveRedaction replaces them.
func (c *Client) SaveRedaction(ctx context.Context, accountID, script string, rules deploy.Redaction) error {
	_, err := c.call(ctx, http.MethodPut, redactionPath(accountID, script), rules, nil)
	return err
}

// DeleteRedaction removes them; there may be none.
func (c *Client) DeleteRedaction(ctx context.Context, accountID, script string) error {
	return c.delete(ctx, redactionPath(accountID, script))
}
