package client

import (
	"context"
	"net/http"

	"tidegate/internal/deploy"
)

// Sampling returns how a script is sampled.
func (c *Client) Sampling(ctx context.Context, accountID, script string) (deploy.Sampling, error) {
	return get[deploy.Sampling](ctx, c, scriptPath(accountID, script, "sampling"))
}

// SaveSampling says how a script is sampled from now on.
func (c *Client) SaveSampling(ctx context.Context, accountID, script string, s deploy.Sampling) error {
	_, err := c.call(ctx, http.MethodPut, scriptPath(accountID, script, "sampling"), s, nil)
	return err
}
