package deploy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tidegate/internal/errs"
)

// Bounds of a policy. They keep a typing error from becoming a policy that never
// or always fires.
const (
	minRequestsMax     = 1_000_000_000
	lookBackSecondsMax = 86_400 // a day: the rates by the second are read whole
	graceSecondsMax    = 86_400
	blockSecondsMax    = 3_600
	rampStepsMax       = 20
	bakeSecondsMax     = 7 * 86_400
	ratioMax           = 1000
	durationMsMax      = 86_400_000
	confidenceLeast    = 0.5
	confidenceMost     = 0.999_999 // beyond it no traffic is enough for a verdict in time
)

// DefaultPolicy returns the values of the members that a policy does not name. It
// has no limit yet: Complete gives it one.
func DefaultPolicy() RollbackPolicy {
	return RollbackPolicy{
		MinRequests:     DefaultMinRequests,
		LookBackSeconds: DefaultLookBackSeconds,
		Confidence:      DefaultConfidence,
		Count:           CountAny,
		Evidence:        EvidenceRequests,
		Action:          ActionRollback,
	}
}

// ReadPolicy reads a policy that was stored, by this program or an older one: what it
// does not name has its default, except that one without limits has none: it was saved to
// watch nothing, before policies were completed. It does not validate.
func ReadPolicy(text []byte) (RollbackPolicy, error) {
	p := DefaultPolicy()
	if err := json.Unmarshal(text, &p); err != nil {
		return RollbackPolicy{}, fmt.Errorf("read a rollback policy: %w", err)
	}
	return p, nil
}

// Complete adds, before a policy is saved, what follows from other members: a policy that
// names no limit has MaxFailureRatio 1, and blocks have a length.
func (p *RollbackPolicy) Complete() {
	if len(p.Limits()) == 0 {
		p.MaxFailureRatio = new(1.0)
	}
	if p.Evidence == EvidenceBlocks && p.BlockSeconds == 0 {
		p.BlockSeconds = DefaultBlockSeconds
	}
}

// limitKind is what the value of a limit means, and so what it may be.
type limitKind int

const (
	limitShare  limitKind = iota // of requests, between 0 and 1
	limitRatio                   // multiple of the baseline's, from 1 on
	limitMillis                  // milliseconds
)

// limits are the members that are limits, in the order in which they are tested and
// shown.
var limits = []struct {
	metric Metric
	kind   limitKind
	of     func(*RollbackPolicy) **float64
}{
	{MetricFailureRate, limitShare, func(p *RollbackPolicy) **float64 { return &p.MaxFailureRate }},
	{MetricFailureRatio, limitRatio, func(p *RollbackPolicy) **float64 { return &p.MaxFailureRatio }},
	{MetricP50Wall, limitMillis, func(p *RollbackPolicy) **float64 { return &p.MaxP50WallMs }},
	{MetricP90Wall, limitMillis, func(p *RollbackPolicy) **float64 { return &p.MaxP90WallMs }},
	{MetricP99Wall, limitMillis, func(p *RollbackPolicy) **float64 { return &p.MaxP99WallMs }},
	{MetricP50WallRatio, limitRatio, func(p *RollbackPolicy) **float64 { return &p.MaxP50WallRatio }},
	{MetricP90WallRatio, limitRatio, func(p *RollbackPolicy) **float64 { return &p.MaxP90WallRatio }},
	{MetricP99WallRatio, limitRatio, func(p *RollbackPolicy) **float64 { return &p.MaxP99WallRatio }},
	{MetricP99CPU, limitMillis, func(p *RollbackPolicy) **float64 { return &p.MaxP99CPUMs }},
	{MetricP99CPURatio, limitRatio, func(p *RollbackPolicy) **float64 { return &p.MaxP99CPURatio }},
	{MetricTraffic, limitShare, func(p *RollbackPolicy) **float64 { return &p.MinTrafficRatio }},
}

// Metrics are the limits that a policy may name, in the order in which Limits has them.
func Metrics() []Metric {
	list := make([]Metric, len(limits))
	for i, l := range limits {
		list[i] = l.metric
	}
	return list
}

// Limit is one limit of a policy.
type Limit struct {
	Metric Metric
	Value  float64
}

