package api

import (
	"context"
	"math"
	"strconv"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
)

// Bounds of a query: the most that a chart can show and the rollups answer at once.
const (
	metricsRangeDefault = time.Hour
	metricsRangeMax     = 31 * 24 * time.Hour
	metricsPointsMax    = 1000 // per version
	metricsPointsWanted = 300  // what the default step aims at
)

// metricsSteps are the steps that the default is chosen from.
var metricsSteps = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute,
	15 * time.Minute, time.Hour, 3 * time.Hour, 24 * time.Hour,
}

type metricsView struct {
	Since       timestamp      `json:"since"`
	Until       timestamp      `json:"until"`
	StepSeconds int64          `json:"step_seconds"`
	Versions    []versionRates `json:"versions"`
	Series      []seriesPoint  `json:"series"`
}

type versionRates struct {
	VersionID string `json:"version_id"`
	Tag       string `json:"tag,omitempty"`
	ratesView
}

type seriesPoint struct {
	Time      timestamp `json:"time"`
	VersionID string    `json:"version_id"`
	ratesView
}

// ratesView leaves out what is not known.
type ratesView struct {
	Requests         int64             `json:"requests"`
	Failures         int64             `json:"failures"`
	FailureRate      *float64          `json:"failure_rate,omitempty"`
	Assigned         int64             `json:"assigned"`
	AssignedFailures int64             `json:"assigned_failures"`
	Exceptions       int64             `json:"exceptions"`
	Status           statusView        `json:"status"`
	WallMs           *schema.Quantiles `json:"wall_ms,omitempty"`
	CPUMs            *schema.Quantiles `json:"cpu_ms,omitempty"`
}

type statusView struct {
	Class2xx int64 `json:"2xx"`
	Class3xx int64 `json:"3xx"`
	Class4xx int64 `json:"4xx"`
	Class5xx int64 `json:"5xx"`
	None     int64 `json:"none"`
}

func viewRates(v schema.VersionRate) ratesView {
	view := ratesView{
		Requests: v.Requests, Failures: v.Failures, Assigned: v.Assigned, AssignedFailures: v.AssignedFailures,
		Exceptions: v.Exceptions,
		Status:     statusView{v.Status2xx, v.Status3xx, v.Status4xx, v.Status5xx, v.NoStatus},
	}
	if v.Requests > 0 {
		rate := float64(v.Failures) / float64(v.Requests)
		view.FailureRate = &rate
	}
	view.WallMs, view.CPUMs = known(v.WallMs), known(v.CPUMs)
	return view
}

// known returns nil for quantiles of nothing, which are not numbers.
func known(q *schema.Quantiles) *schema.Quantiles {
	if q == nil || math.IsNaN(q.P50) || math.IsNaN(q.P90) || math.IsNaN(q.P99) {
		return nil
	}
	return q
}

func (s *Server) getMetrics(r *request) (any, error) {
	since, until, step, err := s.metricsRange(r)
	if err != nil {
		return nil, err
	}
	script := r.script()
	if _, err := s.deps.Scripts.Script(r.ctx, r.account, script); err != nil {
		return nil, err
	}
	totals, err := s.deps.Metrics.VersionTotals(r.ctx, r.account, script, since, until)
	if err != nil {
		return nil, err
	}
	series, err := s.deps.Metrics.VersionSeries(r.ctx, r.account, script, since, until, step)
	if err != nil {
		return nil, err
	}
	view := metricsView{
		Since: timestamp(since), Until: timestamp(until), StepSeconds: int64(step / time.Second),
		Versions: make([]versionRates, len(totals)),
		Series: views(series, func(v schema.VersionRate) seriesPoint {
			return seriesPoint{timestamp(v.Time), v.VersionID, viewRates(v)}
		}),
	}
	for i, v := range totals {
		tag, err := s.tagOf(r.ctx, r.account, script, v.VersionID)
		if err != nil {
			return nil, err
		}
		view.Versions[i] = versionRates{v.VersionID, tag, viewRates(v)}
	}
	return view, nil
}

// tagOf returns "" for a version of an earlier script of the same name.
func (s *Server) tagOf(ctx context.Context, account, script, id string) (string, error) {
	v, err := s.deps.Scripts.Version(ctx, account, script, id)
	if errs.KindOf(err) == errs.NotFound {
		return "", nil
	}
	return v.Annotations.Tag, err
}

// metricsRange reads since, until and step. Without them it is the last hour in
// about 300 points.
func (s *Server) metricsRange(r *request) (since, until time.Time, step time.Duration, err error) {
	if until, err = r.timeQuery("until", s.now().UTC()); err != nil {
		return since, until, step, err
	}
	if since, err = r.timeQuery("since", until.Add(-metricsRangeDefault)); err != nil {
		return since, until, step, err
	}
	length := until.Sub(since)
	switch {
	case length <= 0:
		return since, until, step, errs.New(errs.Invalid, 0, "since %s is not before until %s", since.Format(time.RFC3339), until.Format(time.RFC3339))
	case length > metricsRangeMax:
		return since, until, step, errs.New(errs.Invalid, 0, "since %s is more than %d days before until %s",
			since.Format(time.RFC3339), int(metricsRangeMax.Hours()/24), until.Format(time.RFC3339))
	}
	text := r.gin.Query("step")
	if text == "" {
		for _, step = range metricsSteps {
			if length/step <= metricsPointsWanted {
				break
			}
		}
		return since, until, step, nil
	}
	if step, err = parseStep(text); err != nil {
		return since, until, step, err
	}
	if length/step > metricsPointsMax {
		return since, until, step, errs.New(errs.Invalid, 0, "step %s gives more than %d points between since and until: ask for a longer step or a shorter time", step, metricsPointsMax)
	}
	return since, until, step, nil
}

// parseStep reads whole seconds: 300, 300s or 5m.
func parseStep(text string) (time.Duration, error) {
	withUnit := text
	if _, err := strconv.ParseUint(text, 10, 64); err == nil {
		withUnit += "s"
	}
	step, err := time.ParseDuration(withUnit)
	if err != nil || step < time.Second || step%time.Second != 0 {
		return 0, errs.New(errs.Invalid, 0, "step is %q: it must be whole seconds such as 300, or a time such as 10s, 5m or 1h", shown(text))
	}
	return step, nil
}

func (r *request) timeQuery(name string, fallback time.Time) (time.Time, error) {
	text := r.gin.Query(name)
	if text == "" {
		return fallback, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, errs.New(errs.Invalid, 0, "%s is %q: it must be a time such as 2026-01-31T12:00:00Z", name, shown(text))
	}
	return t.UTC(), nil
}
