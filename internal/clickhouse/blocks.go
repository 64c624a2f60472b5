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
	"tidegate/schema"
)

const (
	// assignedMigration is the number of the migration that makes assigned_rates_1s.
	assignedMigration = 13
	// assignedSettled after that migration begins a second of which the table has every
	// event: none is stored so long before its time, and no insert takes so long.
	assignedSettled = schema.EventAheadMax + 5*time.Minute
	// blocksPiece is how many seconds, of all scripts together, one question is about. Four
	// versions in each are less than questionRows; of more, half as many seconds are asked
	// for, and so on.
	blocksPiece = 6 * 3600
	// blocksRangeMax bounds what is asked for at once.
	blocksRangeMax = 31 * 24 * time.Hour
)

// RateBlocks returns what each version of a script did in each second that begins at or
// after since and before until, of requests whose version was drawn, in the order of time
// and then of versions. A second without such a request is absent. With durations, Wall and
// CPU are filled in, which for a day costs ten times as much.
//
// What was stored before migration 013 is told from version_rates_1s, which knows less:
// there Wall and CPU are nil, and KindsUnknown says where the kinds of failures are not
// known. The error is of kind invalid where since is not before until, or is more than 31
// days before it.
func (db *DB) RateBlocks(ctx context.Context, account, script string, since, until time.Time, durations bool) ([]schema.RateBlock, error) {
	of := schema.ScriptRef{AccountID: account, ScriptName: script}
	blocks, err := db.RateBlocksOf(ctx, []schema.ScriptRef{of}, since, until, durations)
	if err != nil {
		return nil, err
	}
	return append([]schema.RateBlock{}, blocks[of]...), nil
}

// BlocksKept is how long RateBlocks knows a second, at least; 0 is for ever.
func (db *DB) BlocksKept() time.Duration {
	return time.Duration(db.cfg.Retention.SecondRateDays) * 24 * time.Hour
}

// RateBlocksOf is RateBlocks of many scripts: for a few minutes, most of what a question
// costs is the question. Scripts without such requests are absent.
func (db *DB) RateBlocksOf(ctx context.Context, scripts []schema.ScriptRef, since, until time.Time, durations bool) (map[schema.ScriptRef][]schema.RateBlock, error) {
	if err := validRange(since, until); err != nil {
		return nil, err
	}
	if until.Sub(since) > blocksRangeMax {
		return nil, errs.New(errs.Invalid, 0, "since and until are %s apart: it must be %s at most", until.Sub(since), blocksRangeMax)
	}
	madeAt, err := db.assignedSince(ctx)
	if err != nil {
		return nil, err
	}
	blocks := map[schema.ScriptRef][]schema.RateBlock{}
	end := ceilTo(until, 1)
	for from := ceilTo(since, 1); from < end; from += blocksPiece {
		to := min(from+blocksPiece, end)
		for some := range slices.Chunk(scripts, int(max(1, blocksPiece/(to-from)))) {
			if err := db.addBlocks(ctx, blocks, some, from, to, madeAt, durations); err != nil {
				return nil, err
			}
		}
	}
	return blocks, nil
}

