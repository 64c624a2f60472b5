package clickhouse

import (
	"context"
	"fmt"
	"time"
)

// known is since when tables have all of their rows. The zero time is for ever.
type known struct {
	rates  [3]time.Time // by the numbers of rollups
	events time.Time
}

// known is what tables that were always kept for so many days have.
func (r Retention) known(now time.Time) known {
	since := func(days int) time.Time {
		if days == 0 {
			return time.Time{}
		}
		return now.Add(-time.Duration(days) * 24 * time.Hour)
	}
	return known{[3]time.Time{since(r.SecondRateDays), since(r.MinuteRateDays), since(r.HourRateDays)}, since(r.EventDays)}
}

// finest returns the number of the finest rollup that has its rows of a time.
func (k known) finest(at time.Time) int {
	level := 0
	for level < len(rollups)-1 && at.Before(k.rates[level]) {
		level++
	}
	return level
}

// oldestAge is how long it is believed what the oldest rows are. Only a start with another
// retention makes a difference, and then nothing is believed yet.
const oldestAge = 10 * time.Minute

// oldestRows are what DB.known found at a time: since when tables have rows that lost older
// ones which they should have, as when a retention was raised; the zero time where none are missing.
type oldestRows struct {
	at    time.Time
	since known
}

// known returns since when tables have all of their rows: as long as the retention says, or
// since their oldest row where that was shorter before.
func (db *DB) known(ctx context.Context) (known, error) {
	now := time.Now()
	k := db.cfg.Retention.known(now)
	oldest := db.oldest.Load()
	if oldest == nil || now.Sub(oldest.at) > oldestAge {
		since, err := db.raised(ctx, k, now)
		if err != nil {
			return known{}, err
		}
		oldest = &oldestRows{now, since}
		db.oldest.Store(oldest)
	}
	for level, since := range oldest.since.rates {
		k.rates[level] = later(k.rates[level], since)
	}
	k.events = later(k.events, oldest.since.events)
	return k, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// raised returns the oldest rows of the tables that should have older ones, which the hours
// still have. Where those have none either, nothing happened.
//
// ClickHouse knows the oldest row of each part, because tables are partitioned by time, so
// that this reads no column. Hours are asked only where a table begins late.
func (db *DB) raised(ctx context.Context, k known, now time.Time) (since known, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	const attempt = "find the oldest rows"
	var oldest [3]int64 // of seconds, minutes and events; 0 where there is none
	err = db.conn.QueryRow(ctx, `SELECT
		(SELECT toInt64(toUnixTimestamp(min(time))) FROM version_rates_1s),
		(SELECT toInt64(toUnixTimestamp(min(time))) FROM version_rates_1m),
		(SELECT intDiv(toUnixTimestamp64Milli(min(time)), 1000) FROM trace_events)`).Scan(&oldest[0], &oldest[1], &oldest[2])
	if err != nil {
		return known{}, tooMuch(attempt, err)
	}
	hour := rollups[len(rollups)-1]
	for i, table := range []struct{ should, since *time.Time }{{&k.rates[0], &since.rates[0]}, {&k.rates[1], &since.rates[1]}, {&k.events, &since.events}} {
		begins := now
		if oldest[i] > 0 {
			begins = time.Unix(oldest[i], 0).UTC()
		}
		missing := piece{hour, max(0, table.should.Unix()), floorTo(begins, hour.Seconds)}
		if missing.from >= missing.to {
			continue
		}
		var found uint64
		if err := db.conn.QueryRow(ctx, fmt.Sprintf("SELECT count() FROM (SELECT 1 FROM %s LIMIT 1)", missing.rows("1"))).Scan(&found); err != nil {
			return known{}, tooMuch(attempt, err)
		}
		if found > 0 {
			*table.since = begins
		}
	}
	return since, nil
}
