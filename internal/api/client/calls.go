package client

import (
	"context"
	"strconv"
	"time"
)

// CallQuery asks for calls between Workers; empty members leave theirs open.
type CallQuery struct {
	Range
	Caller, Callee string // scripts
	Limit          int    // 0 is the server's own
}

// Calls are calls between Workers, by pairs of versions, most requests first.
type Calls struct {
	Since      time.Time  `json:"since"`
	Until      time.Time  `json:"until"`
	TotalPairs int        `json:"total_pairs"` // beyond the limit, too
	Pairs      []CallPair `json:"pairs"`
}

// CallPair is what one version was called by another.
type CallPair struct {
	Caller      *CalledVersion `json:"caller"` // nil for calls by RPC, whose caller nobody knows
	Callee      CalledVersion  `json:"callee"`
	Requests    int64          `json:"requests"`
	Failures    int64          `json:"failures"`
	FailureRate *float64       `json:"failure_rate"`
	LastSeen    time.Time      `json:"last_seen"`
}

// CalledVersion is one side of a call.
type CalledVersion struct {
	Script    string `json:"script"`
	VersionID string `json:"version_id"`
	Tag       string `json:"tag"`
}

// Calls returns what Workers of an account called each other.
func (c *Client) Calls(ctx context.Context, accountID string, q CallQuery) (Calls, error) {
	v := q.Range.values()
	for name, text := range map[string]string{"caller": q.Caller, "callee": q.Callee} {
		if text != "" {
			v.Set(name, text)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return get[Calls](ctx, c, withQuery(accountPath(accountID, "workers", "calls"), v))
}
