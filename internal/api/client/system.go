package client

import (
	"context"
	"net/http"
	"time"
)

// SystemHealth is how the parts of the platform are, as the control plane knows them.
type SystemHealth struct {
	State    string       `json:"state"` // ok, unknown, degraded or down: that of the worst part
	At       time.Time    `json:"at"`
	Version  string       `json:"version"` // of the process that answered
	Revision *int64       `json:"revision"`
	Parts    []SystemPart `json:"parts"`
}

// SystemPart is one of them.
type SystemPart struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	State    string `json:"state"`
	Sentence string `json:"sentence"`
	Advice   string `json:"advice"` // empty where nothing is to be done
}

// SystemHealth needs the operator's token.
func (c *Client) SystemHealth(ctx context.Context) (SystemHealth, error) {
	return get[SystemHealth](ctx, c, "/system/health")
}

// JobState is how a job does now.
type JobState struct {
	JobID       int64  `json:"job_id"`
	Name        string `json:"name"`
	State       string `json:"state"`
	DeadLetters int64  `json:"dead_letters"`
}

// JobStates returns that of each job of an account.
func (c *Client) JobStates(ctx context.Context, accountID string) (list []JobState, err error) {
	_, err = c.call(ctx, http.MethodGet, accountPath(accountID, "logpush", "health"), nil, &list)
	return list, err
}
