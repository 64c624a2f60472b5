package clickhouse

import (
	"context"
	"fmt"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/schema"
)

// Calls returns the calls through service bindings by pairs of versions, most requests
// first; total counts the pairs beyond the query's limit, too. Calls by RPC are there
// with an empty caller, unless the query names one.
func (db *DB) Calls(ctx context.Context, q schema.CallQuery) (list []schema.CallPair, total int, err error) {
	if err := validRange(q.Since, q.Until); err != nil {
		return nil, 0, err
	}
	c := between(q.AccountID, q.Since, q.Until)
	if q.Callee != "" {
		c.add("script_name = {callee:String}", ch.Named("callee", q.Callee))
	}
	if q.Caller != "" {
		c.add("caller_script = {caller:String}", ch.Named("caller", q.Caller))
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	const attempt = "count the calls between Workers"
	// The few columns of the condition are read first, and the others only where it holds.
	rows, err := db.conn.Query(ctx, `SELECT caller_script, caller_version_id, script_name, version_id, any(version_tag),
		toInt64(sum(1 + sampled_out)) AS requests, toInt64(sumIf(1 + sampled_out, outcome NOT IN ('ok', 'canceled') OR status >= 500)), max(time), toInt64(count() OVER ())
	FROM trace_events
	PREWHERE `+c.where()+` AND (caller_version_id != '' OR event_type = '`+schema.EventTypeRPC+`')
	GROUP BY caller_script, caller_version_id, script_name, version_id
	ORDER BY requests DESC, caller_script, caller_version_id, script_name, version_id
	LIMIT `+fmt.Sprint(q.Limit), c.args...)
	if err != nil {
		return nil, 0, tooMuch(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	list = []schema.CallPair{}
	for rows.Next() {
		var p schema.CallPair
		var all int64
		if err := rows.Scan(&p.CallerScript, &p.CallerVersionID, &p.CalleeScript, &p.CalleeVersionID, &p.CalleeTag, &p.Requests, &p.Failures, &p.LastSeen, &all); err != nil {
			return nil, 0, failed(attempt, err)
		}
		p.LastSeen, total = p.LastSeen.UTC(), int(all)
		list = append(list, p)
	}
	return list, total, tooMuch(attempt, rows.Err())
}