// Limits are those that p names.
func (p *RollbackPolicy) Limits() []Limit {
	var named []Limit
	for _, l := range limits {
		if value := *l.of(p); value != nil {
			named = append(named, Limit{l.metric, *value})
		}
	}
	return named
}

// SetLimit sets the limit of a metric, or takes it away if value is nil. A metric that
// is none of Metrics changes nothing.
func (p *RollbackPolicy) SetLimit(m Metric, value *float64) {
	for _, l := range limits {
		if l.metric == m {
			*l.of(p) = value
		}
	}
}

// IsRatio reports whether a limit of m is a multiple of what the baseline has.
func (m Metric) IsRatio() bool { return m.kind() == limitRatio }

// IsMillis reports whether a limit of m is in milliseconds.
func (m Metric) IsMillis() bool { return m.kind() == limitMillis }

func (m Metric) kind() limitKind {
	for _, l := range limits {
		if l.metric == m {
			return l.kind
		}
	}
	return limitShare
}

// Validate returns an invalid *errs.Error that names the first member with a bad
// value, or with one that contradicts another member.
func (p *RollbackPolicy) Validate() error {
	for _, check := range []func() error{p.checkLimits, p.checkTests, p.checkRamp, p.checkNotify, p.checkTimes} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (p *RollbackPolicy) checkLimits() error {
	for _, l := range p.Limits() {
		member, value := string(l.Metric), decimal(l.Value)
		switch kind := l.Metric.kind(); {
		case kind == limitShare && !(l.Value > 0 && l.Value < 1):
			return badPolicy(member, "%s must be above 0 and below 1: it is a share of requests, 0.02 is 2%%", value)
		case kind == limitRatio && !(l.Value >= 1 && l.Value <= ratioMax):
			return badPolicy(member, "%s must be from 1 to %d: it is a multiple of what the baseline has", value, ratioMax)
		case kind == limitMillis && !(l.Value >= 1 && l.Value <= durationMsMax):
			return badPolicy(member, "%s must be from 1 to %d: it is a time in milliseconds", value, durationMsMax)
		}
	}
	// A quantile is never above a higher one.
	wall := []struct {
		metric Metric
		limit  *float64
	}{{MetricP50Wall, p.MaxP50WallMs}, {MetricP90Wall, p.MaxP90WallMs}, {MetricP99Wall, p.MaxP99WallMs}}
	for i, lower := range wall {
		for _, higher := range wall[i+1:] {
			if lower.limit != nil && higher.limit != nil && *lower.limit > *higher.limit {
				return badPolicy(string(lower.metric), "%s is above %s, which is %s: it would never be reached", decimal(*lower.limit), higher.metric, decimal(*higher.limit))
			}
		}
	}
	if d := p.MinFailureDifference; d != nil {
		switch {
		case !(*d > 0 && *d < 1):
			return badPolicy("min_failure_difference", "%s must be above 0 and below 1: it is a share of requests, 0.001 is 0.1%%", decimal(*d))
		case p.MaxFailureRatio == nil:
			return badPolicy("min_failure_difference", "%s goes with max_failure_ratio, which this policy does not have", decimal(*d))
		}
	}
	return nil
}

func (p *RollbackPolicy) checkTests() error {
	switch {
	case p.MinRequests < 1 || p.MinRequests > minRequestsMax:
		return badPolicy("min_requests", "%d must be from 1 to %d", p.MinRequests, int64(minRequestsMax))
	case p.LookBackSeconds < 1 || p.LookBackSeconds > lookBackSecondsMax:
		return badPolicy("look_back_seconds", "%d must be from 1 to %d", p.LookBackSeconds, lookBackSecondsMax)
	case !(p.Confidence >= confidenceLeast && p.Confidence <= confidenceMost):
		return badPolicy("confidence", "%s must be from %v to %v: 0.999 is one good version in a thousand that is acted upon", decimal(p.Confidence), confidenceLeast, confidenceMost)
	case p.GraceSeconds < 0 || p.GraceSeconds > graceSecondsMax:
		return badPolicy("grace_seconds", "%d must be from 0 to %d", p.GraceSeconds, graceSecondsMax)
	case p.Count != CountAny && p.Count != CountExceptions && p.Count != CountStatus5xx:
		return badPolicy("count", "%.60q must be %q, %q or %q", p.Count, CountAny, CountExceptions, CountStatus5xx)
	case p.Evidence != EvidenceRequests && p.Evidence != EvidenceBlocks:
		return badPolicy("evidence", "%.60q must be %q or %q", p.Evidence, EvidenceRequests, EvidenceBlocks)
	case p.Evidence == EvidenceRequests && p.BlockSeconds != 0:
		return badPolicy("block_seconds", "%d goes with the evidence %q, and this policy's is %q", p.BlockSeconds, EvidenceBlocks, p.Evidence)
	case p.Evidence == EvidenceBlocks && (p.BlockSeconds < 1 || p.BlockSeconds > blockSecondsMax):
		return badPolicy("block_seconds", "%d must be from 1 to %d", p.BlockSeconds, blockSecondsMax)
	case p.BlockSeconds > p.LookBackSeconds:
		return badPolicy("block_seconds", "%d is above look_back_seconds, which is %d: no block would fit", p.BlockSeconds, p.LookBackSeconds)
	case p.Action != ActionRollback && p.Action != ActionPause && p.Action != ActionNotify:
		return badPolicy("action", "%.60q must be %q, %q or %q", p.Action, ActionRollback, ActionPause, ActionNotify)
	}
	return nil
}

func (p *RollbackPolicy) checkRamp() error {
	if len(p.Ramp) > rampStepsMax {
		return badPolicy("ramp", "has %d steps: at most %d are allowed", len(p.Ramp), rampStepsMax)
	}
	var last Percentage
	for i, step := range p.Ramp {
		bad := func(member, format string, args ...any) error { return badEntry("ramp", i, member, format, args...) }
		switch {
		case last == Full:
			return badEntry("ramp", i-1, "percentage", "%s is not the last step: nothing can follow it", Full)
		case step.Percentage <= last || step.Percentage > Full:
			return bad("percentage", "%s must be above %s, the step before, and at most 100%%", step.Percentage, last)
		case step.BakeSeconds < 0 || step.BakeSeconds > bakeSecondsMax:
			return bad("bake_seconds", "%d must be from 0 to %d", step.BakeSeconds, bakeSecondsMax)
		case step.Gate != "" && !slices.Contains([]Gate{GateWatched, GateProven, GateManual}, step.Gate):
			return bad("gate", "%.60q must be %q, %q or %q", step.Gate, GateWatched, GateProven, GateManual)
		case step.Gate == GateProven:
			if why := p.unprovable(); why != "" {
				return bad("gate", "%q %s", step.Gate, why)
			}
		}
		last = step.Percentage
	}
	return nil
}

// unprovable is why no version could pass GateProven; empty if one can.
func (p *RollbackPolicy) unprovable() string {
	ratios := 0
	for _, l := range p.Limits() {
		if !l.Metric.IsRatio() {
			continue
		}
		ratios++
		if l.Value == 1 {
			return fmt.Sprintf("asks for proof that a version stays below each ratio, and %s is 1: a version as good as the baseline never could", l.Metric)
		}
	}
	if ratios == 0 {
		return "needs a limit that compares with the baseline, such as max_failure_ratio 2: without one there is nothing to prove"
	}
	return ""
}

func badPolicy(member, format string, args ...any) *errs.Error {
	return errs.New(errs.Invalid, 0, member+" "+format, args...).At("/" + member)
}

// badEntry is badPolicy for a member of the i-th entry of a list, such as "url" or
// "days/0"; an empty one is the entry itself.
func badEntry(list string, i int, member, format string, args ...any) *errs.Error {
	name, pointer := fmt.Sprintf("%s[%d]", list, i), fmt.Sprintf("/%s/%d", list, i)
	if member != "" {
		pointer += "/" + member
		first, index, isList := strings.Cut(member, "/")
		name += "." + first
		if isList {
			name += "[" + index + "]"
		}
	}
	return errs.New(errs.Invalid, 0, "%s %s", name, fmt.Sprintf(format, args...)).At(pointer)
}

// decimal writes a number as a person would.
func decimal(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
