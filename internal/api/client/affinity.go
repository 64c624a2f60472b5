package client

import (
	"context"
	"net/http"

	"tidegate/internal/deploy"
)

// Affinity returns the affinity rules of a script; one without any is not_found.
func (c *Client) Affinity(ctx context.Context, accountID, script string) (deploy.Affinity, error) {
	return get[deploy.Affinity](ctx, c, scriptPath(accountID, script, "affinity"))
}

// SaveAffinity replaces the affinity rules of a script.
func (c *Client) SaveAffinity(ctx context.Context, accountID, script string, a deploy.Affinity) error {
	_, err := c.call(ctx, http.MethodPut, scriptPath(accountID, script, "affinity"), a, nil)
	return err
}

// DeleteAffinity removes the affinity rules of a script, which may have none.
func (c *Client) DeleteAffinity(ctx context.Context, accountID, script string) error {
	return c.delete(ctx, scriptPath(accountID, script, "affinity"))
}
