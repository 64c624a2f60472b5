package clickhouse

import (
	"context"
	"fmt"
	"time"

	tables "tidegate/schema/clickhouse"
)

// cellKey is a hash of what names a row of a rollup; second is its bucket.
const cellKey = "cityHash64(account_id, script_name, version_id, second)"

func rollupOf(table string) (rollup, error) {
	for _, r := range rateTables {
		if r.Table == table {
			return r, nil
		}
	}
	return rollup{}, fmt.Errorf("no rollup is called %s", table)
}

// covered returns a rollup, and a condition of the raw events that it counts for certain:
// those whose insert began after it was made. It may count others, too, from blocks that
// were repeated since.
func (db *DB) covered(ctx context.Context, table string) (r rollup, events string, err error) {
	if r, err = rollupOf(table); err != nil || r.Table != assigned.Table {
		return r, "1", err
	}
	madeAt, err := db.assignedSince(ctx)
	return r, insertedSince(madeAt), err
}

// rawCells is a subquery of the raw events from from to to, as they are counted in a
// rollup: n requests of a cell each.
func (r rollup) rawCells(from, to time.Time, more, where string) string {
	return fmt.Sprintf(`(SELECT account_id, script_name, version_id, toUnixTimestamp(%s) AS second, n%s
		FROM (SELECT account_id, script_name, version_id, time AS at, 1 + sampled_out AS n, kafka_partition, kafka_offset, inserted_at FROM trace_events
			WHERE %s AND %s AND time >= fromUnixTimestamp64Milli(%d, 'UTC') AND time < fromUnixTimestamp64Milli(%d, 'UTC')))`, r.Bucket, more, r.Of, where, from.UnixMilli(), to.UnixMilli())
}

// rolledCells is the same of the rollup itself.
func (r rollup) rolledCells(from, to time.Time) string {
	return fmt.Sprintf(`(SELECT account_id, script_name, version_id, toUnixTimestamp(time) AS second, requests AS n FROM %s
		WHERE time >= toDateTime(%d, 'UTC') AND time < toDateTime(%d, 'UTC'))`, r.Table, from.Unix(), to.Unix())
}

// RateSums returns what a rollup counts in each hour from from to to, which are whole
// hours, and what the raw events make of the same. Hours without requests are absent. The
// two are read one after the other.
func (db *DB) RateSums(ctx context.Context, table string, from, to time.Time) (rolled, raw []tables.RateSum, err error) {
	r, covered, err := db.covered(ctx, table)
	if err != nil {
		return nil, nil, err
	}
	read := func(cells, what string) (list []tables.RateSum, err error) {
		query := "SELECT toDateTime(intDiv(second, 3600) * 3600, 'UTC') AS hour, sum(n), sum(n * " + cellKey + ") FROM " + cells + " GROUP BY hour ORDER BY hour"
		err = db.visit(ctx, "sum the requests of "+what, query, func(scan func(...any) error) error {
			var s tables.RateSum
			err := scan(&s.Hour, &s.Requests, &s.Sum)
			s.Hour = s.Hour.UTC()
			list = append(list, s)
			return err
		})
		return list, err
	}
	if rolled, err = read(r.rolledCells(from, to), table); err != nil {
		return nil, nil, err
	}
	raw, err = read(r.rawCells(from, to, "", covered), "trace_events")
	return rolled, raw, err
}

// settledColumn is the requests of events in blocks that end at or before the offset of
// their partition in a list, and 0 for others and those that are not covered.
func settledColumn(ends []int64, covered string) string {
	return fmt.Sprintf(", if(kafka_offset < %s AND %s, n, 0) AS settled", byPartition(ends), covered)
}

// RateCells returns cells of a rollup from from to to, which are whole hours, that count
// fewer requests than the settled raw events, or more than all, in the order of time; limit
// of them at most. Settled events have an offset below the one of their partition in ends.
// Rollup and events are not read at the very same moment, so that what is being stored now
// may look wrong: see RolledCells and CountedCells.
func (db *DB) RateCells(ctx context.Context, table string, from, to time.Time, ends []int64, limit int) (list []tables.RateCell, err error) {
	r, covered, err := db.covered(ctx, table)
	if err != nil {
		return nil, err
	}
	query := fmt.Sprintf(`SELECT %s AS key, account_id, script_name, version_id, toDateTime(second, 'UTC'), sum(rolled) AS a, sum(counted) AS b, sum(settled) AS c
		FROM (
			SELECT account_id, script_name, version_id, second, toUInt64(0) AS rolled, n AS counted, settled FROM %s
			UNION ALL
			SELECT account_id, script_name, version_id, second, n AS rolled, toUInt64(0) AS counted, toUInt64(0) AS settled FROM %s
		)
		GROUP BY account_id, script_name, version_id, second
		HAVING a < c OR a > b
		ORDER BY second, account_id, script_name, version_id LIMIT %d`,
		cellKey, r.rawCells(from, to, settledColumn(ends, covered), "1"), r.rolledCells(from, to), limit)
	err = db.visit(ctx, "compare "+table+" with trace_events", query, func(scan func(...any) error) error {
		var c tables.RateCell
		err := scan(&c.Key, &c.AccountID, &c.ScriptName, &c.VersionID, &c.Time, &c.Requests, &c.Rows, &c.Settled)
		c.Time = c.Time.UTC()
		list = append(list, c)
		return err
	})
	return list, err
}

// RolledCells reads what a rollup counts in cells anew, by key. All lie in the hours from
// from to to. Cells without requests are absent.
func (db *DB) RolledCells(ctx context.Context, table string, from, to time.Time, keys []uint64) (map[uint64]uint64, error) {
	r, err := rollupOf(table)
	if err != nil {
		return nil, err
	}
	counts := map[uint64]uint64{}
	query := "SELECT " + cellKey + " AS key, sum(n) FROM " + r.rolledCells(from, to) + " WHERE key IN (" + numbers(keys) + ") GROUP BY key"
	err = db.visit(ctx, "read single rows of "+table, query, func(scan func(...any) error) error {
		var key, n uint64
		err := scan(&key, &n)
		counts[key] = n
		return err
	})
	return counts, err
}

// CountedCells reads what the raw events make of cells of a rollup, as RolledCells and
// RateCells do.
func (db *DB) CountedCells(ctx context.Context, table string, from, to time.Time, keys []uint64, ends []int64) (rows, settled map[uint64]uint64, err error) {
	r, covered, err := db.covered(ctx, table)
	if err != nil {
		return nil, nil, err
	}
	rows, settled = map[uint64]uint64{}, map[uint64]uint64{}
	query := "SELECT " + cellKey + " AS key, sum(n), sum(settled) FROM " + r.rawCells(from, to, settledColumn(ends, covered), "1") +
		" WHERE key IN (" + numbers(keys) + ") GROUP BY key"
	err = db.visit(ctx, "count the events of single rows of "+table, query, func(scan func(...any) error) error {
		var key, n, of uint64
		err := scan(&key, &n, &of)
		rows[key], settled[key] = n, of
		return err
	})
	return rows, settled, err
}
