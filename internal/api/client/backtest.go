package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// BacktestQuery asks what a policy would have done. Without a policy it is about the one
// that the script follows; zero times leave the choice to the server.
type BacktestQuery struct {
	Policy       *deploy.RollbackPolicy
	Since, Until time.Time
}

func (q BacktestQuery) body() any {
	return struct {
		Policy *deploy.RollbackPolicy `json:"policy,omitempty"`
		Since  time.Time              `json:"since,omitzero"`
		Until  time.Time              `json:"until,omitzero"`
	}{q.Policy, q.Since, q.Until}
}

// Backtest is what a policy would have done.
type Backtest struct {
	deploy.BacktestResult
	Policy deploy.RollbackPolicy `json:"policy"` // without its secrets
}

// BacktestProgress tells how far a backtest is: what is before At is done.
type BacktestProgress struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	At    time.Time `json:"at"`
}

// Backtest replays a policy over past deployments of a script.
func (c *Client) Backtest(ctx context.Context, accountID, script string, q BacktestQuery) (Backtest, error) {
	return send[Backtest](ctx, c, http.MethodPost, policyPath(accountID, script, "backtest"), q.body())
}

// resultLineMax is room for the evidence of ten thousand trials' limits.
const resultLineMax = 64 << 20

// errResult ends a stream whose result has come.
var errResult = errors.New("the result has come")

// FollowBacktest is Backtest, and calls progress as it goes on. It returns the result as
// JSON, too. The client must have no time limit of its own.
func (c *Client) FollowBacktest(ctx context.Context, accountID, script string, q BacktestQuery, progress func(BacktestProgress)) (b Backtest, result json.RawMessage, err error) {
	req, err := c.request(ctx, http.MethodPost, policyPath(accountID, script, "backtest"), q.body())
	if err != nil {
		return b, nil, fmt.Errorf("backtest: %w", err)
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return b, nil, fmt.Errorf("backtest: %w", ctx.Err())
		}
		return b, nil, errs.New(errs.Unavailable, 0, "%v", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		var answer envelope
		if err := json.NewDecoder(io.LimitReader(res.Body, answerBytesMax)).Decode(&answer); err != nil {
			return b, nil, fmt.Errorf("backtest: %w", c.noEnvelope(res, err))
		}
		return b, nil, fmt.Errorf("backtest: %w", answer.failure(res.StatusCode))
	}
	err = readStream(res.Body, resultLineMax, func(name string, data []byte) error {
		switch name {
		case "progress":
			var p BacktestProgress
			err := json.Unmarshal(data, &p)
			if err == nil {
				progress(p)
			}
			return err
		case "result":
			result = data
			if err := json.Unmarshal(data, &b); err != nil {
				return fmt.Errorf("decode the result: %w", err)
			}
			return errResult
		case "error":
			var failure struct {
				Code    int    `json:"code"`
				Message string `json:"message"`
			}
			if err := json.Unmarshal(data, &failure); err != nil {
				return err
			}
			return errs.New(errs.Unavailable, failure.Code, "%s", failure.Message)
		}
		return nil // what later servers have
	})
	if ctx.Err() != nil && !errors.Is(err, errResult) {
		err = ctx.Err()
	}
	if errors.Is(err, errResult) {
		return b, result, nil
	}
	return b, nil, fmt.Errorf("backtest: %w", err)
}

// Evidence returns what the tests of the policy that a script follows say now.
func (c *Client) Evidence(ctx context.Context, accountID, script string) (deploy.LiveEvidence, error) {
	return get[deploy.LiveEvidence](ctx, c, policyPath(accountID, script, "evidence"))
}
