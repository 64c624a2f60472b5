package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/internal/errs"
	tables "tidegate/schema/clickhouse"
)

// inTime is how the tables call the bound on the age of a block's proof.
const inTime = "inserted_in_time"

// Now returns the server's time, as far as it is known: this machine's, until the server
// has refused a block because of its time. It is safe for concurrent use.
func (db *DB) Now() time.Time { return time.Now().Add(time.Duration(db.behind.Load())) }

// proven appends the column by which the server knows when the sender owned the block.
func proven(columns []tables.Column, rows int, at time.Time) []tables.Column {
	if at.IsZero() {
		return columns // the server takes its own time
	}
	return append(slices.Clip(columns), tables.Column{Name: "inserted_at", Type: "DateTime64(3, 'UTC')", Values: sameTime{at.UnixMilli(), rows}})
}

// sameTime is a column that has one value, in Unix milliseconds, in all of its rows.
type sameTime struct {
	ms   int64
	rows int
}

// late turns the refusal of a block whose proof is too old into an error that says so.
// Either the block was under way for too long, or clocks differ, so the server is asked
// for its time.
func (db *DB) late(ctx context.Context, attempt string, err error) error {
	refusal, ok := errors.AsType[*ch.Exception](err)
	if !ok || !strings.Contains(refusal.Message, inTime) {
		return failed(attempt, err)
	}
	server, asked := db.ServerTime(ctx)
	if asked != nil {
		return failed(attempt, errors.Join(err, asked))
	}
	// Not earlier than the server was asked, so never ahead of it.
	db.behind.Store(int64(server.Sub(time.Now().Round(0))))
	return fmt.Errorf("%s: %w: %w", attempt, errs.New(errs.Unavailable, 0, "the block came too late, or the clocks of this machine and of ClickHouse differ"), err)
}

// ServerTime asks the server for its time, in whole milliseconds.
func (db *DB) ServerTime(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var ms int64
	if err := db.conn.QueryRow(ctx, "SELECT toUnixTimestamp64Milli(now64(3))").Scan(&ms); err != nil {
		return time.Time{}, failed("ask for the server's time", err)
	}
	return time.UnixMilli(ms).UTC(), nil
}

// Stored tells which records from offset begin up to, but not including, end of a
// partition are stored, as events or in the quarantine.
func (db *DB) Stored(ctx context.Context, partition int, begin, end int64) (s tables.Stored, err error) {
	ctx, cancel := context.WithTimeout(ctx, storedTimeout)
	defer cancel()
	attempt := fmt.Sprintf("find the stored records of partition %d from offset %d to %d", partition, begin, end)
	const where = "WHERE kafka_partition = {partition:Int32} AND kafka_offset >= {begin:Int64} AND kafka_offset < {end:Int64}"
	args := func(begin, end int64) []any {
		return []any{ch.Named("partition", fmt.Sprint(partition)), ch.Named("begin", fmt.Sprint(begin)), ch.Named("end", fmt.Sprint(end))}
	}
	var rows uint64
	err = db.conn.QueryRow(ctx, `SELECT max(kafka_offset), count() FROM
		(SELECT kafka_offset FROM trace_events `+where+` UNION ALL SELECT kafka_offset FROM trace_events_quarantine `+where+`)`,
		args(begin, end)...).Scan(&s.Last, &rows)
	if err != nil || rows == 0 {
		return tables.Stored{}, failed(attempt, err)
	}
	s.Rows = int64(rows) // #nosec G115 -- rows of a table
	list, err := db.conn.Query(ctx, `SELECT true, ray_id, toUnixTimestamp64Milli(time) + skew_ms, false FROM trace_events `+where+`
		UNION ALL SELECT false, '', toUnixTimestamp64Milli(kafka_time), reason = '`+tables.ReasonDeleted+`' FROM trace_events_quarantine `+where, args(s.Last, s.Last+1)...)
	if err != nil {
		return tables.Stored{}, failed(attempt, err)
	}
	defer func() { _ = list.Close() }() // what went wrong is in list.Err
	for list.Next() {
		var r tables.StoredRecord
		if err := list.Scan(&r.Event, &r.RayID, &r.TimeMs, &r.Deleted); err != nil {
			return tables.Stored{}, failed(attempt, err)
		}
		s.Records = append(s.Records, r)
	}
	return s, failed(attempt, list.Err())
}
