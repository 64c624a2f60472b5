package clickhouse

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"tidegate/schema"
)

// Orders of events begin with what is the same in all of them. ClickHouse would otherwise
// keep a threshold of the time to skip rows by (use_top_k_dynamic_filtering), and
// look at all of the range for it. So it begins at the end of the primary key and stops
// when it has enough.
const newestFirst = "ORDER BY account_id DESC, script_name DESC, time DESC, kafka_partition DESC, kafka_offset DESC"

// rayEventsMax bounds the events of one ray; a request has few.
const rayEventsMax = 100

// Events returns what a filter means, newest first, no more than limit, of what comes
// after a position in that order; the zero position is the beginning. With
// schema.EventPageBytes it ends early (schema.FullEventPage).
func (db *DB) Events(ctx context.Context, f schema.EventFilter, after schema.EventPosition, limit int) ([]schema.StoredEvent, error) {
	if err := validRange(f.Since, f.Until); err != nil {
		return nil, err
	}
	c := eventConditions(f)
	if !after.Time.IsZero() {
		c.add("time <= fromUnixTimestamp64Milli({after:Int64}, 'UTC')", ch.Named("after", fmt.Sprint(after.Time.UnixMilli())))
		c.add(`(time < fromUnixTimestamp64Milli({after:Int64}, 'UTC') OR (kafka_partition, kafka_offset) < ({after_partition:Int32}, {after_offset:Int64}))`,
			ch.Named("after_partition", fmt.Sprint(after.Partition)), ch.Named("after_offset", fmt.Sprint(after.Offset)))
	}
	// Unbuffered, each part is read only as far as its rows are wanted, not far ahead.
	return db.events(ctx, "read events of script "+f.Script, c, newestFirst+fmt.Sprintf(" LIMIT %d SETTINGS read_in_order_use_buffering = 0", limit), schema.EventPageBytes)
}

// EventsOfRay returns the events of a request of an account, oldest first: the
// request's own, and those of invocations that carry its ray.
func (db *DB) EventsOfRay(ctx context.Context, account, ray string) ([]schema.StoredEvent, error) {
	var c conditions
	c.add("account_id = {account:String}", ch.Named("account", account))
	c.add("ray_id = {ray:String}", ch.Named("ray", ray))
	// Both indexes are looked at before anything is read, the range of rays first: on the
	// way, ClickHouse would look at both of them in all granules.
	return db.events(ctx, "find the events of ray "+ray, c, fmt.Sprintf("ORDER BY account_id, time, kafka_partition, kafka_offset LIMIT %d SETTINGS use_skip_indexes_on_data_read = 0", rayEventsMax), math.MaxInt)
}

// events ends with the event that reaches bytesMax.
func (db *DB) events(ctx context.Context, attempt string, c conditions, rest string, bytesMax int) ([]schema.StoredEvent, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := db.conn.Query(ctx, eventsQuery(c, rest), c.args...)
	if err != nil {
		return nil, tooMuch(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	list, bytes := []schema.StoredEvent{}, 0
	for rows.Next() {
		var partition int32
		a, err := scanArchived(prefixed{rows, &partition})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", attempt, err)
		}
		list = append(list, schema.StoredEvent{EventPosition: schema.EventPosition{Time: a.Time, Partition: int(partition), Offset: a.Offset}, Value: a.Value})
		if bytes += len(a.Value); bytes >= bytesMax {
			cancel() // nobody wants the others, which Close would read
			return list, nil
		}
	}
	return list, tooMuch(attempt, rows.Err())
}

func eventsQuery(c conditions, rest string) string {
	return "SELECT kafka_partition, " + archiveColumns + " FROM trace_events WHERE " + c.where() + " " + rest
}

// prefixed scans a row with the partition before the columns of the archive.
type prefixed struct {
	rows      driver.Rows
	partition *int32
}

func (p prefixed) Scan(dest ...any) error { return p.rows.Scan(append([]any{p.partition}, dest...)...) }

// conditions of a query, all of which must hold.
type conditions struct {
	list []string
	args []any
}

func (c *conditions) add(condition string, args ...any) {
	c.list = append(c.list, condition)
	c.args = append(c.args, args...)
}

// in adds that a column has one of some values, if there are any.
func (c *conditions) in(column string, values []string) {
	if len(values) == 0 {
		return
	}
	names := make([]string, len(values))
	for i, value := range values {
		name := fmt.Sprintf("%s_%d", column, i)
		names[i] = "{" + name + ":String}"
		c.args = append(c.args, ch.Named(name, value))
	}
	c.list = append(c.list, column+" IN ("+strings.Join(names, ", ")+")")
}

func (c *conditions) where() string { return strings.Join(c.list, " AND ") }

// of begins with the events of a script in a time, whose milliseconds are rounded up.
func of(account, script string, since, until time.Time) conditions {
	c := between(account, since, until)
	c.add("script_name = {script:String}", ch.Named("script", script))
	return c
}

// between begins with the events of an account in a time, as of does.
func between(account string, since, until time.Time) (c conditions) {
	ceil := func(t time.Time) string { return fmt.Sprint(t.Add(time.Millisecond - 1).UnixMilli()) }
	c.add("account_id = {account:String}", ch.Named("account", account))
	c.add("time >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')", ch.Named("since", ceil(since)))
	c.add("time < fromUnixTimestamp64Milli({until:Int64}, 'UTC')", ch.Named("until", ceil(until)))
	return c
}

// eventConditions is schema.EventFilter.Matches in SQL; a test holds the two together.
func eventConditions(f schema.EventFilter) conditions {
	c := of(f.AccountID, f.Script, f.Since, f.Until)
	c.in("version_id", f.Versions)
	c.in("outcome", f.Outcomes)
	c.in("decision", f.Decisions)
	c.in("method", f.Methods)
	if len(f.Statuses) > 0 {
		ranges := make([]string, len(f.Statuses))
		for i, r := range f.Statuses {
			ranges[i] = fmt.Sprintf("status BETWEEN %d AND %d", r.Low, r.High)
		}
		c.add("(" + strings.Join(ranges, " OR ") + ")")
	}
	if f.Failed != nil {
		failure := "(outcome NOT IN ('ok', 'canceled') OR status >= 500)"
		if !*f.Failed {
			failure = "NOT " + failure
		}
		c.add(failure)
	}
	if f.Text != "" {
		c.add("positionCaseInsensitiveUTF8(url, {text:String}) > 0", ch.Named("text", f.Text))
	}
	return c
}
