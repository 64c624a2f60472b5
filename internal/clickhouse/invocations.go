package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/internal/errs"
	"tidegate/schema"
)

// Invocations counts what the scripts of an account did, in groups. The counts are those
// of the rollups, exact to the second where the rollup by the second goes back far enough;
// further back the ends of the time are widened, as in VersionTotals. The times and the
// stored events of requests of one status, other quantiles than those of VersionTotals,
// those of several scripts of which some were sampled, and sums and extremes are only in
// the events: they are absent where the time begins before the oldest events that are kept.
func (db *DB) Invocations(ctx context.Context, q schema.InvocationQuery) ([]schema.InvocationGroup, error) {
	if err := validRange(q.Since, q.Until); err != nil {
		return nil, err
	}
	k, err := db.known(ctx)
	if err != nil {
		return nil, err
	}
	from, err := k.invocationSource(q)
	if err != nil {
		return nil, err
	}
	list, mixed, err := db.countInvocations(ctx, q, from)
	if err != nil || !mixed || q.Since.Before(k.events) {
		return list, err
	}
	list, _, err = db.countInvocations(ctx, q, eventInvocations(q))
	return list, err
}

// countInvocations reads the groups of a source; mixed says that one of them lacks
// quantiles that its rollups cannot tell.
func (db *DB) countInvocations(ctx context.Context, q schema.InvocationQuery, from invocationSource) (list []schema.InvocationGroup, mixed bool, err error) {
	query, args := from.query(q)
	ctx, cancel := bounded(ctx)
	defer cancel()
	const attempt = "count the invocations of an account"
	rows, err := db.conn.Query(ctx, query, args...)
	if err != nil {
		return nil, false, tooMuch(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	list = []schema.InvocationGroup{}
	for rows.Next() {
		var g schema.InvocationGroup
		var at, sampledOut int64
		var wall, cpu sketch
		if err := rows.Scan(&g.ScriptName, &g.VersionID, &g.Status, &at, &g.Requests, &g.Errors, &g.Stored, &sampledOut,
			&wall.measured, &wall.weighted, &wall.plain, &wall.heavy, &g.WallMs.Min, &g.WallMs.Max, &g.WallMs.Sum,
			&cpu.measured, &cpu.weighted, &cpu.plain, &cpu.heavy, &g.CPUMs.Min, &g.CPUMs.Max, &g.CPUMs.Sum); err != nil {
			return nil, false, failed(attempt, err)
		}
		g.Time = time.Unix(at, 0).UTC()
		for _, of := range []struct {
			sketch sketch
			times  *schema.InvocationTimes
		}{{wall, &g.WallMs}, {cpu, &g.CPUMs}} {
			if from.ofScripts && of.sketch.partial(sampledOut) {
				mixed = true
				continue
			}
			of.times.Quantiles = from.byLevel(of.sketch.values(sampledOut))
		}
		list = append(list, g)
	}
	return list, mixed, tooMuch(attempt, rows.Err())
}

// invocationSource is a subquery with the columns script_name, version_id, status, second,
// requests and errors, and SQL for what is known of its groups beside them.
type invocationSource struct {
	rows               string // with %s for conditions on the table's own columns
	stored, sampledOut string
	wall, cpu          string // what Invocations scans of a duration, seven columns
	levels             []float64
	ofScripts          bool // its sketches may be those of several scripts
}

// rollupLevels are the quantiles of the rollups' sketches; a sketch of quantilesDD cannot
// be asked for other ones than those in the type of its column.
var rollupLevels = []float64{0.5, 0.9, 0.99}

func (s invocationSource) byLevel(quantiles []float64) map[float64]float64 {
	if quantiles == nil {
		return nil
	}
	known := make(map[float64]float64, len(s.levels))
	for i, level := range s.levels {
		known[level] = quantiles[i]
	}
	return known
}

const (
	nothingKnown = "CAST(NULL AS Nullable(Float64))"
	noTimes      = "toInt64(0), toInt64(0), []::Array(Float64), []::Array(Float32), " + nothingKnown + ", " + nothingKnown + ", " + nothingKnown
)

// invocationSource chooses between the rollups, which are quick, and the events.
func (k known) invocationSource(q schema.InvocationQuery) (invocationSource, error) {
	byStatus := slices.Contains(q.By, schema.InvocationStatus) || q.Where.Asks(schema.InvocationStatus)
	haveEvents := !q.Since.Before(k.events)
	inRollups := func(level float64) bool { return !byStatus && slices.Contains(rollupLevels, level) }
	if haveEvents && (q.Extremes || q.Stored && byStatus || slices.ContainsFunc(q.Levels, func(level float64) bool { return !inRollups(level) })) {
		return eventInvocations(q), nil
	}
	coarsest := len(rollups) - 1
	if slices.Contains(q.By, schema.InvocationTime) {
		coarsest = slices.Index(rollups, seriesRollup(q.Step))
		if finest := k.finest(q.Since); finest > coarsest {
			if haveEvents {
				return eventInvocations(q), nil
			}
			return invocationSource{}, errs.New(errs.Invalid, 0, "what began at %s is no longer known by steps of less than %s: ask for longer ones, or a later time",
				q.Since.UTC().Format(time.RFC3339), time.Duration(rollups[finest].Seconds)*time.Second)
		}
	}
	rows := union(k.pieces(q.Since, q.Until, coarsest), "%s")
	if byStatus {
		return invocationSource{
			rows: `SELECT script_name, version_id, toUnixTimestamp(time) AS second, ` + statusOf("of.1") + ` AS status,
				of.2 AS requests, if(of.1 IN ('ok', 'canceled'), 0, of.2) AS errors
			FROM ` + rows + ` ARRAY JOIN CAST(outcomes, 'Array(Tuple(String, UInt64))') AS of`,
			stored: "CAST(NULL AS Nullable(Int64))", sampledOut: "toInt64(0)", wall: noTimes, cpu: noTimes,
		}, nil
	}
	s := invocationSource{
		rows: `SELECT script_name, version_id, toUnixTimestamp(time) AS second, '' AS status, requests, exceptions AS errors,
			sampled_out, wall_measured, wall_weighted, wall_ms, wall_ms_weighted, cpu_measured, cpu_weighted, cpu_ms, cpu_ms_weighted
		FROM ` + rows,
		stored: "toNullable(toInt64(sum(requests) - sum(sampled_out)))", sampledOut: "toInt64(sum(sampled_out))", wall: noTimes, cpu: noTimes,
	}
	if len(q.Levels) > 0 {
		s.wall, s.cpu, s.levels = rollupTimes("wall"), rollupTimes("cpu"), rollupLevels
		s.ofScripts = !slices.Contains(q.By, schema.InvocationScript) && !ofOneScript(q.Where)
	}
	return s, nil
}

// ofOneScript reports whether a condition holds for one script only.
func ofOneScript(w schema.InvocationCondition) bool {
	one := w.Operator == schema.InvocationEqual || w.Operator == schema.InvocationIn
	return w.Dimension == schema.InvocationScript && one && len(w.Values) == 1 || slices.ContainsFunc(w.All, ofOneScript)
}

func eventInvocations(q schema.InvocationQuery) invocationSource {
	return invocationSource{
		rows: fmt.Sprintf(`SELECT script_name, version_id, toUnixTimestamp(time) AS second, %s AS status, sampled_out, wall_ms, cpu_ms,
			1 + sampled_out AS requests, if(outcome IN ('ok', 'canceled'), 0, 1 + sampled_out) AS errors
		FROM trace_events
		WHERE %%s AND time >= fromUnixTimestamp64Milli(%d, 'UTC') AND time < fromUnixTimestamp64Milli(%d, 'UTC')`,
			statusOf("outcome"), q.Since.UnixMilli(), q.Until.UnixMilli()),
		stored: "toNullable(toInt64(count()))", sampledOut: "toInt64(sum(sampled_out))", wall: eventTimes("wall_ms"), cpu: eventTimes("cpu_ms"), levels: schema.InvocationLevels,
	}
}

func rollupTimes(name string) string {
	return fmt.Sprintf("toInt64(sum(%[1]s_measured)), toInt64(sum(%[1]s_weighted)), quantilesDDMerge(0.01, %[2]s)(%[1]s_ms), quantilesTDigestWeightedMerge(%[2]s)(%[1]s_ms_weighted), %[3]s, %[3]s, %[3]s",
		name, levelList(rollupLevels), nothingKnown)
}

// eventTimes are those of the events, each with its weight: few times differ, as they are
// whole milliseconds.
func eventTimes(column string) string {
	return fmt.Sprintf("toInt64(count(%[1]s)), toInt64(0), arrayMap(q -> toFloat64(q), quantilesExactWeighted(%[2]s)(%[1]s, requests)), []::Array(Float32), "+
		"toFloat64(min(%[1]s)), toFloat64(max(%[1]s)), if(count(%[1]s) = count(), toFloat64(sum(%[1]s * requests)), NULL)", column, levelList(schema.InvocationLevels))
}

func levelList(levels []float64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(levels), " ", ", "), "[]")
}

