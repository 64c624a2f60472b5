package client

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"tidegate/schema"
)

// Range of a question; zero times and a zero step leave the choice to the server.
type Range struct {
	Since, Until time.Time
	Step         time.Duration
}

func (r Range) values() url.Values {
	v := url.Values{}
	if !r.Since.IsZero() {
		v.Set("since", r.Since.UTC().Format(time.RFC3339Nano))
	}
	if !r.Until.IsZero() {
		v.Set("until", r.Until.UTC().Format(time.RFC3339Nano))
	}
	if r.Step > 0 {
		v.Set("step", strconv.FormatInt(int64(r.Step/time.Second), 10))
	}
	return v
}

func withQuery(path string, v url.Values) string {
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

// Overview is what all scripts of an account did.
type Overview struct {
	Since        time.Time `json:"since"`
	Until        time.Time `json:"until"`
	StepSeconds  int64     `json:"step_seconds"`
	TotalScripts int       `json:"total_scripts"`
	Scripts      []struct {
		Script      string   `json:"script"`
		Requests    int64    `json:"requests"`
		Failures    int64    `json:"failures"`
		FailureRate *float64 `json:"failure_rate"`
	} `json:"scripts"`
}

// Overview has the busiest scripts first, no more than limit; 0 is the server's own limit.
func (c *Client) Overview(ctx context.Context, accountID string, r Range, limit int) (Overview, error) {
	v := r.values()
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return get[Overview](ctx, c, withQuery(accountPath(accountID, "workers", "metrics"), v))
}

// Comparison of two versions' failure rates.
type Comparison struct {
	Since      time.Time     `json:"since"`
	Until      time.Time     `json:"until"`
	Count      string        `json:"count"` // "assigned" or "all" requests
	Confidence float64       `json:"confidence"`
	Baseline   ComparedRates `json:"baseline"`
	Candidate  ComparedRates `json:"candidate"`
	Difference *Interval     `json:"difference"` // nil without requests of both
	Ratio      *Interval     `json:"ratio"`      // nil where the baseline never failed, too
}

// ComparedRates are of one of the two.
type ComparedRates struct {
	VersionID   string            `json:"version_id"`
	Tag         string            `json:"tag"`
	Requests    int64             `json:"requests"`
	Failures    int64             `json:"failures"`
	FailureRate *float64          `json:"failure_rate"`
	Interval    *Interval         `json:"interval"`
	WallMs      *schema.Quantiles `json:"wall_ms"`
	CPUMs       *schema.Quantiles `json:"cpu_ms"`
}

// Interval is an estimate with its bounds; one that does not exist is nil.
type Interval struct {
	Estimate float64  `json:"estimate"`
	Low      *float64 `json:"low"`
	High     *float64 `json:"high"`
}

// ComparisonQuery names two versions by their ids. Where Count is empty, the requests whose
// version was drawn are compared, and with "all" every one; Confidence 0 is 0.95.
type ComparisonQuery struct {
	Range
	Baseline, Candidate string
	Count               string
	Confidence          float64
}

// Compare holds the failure rates of two versions against each other.
func (c *Client) Compare(ctx context.Context, accountID, script string, q ComparisonQuery) (Comparison, error) {
	v := q.Range.values()
	v.Set("baseline", q.Baseline)
	v.Set("candidate", q.Candidate)
	if q.Count != "" {
		v.Set("count", q.Count)
	}
	if q.Confidence != 0 {
		v.Set("confidence", strconv.FormatFloat(q.Confidence, 'g', -1, 64))
	}
	return get[Comparison](ctx, c, withQuery(scriptPath(accountID, script, "metrics", "compare"), v))
}