// assignedSince returns when assigned_rates_1s was made: blocks whose insert began since
// are in it. It is the zero time while the tables are those of an earlier version.
func (db *DB) assignedSince(ctx context.Context) (time.Time, error) {
	if ms := db.assignedAt.Load(); ms != 0 {
		return time.UnixMilli(ms).UTC(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var ms int64
	err := db.conn.QueryRow(ctx, "SELECT toUnixTimestamp64Milli(min(applied_at)) FROM schema_migrations WHERE number = {number:UInt32}",
		ch.Named("number", assignedMigration)).Scan(&ms) // 0 where there is none
	if err != nil || ms == 0 {
		return time.Time{}, failed("read when "+assigned.Table+" was made", err)
	}
	db.assignedAt.Store(ms)
	return time.UnixMilli(ms).UTC(), nil
}

// blocksSource is a subquery of what is known of the seconds [from, to) of scripts. Columns
// whose names begin with old are those of version_rates_1s: zero where assigned_rates_1s,
// which was made at a time, has everything.
func blocksSource(scripts []schema.ScriptRef, from, to int64, madeAt time.Time) string {
	const (
		own = `requests AS own_requests, failures AS own_failures, exceptions AS own_exceptions, status_5xx AS own_5xx, sampled_out AS own_sampled_out, wall AS own_wall, cpu AS own_cpu,
			0 AS old_requests, 0 AS old_failures, 0 AS old_all_failures, 0 AS old_all_exceptions, 0 AS old_all_5xx`
		old = `0 AS own_requests, 0 AS own_failures, 0 AS own_exceptions, 0 AS own_5xx, 0 AS own_sampled_out, map()::Map(UInt16, UInt64) AS own_wall, map()::Map(UInt16, UInt64) AS own_cpu,
			assigned AS old_requests, assigned_failures AS old_failures, failures AS old_all_failures, exceptions AS old_all_exceptions, status_5xx AS old_all_5xx`
	)
	names := make([]string, len(scripts))
	for i, s := range scripts {
		names[i] = "(" + literal(s.AccountID) + ", " + literal(s.ScriptName) + ")"
	}
	part := func(columns, table string, to int64) string {
		return fmt.Sprintf("SELECT account_id, script_name, version_id, time, %s FROM %s WHERE (account_id, script_name) IN (%s) AND time >= toDateTime(%d, 'UTC') AND time < toDateTime(%d, 'UTC')",
			columns, table, strings.Join(names, ", "), from, to)
	}
	complete := ceilTo(madeAt.Add(assignedSettled), 1)
	switch {
	case madeAt.IsZero():
		return "(" + part(old, rollups[0].Table, to) + ")"
	case from >= complete:
		return "(" + part(own, assigned.Table, to) + ")"
	}
	return "(" + part(own, assigned.Table, to) + " UNION ALL " + part(old, rollups[0].Table, min(to, complete)) + ")"
}

// addBlocks adds what is known of the seconds [from, to) of scripts, in the order of time. What
// is too much for one answer is asked for in two: a controller that judges many versions
// at once would never have an answer otherwise.
func (db *DB) addBlocks(ctx context.Context, blocks map[schema.ScriptRef][]schema.RateBlock, scripts []schema.ScriptRef, from, to int64, madeAt time.Time, durations bool) error {
	list, err := db.readBlocks(ctx, blocksSource(scripts, from, to, madeAt), durations)
	if refusal, ok := errors.AsType[*ch.Exception](err); ok && refusal.Code == tooManyRows && to-from > 1 {
		half := from + (to-from)/2
		if err := db.addBlocks(ctx, blocks, scripts, from, half, madeAt, durations); err != nil {
			return err
		}
		return db.addBlocks(ctx, blocks, scripts, half, to, madeAt, durations)
	}
	for _, b := range list {
		blocks[b.of] = append(blocks[b.of], b.RateBlock)
	}
	return err
}

// scriptBlock is a block and whose it is.
type scriptBlock struct {
	of schema.ScriptRef
	schema.RateBlock
}

// readBlocks asks for the seconds of one source. With an error there are none.
func (db *DB) readBlocks(ctx context.Context, source string, durations bool) (list []scriptBlock, err error) {
	histograms := "map()::Map(UInt16, Int64), map()::Map(UInt16, Int64)"
	if durations {
		histograms = "CAST(sumMap(own_wall) AS Map(UInt16, Int64)), CAST(sumMap(own_cpu) AS Map(UInt16, Int64))"
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	const attempt = "read what versions did in each second"
	rows, err := db.conn.Query(ctx, `SELECT account_id, script_name, version_id, time AS at,
			toInt64(sum(own_requests)) AS own, toInt64(sum(own_failures)), toInt64(sum(own_exceptions)), toInt64(sum(own_5xx)), toInt64(max(own_sampled_out)), `+histograms+`,
			toInt64(sum(old_requests)) AS old, toInt64(sum(old_failures)), toInt64(sum(old_all_failures)), toInt64(sum(old_all_exceptions)), toInt64(sum(old_all_5xx))
		FROM `+source+`
		GROUP BY account_id, script_name, at, version_id HAVING own > 0 OR old > 0 ORDER BY at, version_id`)
	if err != nil {
		return nil, tooMuch(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	for rows.Next() {
		var b scriptBlock
		var old oldBlock
		if err := rows.Scan(&b.of.AccountID, &b.of.ScriptName, &b.VersionID, &b.Time, &b.Requests, &b.Failures, &b.Exceptions, &b.Status5xx, &b.SampledOut,
			(*map[uint16]int64)(&b.Wall), (*map[uint16]int64)(&b.CPU),
			&old.requests, &old.failures, &old.allFailures, &old.allExceptions, &old.all5xx); err != nil {
			return nil, failed(attempt, err)
		}
		b.RateBlock = old.complete(b.RateBlock)
		list = append(list, b)
	}
	if err := rows.Err(); err != nil {
		return nil, tooMuch(attempt, err)
	}
	return list, nil
}

// oldBlock is a second as version_rates_1s knows it: of drawn requests, and of all.
type oldBlock struct {
	requests, failures                 int64
	allFailures, allExceptions, all5xx int64
}

// complete returns b, or what the older table knows if that counts requests which b lacks:
// they were stored before there was a place for b.
func (o oldBlock) complete(b schema.RateBlock) schema.RateBlock {
	b.Time = b.Time.UTC()
	if len(b.Wall) == 0 {
		b.Wall = nil
	}
	if len(b.CPU) == 0 {
		b.CPU = nil
	}
	if o.requests <= b.Requests {
		return b
	}
	b = schema.RateBlock{VersionID: b.VersionID, Time: b.Time, Requests: o.requests, Failures: o.failures}
	switch o.failures {
	case 0: // of no kind
	case o.allFailures: // so each was of a drawn request
		b.Exceptions, b.Status5xx = o.allExceptions, o.all5xx
	default:
		b.KindsUnknown = true
	}
	return b
}
