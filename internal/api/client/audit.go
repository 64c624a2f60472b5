package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// AuditQuery says which changes are meant; empty members leave theirs open.
type AuditQuery struct {
	ID         string
	ActorEmail string
	ActorID    string // of a token
	ActorType  string // user or system
	Action     string // such as deployment.create, or deployment for all of the kind
	Resource   string // such as shop
	Since      time.Time
	Before     time.Time
	Page       int // from 1; pages have 100 entries
}

// AuditEntry is one change.
type AuditEntry struct {
	ID     string    `json:"id"`
	When   time.Time `json:"when"`
	Action struct {
		Type string `json:"type"`
	} `json:"action"`
	Actor struct {
		Type  string `json:"type"`
		ID    string `json:"id"`
		Email string `json:"email"`
	} `json:"actor"`
	Interface string `json:"interface"`
	Resource  struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"resource"`
	Before json.RawMessage `json:"oldValueJson"` // nil: there was nothing
	After  json.RawMessage `json:"newValueJson"`
}

// AuditLog returns a page of what was changed in an account, newest first, and how many
// changes the query means in all. It needs the scope admin.
func (c *Client) AuditLog(ctx context.Context, accountID string, q AuditQuery) (list []AuditEntry, total int, err error) {
	v := url.Values{"per_page": {"100"}, "page": {strconv.Itoa(max(1, q.Page))}}
	for name, text := range map[string]string{
		"id": q.ID, "actor.email": q.ActorEmail, "actor.id": q.ActorID, "actor.type": q.ActorType, "action.type": q.Action, "resource.id": q.Resource,
	} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for name, at := range map[string]time.Time{"since": q.Since, "before": q.Before} {
		if !at.IsZero() {
			v.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	total, err = c.call(ctx, http.MethodGet, withQuery(accountPath(accountID, "audit_logs"), v), nil, &list)
	return list, total, err
}
