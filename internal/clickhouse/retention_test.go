package clickhouse

import (
	"cmp"
	"fmt"
	"math"
	"testing"
	"time"
)

// Each table's old rows go by its own number of days, also where they were stored
// before that number was set, and what is younger stays.
func TestOldRowsGoByTier(t *testing.T) {
	db := open(t)
	db.cfg.Retention = Retention{} // for ever, so that old rows can be stored at all
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	today := time.Now().UTC().Truncate(time.Second)
	ages := []int{0, 5, 20, 400, 1200} // days
	for _, days := range ages {
		r := served(0)
		r.at = today.AddDate(0, 0, -days)
		insert(t, db, fmt.Sprint("old-", days), repeat(days+1, r)...)
	}
	if got, want := scalar(t, db, "SELECT sum(requests) FROM version_rates_1h"), "1630"; got != want {
		t.Fatalf("%s requests are stored, want %s", got, want)
	}
	if err := db.conn.Exec(t.Context(), "ALTER TABLE trace_events_quarantine DROP CONSTRAINT "+inTime); err != nil { // rows from before today
		t.Fatal(err)
	}
	for _, days := range ages {
		if err := db.conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO trace_events_quarantine (reason, inserted_at) SELECT 'schema', now64(3) - INTERVAL %d DAY FROM numbers(%d)", days, days+1)); err != nil {
			t.Fatal(err)
		}
	}

	db.cfg.Retention = Retention{EventDays: 10, QuarantineDays: 100, SecondRateDays: 2, MinuteRateDays: 60, HourRateDays: 500}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Requests by age are 1, 6, 21, 401 and 1201. Minutes go by whole months and hours
	// by whole years, which 400 days and 60, 1200 and 500 are apart by.
	eventually(t, db, map[string]string{
		"SELECT count() FROM trace_events":                 "7",
		"SELECT sum(requests) FROM version_rates_1s":       "1",
		"SELECT sum(requests) FROM version_rates_1m":       "28",
		"SELECT sum(requests) FROM version_rates_1h":       "429",
		"SELECT sum(requests) FROM assigned_rates_1s":      "1",
		"SELECT count() FROM trace_events_quarantine":      "28",
		"SELECT uniqExact(toDate(time)) FROM trace_events": "2",
	})

	// And back: what is stored from now on stays for ever again.
	db.cfg.Retention = Retention{}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := served(0)
	r.at = today.AddDate(0, 0, -30)
	insert(t, db, "kept", r)
	if err := db.conn.Exec(t.Context(), "OPTIMIZE TABLE trace_events FINAL"); err != nil {
		t.Fatal(err)
	}
	if got := scalar(t, db, "SELECT count() FROM trace_events"); got != "8" {
		t.Errorf("%s events are stored after retention was switched off, want 8", got)
	}
}

// The end of a row's time at the longest retention was past what a DateTime can hold, began
// again in 1970, and so every row had expired when it came.
func TestRowsStayAtTheLongestRetention(t *testing.T) {
	db := open(t)
	longest := Retention{EventDays: RetentionDaysMax, QuarantineDays: RetentionDaysMax, SecondRateDays: RetentionDaysMax, MinuteRateDays: RetentionDaysMax, HourRateDays: RetentionDaysMax}
	if err := longest.Validate(); err != nil {
		t.Fatal(err)
	}
	db.cfg.Retention = longest
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, db, "some", repeat(3, served(0))...)
	if err := db.conn.Exec(t.Context(), "INSERT INTO trace_events_quarantine (reason) VALUES ('schema')"); err != nil {
		t.Fatal(err)
	}
	for _, kept := range longest.byTable() {
		if err := db.conn.Exec(t.Context(), "OPTIMIZE TABLE "+kept.table+" FINAL"); err != nil {
			t.Fatal(err)
		}
		rows := scalar(t, db, "SELECT count() FROM "+kept.table)
		if want := map[string]string{"trace_events": "3"}[kept.table]; rows != cmp.Or(want, "1") {
			t.Errorf("%s rows are left in %s", rows, kept.table)
		}
	}
	last := time.Date(2056, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, RetentionDaysMax)
	if last.Unix() > math.MaxUint32 {
		t.Errorf("a row of 2056 is kept until %s, which is more than a DateTime can hold", last)
	}
}

// A retention that has not changed must not be set again: each ALTER would have
// ClickHouse look through all parts at every start.
func TestRetentionIsSetOnlyWhenItDiffers(t *testing.T) {
	db := migrated(t)
	insert(t, db, "some", served(0))
	mutations := "SELECT count() FROM system.mutations WHERE database = currentDatabase()"
	before := scalar(t, db, mutations)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := scalar(t, db, mutations); got != before {
		t.Errorf("a second start left %s mutations, %s before", got, before)
	}
	db.cfg.Retention.EventDays++
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := scalar(t, db, mutations); got == before {
		t.Error("a changed retention left no mutation: then this test sees nothing")
	}
}

// eventually fails unless every query answers what is wanted before a deadline.
func eventually(t *testing.T, db *DB, want map[string]string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for query, answer := range want {
		got := scalar(t, db, query)
		for got != answer && time.Now().Before(deadline) {
			time.Sleep(50 * time.Millisecond)
			got = scalar(t, db, query)
		}
		if got != answer {
			t.Errorf("%s is %s, want %s", query, got, answer)
		}
	}
}
