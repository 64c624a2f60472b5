package client

import (
	"context"
	"net/http"
	"time"
)

// SessionLink is an address that signs a browser in to the dashboard, once.
type SessionLink struct {
	URL       string    `json:"url"`
	ExpiresOn time.Time `json:"expires_on"`
}

// CreateSessionLink makes a link whose session can do what the client's token can.
func (c *Client) CreateSessionLink(ctx context.Context) (SessionLink, error) {
	const path = "/session/links"
	var link SessionLink
	req, err := c.requestTo(ctx, http.MethodPost, c.root+path, nil)
	if err != nil {
		return link, err
	}
	_, err = c.do(req, path, &link)
	return link, err
}
