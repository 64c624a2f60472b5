package clickhouse

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

const (
	// archiveTimeout bounds one page or one count of a replay, which may scan a month.
	archiveTimeout = 5 * time.Minute
	// archivePageRows and archivePageBytes bound a page; one event may be larger.
	archivePageRows  = 5_000
	archivePageBytes = 16 << 20
	// archiveBlockRows bounds what is decoded at a time.
	archiveBlockRows = 500
	// archiveThreads keeps a replay from taking the server from those who look at it.
	archiveThreads = 2
)

func archiveSettings() ch.Settings { return ch.Settings{"max_threads": archiveThreads, "priority": 10} }

// OldestEvent returns the time of an account's oldest event that is kept, and false
// where there is none.
func (db *DB) OldestEvent(ctx context.Context, accountID string) (time.Time, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var oldest time.Time
	var rows uint64
	err := db.conn.QueryRow(ctx, `SELECT min(time), count() FROM trace_events WHERE account_id = {account:String}`,
		ch.Named("account", accountID)).Scan(&oldest, &rows)
	return oldest.UTC(), rows > 0, failed("find the oldest event", err)
}

// OldestArchived returns the time of the oldest event of all accounts that is kept, and
// false where there is none.
func (db *DB) OldestArchived(ctx context.Context) (time.Time, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var oldest time.Time
	var rows uint64
	err := db.conn.QueryRow(ctx, `SELECT min(time), count() FROM trace_events`).Scan(&oldest, &rows)
	return oldest.UTC(), rows > 0, failed("find the oldest event of all accounts", err)
}

