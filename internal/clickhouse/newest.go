package clickhouse

import (
	"context"
	"fmt"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// NewestEvent returns the second of the newest event that is stored, of all accounts, and
// zero where there is none since a time.
func (db *DB) NewestEvent(ctx context.Context, since time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var newest time.Time
	var rows uint64
	err := db.conn.QueryRow(ctx, `SELECT max(time), count() FROM version_rates_1s WHERE time >= toDateTime({since:Int64}, 'UTC')`,
		ch.Named("since", fmt.Sprint(since.Unix()))).Scan(&newest, &rows)
	if err != nil || rows == 0 {
		return time.Time{}, failed("find the newest event", err)
	}
	return newest.UTC(), nil
}
