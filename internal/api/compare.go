package api

import (
	"math"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"tidegate/internal/errs"
	"tidegate/schema"
)

// interval is an estimate with its bounds. A bound that does not exist is nil.
type interval struct {
	Estimate float64  `json:"estimate"`
	Low      *float64 `json:"low,omitempty"`
	High     *float64 `json:"high,omitempty"`
}

// proportion is so many failures of so many requests.
type proportion struct{ failures, requests float64 }

func (p proportion) rate() float64 { return p.failures / p.requests }

// wilson returns the score interval of a proportion (Wilson 1927), which keeps its
// promise with few requests, and with no failure at all. z is the normal quantile of
// the confidence.
func (p proportion) wilson(z float64) (low, high float64) {
	n, rate := p.requests, p.rate()
	middle := rate + z*z/(2*n)
	half := z * math.Sqrt(rate*(1-rate)/n+z*z/(4*n*n))
	low, high = (middle-half)/(1+z*z/n), (middle+half)/(1+z*z/n)
	if p.failures == 0 {
		low = 0 // which rounding may miss
	}
	if p.failures == n {
		high = 1
	}
	return max(0, low), min(1, high)
}

// difference returns a.rate() - b.rate() with the hybrid score interval: method 10 of
// Newcombe, Interval estimation for the difference between independent proportions,
// Statistics in Medicine 17 (1998), 873-890.
func difference(a, b proportion, z float64) interval {
	la, ua := a.wilson(z)
	lb, ub := b.wilson(z)
	d := a.rate() - b.rate()
	low := d - math.Hypot(a.rate()-la, ub-b.rate())
	high := d + math.Hypot(ua-a.rate(), b.rate()-lb)
	return interval{d, &low, &high}
}

// ratio returns a.rate() / b.rate() with the MOVER-R interval of Donner and Zou,
// Closed-form confidence intervals for functions of the normal mean and standard deviation,
// Statistical Methods in Medical Research 21 (2012), 347-359, from the same score intervals.
// It is nil where b never failed: there is no such ratio then. The upper bound is nil where
// b's rate may be zero.
func ratio(a, b proportion, z float64) *interval {
	if b.failures == 0 {
		return nil
	}
	la, ua := a.wilson(z)
	lb, ub := b.wilson(z)
	pa, pb := a.rate(), b.rate()
	root := func(x float64) float64 { return math.Sqrt(max(0, x)) }
	low := max(0, (pa*pb-root(pa*pa*pb*pb-la*ub*(2*pa-la)*(2*pb-ub)))/(ub*(2*pb-ub)))
	if 2*pb-ub <= 0 { // so few failures that the formula has no lower bound above zero
		low = 0
	}
	out := &interval{Estimate: pa / pb, Low: &low}
	if below := lb * (2*pb - lb); below > 0 {
		high := (pa*pb + root(pa*pa*pb*pb-ua*lb*(2*pa-ua)*(2*pb-lb))) / below
		out.High = &high
	}
	return out
}

type comparisonView struct {
	Since      timestamp      `json:"since"`
	Until      timestamp      `json:"until"`
	Count      string         `json:"count"`
	Confidence float64        `json:"confidence"`
	Baseline   comparedRates  `json:"baseline"`
	Candidate  comparedRates  `json:"candidate"`
	Difference *interval      `json:"difference,omitempty"`
	Ratio      *interval      `json:"ratio,omitempty"`
	Method     comparedMethod `json:"method"`
}

type comparedRates struct {
	VersionID   string            `json:"version_id"`
	Tag         string            `json:"tag,omitempty"`
	Requests    int64             `json:"requests"`
	Failures    int64             `json:"failures"`
	FailureRate *float64          `json:"failure_rate,omitempty"`
	Interval    *interval         `json:"interval,omitempty"`
	WallMs      *schema.Quantiles `json:"wall_ms,omitempty"`
	CPUMs       *schema.Quantiles `json:"cpu_ms,omitempty"`
}