// statusOf is the status that Cloudflare's metrics have for an outcome.
func statusOf(outcome string) string {
	var from, to []string
	for _, s := range schema.InvocationStatuses {
		from, to = append(from, "'"+s.Outcome+"'"), append(to, "'"+s.Status+"'")
	}
	return fmt.Sprintf("transform(toString(%s), [%s], [%s], toString(%[1]s))", outcome, strings.Join(from, ", "), strings.Join(to, ", "))
}

// query sums the rows of a source by groups.
func (s invocationSource) query(q schema.InvocationQuery) (string, []any) {
	c := conditions{args: []any{ch.Named("account", q.AccountID)}}
	// What is about the table's columns is tried where they are read, with the primary key.
	ofRows, ofGroups := []string{"account_id = {account:String}"}, []string{"1"}
	rest := q.Where
	rest.All = nil
	for _, one := range append(slices.Clone(q.Where.All), rest) {
		if one.Asks(schema.InvocationStatus) {
			ofGroups = append(ofGroups, c.invocations(one))
		} else {
			ofRows = append(ofRows, c.invocations(one))
		}
	}
	columns := map[string]string{schema.InvocationScript: "''", schema.InvocationVersion: "''", schema.InvocationStatus: "''", schema.InvocationTime: "toInt64(0)"}
	var groups, order []string
	for _, dimension := range q.By {
		columns[dimension] = invocationColumn(dimension, q.Step)
		groups = append(groups, columns[dimension])
	}
	for _, o := range q.Order {
		by := invocationColumn(o.By, q.Step)
		if o.Step > q.Step {
			by = fmt.Sprintf("intDiv(%s, %d)", by, int64(o.Step/time.Second))
		}
		if o.Descending {
			by += " DESC"
		}
		order = append(order, by)
	}
	// Groups that are alike otherwise come in the same order each time.
	order = append(append(order, groups...), "requests_of_group")
	grouped := ""
	if len(groups) > 0 {
		grouped = "GROUP BY " + strings.Join(groups, ", ")
	}
	return fmt.Sprintf(`SELECT %s, %s, %s, %s,
		toInt64(sum(requests)) AS requests_of_group, toInt64(sum(errors)), %s, %s,
		%s,
		%s
	FROM (%s)
	WHERE %s
	%s HAVING requests_of_group > 0
	ORDER BY %s
	LIMIT %d`, columns[schema.InvocationScript], columns[schema.InvocationVersion], columns[schema.InvocationStatus], columns[schema.InvocationTime],
		s.stored, s.sampledOut, s.wall, s.cpu, strings.ReplaceAll(s.rows, "%s", strings.Join(ofRows, " AND ")), strings.Join(ofGroups, " AND "), grouped, strings.Join(order, ", "), q.Limit), c.args
}

