package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// Bundle returns what a router needs to run a Workers version, with the text of
// its secrets. It needs the operator's token or a router's.
func (c *Client) Bundle(ctx context.Context, accountID, versionID string) (deploy.Bundle, error) {
	return get[deploy.Bundle](ctx, c, accountPath(accountID, "routing", "versions", versionID))
}

// Module returns the content of a module by its SHA-256 in hex; whether it has
// that hash is the caller's to check. It needs the operator's token or a router's.
func (c *Client) Module(ctx context.Context, accountID, sha256 string) ([]byte, error) {
	path := accountPath(accountID, "routing", "modules", sha256)
	what := "GET " + path
	req, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", what, ctx.Err())
		}
		return nil, errs.New(errs.Unavailable, 0, "%v", err)
	}
	defer func() { _ = res.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(res.Body, answerBytesMax))
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", what, ctx.Err())
		}
		return nil, errs.New(errs.Unavailable, 0, "%s: the answer ended too early: %v", what, err)
	}
	if res.StatusCode == http.StatusOK {
		return content, nil
	}
	var answer envelope
	if err := json.Unmarshal(content, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", what, c.noEnvelope(res, err))
	}
	return nil, fmt.Errorf("%s: %w", what, answer.failure(res.StatusCode))
}
