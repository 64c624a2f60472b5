package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/api/client"
	"tidegate/schema"
)

func questions(t *testing.T, p *platform) {
	versions, _, err := p.Versions(t.Context(), account, "shop", 1, 2)
	if err != nil || len(versions) < 2 {
		t.Fatalf("%+v, %v", versions, err)
	}
	candidate, baseline := versions[0].ID, versions[1].ID
	o, err := p.Overview(t.Context(), account, client.Range{}, 0)
	if err != nil || o.TotalScripts != 7 || len(o.Scripts) != 1 || o.Scripts[0].Script != "shop" || *o.Scripts[0].FailureRate != 0.015 || o.StepSeconds != 60 {
		t.Errorf("%+v, %v", o, err)
	}
	path := "/workers/scripts/shop/metrics/compare?baseline=" + baseline + "&candidate=" + candidate
	a := p.call(t, http.MethodGet, path, "")
	a.ok(t, `"failures":0`, `"caution"`)
	for _, absent := range []string{`"difference":{`, `"ratio":{`, `"interval":`, `"failure_rate":`, `"wall_ms":`} {
		if strings.Contains(a.text, absent) {
			t.Errorf("without requests there is %s in %s", absent, a.text)
		}
	}
	p.metrics.totals = []schema.VersionRate{
		{VersionID: baseline, Requests: 100, Failures: 50, Assigned: 80, AssignedFailures: 48},
		{VersionID: candidate, Requests: 70, Failures: 56, Assigned: 70, AssignedFailures: 56, WallMs: &schema.Quantiles{P50: 1, P90: 2, P99: 3}},
	}
	defer func() { p.metrics.totals = nil }()
	c, err := p.Compare(t.Context(), account, "shop", client.ComparisonQuery{Baseline: baseline, Candidate: candidate})
	if err != nil || c.Difference == nil || c.Ratio == nil || c.Candidate.WallMs == nil || c.Baseline.WallMs != nil || c.Baseline.Requests != 80 {
		t.Fatalf("%+v, %v", c, err)
	}
	// Newcombe's first example, of the requests whose version was drawn.
	if d := c.Difference; !near(d.Estimate, 0.2) || !near(*d.Low, 0.0524) || !near(*d.High, 0.3339) {
		t.Errorf("the difference is %+v from %g to %g", d, *d.Low, *d.High)
	}
	var wide struct {
		Count      string
		Difference struct{ Estimate float64 }
	}
	a = p.call(t, http.MethodGet, path+"&count=all&confidence=0.9", "")
	if a.ok(t); json.Unmarshal(a.Result, &wide) != nil || wide.Count != "all" || !near(wide.Difference.Estimate, 0.3) {
		t.Errorf("of all requests: %s", a.text)
	}
	for query, want := range map[string]string{
		"?candidate=" + candidate:                                "baseline is missing",
		"?baseline=" + candidate + "&candidate=" + candidate:     "name two versions",
		"?baseline=%00&candidate=" + candidate:                   "not the id of a version", // PostgreSQL would fail
		"?baseline=x&candidate=" + candidate + "&confidence=1":   "confidence is",
		"?baseline=x&candidate=" + candidate + "&confidence=NaN": "confidence is",
		"?baseline=x&candidate=" + candidate + "&count=drawn":    "count is",
		"?since=2026-01-01T00:00:00Z&until=2025-01-01T00:00:00Z": "not before",
	} {
		p.call(t, http.MethodGet, "/workers/scripts/shop/metrics/compare"+query, "").want(t, http.StatusBadRequest, 10001, want)
	}
	p.call(t, http.MethodGet, "/workers/scripts/shop/metrics/compare?baseline="+baseline+"&candidate=11111111-1111-4111-8111-111111111111", "").
		want(t, http.StatusNotFound, 10007)
	p.call(t, http.MethodGet, "/workers/metrics?limit=0", "").want(t, http.StatusBadRequest, 10001, "limit")
	p.call(t, http.MethodGet, "/workers/metrics?step=1s&since="+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "").want(t, http.StatusBadRequest, 10001, "1000 points")
}

// The overview says of which time its series is made, and counts steps as they do: from 1970. It
// counted them from the year 1, which differs where a step divides no whole number of days.
func TestOverviewIsMadeOfTheStepsOfItsSeries(t *testing.T) {
	p := newPlatform(t)
	since := time.Date(2026, 1, 1, 0, 0, 0, 500_000_000, time.UTC)
	for step, length := range map[time.Duration]time.Duration{7 * time.Second: time.Hour, time.Minute: time.Hour, 25 * time.Hour: 30 * 24 * time.Hour, 168 * time.Hour: 30 * 24 * time.Hour} {
		until := since.Add(length)
		got, err := p.Overview(t.Context(), account, client.Range{Since: since, Until: until, Step: step}, 10)
		if err != nil {
			t.Fatal(err)
		}
		seconds := int64(step / time.Second)
		if got.Since.Unix()%seconds != 0 || got.Until.Unix()%seconds != 0 || got.Since.After(since) || got.Until.Before(until) ||
			since.Sub(got.Since) >= step || got.Until.Sub(until) >= step {
			t.Errorf("steps of %s from %s to %s are said to be those from %s to %s", step, since, until, got.Since, got.Until)
		}
	}
}

func near(got, want float64) bool { return got > want-5e-5 && got < want+5e-5 }
