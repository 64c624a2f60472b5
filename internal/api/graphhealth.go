package api

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

const (
	graphLimitMax = 10_000
	// graphConditionsMax bounds a filter, whose conditions are tried on each of many minutes.
	graphConditionsMax = 200
	graphDepthMax      = 20 // filters in filters; ClickHouse parses parentheses no deeper than 1,000
	// graphRange is how far back a query looks that does not say.
	graphRange = 30 * 24 * time.Hour
	// graphMinutesMax are held in memory while they are summed, some 100 MB: ten jobs
	// for that long.
	graphMinutesMax = 500_000
)

// healthDimensions are what groups can be told apart by.
var healthDimensions = map[string]func(logjob.MinuteHealth) any{
	"datetime":            func(m logjob.MinuteHealth) any { return m.Minute.Format(time.RFC3339) },
	"datetimeMinute":      func(m logjob.MinuteHealth) any { return m.Minute.Format(time.RFC3339) },
	"datetimeFiveMinutes": func(m logjob.MinuteHealth) any { return m.Minute.Truncate(5 * time.Minute).Format(time.RFC3339) },
	"jobId":               func(m logjob.MinuteHealth) any { return m.JobID },
	"status":              func(m logjob.MinuteHealth) any { return int64(m.Status) },
	"final": func(m logjob.MinuteHealth) any {
		if m.Final {
			return int64(1)
		}
		return int64(0)
	},
	"destinationType": func(m logjob.MinuteHealth) any { return m.DestinationType },
	"destination":     func(m logjob.MinuteHealth) any { return m.Destination },
}

var healthSums = map[string]func(logjob.Uploads) int64{
	"uploads":         func(u logjob.Uploads) int64 { return u.Uploads },
	"records":         func(u logjob.Uploads) int64 { return u.Records },
	"bytes":           func(u logjob.Uploads) int64 { return u.Bytes },
	"bytesCompressed": func(u logjob.Uploads) int64 { return u.BytesCompressed },
}

// healthGroup is the minutes that are alike in the dimensions that were asked for.
// One of them stands for all.
type healthGroup struct {
	one logjob.MinuteHealth
	sum logjob.Uploads
}

// groupArguments are the arguments that all groups have. The order holds names of the
// schema only: the library takes those in variables in any case of letters.
func (g *graph) groupArguments(f *ast.Field) (filter map[string]any, order []string, limit int, err error) {
	arguments, err := g.arguments(f)
	if err != nil {
		return nil, nil, 0, err
	}
	most, ok := number(arguments["limit"])
	if !ok || most < 1 || most > graphLimitMax {
		return nil, nil, 0, errs.New(errs.Invalid, 0, "limit must be positive number and not greater than %d", graphLimitMax)
	}
	filter, _ = arguments["filter"].(map[string]any)
	n, err := countConditions(filter, 0)
	if err != nil {
		return nil, nil, 0, err
	}
	if n--; n > graphConditionsMax { // the filter itself is none
		return nil, nil, 0, errs.New(errs.Invalid, 0, "filter has %d conditions, more than the %d allowed", n, graphConditionsMax)
	}
	names := graphSchema.Types[f.Definition.Arguments.ForName("orderBy").Type.Name()].EnumValues
	for _, value := range asList(arguments["orderBy"]) {
		name, _ := value.(string)
		if names.ForName(name) == nil {
			return nil, nil, 0, errs.New(errs.Invalid, 0, "error parsing args: orderBy: there is no order %q", shown(fmt.Sprint(value)))
		}
		by, _ := cutLast(name, "_")
		// What groups are ordered by already orders none of them any more, in either direction.
		if !slices.ContainsFunc(order, func(one string) bool { before, _ := cutLast(one, "_"); return before == by }) {
			order = append(order, name)
		}
	}
	return filter, order, int(most), nil
}

// asList coerces as GraphQL does: one value stands for a list of it, and null for none.
func asList(value any) []any {
	list, ok := value.([]any)
	if !ok && value != nil {
		list = []any{value}
	}
	return list
}

