package client

import (
	"context"
	"net/http"
	"strconv"

	"tidegate/internal/logjob"
)

func jobPath(accountID string, id int64) string {
	return accountPath(accountID, "logpush", "jobs", strconv.FormatInt(id, 10))
}

// AccountJobs returns the Logpush jobs of an account.
func (c *Client) AccountJobs(ctx context.Context, accountID string) ([]logjob.Job, error) {
	list, err := get[[]logjob.Job](ctx, c, accountPath(accountID, "logpush", "jobs"))
	for i := range list {
		list[i].AccountID = accountID
	}
	return list, err
}

// Job returns one job.
func (c *Client) Job(ctx context.Context, accountID string, id int64) (logjob.Job, error) {
	j, err := get[logjob.Job](ctx, c, jobPath(accountID, id))
	j.AccountID = accountID
	return j, err
}

// CreateJob makes a job with the members of u that are not nil.
func (c *Client) CreateJob(ctx context.Context, accountID string, u logjob.Update) (logjob.Job, error) {
	j, err := send[logjob.Job](ctx, c, http.MethodPost, accountPath(accountID, "logpush", "jobs"), u)
	j.AccountID = accountID
	return j, err
}

// UpdateJob changes the members of u that are not nil.
func (c *Client) UpdateJob(ctx context.Context, accountID string, id int64, u logjob.Update) (logjob.Job, error) {
	j, err := send[logjob.Job](ctx, c, http.MethodPut, jobPath(accountID, id), u)
	j.AccountID = accountID
	return j, err
}

// DeleteJob removes a job.
func (c *Client) DeleteJob(ctx context.Context, accountID string, id int64) error {
	return c.delete(ctx, jobPath(accountID, id))
}

// Fields returns the fields of a dataset by name, with descriptions.
func (c *Client) Fields(ctx context.Context, accountID, dataset string) (map[string]string, error) {
	return get[map[string]string](ctx, c, accountPath(accountID, "logpush", "datasets", dataset, "fields"))
}

// DestinationCheck is the answer to a test upload.
type DestinationCheck struct {
	Valid   bool   `json:"valid"`
	Message string `json:"message"` // why not
}

// ValidateDestination tries a test upload.
func (c *Client) ValidateDestination(ctx context.Context, accountID, conf string) (DestinationCheck, error) {
	return send[DestinationCheck](ctx, c, http.MethodPost, accountPath(accountID, "logpush", "validate", "destination"),
		map[string]string{"destination_conf": conf})
}
