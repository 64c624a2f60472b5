package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"tidegate/internal/logjob"
)

// JobHealth is how a job does. What is not known is nil.
type JobHealth struct {
	State        string           `json:"state"`
	FailingSince *time.Time       `json:"failing_since"`
	DisabledOn   *time.Time       `json:"disabled_on"`
	ResumedFrom  *time.Time       `json:"resumed_from"` // up to when everything was delivered when it was last switched on
	LagEvents    *int64           `json:"lag_events"`
	LagSeconds   *float64         `json:"lag_seconds"`
	Since        time.Time        `json:"since"`
	Uploads      []StatusUploads  `json:"uploads"`
	Dropped      map[string]int64 `json:"dropped"` // records, by reason
	DeadLetters  int64            `json:"dead_letters"`
	Failures     []JobFailure     `json:"failures"`
}

// StatusUploads are the uploads that ended with a status; 0 is none. A final one is not tried again.
type StatusUploads struct {
	Status int  `json:"status"`
	Final  bool `json:"final"`
	logjob.Uploads
}

// JobFailure is an error and how often it came. Partition nil: it was not of one.
type JobFailure struct {
	Partition *int      `json:"partition"`
	FirstOn   time.Time `json:"first_on"`
	LastOn    time.Time `json:"last_on"`
	Times     int64     `json:"times"`
	Message   string    `json:"message"`
}

// JobHealth returns a job's health, with the uploads since a time.
func (c *Client) JobHealth(ctx context.Context, accountID string, id int64, since time.Time) (JobHealth, error) {
	query := url.Values{"since": {since.UTC().Format(time.RFC3339)}}
	return get[JobHealth](ctx, c, jobPath(accountID, id)+join("health")+"?"+query.Encode())
}

// AlertHook is where an account is told of its jobs' failures.
type AlertHook struct {
	URL       string `json:"url"`
	HasSecret bool   `json:"has_secret"`
	PolicyID  string `json:"policy_id"`
}

// AlertHook returns it, or nil where nobody is told.
func (c *Client) AlertHook(ctx context.Context, accountID string) (*AlertHook, error) {
	return get[*AlertHook](ctx, c, accountPath(accountID, "logpush", "alerts"))
}

// SetAlertHook replaces it. Secret "" is none.
func (c *Client) SetAlertHook(ctx context.Context, accountID, url, secret string) (AlertHook, error) {
	return send[AlertHook](ctx, c, http.MethodPut, accountPath(accountID, "logpush", "alerts"), map[string]string{"url": url, "secret": secret})
}

// DeleteAlertHook ends the alerts.
func (c *Client) DeleteAlertHook(ctx context.Context, accountID string) error {
	return c.delete(ctx, accountPath(accountID, "logpush", "alerts"))
}
