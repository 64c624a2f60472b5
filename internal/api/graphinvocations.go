package api

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	"tidegate/internal/errs"
	"tidegate/schema"
)

// invocationTextMax bounds a value that names are compared with, in bytes.
const invocationTextMax = 128

// invocationsRangeSlack lets 31 days through whose last second or minute is included, or
// whose beginning a client reckoned from its own clock.
const invocationsRangeSlack = time.Minute

// invocationDimensions by their names in Cloudflare's schema.
var invocationDimensions = map[string]string{
	"scriptName": schema.InvocationScript, "scriptVersion": schema.InvocationVersion, "status": schema.InvocationStatus,
}

// invocationSteps are the dimensions of time; each step divides the next longer one.
var invocationSteps = map[string]time.Duration{
	"datetime": time.Second, "datetimeMinute": time.Minute, "datetimeFiveMinutes": 5 * time.Minute,
	"datetimeFifteenMinutes": 15 * time.Minute, "datetimeHour": time.Hour, "date": 24 * time.Hour,
}

// invocations answers workersInvocationsAdaptive.
func (g *graph) invocations(account string, f *ast.Field) (any, error) {
	filter, order, limit, err := g.groupArguments(f)
	if err != nil {
		return nil, err
	}
	q := schema.InvocationQuery{AccountID: account, Limit: limit}
	if err := g.selectInvocations(&q, f.SelectionSet); err != nil {
		return nil, err
	}
	times := span{until: g.server.now().Add(time.Second)}
	if q.Where, err = invocationFilter(filter, &times); err != nil {
		return nil, err
	}
	if q.Order, err = invocationOrder(order, q); err != nil {
		return nil, err
	}
	times.until = times.until.Truncate(time.Second)
	switch length := times.until.Sub(times.since); {
	case times.since.IsZero():
		return nil, errs.New(errs.Invalid, 0, "query time range is too large: filter must say where it begins, by datetime_geq or date_geq")
	case length <= 0:
		return []any{}, nil
	case length > metricsRangeMax+invocationsRangeSlack:
		return nil, errs.New(errs.Invalid, 0, "query time range is too large: it is %s, and %d days are the most", length.Truncate(time.Second), int(metricsRangeMax.Hours()/24))
	}
	q.Since, q.Until = times.since, times.until
	end, err := g.turn(account)
	if err != nil {
		return nil, err
	}
	defer end()
	list, err := g.server.deps.Metrics.Invocations(g.ctx, q)
	if err != nil {
		err = inWords("cannot request data older than is kept", errs.Invalid, err)
		return nil, inWords("unable to execute query", errs.Unavailable, err)
	}
	out := make([]any, len(list))
	for i, group := range list {
		if out[i], err = g.viewInvocations(f.SelectionSet, group); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// selectInvocations reads from a selection what has to be known to answer it.
func (g *graph) selectInvocations(q *schema.InvocationQuery, set ast.SelectionSet) error {
	return g.each(set, func(of *ast.Field) error {
		return g.each(of.SelectionSet, func(f *ast.Field) error {
			step, isTime := invocationSteps[f.Name]
			dimension, isDimension := invocationDimensions[f.Name]
			level, isQuantile := quantileLevel(f.Name)
			switch {
			case of.Name == "dimensions" && isTime:
				if q.Step == 0 {
					q.By, q.Step = append(q.By, schema.InvocationTime), step
				}
				q.Step = min(q.Step, step)
			case of.Name == "dimensions" && isDimension && !slices.Contains(q.By, dimension):
				q.By = append(q.By, dimension)
			case of.Name == "quantiles" && isQuantile:
				q.Levels = append(q.Levels, level)
			case of.Name == "avg":
				q.Stored = q.Stored || f.Name != "__typename"
			case of.Name == "min", of.Name == "max", of.Name == "sum" && (f.Name == "cpuTimeUs" || f.Name == "wallTime"):
				q.Extremes = q.Extremes || f.Name != "__typename"
			}
			return nil
		})
	})
}

// quantileLevel returns 0.999 for cpuTimeP999 and wallTimeP999, the quantiles that are measured.
func quantileLevel(name string) (float64, bool) {
	of, digits := cutLast(name, "P")
	level, err := strconv.ParseFloat("0."+digits, 64)
	return level, err == nil && (of == "cpuTime" || of == "wallTime")
}

// span is a time, [since, until), that conditions make shorter. A zero since is the beginning of all.
type span struct{ since, until time.Time }

// narrow leaves of a span what a condition on steps of so long lets through. A step is the
// time at which it begins.
func (s *span) narrow(operator string, at time.Time, step time.Duration) {
	floor := at.UTC().Truncate(step)
	ceiling := floor
	if floor.Before(at) {
		ceiling = floor.Add(step)
	}
	since, until := s.since, s.until
	switch operator {
	case "geq":
		since = ceiling
	case "gt":
		since = floor.Add(step)
	case "leq":
		until = floor.Add(step)
	case "lt":
		until = ceiling
	default: // equal to, which no step is to a time within one
		since, until = ceiling, floor.Add(step)
	}
	if since.After(s.since) {
		s.since = since
	}
	if until.Before(s.until) {
		s.until = until
	}
}

// invocationFilter makes a condition of a filter, whose members must all hold, and
// narrows the time by those that are about it; times is nil where no time may be named.
func invocationFilter(filter map[string]any, times *span) (all schema.InvocationCondition, err error) {
	for _, name := range slices.Sorted(maps.Keys(filter)) {
		value := filter[name]
		list := asList(value)
		if value == nil || slices.Contains(list, nil) {
			return all, errs.New(errs.Invalid, 0, "error parsing args: filter: %s is null: leave it out, or give it a value", name)
		}
		if name == "AND" || name == "OR" {
			one, err := invocationFilters(name, list, times)
			if err != nil {
				return all, err
			}
			all.All = append(all.All, one)
			continue
		}
		member, operator, _ := strings.Cut(name, "_")
		if step, ok := invocationSteps[member]; ok {
			at, err := graphTime(name, value)
			switch {
			case err != nil:
				return all, err
			case times == nil:
				return all, errs.New(errs.Invalid, 0, "error parsing args: filter: %s cannot be in OR: a query has one time", name)
			}
			times.narrow(operator, at, step)
			continue
		}
		if _, isList := value.([]any); isList && operator != "in" && operator != "notin" {
			return all, errs.New(errs.Invalid, 0, "error parsing args: filter: %s must be one value", name)
		}
		one := schema.InvocationCondition{Dimension: invocationDimensions[member], Operator: schema.InvocationOperator(operator), Values: []string{}}
		if operator == "" {
			one.Operator = schema.InvocationEqual
		}
		for _, value := range list {
			text, ok := value.(string)
			if !ok || len(text) > invocationTextMax || strings.Contains(text, "\x00") {
				return all, errs.New(errs.Invalid, 0, "error parsing args: filter: %s is %s: it must be a string of %d bytes at most", name, shown(fmt.Sprintf("%#v", value)), invocationTextMax)
			}
			if backslashes := len(text) - len(strings.TrimRight(text, `\`)); backslashes%2 == 1 && strings.HasSuffix(operator, "like") {
				return all, errs.New(errs.Invalid, 0, "error parsing args: filter: %s ends in a \\ that stands before nothing: a \\ itself is \\\\", name)
			}
			one.Values = append(one.Values, text)
		}
		if len(one.Values) == 0 { // in nothing is nothing, and not in nothing is all
			one = schema.InvocationCondition{Any: []schema.InvocationCondition{}}
			if operator == "notin" {
				one.Any = nil
			}
		}
		all.All = append(all.All, one)
	}
	return all, nil
}

// invocationFilters combines filters by AND or OR.
func invocationFilters(operator string, list []any, times *span) (combined schema.InvocationCondition, err error) {
	if operator == "OR" {
		times, combined.Any = nil, []schema.InvocationCondition{}
	}
	for _, one := range list {
		filter, ok := one.(map[string]any)
		if !ok {
			return combined, errs.New(errs.Invalid, 0, "error parsing args: filter: %s must be a list of filters", operator)
		}
		condition, err := invocationFilter(filter, times)
		if err != nil {
			return combined, err
		}
		if operator == "OR" {
			combined.Any = append(combined.Any, condition)
		} else {
			combined.All = append(combined.All, condition)
		}
	}
	return combined, nil
}

// graphTime reads a Time or a Date, each of which clients also give for the other.
func graphTime(name string, value any) (time.Time, error) {
	text, _ := value.(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		at, err = time.Parse(time.DateOnly, text)
	}
	if err != nil {
		return at, errs.New(errs.Invalid, 0, "error parsing args: filter: %s is %q: it must be a time such as 2026-01-31T12:00:00Z, or a day such as 2026-01-31", name, shown(fmt.Sprint(value)))
	}
	return at, nil
}

// invocationOrder reads names such as datetimeHour_ASC and sum_requests_DESC.
func invocationOrder(list []string, q schema.InvocationQuery) (order []schema.InvocationOrder, err error) {
	for _, value := range list {
		name, direction := cutLast(value, "_")
		o := schema.InvocationOrder{Descending: direction == "DESC"}
		o.Step = invocationSteps[name]
		sum, isSum := strings.CutPrefix(name, "sum_")
		switch {
		case isSum:
			o.By = sum
		case o.Step > 0:
			o.By = schema.InvocationTime
		default:
			o.By = invocationDimensions[name]
		}
		if !isSum && (!slices.Contains(q.By, o.By) || o.Step > 0 && o.Step < q.Step) {
			return nil, errs.New(errs.Invalid, 0, "error parsing args: orderBy: %s is not among the dimensions that the query asks for", name)
		}
		order = append(order, o)
	}
	return order, nil
}

func (g *graph) viewInvocations(set ast.SelectionSet, group schema.InvocationGroup) (any, error) {
	const name = "AccountWorkersInvocationsAdaptive"
	return g.object(set, name, func(f *ast.Field) (any, error) {
		switch f.Name {
		case "dimensions":
			return g.object(f.SelectionSet, name+"Dimensions", func(f *ast.Field) (any, error) { return invocationDimension(f.Name, group), nil })
		case "sum":
			return g.object(f.SelectionSet, name+"Sum", func(f *ast.Field) (any, error) { return invocationSum(f.Name, group), nil })
		case "avg":
			return g.object(f.SelectionSet, name+"Avg", func(*ast.Field) (any, error) { return sampleInterval(group), nil })
		case "quantiles":
			return g.object(f.SelectionSet, name+"Quantiles", func(f *ast.Field) (any, error) { return invocationQuantile(f.Name, group), nil })
		case "min":
			return g.object(f.SelectionSet, name+"Min", func(f *ast.Field) (any, error) { return microseconds(timesOf(f.Name, group).Min), nil })
		default:
			return g.object(f.SelectionSet, name+"Max", func(f *ast.Field) (any, error) { return microseconds(timesOf(f.Name, group).Max), nil })
		}
	})
}

func invocationDimension(name string, group schema.InvocationGroup) any {
	switch name {
	case "scriptName":
		return group.ScriptName
	case "scriptVersion":
		return group.VersionID
	case "status":
		return group.Status
	case "date":
		return group.Time.Format(time.DateOnly)
	default:
		return group.Time.Truncate(invocationSteps[name]).Format(time.RFC3339)
	}
}

// invocationSum returns nil for what is not recorded.
func invocationSum(name string, group schema.InvocationGroup) any {
	switch name {
	case "requests":
		return group.Requests
	case "errors":
		return group.Errors
	case "cpuTimeUs":
		return microseconds(group.CPUMs.Sum)
	case "wallTime":
		return microseconds(group.WallMs.Sum)
	default:
		return nil
	}
}

func sampleInterval(group schema.InvocationGroup) any {
	if group.Stored == nil || *group.Stored == 0 {
		return nil
	}
	return float64(group.Requests) / float64(*group.Stored)
}

func timesOf(name string, group schema.InvocationGroup) schema.InvocationTimes {
	if strings.HasPrefix(name, "cpuTime") {
		return group.CPUMs
	}
	return group.WallMs
}

// invocationQuantile returns nil for what is not recorded.
func invocationQuantile(name string, group schema.InvocationGroup) any {
	level, ok := quantileLevel(name)
	if !ok {
		return nil
	}
	value, ok := timesOf(name, group).Quantiles[level]
	if !ok || math.IsNaN(value) {
		return nil
	}
	return value * 1000
}

func microseconds(ms *float64) any {
	if ms == nil {
		return nil
	}
	return int64(math.Round(*ms * 1000))
}
