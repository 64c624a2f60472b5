package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

const (
	// deletionTimeout bounds one count, or the note of one chunk's offsets.
	deletionTimeout = 5 * time.Minute
	// keptScriptsMax bounds a list of names in a statement.
	keptScriptsMax = 1_000
	// borderKnown is how old the time may be up to which is deleted, if the bucket in
	// which it lies is to go: for so long trace_events has what came after it, whatever
	// its retention, of which a day is the shortest.
	borderKnown = 20 * time.Hour
	// noteOffsets is how many offsets are noted at once. A note has one inserted_at, of
	// its beginning, and a server that gets its first row 30 s later refuses it
	// (012_inserted_in_time.sql).
	noteOffsets = 65_536
	// replicaDelayMax is how many seconds a replica may be behind that says what there is
	// to be noted: the removal reaches rows that it does not have yet.
	replicaDelayMax = 20
)

// deletionSettings are for questions whose answer must have all that had been inserted
// at Look.Settled.
func deletionSettings() ch.Settings {
	settings := archiveSettings()
	settings["max_replica_delay_for_distributed_queries"] = replicaDelayMax
	settings["fallback_to_stale_replicas_for_distributed_queries"] = 0
	return settings
}

// DeletionTables are the tables that hold something of an account, in the order in
// which a deletion empties them.
func (db *DB) DeletionTables() []string {
	list := []string{"trace_events_quarantine", "trace_events"}
	for _, r := range rateTables {
		list = append(list, r.Table)
	}
	return list
}

// AddTombstone has ingest refuse late events from now on. To add one again does nothing.
func (db *DB) AddTombstone(ctx context.Context, t schema.Tombstone) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	settings := db.onReplicas(ch.Settings{"async_insert": 0, "distributed_foreground_insert": 1})
	statement := fmt.Sprintf("INSERT INTO tombstones (account_id, script_name, before) SELECT %s, %s, fromUnixTimestamp64Milli(toInt64(%d), 'UTC')",
		literal(t.AccountID), literal(t.Script), t.Before.UnixMilli())
	return failed("add a tombstone", db.conn.Exec(ch.Context(ctx, ch.WithSettings(settings)), statement))
}

