package clickhouse

import (
	"io/fs"
	"math"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// standsFor is a row that stands for n requests.
func standsFor(n uint64, r row) row {
	r.sampledOut = n - 1
	return r
}

// Sampled or not, the rates are those of all requests, in every column and rollup.
func TestRatesCountWhatAnEventStandsFor(t *testing.T) {
	db := migrated(t)
	ok, missing, canceled, failed, override := served(0), served(0), served(time.Second), served(0), served(0)
	missing.status = 404
	canceled.outcome, canceled.status, canceled.wall, canceled.cpu = schema.OutcomeCanceled, 0, nil, new(int64(5))
	failed.status, failed.outcome = 502, schema.OutcomeInternalError
	override.decision = schema.DecisionOverride
	whole := slices.Concat(repeat(1000, ok), repeat(30, missing), repeat(7, canceled), repeat(4, failed), repeat(50, override))
	for i := range whole {
		whole[i].script = "whole"
	}
	insert(t, db, "whole", whole...)
	insert(t, db, "sampled", slices.Concat([]row{standsFor(900, ok), standsFor(99, ok), ok, standsFor(30, missing), standsFor(7, canceled), standsFor(50, override)}, repeat(4, failed))...)

	for _, length := range []time.Duration{2 * time.Second, 3 * time.Hour, 101 * time.Hour} {
		of := func(name string) schema.VersionRate {
			t.Helper()
			rates, err := db.VersionTotals(t.Context(), account, name, noon, noon.Add(length))
			if err != nil || len(rates) != 1 {
				t.Fatalf("%s over %s: %+v, %v", name, length, rates, err)
			}
			rates[0].ScriptName = ""
			if rates[0].WallMs == nil || rates[0].CPUMs == nil {
				t.Fatalf("%s over %s: %+v, without times", name, length, rates[0])
			}
			rates[0].WallMs, rates[0].CPUMs = nil, nil
			return rates[0]
		}
		want, got := of("whole"), of(script)
		if !reflect.DeepEqual(got, want) || want.Requests != 1091 || want.Assigned != 1041 || want.AssignedFailures != 4 {
			t.Errorf("over %s the sampled script has\n%+v, and the whole one\n%+v", length, got, want)
		}
	}
	columns := "SELECT toString(groupArray(tuple(time, wall_measured, cpu_measured, outcomes))) FROM " +
		"(SELECT time, sum(wall_measured) AS wall_measured, sum(cpu_measured) AS cpu_measured, sumMap(outcomes) AS outcomes FROM version_rates_1s WHERE script_name = '"
	if got, want := scalar(t, db, columns+script+"' GROUP BY time ORDER BY time)"), scalar(t, db, columns+"whole' GROUP BY time ORDER BY time)"); got != want {
		t.Errorf("the sampled script has %s, the whole one %s", got, want)
	}
	n, err := db.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n.Events != 1091+10 || n.SampledOut != 1081 || n.Seconds != n.Events+n.SampledOut || n.Minutes != n.Seconds || n.Hours != n.Seconds {
		t.Errorf("counts are %+v", n)
	}
}

// A block may be repeated from any point at which its reader was killed: between its
// two inserts, after both, and in the middle of one.
func TestWhatAnEventStandsForCountsOnce(t *testing.T) {
	db := migrated(t)
	failed := served(0)
	failed.status = 500
	rows := []row{standsFor(100, served(0)), served(time.Second), failed}
	others, columns := othersOf(blockOf(rows...))
	if others != 2 {
		t.Fatalf("%d rows are for trace_events_others, want the one that stands for others and the failure", others)
	}
	for range 2 {
		if err := db.insert(t.Context(), "trace_events_others", "a", others, columns); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		insert(t, db, "a", rows...)
	}
	insert(t, db, "b", rows...) // another block with the same rows is no repeat
	got, err := db.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (Counts{Events: 6, SampledOut: 198, Seconds: 204, Minutes: 204, Hours: 204}); got != want {
		t.Errorf("counts are %+v, want %+v", got, want)
	}
	if n, _ := othersOf(blockOf(served(0), failed)); n != 0 {
		t.Errorf("%d rows of a block without sampling are inserted a second time", n)
	}
}

// Failures of a sampled script come with what others stand for, before the block itself: until
// that is stored, which is long where ClickHouse refuses it, a version that only failed
// has rows without a request.
func TestVersionWithoutRequestsIsAbsent(t *testing.T) {
	db := migrated(t)
	failed := served(time.Second)
	failed.status, failed.version = 500, v2
	elsewhere := failed
	elsewhere.script = "blog"
	n, columns := othersOf(blockOf(standsFor(100, served(0)), failed, elsewhere))
	if err := db.insert(t.Context(), "trace_events_others", "a", n, columns); err != nil {
		t.Fatal(err)
	}
	since, until := noon, noon.Add(time.Minute)
	if totals, err := db.VersionTotals(t.Context(), account, script, since, until); err != nil || len(totals) != 1 || totals[0].VersionID != v1 {
		t.Errorf("totals are %+v, %v, want those of one version", totals, err)
	}
	if series, err := db.VersionSeries(t.Context(), account, script, since, until, time.Second); err != nil || len(series) != 1 || series[0].VersionID != v1 {
		t.Errorf("the series is %+v, %v, want one point", series, err)
	}
	list, total, err := db.ScriptRates(t.Context(), account, since, until, time.Second, 10)
	if err != nil || total != 1 || len(list) != 1 || list[0].ScriptName != script || len(list[0].Series) != 1 {
		t.Errorf("scripts are %d, %+v, %v, want one with one point", total, list, err)
	}
}

// All failures are kept and few of the other requests, so that without weights the
// times would be those of failures.
func TestTimesAreWeighted(t *testing.T) {
	db := migrated(t)
	var rows []row
	for i := range 200 { // stand for 20,000 that took from 1 to 100 ms
		r := served(0)
		r.wall = new(int64(i/2 + 1))
		rows = append(rows, standsFor(100, r))
	}
	for range 150 {
		r := served(0)
		r.status, r.wall = 500, new(int64(9000))
		rows = append(rows, r)
	}
	insert(t, db, "sampled", rows...)
	rates, err := db.RatesBetween(t.Context(), account, script, noon, noon.Add(time.Second))
	if err != nil || len(rates) != 1 {
		t.Fatalf("%+v, %v", rates, err)
	}
	near := func(got, want float64) bool { return math.Abs(got-want) <= 2 } // ms, of which one is the sketch's own
	if w := rates[0].WallMs; w == nil || !near(w.P50, 50) || !near(w.P90, 91) || w.P99 < 98 || w.P99 > 101 {
		t.Errorf("wall times are %+v, want those of requests from 1 to 100 ms", w)
	}
	if rates[0].Requests != 20_150 || rates[0].Failures != 150 || rates[0].CPUMs != nil {
		t.Errorf("rates are %+v", rates[0])
	}
}

// Whoever upgrades does so while events come in, from a process that knows neither
// the column nor the new views: each counts once, before and after. With MODIFY QUERY
// the repeat at the end was counted again, by the views.
func TestSampledOutIsAddedToALiveSystem(t *testing.T) {
	db := open(t)
	l := layout{db.cfg.Database, ""}
	if err := db.define(t.Context(), db.root.Exec, "CREATE DATABASE "+db.cfg.Database); err != nil {
		t.Fatal(err)
	}
	for _, statement := range l.history() {
		if err := db.define(t.Context(), db.conn.Exec, statement); err != nil {
			t.Fatal(err)
		}
	}
	names, err := fs.Glob(tables.Migrations, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names[:3] {
		if err := db.apply(t.Context(), l, uint32(i+1), name); err != nil {
			t.Fatal(err)
		}
	}
	old := func(token string, rows ...row) {
		columns := slices.DeleteFunc(blockOf(rows...).Columns(), func(c tables.Column) bool {
			return slices.Contains([]string{"sampled_out", "affinity_rule", "caller_script", "caller_version_id", "logpush"}, c.Name)
		})
		if err := db.insert(t.Context(), "trace_events", token, len(rows), columns); err != nil {
			t.Error(err)
		}
	}
	old("before", repeat(10, served(0))...)

	const blocks, each = 60, 20
	half := make(chan struct{})
	var inserter sync.WaitGroup
	inserter.Go(func() {
		for i := range blocks {
			old("live-"+time.Duration(i).String(), repeat(each, served(time.Duration(i)*time.Second))...)
			if i == blocks/4 {
				close(half)
			}
		}
	})
	<-half
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	inserter.Wait()
	old("before", repeat(10, served(0))...) // a repeat across the upgrade
	wantCounts(t, db, 10+blocks*each)

	insert(t, db, "new", standsFor(100, served(0)))
	got, err := db.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(10 + blocks*each); got.Events != n+1 || got.SampledOut != 99 || got.Seconds != n+100 || got.Minutes != n+100 || got.Hours != n+100 {
		t.Errorf("after the upgrade the counts are %+v", got)
	}
}
