package clickhouse

import (
	"math"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
)

func TestTotalsRollup(t *testing.T) {
	kept := DefaultConfig("").Retention
	f := func(length, age time.Duration, want string) {
		t.Helper()
		if got := totalsRollup(length, age, kept).Table; got != want {
			t.Errorf("totals of %s that began %s ago come from %s, want %s", length, age, got, want)
		}
	}
	f(time.Second, 0, "version_rates_1s")
	f(99*time.Minute, 99*time.Minute, "version_rates_1s")
	f(100*time.Minute, 100*time.Minute, "version_rates_1m")
	f(99*time.Hour, 99*time.Hour, "version_rates_1m")
	f(100*time.Hour, 100*time.Hour, "version_rates_1h")
	f(time.Minute, 8*24*time.Hour, "version_rates_1m")
	f(time.Minute, 200*24*time.Hour, "version_rates_1h")
	kept.SecondRateDays = 0 // for ever
	f(time.Minute, 200*24*time.Hour, "version_rates_1s")
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

func TestTotalsAgreeInEveryRollup(t *testing.T) {
	db := migrated(t)
	twoVersions(t, db)
	for _, length := range []time.Duration{2 * time.Minute, 3 * time.Hour, 101 * time.Hour} {
		rates, err := db.VersionTotals(t.Context(), account, script, noon, noon.Add(length))
		if err != nil {
			t.Fatal(err)
		}
		if len(rates) != 2 || rates[0].Requests != 120*90 || rates[1].Requests != 1200 || rates[1].Failures != 120 {
			t.Errorf("totals of %s are %+v", length, rates)
		}
	}
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
}
