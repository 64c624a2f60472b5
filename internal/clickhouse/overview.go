package clickhouse

import (
	"context"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/schema"
)

// ScriptRates returns what each script of an account did from since to until, both
// widened to whole steps, most requests first and no more than limit of them; total
// counts all that had requests. The steps are as in VersionSeries.
func (db *DB) ScriptRates(ctx context.Context, account string, since, until time.Time, step time.Duration, limit int) (list []schema.ScriptRate, total int, err error) {
	p, err := db.seriesPiece(ctx, since, until, step)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	const attempt = "read the rates of all scripts"
	rows, err := db.conn.Query(ctx, `SELECT
		script_name, toInt64(sum(n)) AS requests, toInt64(sum(bad)), groupArray(toInt64(at)), groupArray(toInt64(n)), groupArray(toInt64(bad)), toInt64(count() OVER ())
	FROM (
		SELECT script_name, intDiv(toUnixTimestamp(time), {step:Int64}) * {step:Int64} AS at, sum(requests) AS n, sum(failures) AS bad
		FROM `+p.rows("account_id = {account:String}")+`
		GROUP BY script_name, at HAVING n > 0
		ORDER BY script_name, at
	)
	GROUP BY script_name
	ORDER BY requests DESC, script_name
	LIMIT {limit:Int64}`, ch.Named("account", account), ch.Named("step", int64(step/time.Second)), ch.Named("limit", int64(limit)))
	if err != nil {
		return nil, 0, tooMuch(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	list = []schema.ScriptRate{}
	for rows.Next() {
		var r schema.ScriptRate
		var at, requests, failures []int64
		var all int64
		if err := rows.Scan(&r.ScriptName, &r.Requests, &r.Failures, &at, &requests, &failures, &all); err != nil {
			return nil, 0, failed(attempt, err)
		}
		total = int(all)
		r.Series = make([]schema.RatePoint, len(at))
		for i := range at {
			r.Series[i] = schema.RatePoint{Time: time.Unix(at[i], 0).UTC(), Requests: requests[i], Failures: failures[i]}
		}
		list = append(list, r)
	}
	return list, total, tooMuch(attempt, rows.Err())
}
