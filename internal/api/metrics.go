package api

import (
	"cmp"
	"math"
	"strconv"
	"sync"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
)

// Bounds of a question: the most that a chart can show and the rollups answer at once.
const (
	metricsRangeDefault = time.Hour
	metricsRangeMax     = 31 * 24 * time.Hour
	metricsPointsMax    = 1000 // per version
	metricsPointsWanted = 300  // what the default step aims at
	overviewPoints      = 60   // of a script
	overviewScriptsMax  = 1000
)

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
	Outcomes         map[string]int64  `json:"outcomes,omitempty"`
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
		Exceptions: v.Exceptions, Outcomes: v.Outcomes,
		Status: statusView{v.Status2xx, v.Status3xx, v.Status4xx, v.Status5xx, v.NoStatus},
	}
	view.FailureRate = share(v.Failures, v.Requests)
	view.WallMs, view.CPUMs = known(v.WallMs), known(v.CPUMs)
	return view
}

// share returns nil for a share of nothing.
func share(part, whole int64) *float64 {
	if whole == 0 {
		return nil
	}
	rate := float64(part) / float64(whole)
	return &rate
}

// known returns nil for quantiles of nothing, which are not numbers.
func known(q *schema.Quantiles) *schema.Quantiles {
	if q == nil || math.IsNaN(q.P50) || math.IsNaN(q.P90) || math.IsNaN(q.P99) {
		return nil
	}
	return q
}

func (s *Server) getMetrics(r *request) (any, error) {
	since, until, step, err := s.metricsRange(r, metricsPointsWanted)
	if err != nil {
		return nil, err
	}
	script := r.script()
	if _, err := s.deps.Scripts.Script(r.ctx, r.account, script); err != nil {
		return nil, err
	}
	var totals, series []schema.VersionRate
	var totalsErr, seriesErr error
	var both sync.WaitGroup
	both.Go(func() { totals, totalsErr = s.deps.Metrics.VersionTotals(r.ctx, r.account, script, since, until) })
	both.Go(func() { series, seriesErr = s.deps.Metrics.VersionSeries(r.ctx, r.account, script, since, until, step) })
	both.Wait()
	if err := cmp.Or(totalsErr, seriesErr); err != nil {
		return nil, err
	}
	view := metricsView{
		Since: timestamp(since), Until: timestamp(until), StepSeconds: int64(step / time.Second),
		Versions: make([]versionRates, len(totals)),
		Series: views(series, func(v schema.VersionRate) seriesPoint {
			return seriesPoint{timestamp(v.Time), v.VersionID, viewRates(v)}
		}),
	}
	ids := views(totals, func(v schema.VersionRate) string { return v.VersionID })
	tags, err := s.deps.Scripts.VersionTags(r.ctx, r.account, ids) // a version of an earlier script of the same name has none
	if err != nil {
		return nil, err
	}
	for i, v := range totals {
		view.Versions[i] = versionRates{v.VersionID, tags[v.VersionID], viewRates(v)}
	}
	return view, nil
}

type overviewView struct {
	Since        timestamp     `json:"since"`
	Until        timestamp     `json:"until"`
	StepSeconds  int64         `json:"step_seconds"`
	TotalScripts int           `json:"total_scripts"`
	Scripts      []scriptRates `json:"scripts"`
}

type scriptRates struct {
	Script      string      `json:"script"`
	Requests    int64       `json:"requests"`
	Failures    int64       `json:"failures"`
	FailureRate *float64    `json:"failure_rate,omitempty"`
	Series      []ratePoint `json:"series"`
}

type ratePoint struct {
	Time     timestamp `json:"time"`
	Requests int64     `json:"requests"`
	Failures int64     `json:"failures"`
}

// getOverview tells what all scripts of the account did, the busiest ones first. It is
// made of whole steps, so that the sums are those of the series.
func (s *Server) getOverview(r *request) (any, error) {
	since, until, step, err := s.metricsRange(r, overviewPoints)
	if err != nil {
		return nil, err
	}
	limit, err := r.intQuery("limit", 100, 1, overviewScriptsMax)
	if err != nil {
		return nil, err
	}
	since, until = wholeSteps(since, until, step)
	list, total, err := s.deps.Metrics.ScriptRates(r.ctx, r.account, since, until, step, int(limit))
	if err != nil {
		return nil, err
	}
	return overviewView{timestamp(since), timestamp(until), int64(step / time.Second), total, views(list, func(one schema.ScriptRate) scriptRates {
		return scriptRates{one.ScriptName, one.Requests, one.Failures, share(one.Failures, one.Requests),
			views(one.Series, func(p schema.RatePoint) ratePoint { return ratePoint{timestamp(p.Time), p.Requests, p.Failures} })}
	})}, nil
}

// wholeSteps widens a time to steps, of whole seconds. They are counted from 1970, as those of a
// series; time.Truncate would count them from the year 1.
func wholeSteps(since, until time.Time, step time.Duration) (from, to time.Time) {
	seconds := int64(step / time.Second)
	first, last := since.Unix()/seconds*seconds, (until.Add(time.Second-1).Unix()+seconds-1)/seconds*seconds
	return time.Unix(first, 0).UTC(), time.Unix(last, 0).UTC()
}

// timeRange reads since and until. Without them it is the last hour.
func (s *Server) timeRange(r *request) (since, until time.Time, err error) {
	if until, err = r.timeQuery("until", s.now().UTC()); err != nil {
		return since, until, err
	}
	if since, err = r.timeQuery("since", until.Add(-metricsRangeDefault)); err != nil {
		return since, until, err
	}
	switch length := until.Sub(since); {
	case length <= 0:
		return since, until, errs.New(errs.Invalid, 0, "since %s is not before until %s", since.Format(time.RFC3339), until.Format(time.RFC3339))
	case length > metricsRangeMax:
		return since, until, errs.New(errs.Invalid, 0, "since %s is more than %d days before until %s",
			since.Format(time.RFC3339), int(metricsRangeMax.Hours()/24), until.Format(time.RFC3339))
	}
	return since, until, nil
}

// metricsRange reads since, until and step. Without a step it is the shortest usual one
// that gives about so many points at most.
func (s *Server) metricsRange(r *request, wanted int) (since, until time.Time, step time.Duration, err error) {
	if since, until, err = s.timeRange(r); err != nil {
		return since, until, step, err
	}
	text := r.gin.Query("step")
	if text == "" {
		step, err = s.deps.Metrics.SeriesStep(r.ctx, since, until, wanted)
		return since, until, step, err
	}
	if step, err = parseStep(text); err != nil {
		return since, until, step, err
	}
	if until.Sub(since)/step > metricsPointsMax {
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
