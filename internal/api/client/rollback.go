package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Policy returns the rollback policy of a script with its defaults.
func (c *Client) Policy(ctx context.Context, accountID, script string) (deploy.RollbackPolicy, error) {
	return get[deploy.RollbackPolicy](ctx, c, scriptPath(accountID, script, "rollback-policy"))
}

// SavePolicy replaces the rollback policy of a script.
func (c *Client) SavePolicy(ctx context.Context, accountID, script string, p deploy.RollbackPolicy) error {
	_, err := c.call(ctx, http.MethodPut, scriptPath(accountID, script, "rollback-policy"), p, nil)
	return err
}

// DeletePolicy removes the rollback policy of a script.
func (c *Client) DeletePolicy(ctx context.Context, accountID, script string) error {
	return c.delete(ctx, scriptPath(accountID, script, "rollback-policy"))
}

// Decisions returns the newest rollback decisions, newest first.
func (c *Client) Decisions(ctx context.Context, accountID, script string) ([]deploy.RollbackDecision, error) {
	return get[[]deploy.RollbackDecision](ctx, c, scriptPath(accountID, script, "rollback-decisions"))
}

// Ramp returns the newest ramp of a script.
func (c *Client) Ramp(ctx context.Context, accountID, script string) (deploy.Ramp, error) {
	return get[deploy.Ramp](ctx, c, scriptPath(accountID, script, "rollback-policy", "ramp"))
}

// ControlRamp pauses, resumes or aborts a ramp.
func (c *Client) ControlRamp(ctx context.Context, accountID, script, action string) (deploy.Ramp, error) {
	return send[deploy.Ramp](ctx, c, http.MethodPost, scriptPath(accountID, script, "rollback-policy", "ramp"), map[string]string{"action": action})
}

// Notification is a message about a decision, and what became of it.
type Notification struct {
	ID         string                   `json:"id"`
	Type       deploy.NotifyOn          `json:"type"`
	DecisionID string                   `json:"decision_id"`
	Sentence   string                   `json:"sentence"`
	Target     NotificationTarget       `json:"target"`
	State      deploy.NotificationState `json:"state"`
	Attempts   int                      `json:"attempts"`
	CreatedOn  time.Time                `json:"created_on"`
	TriedOn    *time.Time               `json:"tried_on"`    // nil: not yet
	NextTryOn  *time.Time               `json:"next_try_on"` // nil: it does not wait
	EndedOn    *time.Time               `json:"ended_on"`    // nil: no alert, or one that lasts
	LastError  *string                  `json:"last_error"`  // nil: none
}

// NotificationTarget names a target, without its secrets.
type NotificationTarget struct {
	Type deploy.NotifyType `json:"type"`
	Name string            `json:"name"`
}

// Notifications returns the newest messages about a script, newest first.
func (c *Client) Notifications(ctx context.Context, accountID, script string) ([]Notification, error) {
	return get[[]Notification](ctx, c, scriptPath(accountID, script, "rollback-notifications"))
}

// TestNotify sends a test message to each target of the script's policy, and returns
// what came of it.
func (c *Client) TestNotify(ctx context.Context, accountID, script string) ([]deploy.NotifyResult, error) {
	return send[[]deploy.NotifyResult](ctx, c, http.MethodPost, scriptPath(accountID, script, "rollback-policy", "notify-test"), nil)
}

// Metrics is what the versions of a script did in a range of time.
type Metrics struct {
	Since       time.Time `json:"since"`
	Until       time.Time `json:"until"`
	StepSeconds int64     `json:"step_seconds"`
	Versions    []Rates   `json:"versions"` // one a version
	Series      []Rates   `json:"series"`   // one a version and step with requests
}

// Rates are the counts of one version. Nil is unknown.
type Rates struct {
	VersionID        string            `json:"version_id"`
	Tag              string            `json:"tag"`  // in Versions
	Time             time.Time         `json:"time"` // in Series: start of the step
	Requests         int64             `json:"requests"`
	Failures         int64             `json:"failures"`
	FailureRate      *float64          `json:"failure_rate"`
	Assigned         int64             `json:"assigned"`
	AssignedFailures int64             `json:"assigned_failures"`
	Exceptions       int64             `json:"exceptions"`
	Status           map[string]int64  `json:"status"` // by class: "2xx" ..., "none"
	WallMs           *schema.Quantiles `json:"wall_ms"`
	CPUMs            *schema.Quantiles `json:"cpu_ms"`
}

// Metrics returns the rates from since until until; zero times and a zero step
// leave the choice to the server.
func (c *Client) Metrics(ctx context.Context, accountID, script string, since, until time.Time, step time.Duration) (Metrics, error) {
	query := url.Values{}
	if !since.IsZero() {
		query.Set("since", since.Format(time.RFC3339Nano))
	}
	if !until.IsZero() {
		query.Set("until", until.Format(time.RFC3339Nano))
	}
	if step > 0 {
		query.Set("step", step.String())
	}
	return get[Metrics](ctx, c, scriptPath(accountID, script, "metrics")+"?"+query.Encode())
}