// ArchivedEvents returns the events that q asks for in the order of their offsets,
// as many as fit into a page, and the offset from which to ask for more; q.End when
// there are no more.
func (db *DB) ArchivedEvents(ctx context.Context, q tables.ArchiveQuery) (list []tables.Archived, next int64, err error) {
	attempt := fmt.Sprintf("read events of partition %d from offset %d on", q.Partition, q.Begin)
	ctx, cancel := context.WithTimeout(ctx, archiveTimeout)
	defer cancel() // also ends a query whose rows are not all wanted
	ctx = ch.Context(ctx, ch.WithSettings(archiveSettings()))

	// The offsets first: a page must not make the server read the large columns of
	// the whole range to sort them.
	var last sql.Null[int64]
	var found uint64
	err = db.conn.QueryRow(ctx, `SELECT max(kafka_offset), count() FROM (SELECT kafka_offset FROM trace_events WHERE `+archiveWhere+`
		ORDER BY kafka_offset LIMIT {rows:UInt64})`, append(archiveArgs(q), ch.Named("rows", fmt.Sprint(archivePageRows)))...).Scan(&last, &found)
	if err != nil {
		return nil, 0, failed(attempt, err)
	}
	if found == 0 {
		return nil, q.End, nil
	}
	page := q
	page.End = last.V + 1
	settings := archiveSettings()
	settings["max_block_size"] = archiveBlockRows
	rows, err := db.conn.Query(ch.Context(ctx, ch.WithSettings(settings)), `SELECT `+archiveColumns+` FROM trace_events WHERE `+archiveWhere+` ORDER BY kafka_offset, ray_id`, archiveArgs(page)...)
	if err != nil {
		return nil, 0, failed(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	next = page.End
	if found < archivePageRows {
		next = q.End
	}
	bytes := 0
	for rows.Next() {
		a, err := scanArchived(rows)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", attempt, err)
		}
		// Events of one offset, which a topic made anew has, stay on one page.
		if n := len(list); bytes >= archivePageBytes && a.Offset != list[n-1].Offset {
			return list, list[n-1].Offset + 1, nil
		}
		bytes += len(a.Value)
		list = append(list, a)
	}
	return list, next, failed(attempt, rows.Err())
}

const archiveColumns = `kafka_offset, time, skew_ms, logpush, script_name, version_id, version_tag, version_message, event_type, outcome,
	wall_ms, cpu_ms, upstream_ms, decision, affinity_rule, caller_script, caller_version_id, sampled_out, ray_id, error_kind, entrypoint, dispatch_namespace,
	script_tags, event, exceptions, logs`

const archiveWhere = `account_id = {account:String} AND kafka_partition = {partition:Int32}
	AND kafka_offset >= {begin:Int64} AND kafka_offset < {end:Int64} AND ` + archiveTimes

const archiveTimes = `time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')`

// archiveArgs rounds times up to whole milliseconds, which is what times of events are.
func archiveArgs(q tables.ArchiveQuery) []any {
	ceil := func(t time.Time) string { return fmt.Sprint(t.Add(time.Millisecond - 1).UnixMilli()) }
	to := q.To
	if to.IsZero() {
		to = schema.TimeLatest
	}
	return []any{
		ch.Named("account", q.AccountID), ch.Named("partition", fmt.Sprint(q.Partition)),
		ch.Named("begin", fmt.Sprint(q.Begin)), ch.Named("end", fmt.Sprint(q.End)),
		ch.Named("from", ceil(q.From)), ch.Named("to", ceil(to)),
	}
}

// scanArchived reads a row and makes the record's value of it.
func scanArchived(row interface{ Scan(...any) error }) (a tables.Archived, err error) {
	var e schema.TraceEvent
	var skew int64
	var rule uint16
	var sampledOut uint64
	var tags, event, exceptions, logs string
	err = row.Scan(&a.Offset, &a.Time, &skew, &a.Logpush, &e.ScriptName, &e.ScriptVersion.ID, &e.ScriptVersion.Tag, &e.ScriptVersion.Message,
		&e.EventType, &e.Outcome, &e.WallTimeMs, &e.CPUTimeMs, &e.Gateway.UpstreamMs, &e.Gateway.Decision, &rule, &e.Gateway.CallerScript, &e.Gateway.CallerVersionID, &sampledOut,
		&e.Gateway.RayID, &e.ErrorKind, &e.Entrypoint, &e.DispatchNamespace, &tags, &event, &exceptions, &logs)
	if err != nil {
		return a, err
	}
	a.Time = a.Time.UTC()
	e.EventTimestampMs = a.Time.UnixMilli() + skew
	e.Event = json.RawMessage(event)
	e.Gateway.AffinityRule = int(rule)
	e.Gateway.SampledOut = int64(sampledOut) // #nosec G115 -- bounded where events are decoded
	err = errors.Join(json.Unmarshal([]byte(tags), &e.ScriptTags), json.Unmarshal([]byte(exceptions), &e.Exceptions), json.Unmarshal([]byte(logs), &e.Logs))
	if err != nil {
		return a, fmt.Errorf("read the event at offset %d: %w", a.Offset, err)
	}
	a.Value = e.AppendJSON(nil)
	return a, nil
}

// ArchiveRange finds where the events of a range of times lie within [q.Begin, q.End)
// of a partition, those of all accounts. Holes at its borders count as part of it: what
// was there may have been of that time. With q.Begin -1 there is none below the oldest
// event that is held.
func (db *DB) ArchiveRange(ctx context.Context, q tables.ArchiveQuery) (r tables.ArchiveRange, err error) {
	ctx, cancel := context.WithTimeout(ctx, archiveTimeout)
	defer cancel()
	ctx = ch.Context(ctx, ch.WithSettings(archiveSettings()))
	ask := func(select_, where string, args []any, dest ...any) {
		if err == nil {
			err = db.conn.QueryRow(ctx, "SELECT "+select_+" FROM trace_events WHERE kafka_partition = {partition:Int32} AND "+where, args...).Scan(dest...)
		}
	}
	const offsets = "kafka_offset >= {begin:Int64} AND kafka_offset < {end:Int64}"
	inside := func(begin, end int64) []any {
		q := q
		q.Begin, q.End = begin, end
		return archiveArgs(q)
	}

	var first, last, below, above int64
	var rows, rowsBelow, rowsAbove uint64
	all := inside(q.Begin, q.End)
	ask("min(kafka_offset), max(kafka_offset), count()", offsets+" AND "+archiveTimes, all, &first, &last, &rows)
	if rows > 0 {
		ask("max(kafka_offset), count()", offsets, inside(q.Begin, first), &below, &rowsBelow)
		ask("min(kafka_offset), count()", offsets, inside(last+1, q.End), &above, &rowsAbove)
	} else {
		ask("max(kafka_offset), count()", offsets+" AND time < fromUnixTimestamp64Milli({from:Int64}, 'UTC')", all, &below, &rowsBelow)
		ask("min(kafka_offset), count()", offsets+" AND time >= fromUnixTimestamp64Milli({to:Int64}, 'UTC')", all, &above, &rowsAbove)
	}
	r.End = q.End
	if rowsAbove > 0 {
		r.End = above
	}
	switch {
	case rowsBelow > 0:
		r.Begin = below + 1
	case q.Begin >= 0:
		r.Begin = q.Begin
	case rows > 0:
		r.Begin = first
	default:
		r.Begin = r.End
	}
	r.End = max(r.Begin, r.End)

	var events, others uint64
	ask("count()", offsets, inside(r.Begin, r.End), &events)
	if err == nil {
		err = db.conn.QueryRow(ctx, "SELECT uniqExact(kafka_offset) FROM trace_events_quarantine WHERE kafka_partition = {partition:Int32} AND "+offsets,
			inside(r.Begin, r.End)...).Scan(&others)
	}
	r.Held = int64(events + others) // #nosec G115 -- rows of one table
	return r, failed(fmt.Sprintf("find where events from %s to %s lie in partition %d", q.From, q.To, q.Partition), err)
}
