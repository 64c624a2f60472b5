package clickhouse

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/internal/errs"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// eventColumns in the order in which scanEvent reads them.
const eventColumns = `kafka_partition, kafka_offset, time, skew_ms, version_id, version_tag, version_message, event_type,
	outcome, wall_ms, cpu_ms, upstream_ms, decision, ray_id, error_kind, entrypoint, dispatch_namespace,
	script_tags, event, exceptions, logs`

// cursor is the place of an event in the order of Events.
type cursor struct {
	ms        int64
	partition int32
	offset    int64
}

func (c cursor) String() string { return fmt.Sprintf("%d.%d.%d", c.ms, c.partition, c.offset) }

func parseCursor(s string) (c cursor, err error) {
	if _, err := fmt.Sscanf(s, "%d.%d.%d", &c.ms, &c.partition, &c.offset); err != nil || c.String() != s {
		return c, errs.New(errs.Invalid, 0, "cursor is %q: it must be one that an earlier page answered with", s)
	}
	return c, nil
}

// Events returns a page of a script's events as the gateway wrote them, newest
// first, and the cursor for the page after it, which is empty behind the last
// one. Events that arrive meanwhile don't shift the pages.
func (db *DB) Events(ctx context.Context, account, script string, f tables.EventFilter) ([]schema.TraceEvent, string, error) {
	if f.Limit == 0 {
		f.Limit = tables.EventsDefault
	}
	if f.Limit < 1 || f.Limit > tables.EventsMax {
		return nil, "", errs.New(errs.Invalid, 0, "limit is %d: it must be between 1 and %d", f.Limit, tables.EventsMax)
	}
	where, args, err := eventConditions(f)
	if err != nil {
		return nil, "", err
	}
	args = append(args, ch.Named("account", account), ch.Named("script", script), ch.Named("limit", f.Limit))
	query := `SELECT ` + eventColumns + ` FROM trace_events
		WHERE account_id = {account:String} AND script_name = {script:String}` + where + `
		ORDER BY time DESC, kafka_partition DESC, kafka_offset DESC LIMIT {limit:UInt32}`
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	attempt := "read events of script " + script
	rows, err := db.conn.Query(ctx, query, args...)
	if err != nil {
		return nil, "", failed(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	events := []schema.TraceEvent{}
	var last cursor
	for rows.Next() {
		e := schema.TraceEvent{ScriptName: script}
		if last, err = scanEvent(rows.Scan, &e); err != nil {
			return nil, "", failed(attempt, err)
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil {
		return nil, "", failed(attempt, err)
	}
	if len(events) < f.Limit {
		return events, "", nil
	}
	return events, last.String(), nil
}

// eventConditions writes a filter as SQL, each condition after an AND.
func eventConditions(f tables.EventFilter) (where string, args []any, err error) {
	var b strings.Builder
	add := func(condition string, named ...any) {
		b.WriteString(" AND " + condition)
		args = append(args, named...)
	}
	if !f.Since.IsZero() {
		add("time >= fromUnixTimestamp64Milli({since:Int64})", ch.Named("since", f.Since.UnixMilli()))
	}
	if !f.Until.IsZero() {
		add("time < fromUnixTimestamp64Milli({until:Int64})", ch.Named("until", f.Until.UnixMilli()))
	}
	if f.VersionID != "" {
		add("version_id = {version:String}", ch.Named("version", f.VersionID))
	}
	if f.Outcome != "" {
		add("outcome = {outcome:String}", ch.Named("outcome", f.Outcome))
	}
	if f.RayID != "" {
		add("ray_id = {ray:String}", ch.Named("ray", f.RayID))
	}
	if f.FailedOnly {
		add("(outcome NOT IN ('ok', 'canceled') OR status >= 500)")
	}
	if f.StatusMin != 0 {
		add("status >= {status_min:Int64}", ch.Named("status_min", f.StatusMin))
	}
	if f.StatusMax != 0 {
		add("status BETWEEN 1 AND {status_max:Int64}", ch.Named("status_max", f.StatusMax))
	}
	if f.After != "" {
		c, err := parseCursor(f.After)
		if err != nil {
			return "", nil, err
		}
		// The first half is what the primary key can use.
		add(`time <= fromUnixTimestamp64Milli({ms:Int64})
			AND (toUnixTimestamp64Milli(time), kafka_partition, kafka_offset) < ({ms:Int64}, {partition:Int32}, {offset:Int64})`,
			ch.Named("ms", c.ms), ch.Named("partition", c.partition), ch.Named("offset", c.offset))
	}
	return b.String(), args, nil
}

// scanEvent reads one row of eventColumns.
func scanEvent(scan func(...any) error, e *schema.TraceEvent) (cursor, error) {
	var (
		at                           time.Time
		c                            cursor
		skew                         int64
		tags, event, exceptions, log string
	)
	if err := scan(&c.partition, &c.offset, &at, &skew, &e.ScriptVersion.ID, &e.ScriptVersion.Tag, &e.ScriptVersion.Message, &e.EventType,
		&e.Outcome, &e.WallTimeMs, &e.CPUTimeMs, &e.Gateway.UpstreamMs, &e.Gateway.Decision, &e.Gateway.RayID, &e.ErrorKind,
		&e.Entrypoint, &e.DispatchNamespace, &tags, &event, &exceptions, &log); err != nil {
		return c, err
	}
	c.ms = at.UnixMilli()
	e.EventTimestampMs = c.ms + skew
	if event != "" {
		e.Event = json.RawMessage(event)
	}
	for _, list := range []struct {
		text string
		into any
	}{{tags, &e.ScriptTags}, {exceptions, &e.Exceptions}, {log, &e.Logs}} {
		if err := json.Unmarshal([]byte(list.text), list.into); err != nil {
			return c, fmt.Errorf("event at offset %d of partition %d: %w", c.offset, c.partition, err)
		}
	}
	return c, nil
}
