package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Policy is a rollback policy as it is stored, without its secrets.
type Policy struct {
	deploy.RollbackPolicy
	Source     deploy.PolicySource `json:"source"` // whose it is
	Revision   int64               `json:"revision"`
	ModifiedBy string              `json:"modified_by"` // empty if unknown
	ModifiedOn time.Time           `json:"modified_on"`
}

// PolicyRevision is a policy as it was saved once.
type PolicyRevision struct {
	Revision   int64                  `json:"revision"`
	ModifiedBy string                 `json:"modified_by"`
	ModifiedOn time.Time              `json:"modified_on"`
	Policy     *deploy.RollbackPolicy `json:"policy"` // nil: it was deleted
}

// policyPath is that of a script's policy, or for "" of the account's default.
func policyPath(accountID, script string, rest ...string) string {
	rest = append([]string{"rollback-policy"}, rest...)
	if script == "" {
		return accountPath(accountID, append([]string{"workers"}, rest...)...)
	}
	return scriptPath(accountID, script, rest...)
}

// Policy returns the rollback policy that a script follows, its own or the account's
// default. The script "", here and below, stands for that default.
func (c *Client) Policy(ctx context.Context, accountID, script string) (Policy, error) {
	return get[Policy](ctx, c, policyPath(accountID, script))
}

// SavePolicy replaces the rollback policy of a script. What is masked in p is kept. Unless
// ifRevision is nil, it is a precondition error when another revision would be replaced: 0
// is a script without a policy of its own.
func (c *Client) SavePolicy(ctx context.Context, accountID, script string, p deploy.RollbackPolicy, ifRevision *int64) (Policy, error) {
	var saved Policy
	path := policyPath(accountID, script)
	req, err := c.request(ctx, http.MethodPut, path, p)
	if err != nil {
		return saved, fmt.Errorf("PUT %s: %w", path, err)
	}
	if ifRevision != nil {
		req.Header.Set("If-Match", fmt.Sprintf(`"%d"`, *ifRevision))
	}
	_, err = c.do(req, path, &saved)
	return saved, err
}

// DeletePolicy removes the rollback policy of a script.
func (c *Client) DeletePolicy(ctx context.Context, accountID, script string) error {
	return c.delete(ctx, policyPath(accountID, script))
}

// PolicyRevisions returns what is kept of a script's policies, newest first.
func (c *Client) PolicyRevisions(ctx context.Context, accountID, script string) ([]PolicyRevision, error) {
	return get[[]PolicyRevision](ctx, c, policyPath(accountID, script, "revisions"))
}

// Decisions returns the newest rollback decisions, newest first. Their evidence has no
// series.
func (c *Client) Decisions(ctx context.Context, accountID, script string) ([]deploy.RollbackDecision, error) {
	return get[[]deploy.RollbackDecision](ctx, c, scriptPath(accountID, script, "rollback-decisions"))
}

// Decision is a rollback decision with all of its evidence, and paths of the API that
// show what it was about.
type Decision struct {
	deploy.RollbackDecision
	Links struct {
		Exceptions string `json:"exceptions"`
		Events     string `json:"events"`
		Metrics    string `json:"metrics"`
	} `json:"links"`
}

// Decision returns one rollback decision about a script.
func (c *Client) Decision(ctx context.Context, accountID, script, id string) (Decision, error) {
	return get[Decision](ctx, c, scriptPath(accountID, script, "rollback-decisions", id))
}

// Ramp returns the newest ramp of a script.
func (c *Client) Ramp(ctx context.Context, accountID, script string) (deploy.Ramp, error) {
	return get[deploy.Ramp](ctx, c, policyPath(accountID, script, "ramp"))
}

// ControlRamp pauses, resumes or aborts a ramp, or skips a step of it: deploy.Ramp.Control. It is
// a conflict when ifDeployment is not empty and the ramp is not at that deployment's step.
func (c *Client) ControlRamp(ctx context.Context, accountID, script, action, ifDeployment string) (deploy.Ramp, error) {
	body := struct {
		Action       string `json:"action"`
		DeploymentID string `json:"deployment_id,omitempty"`
	}{action, ifDeployment}
	return send[deploy.Ramp](ctx, c, http.MethodPost, policyPath(accountID, script, "ramp"), body)
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
