package clickhouse

import (
	"context"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// newestTime bounds a question that is asked every few seconds.
const newestTime = 3 * time.Second

// NewestEvent returns the second of the newest event that is stored, of all accounts, and
// zero where there is none. ClickHouse knows it of each part, because tables of rates are
// partitioned by time: without a condition it reads no column.
func (db *DB) NewestEvent(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, newestTime+time.Second)
	defer cancel()
	ctx = ch.Context(ctx, ch.WithSettings(ch.Settings{
		"max_execution_time": int(newestTime.Seconds()), "max_threads": 1, "max_memory_usage": questionMemory, "priority": 10,
		"cancel_http_readonly_queries_on_client_close": 1,
	}))
	var newest time.Time
	err := db.conn.QueryRow(ctx, `SELECT max(time) FROM version_rates_1s`).Scan(&newest)
	if err != nil || newest.Unix() == 0 { // the greatest of nothing
		return time.Time{}, failed("find the newest event", err)
	}
	return newest.UTC(), nil
}
