package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"tidegate/internal/logjob"
)

func letterPath(accountID string, job int64, rest ...string) string {
	return jobPath(accountID, job) + join(append([]string{"dead-letters"}, rest...)...)
}

// Resent is what became of a letter that was sent again.
type Resent struct {
	ID    string  `json:"id"`
	State string  `json:"state"`
	Error *string `json:"error"` // why the destination did not take it
}

// ResentAll is what became of several. Left were not tried.
type ResentAll struct {
	Letters []Resent `json:"letters"`
	Left    int      `json:"left"`
}

// DeadLetters returns a page of what a job's destination refused, oldest first. State
// "" is any; total counts all of them.
func (c *Client) DeadLetters(ctx context.Context, accountID string, job int64, state string, page, perPage int) (list []logjob.DeadLetter, total int, err error) {
	total, err = c.call(ctx, http.MethodGet, letterPath(accountID, job)+"?state="+state+
		"&page="+strconv.Itoa(page)+"&per_page="+strconv.Itoa(perPage), nil, &list)
	return list, total, err
}

// DeadLetter returns one letter without its content.
func (c *Client) DeadLetter(ctx context.Context, accountID string, job int64, id string) (logjob.DeadLetter, error) {
	return get[logjob.DeadLetter](ctx, c, letterPath(accountID, job, id))
}

// DeadLetterContent returns what was sent, uncompressed.
func (c *Client) DeadLetterContent(ctx context.Context, accountID string, job int64, id string) ([]byte, error) {
	req, err := c.request(ctx, http.MethodGet, letterPath(accountID, job, id, "content"), nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		var answer envelope // the reason is in it, unless something else answered
		if err := json.NewDecoder(io.LimitReader(res.Body, answerBytesMax)).Decode(&answer); err != nil {
			return nil, c.noEnvelope(res, err)
		}
		return nil, answer.failure(res.StatusCode)
	}
	return io.ReadAll(io.LimitReader(res.Body, answerBytesMax))
}

// ResendDeadLetter sends a letter to the job's destination of now.
func (c *Client) ResendDeadLetter(ctx context.Context, accountID string, job int64, id string) (Resent, error) {
	return send[Resent](ctx, c, http.MethodPost, letterPath(accountID, job, id, "resend"), nil)
}

// ResendDeadLetters sends up to 100 letters that wait, those first that were tried the fewest times.
func (c *Client) ResendDeadLetters(ctx context.Context, accountID string, job int64) (ResentAll, error) {
	return send[ResentAll](ctx, c, http.MethodPost, letterPath(accountID, job, "resend"), nil)
}

// DeleteDeadLetter lets a letter go.
func (c *Client) DeleteDeadLetter(ctx context.Context, accountID string, job int64, id string) error {
	return c.delete(ctx, letterPath(accountID, job, id))
}
