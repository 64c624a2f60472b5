package clickhouse

import (
	"cmp"
	"fmt"
	"math"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
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

	// A longer retention brings nothing back: what seconds and events lack is known from the
	// coarser tables that have it.
	db.cfg.Retention = Retention{EventDays: 30, QuarantineDays: 100, SecondRateDays: 30, MinuteRateDays: 450, HourRateDays: 500}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.oldest.Store(nil) // as in a process that was started with it
	wantRaised(t, db, today)

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

// wantRaised fails unless requests of 5, 20 and 400 days ago are told that are only in
// coarser tables than the retention promises.
func wantRaised(t *testing.T, db *DB, today time.Time) {
	t.Helper()
	for days, requests := range map[int]int64{5: 6, 20: 21, 400: 401} {
		since := today.AddDate(0, 0, -days)
		until := since.Add(time.Second)
		totals, err := db.VersionTotals(t.Context(), account, script, since, until)
		if err != nil || len(totals) != 1 || totals[0].Requests != requests {
			t.Errorf("of %d days ago: %+v, %v, want %d requests", days, totals, err, requests)
		}
		step, err := db.SeriesStep(t.Context(), since, until, 300)
		if want := map[bool]time.Duration{false: time.Minute, true: time.Hour}[days == 400]; err != nil || step != want {
			t.Errorf("the step for %d days ago is %s, %v, want %s", days, step, err, want)
		}
		if _, err := db.VersionSeries(t.Context(), account, script, since, until, time.Second); errs.KindOf(err) != errs.Invalid {
			t.Errorf("steps of a second of %d days ago: %v, want that they are no longer known", days, err)
		}
	}
	q := schema.InvocationQuery{AccountID: account, Since: today.AddDate(0, 0, -20), Until: today.AddDate(0, 0, -19), Limit: 10, Extremes: true}
	list, err := db.Invocations(t.Context(), q)
	if err != nil || len(list) != 1 || list[0].Requests != 21 || list[0].WallMs.Max != nil {
		t.Errorf("invocations of a day that has no events any more: %+v, %v", list, err)
	}
	// Of today every table has all.
	if totals, err := db.VersionSeries(t.Context(), account, script, today, today.Add(time.Second), time.Second); err != nil || len(totals) != 1 || totals[0].Requests != 1 {
		t.Errorf("of today: %+v, %v", totals, err)
	}
}

// A range that begins before the oldest rows of the seconds and ends soon behind them was read, in
// its last minute, from seconds that are not there any more, though minutes have them: the
// answer was too small and did not say so. The same with minutes and hours.
func TestTotalsAcrossTheEndOfWhatIsKept(t *testing.T) {
	db := migrated(t)
	at := func(d time.Duration) row { return served(d) }
	insert(t, db, "rows", at(-2*time.Hour), at(30*time.Minute+10*time.Second), at(30*time.Minute+20*time.Second), at(30*time.Minute+40*time.Second), at(50*time.Minute))
	f := func(table string, kept, since, until time.Duration, want int64) {
		t.Helper()
		if err := db.conn.Exec(t.Context(), fmt.Sprintf("ALTER TABLE %s DELETE WHERE time < toDateTime(%d, 'UTC') SETTINGS mutations_sync = 2", table, noon.Add(kept).Unix())); err != nil {
			t.Fatal(err)
		}
		db.oldest.Store(nil)
		q := schema.InvocationQuery{AccountID: account, Since: noon.Add(since), Until: noon.Add(until), Limit: 10}
		if list, err := db.Invocations(t.Context(), q); err != nil || len(list) != 1 || list[0].Requests != want {
			t.Errorf("%s of %s to %s: invocations are %+v, %v, want %d requests", table, since, until, list, err, want)
		}
		if totals, err := db.VersionTotals(t.Context(), account, script, q.Since, q.Until); err != nil || len(totals) != 1 || totals[0].Requests != want {
			t.Errorf("%s of %s to %s: totals are %+v, %v, want %d requests", table, since, until, totals, err, want)
		}
	}
	const seconds, minutes, kept = "version_rates_1s", "version_rates_1m", 30*time.Minute + 20*time.Second
	f(seconds, kept, -3*time.Hour, 30*time.Minute+50*time.Second, 4)
	f(seconds, kept, 30*time.Minute, 30*time.Minute+50*time.Second, 3)
	f(seconds, kept, 30*time.Minute+20*time.Second, 30*time.Minute+40*time.Second, 1) // all there: exact
	f(seconds, kept, -3*time.Hour, 31*time.Minute+1*time.Second, 4)
	f(minutes, 40*time.Minute, -3*time.Hour, 55*time.Minute, 5)
	f(minutes, 40*time.Minute, 10*time.Minute, 55*time.Minute, 4)
}

// A system that is new, or had a rest, has lost nothing, though its tables begin late.
func TestTablesThatBeginLateHaveAll(t *testing.T) {
	db := migrated(t)
	begins := time.Now().UTC().Add(-10 * time.Minute).Truncate(time.Second)
	f := func(name string) {
		t.Helper()
		db.oldest.Store(nil)
		if _, err := db.VersionSeries(t.Context(), account, script, begins.Add(-time.Hour), begins, time.Second); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if k, err := db.known(t.Context()); err != nil || k.events.After(begins.AddDate(0, 0, -29)) {
			t.Errorf("%s: events are known since %s, %v", name, k.events, err)
		}
	}
	f("without a row")
	r := served(0)
	r.at = begins
	insert(t, db, "first", r)
	f("with its first row")
	r.at = begins.AddDate(0, 0, -40) // of which the hours alone tell
	insert(t, db, "long ago", r)
	for _, table := range []string{"trace_events", "version_rates_1s"} {
		if err := db.conn.Exec(t.Context(), "OPTIMIZE TABLE "+table+" FINAL"); err != nil {
			t.Fatal(err)
		}
	}
	f("after a rest")
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
