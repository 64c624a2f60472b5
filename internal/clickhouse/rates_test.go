package clickhouse

import (
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
)

func TestPieces(t *testing.T) {
	kept := DefaultConfig("").Retention
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	f := func(since, until string, coarsest int, want ...string) {
		t.Helper()
		at := func(text string) time.Time {
			at, err := time.Parse("2006-01-02T15:04:05.999", text)
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
		var got []string
		for _, p := range kept.known(now).pieces(at(since), at(until), coarsest) {
			clock := func(s int64) string { return time.Unix(s, 0).UTC().Format("02 15:04:05") }
			got = append(got, p.Table[len("version_rates_"):]+" "+clock(p.from)+" "+clock(p.to))
		}
		if !slices.Equal(got, want) {
			t.Errorf("from %s to %s:\n got %q\nwant %q", since, until, got, want)
		}
	}
	f("2026-04-30T10:00:00", "2026-04-30T10:00:01", 2, "1s 30 10:00:00 30 10:00:01")
	f("2026-04-30T10:00:00.7", "2026-04-30T10:00:58.1", 2, "1s 30 10:00:00 30 10:00:59")
	f("2026-04-30T10:00:00", "2026-04-30T10:05:00", 2, "1m 30 10:00:00 30 10:05:00")
	f("2026-04-30T10:00:30", "2026-04-30T11:00:10", 2, "1s 30 10:00:30 30 10:01:00", "1m 30 10:01:00 30 11:00:00", "1s 30 11:00:00 30 11:00:10")
	f("2026-04-29T10:59:59", "2026-04-30T11:01:01", 2,
		"1s 29 10:59:59 29 11:00:00", "1h 29 11:00:00 30 11:00:00", "1m 30 11:00:00 30 11:01:00", "1s 30 11:01:00 30 11:01:01")
	f("2026-04-29T10:59:59", "2026-04-30T11:01:01", 1, "1s 29 10:59:59 29 11:00:00", "1m 29 11:00:00 30 11:01:00", "1s 30 11:01:00 30 11:01:01")
	f("2026-04-29T10:59:59", "2026-04-30T11:01:01", 0, "1s 29 10:59:59 30 11:01:01")
	// Seconds are gone after 7 days, minutes after 180.
	f("2026-04-23T10:59:31", "2026-04-30T11:01:01", 2,
		"1m 23 10:59:00 23 11:00:00", "1h 23 11:00:00 30 11:00:00", "1m 30 11:00:00 30 11:01:00", "1s 30 11:01:00 30 11:01:01")
	f("2025-10-01T10:59:31", "2025-10-01T12:00:01", 2, "1h 01 10:00:00 01 13:00:00")
	kept = Retention{} // for ever
	f("2025-10-01T10:59:31", "2025-10-01T10:59:32", 2, "1s 01 10:59:31 01 10:59:32")
}

func TestSeriesRollup(t *testing.T) {
	f := func(step time.Duration, want string) {
		t.Helper()
		if got := seriesRollup(step).Table; got != want {
			t.Errorf("steps of %s come from %s, want %s", step, got, want)
		}
	}
	f(time.Second, "version_rates_1s")
	f(90*time.Second, "version_rates_1s")
	f(time.Minute, "version_rates_1m")
	f(90*time.Minute, "version_rates_1m")
	f(time.Hour, "version_rates_1h")
	f(24*time.Hour, "version_rates_1h")
}

// twoVersions puts 90 requests of v1 and 10 of v2 into each of 120 seconds from
// noon on; one in ten of v2 fails.
func twoVersions(t *testing.T, db *DB) {
	t.Helper()
	var rows []row
	for s := range 120 {
		at := time.Duration(s)*time.Second + 500*time.Millisecond
		rows = append(rows, repeat(90, served(at))...)
		good := served(at)
		good.version = v2
		rows = append(rows, repeat(9, good)...)
		bad := good
		bad.outcome, bad.status, bad.wall = schema.OutcomeException, 500, new(int64(1000))
		rows = append(rows, bad)
	}
	other := served(0)
	other.account = "00000000000000000000000000000002"
	rows = append(rows, repeat(5, other)...)
	other = served(0)
	other.script = "blog"
	rows = append(rows, repeat(5, other)...)
	insert(t, db, "two", rows...)
}

func TestRatesBetween(t *testing.T) {
	db := migrated(t)
	twoVersions(t, db)
	f := func(since, until time.Duration, requests1, requests2, failures2 int64) {
		t.Helper()
		rates, err := db.RatesBetween(t.Context(), account, script, noon.Add(since), noon.Add(until))
		if err != nil {
			t.Fatal(err)
		}
		if len(rates) != 2 || rates[0].VersionID != v1 || rates[1].VersionID != v2 {
			t.Fatalf("rates are %+v, want one of each version", rates)
		}
		if rates[0].Requests != requests1 || rates[0].Failures != 0 || rates[1].Requests != requests2 || rates[1].Failures != failures2 ||
			rates[1].AssignedFailures != failures2 || rates[1].Assigned != requests2 || rates[1].Status5xx != failures2 {
			t.Errorf("between %s and %s: %+v", since, until, rates)
		}
		if want := noon.Add(since + time.Second - 1).Truncate(time.Second); !rates[0].Time.Equal(want) {
			t.Errorf("time is %s, want %s", rates[0].Time, want)
		}
	}
	f(0, 2*time.Minute, 120*90, 1200, 120)
	f(10*time.Second, 20*time.Second, 900, 100, 10)
	f(9*time.Second+time.Millisecond, 20*time.Second, 900, 100, 10) // the second that begins before since is not in
	f(10*time.Second, 19*time.Second+time.Millisecond, 900, 100, 10)
	f(-time.Hour, time.Hour, 120*90, 1200, 120)

	rates, err := db.RatesBetween(t.Context(), account, script, noon.Add(time.Hour), noon.Add(2*time.Hour))
	if err != nil || rates == nil || len(rates) != 0 {
		t.Errorf("without requests: %v, %v, want an empty list", rates, err)
	}
}

// TestTotalsAgreeWithTheEvents: rollups are joined at borders, where a second could
// count twice or not at all.
func TestTotalsAgreeWithTheEvents(t *testing.T) {
	db := migrated(t)
	var rows []row
	for i := range 6000 { // 5 h, every 3 s
		r := served(time.Duration(i)*3*time.Second - time.Hour)
		r.sampledOut = uint64(i % 3)
		if i%10 == 0 {
			r.outcome, r.status = []string{schema.OutcomeException, schema.OutcomeExceededCPU}[i%20/10], 500
		}
		rows = append(rows, r)
	}
	insert(t, db, "all", rows...)
	for _, length := range []time.Duration{time.Second, 57 * time.Second, 3 * time.Minute, 61 * time.Minute, 3*time.Hour + 7*time.Second} {
		since := noon.Add(12 * time.Second)
		var want schema.VersionRate
		want.Outcomes = map[string]int64{}
		for _, r := range rows {
			if r.at.Before(since) || !r.at.Before(since.Add(length)) {
				continue
			}
			n := int64(1 + r.sampledOut)
			want.Requests += n
			want.Outcomes[r.outcome] += n
			if schema.Failed(r.outcome, int(r.status)) {
				want.Failures += n
			}
		}
		got, err := db.VersionTotals(t.Context(), account, script, since, since.Add(length))
		if err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		if got[0].Requests != want.Requests || got[0].Failures != want.Failures || !maps.Equal(got[0].Outcomes, want.Outcomes) {
			t.Errorf("totals of %s are %+v, want %+v", length, got[0], want)
		}
	}
}

func TestScriptRates(t *testing.T) {
	db := migrated(t)
	twoVersions(t, db)
	list, total, err := db.ScriptRates(t.Context(), account, noon, noon.Add(2*time.Minute), time.Minute, 1)
	if err != nil || total != 2 || len(list) != 1 {
		t.Fatalf("%+v, %d, %v; want one of two scripts", list, total, err)
	}
	if s := list[0]; s.ScriptName != script || s.Requests != 12000 || s.Failures != 120 || len(s.Series) != 2 ||
		s.Series[0] != (schema.RatePoint{Time: noon, Requests: 6000, Failures: 60}) || !s.Series[1].Time.Equal(noon.Add(time.Minute)) {
		t.Errorf("%+v", s)
	}
	list, total, err = db.ScriptRates(t.Context(), "00000000000000000000000000000003", noon, noon.Add(time.Minute), time.Minute, 10)
	if err != nil || total != 0 || list == nil || len(list) != 0 {
		t.Errorf("an account without requests: %+v, %d, %v", list, total, err)
	}
}

func TestSeriesStep(t *testing.T) {
	db := migrated(t)
	f := func(age, length time.Duration, points int, want time.Duration) {
		t.Helper()
		since := time.Now().Add(-age)
		if got, err := db.SeriesStep(t.Context(), since, since.Add(length), points); err != nil || got != want {
			t.Errorf("%d points of %s that began %s ago: %s, %v, want %s", points, length, age, got, err, want)
		}
	}
	f(time.Hour, 25*time.Minute, 300, 5*time.Second)
	f(time.Hour, time.Hour, 300, time.Minute) // 15 s would be made of 3600 seconds
	f(time.Hour, 15*time.Minute, 60, 15*time.Second)
	f(time.Hour, time.Minute, 300, time.Second)
	f(24*time.Hour, 24*time.Hour, 300, 5*time.Minute)
	f(10*24*time.Hour, time.Minute, 300, time.Minute) // no seconds from then any more
	f(200*24*time.Hour, time.Minute, 300, time.Hour)
	f(20*365*24*time.Hour, 20*365*24*time.Hour, 300, 7*24*time.Hour)
}

func TestVersionSeries(t *testing.T) {
	db := migrated(t)
	twoVersions(t, db)
	f := func(step time.Duration, wantRows int, wantFirst int64) {
		t.Helper()
		rates, err := db.VersionSeries(t.Context(), account, script, noon, noon.Add(2*time.Minute), step)
		if err != nil {
			t.Fatal(err)
		}
		if len(rates) != wantRows {
			t.Fatalf("steps of %s: %d rows, want %d", step, len(rates), wantRows)
		}
		var sum int64
		for i, r := range rates {
			sum += r.Requests
			if r.Time.Unix()%int64(step/time.Second) != 0 {
				t.Errorf("step of %s begins at %s", step, r.Time)
			}
			if i > 0 && r.Time.Before(rates[i-1].Time) {
				t.Errorf("%s comes after %s", r.Time, rates[i-1].Time)
			}
		}
		if rates[0].Requests != wantFirst || rates[0].VersionID != v1 || sum != 120*100 {
			t.Errorf("steps of %s: first %+v, sum %d", step, rates[0], sum)
		}
	}
	f(time.Second, 240, 90)
	f(7*time.Second, 36, 90*(7-noon.Unix()%7))
	f(time.Minute, 4, 60*90)
	f(time.Hour, 2, 120*90)
}

func TestUnmeasuredCPUIsAbsent(t *testing.T) {
	db := migrated(t)
	measured := served(0)
	measured.version = v2
	low, high := int64(5), int64(100)
	measured.cpu = &low
	insert(t, db, "low", append(repeat(50, measured), served(0))...)
	measured.cpu = &high
	insert(t, db, "high", append(repeat(50, measured), served(0))...)
	unmeasured := served(0)
	unmeasured.version = v2
	insert(t, db, "none", unmeasured)
	rates, err := db.RatesBetween(t.Context(), account, script, noon, noon.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if len(rates) != 2 || rates[0].CPUMs != nil || rates[1].CPUMs == nil {
		t.Fatalf("rates are %+v, want CPU time of the second only", rates)
	}
	if !near(rates[1].CPUMs.P50, 5) || !near(rates[1].CPUMs.P99, 100) {
		t.Errorf("CPU time is %+v, want 5 and 100", rates[1].CPUMs)
	}
}

// near allows the sketch's error of 1 %.
func near(got, want float64) bool { return math.Abs(got-want) <= want*0.0101 }

func TestQuantilesOfWallTime(t *testing.T) {
	db := migrated(t)
	for part := range 4 { // states that have to be merged
		var rows []row
		for ms := int64(part); ms < 1000; ms += 4 {
			r := served(time.Duration(part) * time.Second)
			r.wall = new(ms + 1)
			rows = append(rows, r)
		}
		insert(t, db, "part-"+time.Duration(part).String(), rows...)
	}
	rates, err := db.VersionTotals(t.Context(), account, script, noon, noon.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if q := rates[0].WallMs; !near(q.P50, 500) || !near(q.P90, 900) || !near(q.P99, 990) {
		t.Errorf("quantiles of 1..1000 are %+v", q)
	}
}

// A gateway whose clock steps back can measure a negative time; a handler that
// returns at once takes 0 ms.
func TestQuantilesOfOddTimes(t *testing.T) {
	db := migrated(t)
	for i, wall := range []int64{0, 0, 0, -3, math.MaxInt64, math.MinInt64} {
		r := served(0)
		r.wall = &wall
		insert(t, db, "odd-"+time.Duration(i).String(), r)
		rates, err := db.RatesBetween(t.Context(), account, script, noon, noon.Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if rates[0].Requests != int64(i+1) || math.IsNaN(rates[0].WallMs.P50) {
			t.Errorf("after %d: %+v", wall, rates[0])
		}
	}
}

// An invocation whose time nobody measured counts, and has no part in the quantiles.
func TestUnmeasuredTimes(t *testing.T) {
	db := migrated(t)
	unmeasured := served(0)
	unmeasured.wall = nil
	insert(t, db, "unmeasured", unmeasured)
	read := func() schema.VersionRate {
		t.Helper()
		rates, err := db.RatesBetween(t.Context(), account, script, noon, noon.Add(time.Second))
		if err != nil || len(rates) != 1 {
			t.Fatalf("%v, %v", rates, err)
		}
		return rates[0]
	}
	if rate := read(); rate.Requests != 1 || rate.WallMs != nil || rate.CPUMs != nil {
		t.Errorf("nothing was measured: %+v", rate)
	}
	measured := served(0)
	measured.wall, measured.cpu = new(int64(100)), new(int64(3))
	insert(t, db, "measured", measured, unmeasured)
	if rate := read(); rate.Requests != 3 || !near(rate.WallMs.P50, 100) || !near(rate.CPUMs.P99, 3) {
		t.Errorf("one of three was measured: %+v, wall %+v, CPU %+v", rate, rate.WallMs, rate.CPUMs)
	}
}

func TestQuestionsThatCannotBeAnswered(t *testing.T) {
	db := migrated(t)
	f := func(since, until time.Time, step time.Duration) {
		t.Helper()
		if rates, err := db.VersionSeries(t.Context(), account, script, since, until, step); errs.KindOf(err) != errs.Invalid {
			t.Errorf("series from %s to %s by %s: %v, %v, want an error of kind invalid", since, until, step, rates, err)
		}
	}
	f(noon, noon, time.Second)
	f(noon, noon.Add(-time.Second), time.Second)
	f(noon, noon.Add(time.Hour), 0)
	f(noon, noon.Add(time.Hour), -time.Second)
	f(noon, noon.Add(time.Hour), 1500*time.Millisecond)
	f(noon, noon.Add(30*24*time.Hour), time.Second)
	f(time.Time{}, noon, time.Hour)
	f(noon, noon.AddDate(200, 0, 0), 24*365*time.Hour)
	f(noon.AddDate(0, 0, -10), noon.AddDate(0, 0, -10).Add(time.Minute), time.Second) // seconds are no longer kept
}