// invocationColumn is SQL for a dimension or a sum.
func invocationColumn(name string, step time.Duration) string {
	switch name {
	case schema.InvocationScript:
		return "toString(script_name)"
	case schema.InvocationVersion:
		return "toString(version_id)"
	case schema.InvocationStatus:
		return "status"
	case schema.InvocationTime:
		return fmt.Sprintf("toInt64(intDiv(second, %[1]d) * %[1]d)", int64(step/time.Second))
	case schema.InvocationErrors:
		return "sum(errors)"
	default:
		return "sum(requests)"
	}
}

// invocationOperators are SQL, with %s for a column and for its value or values.
var invocationOperators = map[schema.InvocationOperator]string{
	schema.InvocationEqual: "%s = %s", schema.InvocationNotEqual: "%s != %s", schema.InvocationIn: "%s IN (%s)", schema.InvocationNotIn: "%s NOT IN (%s)",
	schema.InvocationLike: "%s LIKE %s", schema.InvocationNotLike: "%s NOT LIKE %s",
	schema.InvocationGreater: "%s > %s", schema.InvocationAtLeast: "%s >= %s", schema.InvocationLess: "%s < %s", schema.InvocationAtMost: "%s <= %s",
}

// invocations is SQL for a condition, whose values become arguments.
func (c *conditions) invocations(w schema.InvocationCondition) string {
	all := []string{"1"}
	if w.Dimension != "" {
		names := make([]string, len(w.Values))
		for i, value := range w.Values {
			name := fmt.Sprintf("value_%d", len(c.args))
			names[i] = "{" + name + ":String}"
			c.args = append(c.args, ch.Named(name, value))
		}
		column := map[string]string{schema.InvocationScript: "script_name", schema.InvocationVersion: "version_id", schema.InvocationStatus: "status"}[w.Dimension]
		all = append(all, fmt.Sprintf(invocationOperators[w.Operator], column, strings.Join(names, ", ")))
	}
	for _, one := range w.All {
		all = append(all, c.invocations(one))
	}
	if w.Any != nil {
		some := []string{"0"}
		for _, one := range w.Any {
			some = append(some, c.invocations(one))
		}
		all = append(all, "("+strings.Join(some, " OR ")+")")
	}
	return "(" + strings.Join(all, " AND ") + ")"
}