// Tombstones returns what is not to be stored any more.
func (db *DB) Tombstones(ctx context.Context) (list []schema.Tombstone, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := db.conn.Query(ctx, "SELECT account_id, script_name, max(before) FROM tombstones GROUP BY account_id, script_name")
	if err != nil {
		return nil, failed("read the tombstones", err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	for rows.Next() {
		var t schema.Tombstone
		if err := rows.Scan(&t.AccountID, &t.Script, &t.Before); err != nil {
			return nil, failed("read the tombstones", err)
		}
		t.Before = t.Before.UTC()
		list = append(list, t)
	}
	return list, failed("read the tombstones", rows.Err())
}

// CountDeletion returns how many rows of a table a tombstone still covers.
func (db *DB) CountDeletion(ctx context.Context, table string, t schema.Tombstone, at tables.Look) (tables.Doomed, error) {
	ctx, cancel := context.WithTimeout(ctx, deletionTimeout)
	defer cancel()
	c, err := db.deletionCondition(ctx, table, t, at)
	if err != nil {
		return tables.Doomed{}, err
	}
	var d tables.Doomed
	err = db.conn.QueryRow(ch.Context(ctx, ch.WithSettings(deletionSettings())), fmt.Sprintf(`SELECT toInt64(countIf(%s)), toInt64(countIf(%s)), toInt64(countIf(%s)), toInt64(countIf(%s))
		FROM %s WHERE account_id = %s`, c.doomed, c.ready, c.due, c.kept, table, literal(t.AccountID))).Scan(&d.Left, &d.Ready, &d.Due, &d.Kept)
	return d, failed("count what is to be deleted from "+table, err)
}

// DeleteRows has ClickHouse write the parts of a table anew without the rows that a
// tombstone covers, and does not wait for it. id names the deletion, so that Removing
// finds it. Other rows are untouched, and so are those that NoteDeleted left out at the
// same look.
func (db *DB) DeleteRows(ctx context.Context, table, id string, t schema.Tombstone, at tables.Look) error {
	c, err := db.deletionCondition(ctx, table, t, at)
	if err != nil {
		return err
	}
	l := layout{db.cfg.Database, db.cfg.Cluster}
	// A lightweight DELETE would only hide the rows, until the day on which their parts
	// are merged.
	statement := l.deletion(table, id, fmt.Sprintf("account_id = %s AND (%s)", literal(t.AccountID), c.ready))
	if err := db.define(ch.Context(ctx, ch.WithSettings(ch.Settings{"mutations_sync": 0})), db.conn.Exec, statement); err != nil {
		return fmt.Errorf("delete from %s: %w", table, err)
	}
	return nil
}

// deletion is the statement that removes rows. The text in it names whose it is.
func (l layout) deletion(table, id, condition string) string {
	return fmt.Sprintf("ALTER TABLE %s%s DELETE WHERE %s AND %s", l.local(table), l.onCluster(), condition, deletionMark(id))
}

func deletionMark(id string) string { return literal("deletion "+id) + " != ''" }

// Removing looks for what a deletion began in a table and ClickHouse has not finished.
func (db *DB) Removing(ctx context.Context, table, id string) (m tables.Mutation, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	l := layout{db.cfg.Database, db.cfg.Cluster}
	from := "system.mutations"
	if l.cluster != "" {
		from = fmt.Sprintf("clusterAllReplicas(`%s`, system.mutations)", l.cluster)
	}
	var running, parts uint64
	err = db.conn.QueryRow(ctx, fmt.Sprintf(`SELECT count(), sum(toUInt64(greatest(parts_to_do, 0))), anyIf(latest_fail_reason, latest_fail_reason != '') FROM %s
		WHERE database = %s AND table = %s AND NOT is_done AND NOT is_killed AND position(command, %s) > 0`,
		from, literal(l.database), literal(l.local(table)), literal("deletion "+id))).Scan(&running, &parts, &m.Failure)
	m.Running, m.PartsLeft = running > 0, int64(parts) // #nosec G115 -- parts of one table
	return m, failed("look for the deletion from "+table, err)
}

// condition of rows, in SQL, beside their account.
type condition struct {
	doomed, ready, due, kept string // see tables.Doomed
}

func (db *DB) deletionCondition(ctx context.Context, table string, t schema.Tombstone, at tables.Look) (condition, error) {
	before := fmt.Sprintf("fromUnixTimestamp64Milli(toInt64(%d), 'UTC')", t.Before.UnixMilli())
	named := "1"
	if t.Script != "" {
		named = "script_name = " + literal(t.Script)
	}
	// A removal takes whatever is there when it begins, and only what was noted before may
	// go. So it must not reach what an insert may have brought in between.
	settled := fmt.Sprintf(" AND inserted_at < fromUnixTimestamp64Milli(toInt64(%d), 'UTC')", at.Settled.UnixMilli())
	switch table {
	case "trace_events":
		doomed := named + " AND time < " + before
		return condition{doomed, doomed + settled, "0", "0"}, nil
	case "trace_events_quarantine":
		// Nobody knows whose a record is that cannot be read. One that names the script
		// may be of it, and so may one whose end was cut off.
		if t.Script != "" {
			named = fmt.Sprintf("(position(value, %s) > 0 OR value_bytes > length(value))", literal(`"`+t.Script+`"`))
		}
		doomed := named + " AND kafka_time < " + before
		return condition{doomed, doomed + settled, "0", "0"}, nil
	}
	i := slices.IndexFunc(rateTables, func(r rollup) bool { return r.Table == table })
	if i < 0 {
		return condition{}, fmt.Errorf("delete from %s: it holds nothing of an account", table)
	}
	return db.rateCondition(ctx, t, named, rateTables[i].Seconds, at)
}

// rateCondition is of rates in buckets of so many seconds. Whole ones: there is no taking
// a request out of a sum of several.
func (db *DB) rateCondition(ctx context.Context, t schema.Tombstone, named string, length int64, at tables.Look) (condition, error) {
	end := (t.Before.UnixMilli() + 1000*length - 1) / (1000 * length) * length // of the last bucket with something to delete
	bucket := func(seconds int64) string { return fmt.Sprintf("toDateTime(%d, 'UTC')", seconds) }
	if end*1000 == t.Before.UnixMilli() {
		doomed := named + " AND time < " + bucket(end)
		return condition{doomed, doomed, "0", "0"}, nil
	}
	doomed := named + " AND time < " + bucket(end-length)
	border := named + " AND time = " + bucket(end-length)
	c := condition{doomed, doomed, "0", border}
	// Until its end the bucket may get events that stay, and a removal that had begun
	// meanwhile would take their counts.
	if at.Settled.Before(time.Unix(end, 0)) || at.Now.Sub(t.Before) > borderKnown {
		return c, nil
	}
	scripts, err := db.scriptsBetween(ctx, t, time.Unix(end, 0))
	if err != nil || len(scripts) > keptScriptsMax {
		return c, err
	}
	c.due, c.kept = border, "0"
	if len(scripts) > 0 {
		names := "(" + strings.Join(scripts, ", ") + ")"
		c.due, c.kept = border+" AND script_name NOT IN "+names, border+" AND script_name IN "+names
	}
	c.doomed = fmt.Sprintf("(%s) OR (%s)", doomed, c.due)
	c.ready = c.doomed
	return c, nil
}

// scriptsBetween returns, as literals, the scripts that have events from a tombstone's
// time on, up to another.
func (db *DB) scriptsBetween(ctx context.Context, t schema.Tombstone, until time.Time) (list []string, err error) {
	const attempt = "look for events after those to be deleted"
	rows, err := db.conn.Query(ctx, `SELECT DISTINCT script_name FROM trace_events WHERE account_id = {account:String}
		AND ({script:String} = '' OR script_name = {script:String})
		AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
		ORDER BY script_name LIMIT {most:UInt64}`,
		ch.Named("account", t.AccountID), ch.Named("script", t.Script), ch.Named("from", fmt.Sprint(t.Before.UnixMilli())),
		ch.Named("to", fmt.Sprint(until.UnixMilli())), ch.Named("most", fmt.Sprint(keptScriptsMax+1)))
	if err != nil {
		return nil, failed(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	for rows.Next() {
		var script string
		if err := rows.Scan(&script); err != nil {
			return nil, failed(attempt, err)
		}
		list = append(list, literal(script))
	}
	return list, failed(attempt, rows.Err())
}

// NoteDeleted leaves the offsets of the rows that a tombstone covers, and that are ready,
// in the quarantine, and nothing else of them, so that they are not taken for lost later.
// It goes through one day and some offsets of a partition after the other, and leaves out
// what is noted, so it may be repeated after a crash.
func (db *DB) NoteDeleted(ctx context.Context, table string, t schema.Tombstone, at tables.Look) error {
	c, err := db.deletionCondition(ctx, table, t, at)
	if err != nil {
		return err
	}
	column := "time"
	if table == "trace_events_quarantine" {
		column = "kafka_time"
	}
	where := fmt.Sprintf("account_id = %s AND (%s)", literal(t.AccountID), c.ready)
	chunks, err := db.deletionChunks(ctx, table, column, where)
	if err != nil {
		return err
	}
	for _, k := range chunks {
		if err := db.noteChunk(ctx, table, column, where, k); err != nil {
			return err
		}
	}
	return nil
}

// chunk is a day's rows of a partition between two offsets, of which there are at most
// noteOffsets.
type chunk struct {
	partition   int32
	day         uint16 // since 1970
	first, last int64
}

func (db *DB) deletionChunks(ctx context.Context, table, column, where string) (list []chunk, err error) {
	ctx, cancel := context.WithTimeout(ctx, deletionTimeout)
	defer cancel()
	attempt := "find the offsets of what is to be deleted from " + table
	rows, err := db.conn.Query(ch.Context(ctx, ch.WithSettings(deletionSettings())), fmt.Sprintf(`SELECT kafka_partition, toUInt16(toDate(%s)) AS day, min(kafka_offset), max(kafka_offset)
		FROM %s WHERE %s GROUP BY kafka_partition, day, intDiv(kafka_offset, %d) ORDER BY kafka_partition, day, min(kafka_offset)`, column, table, where, noteOffsets))
	if err != nil {
		return nil, failed(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	for rows.Next() {
		var k chunk
		if err := rows.Scan(&k.partition, &k.day, &k.first, &k.last); err != nil {
			return nil, failed(attempt, err)
		}
		list = append(list, k)
	}
	return list, failed(attempt, rows.Err())
}

func (db *DB) noteChunk(ctx context.Context, table, column, where string, k chunk) error {
	ctx, cancel := context.WithTimeout(ctx, deletionTimeout)
	defer cancel()
	settings := db.onReplicas(deletionSettings())
	settings["async_insert"], settings["distributed_foreground_insert"] = 0, 1
	settings["insert_deduplicate"] = 0 // by the offsets, as below
	of := fmt.Sprintf("kafka_partition = %d AND kafka_offset >= %d AND kafka_offset <= %d", k.partition, k.first, k.last)
	statement := fmt.Sprintf(`INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset, kafka_time, account_id, reason, detail, value, value_bytes)
		SELECT kafka_partition, kafka_offset, toDateTime64(toDate(%d), 3, 'UTC'), '', '%s', '', '', 0 FROM %s
		WHERE %s AND %s AND toDate(%s) = toDate(%d)
		AND kafka_offset GLOBAL NOT IN (SELECT kafka_offset FROM trace_events_quarantine WHERE %s AND reason = '%s')`,
		k.day, tables.ReasonDeleted, table, where, of, column, k.day, of, tables.ReasonDeleted)
	return failed("note the offsets of what is to be deleted from "+table, db.conn.Exec(ch.Context(ctx, ch.WithSettings(settings)), statement))
}

// HoldsDeleted reports whether some event that a tombstone covers, or covered until it
// was deleted, lies in a range [begin, end) of offsets.
func (db *DB) HoldsDeleted(ctx context.Context, t schema.Tombstone, partition int, begin, end int64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	c, err := db.deletionCondition(ctx, "trace_events", t, tables.Look{})
	if err != nil {
		return false, err
	}
	of := fmt.Sprintf("kafka_partition = %d AND kafka_offset >= %d AND kafka_offset < %d", partition, begin, end)
	var found uint64
	err = db.conn.QueryRow(ctx, fmt.Sprintf(`SELECT (SELECT count() FROM trace_events WHERE account_id = %s AND %s AND %s)
		+ (SELECT count() FROM trace_events_quarantine WHERE %s AND reason = '%s')`,
		literal(t.AccountID), c.doomed, of, of, tables.ReasonDeleted)).Scan(&found)
	return found > 0, failed("look for what is to be deleted among offsets", err)
}

// literal writes a text as SQL.
func literal(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\x00", `\0`).Replace(text) + "'"
}