type comparedMethod struct {
	Rate       string `json:"rate"`
	Difference string `json:"difference"`
	Ratio      string `json:"ratio"`
	Caution    string `json:"caution"`
}

var methodOfComparison = comparedMethod{
	Rate:       "Wilson score interval",
	Difference: "Newcombe hybrid score interval (1998, method 10)",
	Ratio:      "MOVER-R from score intervals (Donner and Zou 2012)",
	Caution:    "These intervals hold for one look at a time that was chosen beforehand, not for whoever looks again until a version seems bad: a rollback policy may look at every moment.",
}

// Values of count: which requests are compared.
const (
	countAssigned = "assigned" // those whose version was drawn: they are comparable
	countAll      = "all"      // overrides and previews too, which are no random sample
)

// compareVersions holds the failure rates of two versions of a script against each other.
func (s *Server) compareVersions(r *request) (any, error) {
	since, until, err := s.timeRange(r)
	if err != nil {
		return nil, err
	}
	view := comparisonView{Since: timestamp(since), Until: timestamp(until), Count: r.gin.DefaultQuery("count", countAssigned), Confidence: 0.95, Method: methodOfComparison}
	if view.Count != countAssigned && view.Count != countAll {
		return nil, errs.New(errs.Invalid, 0, "count is %q: it must be %s or %s", shown(view.Count), countAssigned, countAll)
	}
	if text := r.gin.Query("confidence"); text != "" {
		if view.Confidence, err = strconv.ParseFloat(text, 64); err != nil || !(view.Confidence >= 0.5 && view.Confidence <= 0.9999) {
			return nil, errs.New(errs.Invalid, 0, "confidence is %q: it must be a number from 0.5 to 0.9999", shown(text))
		}
	}
	for name, into := range map[string]*comparedRates{"baseline": &view.Baseline, "candidate": &view.Candidate} {
		id := r.gin.Query(name)
		if id == "" {
			return nil, errs.New(errs.Invalid, 0, "%s is missing: it must be the id of a version", name)
		}
		if uuid.Validate(id) != nil { // PostgreSQL takes no text but UTF-8
			return nil, errs.New(errs.Invalid, 0, "%s %q is not the id of a version, which is a UUID", name, shown(id))
		}
		v, err := s.deps.Scripts.Version(r.ctx, r.account, r.script(), id)
		if err != nil {
			return nil, err
		}
		into.VersionID, into.Tag = v.ID, v.Annotations.Tag
	}
	if view.Baseline.VersionID == view.Candidate.VersionID {
		return nil, errs.New(errs.Invalid, 0, "baseline and candidate are both %s: name two versions", view.Baseline.VersionID)
	}
	totals, err := s.deps.Metrics.VersionTotals(r.ctx, r.account, r.script(), since, until)
	if err != nil {
		return nil, err
	}
	z := math.Sqrt2 * math.Erfinv(view.Confidence)
	baseline, candidate := view.Baseline.take(totals, view.Count, z), view.Candidate.take(totals, view.Count, z)
	if baseline.requests > 0 && candidate.requests > 0 {
		d := difference(candidate, baseline, z)
		view.Difference, view.Ratio = &d, ratio(candidate, baseline, z)
	}
	return view, nil
}

// take fills in what the version did. Times are of all its requests: nothing is known of
// those of drawn ones alone.
func (c *comparedRates) take(totals []schema.VersionRate, count string, z float64) (p proportion) {
	at := slices.IndexFunc(totals, func(v schema.VersionRate) bool { return v.VersionID == c.VersionID })
	if at < 0 {
		return p
	}
	v := totals[at]
	c.Requests, c.Failures = v.Assigned, v.AssignedFailures
	if count == countAll {
		c.Requests, c.Failures = v.Requests, v.Failures
	}
	c.FailureRate, c.WallMs, c.CPUMs = share(c.Failures, c.Requests), known(v.WallMs), known(v.CPUMs)
	p = proportion{float64(c.Failures), float64(c.Requests)}
	if c.Requests > 0 {
		low, high := p.wilson(z)
		c.Interval = &interval{p.rate(), &low, &high}
	}
	return p
}
