package client

import (
	"context"
	"net/http"
	"time"

	"tidegate/schema"
)

// Deletion is a deletion as the API shows it.
type Deletion struct {
	ID          string                 `json:"id"`
	Script      string                 `json:"script"` // empty: every script
	AllScripts  bool                   `json:"all_scripts"`
	Before      time.Time              `json:"before"`
	State       string                 `json:"state"`
	RequestedBy string                 `json:"requested_by"`
	CreatedOn   time.Time              `json:"created_on"`
	StartedOn   *time.Time             `json:"started_on"`
	EndedOn     *time.Time             `json:"ended_on"`
	CheckedOn   *time.Time             `json:"checked_on"`
	Places      []schema.DeletionPlace `json:"places"`
	Error       string                 `json:"error"`
}

// DeletionRequest says what to delete: one script or all, up to a time, or to now.
type DeletionRequest struct {
	Script     string     `json:"script,omitempty"`
	AllScripts bool       `json:"all_scripts,omitempty"`
	Before     *time.Time `json:"before,omitempty"`
}

// CreateDeletion asks for a deletion, which is done in the background.
func (c *Client) CreateDeletion(ctx context.Context, accountID string, q DeletionRequest) (Deletion, error) {
	return send[Deletion](ctx, c, http.MethodPost, accountPath(accountID, "deletions"), q)
}

// Deletion returns one deletion with its progress.
func (c *Client) Deletion(ctx context.Context, accountID, id string) (Deletion, error) {
	return get[Deletion](ctx, c, accountPath(accountID, "deletions", id))
}

// Deletions returns a page of the account's deletions, newest first, and how many there
// are in all.
func (c *Client) Deletions(ctx context.Context, accountID string, page int) (list []Deletion, total int, err error) {
	total, err = c.call(ctx, http.MethodGet, accountPath(accountID, "deletions")+pageQuery(page), nil, &list)
	return list, total, err
}