func (g *graph) logpushHealth(account string, f *ast.Field) (any, error) {
	filter, order, limit, err := g.groupArguments(f)
	if err != nil {
		return nil, err
	}
	matches, err := healthFilter(filter)
	if err != nil {
		return nil, err
	}
	end, err := g.turn(account)
	if err != nil {
		return nil, err
	}
	defer end()
	now := g.server.now()
	list, err := g.server.deps.Health.HealthMinutes(g.ctx, logjob.HealthFilter{
		AccountID: account, JobID: oneJob(filter), Since: since(filter, now.Add(-graphRange)), Until: now.Add(time.Hour), Most: graphMinutesMax})
	if err != nil {
		return nil, err
	}
	groups, err := g.groupHealth(f.SelectionSet, slices.DeleteFunc(list, func(m logjob.MinuteHealth) bool { return !matches(m) }))
	if err != nil {
		return nil, err
	}
	sortHealth(groups, order)
	out := []any{}
	for _, group := range groups[:min(len(groups), limit)] {
		one, err := g.viewHealth(f.SelectionSet, group)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// since is where the filter itself begins; minutes are left out one by one after that.
func since(filter map[string]any, earliest time.Time) time.Time {
	for _, name := range []string{"datetime", "datetime_geq", "datetime_gt"} {
		if text, ok := filter[name].(string); ok {
			if at, err := time.Parse(time.RFC3339, text); err == nil && at.After(earliest) {
				earliest = at
			}
		}
	}
	return earliest
}

// oneJob is the job that the filter itself names; 0: it may be any.
func oneJob(filter map[string]any) int64 {
	id, _ := number(filter["jobId"])
	return id
}

// groupHealth sums minutes by the dimensions in a selection.
func (g *graph) groupHealth(set ast.SelectionSet, list []logjob.MinuteHealth) ([]*healthGroup, error) {
	// Each once: a dimension of many names would be tried on every minute as often.
	dimensions := map[string]func(logjob.MinuteHealth) any{}
	if err := g.each(set, func(f *ast.Field) error {
		if f.Name != "dimensions" {
			return nil
		}
		return g.each(f.SelectionSet, func(f *ast.Field) error {
			if d := healthDimensions[f.Name]; d != nil {
				dimensions[f.Name] = d
			}
			return nil
		})
	}); err != nil {
		return nil, err
	}
	values := slices.Collect(maps.Values(dimensions))
	var groups []*healthGroup
	byKey := map[string]*healthGroup{}
	for _, m := range list {
		var key strings.Builder
		for _, d := range values {
			fmt.Fprintf(&key, "%v\x00", d(m))
		}
		group := byKey[key.String()]
		if group == nil {
			group = &healthGroup{one: m}
			byKey[key.String()] = group
			groups = append(groups, group)
		}
		group.sum.Add(m.Uploads)
	}
	return groups, nil
}

func (g *graph) viewHealth(set ast.SelectionSet, group *healthGroup) (any, error) {
	return g.object(set, "LogpushHealthGroup", func(f *ast.Field) (any, error) {
		switch f.Name {
		case "dimensions":
			return g.object(f.SelectionSet, "LogpushHealthDimensions", func(f *ast.Field) (any, error) { return healthDimensions[f.Name](group.one), nil })
		case "sum":
			return g.object(f.SelectionSet, "LogpushHealthSum", func(f *ast.Field) (any, error) {
				n := healthSums[f.Name](group.sum)
				if n == 0 && f.Name == "bytesCompressed" {
					return nil, nil // not known
				}
				return n, nil
			})
		default:
			return group.sum.Uploads, nil // count
		}
	})
}

func sortHealth(groups []*healthGroup, order []string) {
	value := func(group *healthGroup, name string) any {
		if sum, ok := strings.CutPrefix(name, "sum_"); ok {
			return healthSums[sum](group.sum)
		}
		if name == "count" {
			return group.sum.Uploads
		}
		return healthDimensions[name](group.one)
	}
	slices.SortStableFunc(groups, func(a, b *healthGroup) int {
		for _, o := range order {
			name, direction := cutLast(o, "_")
			c := compare(value(a, name), value(b, name))
			if direction == "DESC" {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
}

func cutLast(text, sep string) (before, after string) {
	i := strings.LastIndex(text, sep)
	if i < 0 {
		return text, ""
	}
	return text[:i], text[i+len(sep):]
}

// compare orders two values of one dimension.
func compare(a, b any) int {
	if x, ok := a.(int64); ok {
		y, _ := b.(int64)
		return cmp.Compare(x, y)
	}
	return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

// healthFilter makes a predicate of a filter, whose members must all hold.
func healthFilter(filter map[string]any) (func(logjob.MinuteHealth) bool, error) {
	var all []func(logjob.MinuteHealth) bool
	for name, want := range filter {
		if want == nil {
			return nil, errs.New(errs.Invalid, 0, "filter: %s is null: leave it out, or give it a value", name)
		}
		test, err := healthTest(name, want)
		if err != nil {
			return nil, err
		}
		all = append(all, test)
	}
	return func(m logjob.MinuteHealth) bool {
		return !slices.ContainsFunc(all, func(test func(logjob.MinuteHealth) bool) bool { return !test(m) })
	}, nil
}

// countConditions counts the values that a filter compares with, and the filters in it:
// an empty one takes time, too.
func countConditions(filter any, depth int) (n int, err error) {
	var parts []any
	switch f := filter.(type) {
	case map[string]any:
		if depth++; depth > graphDepthMax {
			return 0, errs.New(errs.Invalid, 0, "filter has more than %d filters in one another", graphDepthMax)
		}
		n, parts = 1, slices.Collect(maps.Values(f))
	case []any:
		parts = f
	default:
		return 1, nil
	}
	for _, part := range parts {
		of, err := countConditions(part, depth)
		if err != nil {
			return 0, err
		}
		n += of
	}
	return max(n, 1), nil
}

func healthTest(name string, want any) (func(logjob.MinuteHealth) bool, error) {
	list := asList(want)
	if name == "AND" || name == "OR" {
		var tests []func(logjob.MinuteHealth) bool
		for _, one := range list {
			filter, ok := one.(map[string]any)
			if !ok {
				return nil, errs.New(errs.Invalid, 0, "error parsing args: filter: %s must be a list of filters", name)
			}
			test, err := healthFilter(filter)
			if err != nil {
				return nil, err
			}
			tests = append(tests, test)
		}
		holds := name == "OR"
		return func(m logjob.MinuteHealth) bool {
			return slices.ContainsFunc(tests, func(test func(logjob.MinuteHealth) bool) bool { return test(m) == holds }) == holds
		}, nil
	}
	dimension, operator, _ := strings.Cut(name, "_")
	if _, isList := want.([]any); isList && operator != "in" {
		return nil, errs.New(errs.Invalid, 0, "error parsing args: filter: %s must be one value", name)
	}
	var wanted []any
	for _, one := range list {
		value, err := healthValue(dimension, one)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, value)
	}
	get := healthDimensions[dimension]
	if dimension == "datetime" {
		get = func(m logjob.MinuteHealth) any { return m.Minute.Unix() }
	}
	return func(m logjob.MinuteHealth) bool {
		got := get(m)
		if operator == "in" {
			return slices.Contains(wanted, got)
		}
		c := compare(got, wanted[0])
		switch operator {
		case "neq":
			return c != 0
		case "geq":
			return c >= 0
		case "gt":
			return c > 0
		case "leq":
			return c <= 0
		case "lt":
			return c < 0
		default:
			return c == 0
		}
	}, nil
}

// healthValue is a filter's value as the dimension has it; of datetime Unix seconds.
func healthValue(dimension string, value any) (any, error) {
	switch dimension {
	case "datetime":
		text, _ := value.(string)
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, errs.New(errs.Invalid, 0, "datetime is %q: it must be a time such as 2026-01-31T12:00:00Z", shown(fmt.Sprint(value)))
		}
		return at.Unix(), nil
	case "jobId", "status", "final":
		n, ok := number(value)
		if !ok {
			return nil, errs.New(errs.Invalid, 0, "%s is %q: it must be a whole number", dimension, shown(fmt.Sprint(value)))
		}
		return n, nil
	}
	text, ok := value.(string)
	if !ok {
		return nil, errs.New(errs.Invalid, 0, "%s is %q: it must be a string", dimension, shown(fmt.Sprint(value)))
	}
	return text, nil
}

// number reads what a query or its variables hold for an Int.
func number(value any) (int64, bool) {
	switch n := value.(type) {
	case int64:
		return n, true
	case int:
		return int64(n), true
	case float64:
		return int64(n), n == math.Trunc(n) && math.Abs(n) < 1<<53
	}
	return 0, false
}
