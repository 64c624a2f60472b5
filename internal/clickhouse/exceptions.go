package clickhouse

import (
	"context"
	"fmt"
	"math"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/schema"
)

// Exceptions returns the kinds of exceptions that a query means, most requests first;
// total counts those beyond its limit, too. A request that threw several of one kind counts
// once. What is new in a version is what the other did not throw in the same time, nor
// within schema.NewExceptionsBefore it.
func (db *DB) Exceptions(ctx context.Context, q schema.ExceptionQuery) (list []schema.ExceptionGroup, total int, err error) {
	if err := validRange(q.Since, q.Until); err != nil {
		return nil, 0, err
	}
	c := of(q.AccountID, q.Script, q.Since, q.Until)
	c.in("version_id", q.Versions)
	having := ""
	if q.NewIn != "" {
		// As the older version of a deployment serves ever less, what it throws now and then
		// may be missing in the time of the newer one.
		having = `HAVING versions[{new_in:String}] > 0 AND kind GLOBAL NOT IN (
			SELECT DISTINCT arrayJoin(exception_groups) FROM trace_events
			WHERE account_id = {account:String} AND script_name = {script:String} AND version_id = {compared_to:String} AND notEmpty(exception_groups)
				AND time >= fromUnixTimestamp64Milli({before:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({until:Int64}, 'UTC'))`
		c.args = append(c.args, ch.Named("new_in", q.NewIn), ch.Named("compared_to", q.ComparedTo),
			ch.Named("before", fmt.Sprint(q.Since.Add(-schema.NewExceptionsBefore).UnixMilli())))
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	attempt := "read the exceptions of script " + q.Script
	rows, err := db.conn.Query(ctx, `SELECT
		lower(hex(sipHash64(kind))), kind, toInt64(sum(n)) AS requests, sumMap(map(version_id, n)) AS versions, min(time), max(time),
		argMax(kafka_partition, (time, kafka_partition, kafka_offset)), argMax(kafka_offset, (time, kafka_partition, kafka_offset)), toInt64(count() OVER ())
	FROM (
		SELECT version_id, time, kafka_partition, kafka_offset, 1 + sampled_out AS n, arrayJoin(exception_groups) AS kind
		FROM trace_events WHERE `+c.where()+` AND notEmpty(exception_groups)
	)
	GROUP BY kind `+having+`
	ORDER BY requests DESC, kind
	LIMIT `+fmt.Sprint(q.Limit), c.args...)
	if err != nil {
		return nil, 0, tooMuch(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	list = []schema.ExceptionGroup{}
	var samples []schema.EventPosition
	for rows.Next() {
		var g schema.ExceptionGroup
		var kind string
		var versions map[string]uint64
		var partition int32
		var offset, all int64
		if err := rows.Scan(&g.Fingerprint, &kind, &g.Requests, &versions, &g.FirstSeen, &g.LastSeen, &partition, &offset, &all); err != nil {
			return nil, 0, failed(attempt, err)
		}
		// Of its three parts only the first may have several lines.
		kind, g.Frame = cutLastLine(kind)
		g.Name, g.Message = cutLastLine(kind)
		g.FirstSeen, g.LastSeen = g.FirstSeen.UTC(), g.LastSeen.UTC()
		g.Versions = make(map[string]int64, len(versions))
		for version, n := range versions {
			g.Versions[version] = int64(n) // #nosec G115 -- a count of requests
		}
		total = int(all)
		list = append(list, g)
		samples = append(samples, schema.EventPosition{Time: g.LastSeen, Partition: int(partition), Offset: offset})
	}
	if err := rows.Err(); err != nil {
		return nil, 0, tooMuch(attempt, err)
	}
	return list, total, db.addSamples(ctx, q, list, samples)
}

// cutLastLine returns what comes before the last line of text, and that; of a single line, the line
// and nothing.
func cutLastLine(text string) (before, last string) {
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		return text[:i], text[i+1:]
	}
	return text, ""
}

// addSamples reads the event at a position for each group.
func (db *DB) addSamples(ctx context.Context, q schema.ExceptionQuery, list []schema.ExceptionGroup, samples []schema.EventPosition) error {
	if len(list) == 0 {
		return nil
	}
	c := of(q.AccountID, q.Script, q.Since, q.Until)
	times, places := make([]string, len(samples)), make([]string, len(samples))
	for i, s := range samples {
		times[i] = fmt.Sprintf("fromUnixTimestamp64Milli(%d, 'UTC')", s.Time.UnixMilli())
		places[i] = fmt.Sprintf("(%d, %d)", s.Partition, s.Offset)
	}
	c.add("time IN (" + strings.Join(times, ", ") + ")") // which the primary key finds
	c.add("(kafka_partition, kafka_offset) IN (" + strings.Join(places, ", ") + ")")
	events, err := db.events(ctx, "read samples of exceptions of script "+q.Script, c, "", math.MaxInt)
	if err != nil {
		return err
	}
	at := map[string][]byte{}
	for _, e := range events {
		at[e.String()] = e.Value
	}
	for i, s := range samples {
		list[i].Sample = at[s.String()]
	}
	return nil
}
