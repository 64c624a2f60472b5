package clickhouse

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
)

// mixed puts requests of two scripts, three versions and every kind of outcome into
// five hours around noon, some of which stand for others.
func mixed(t *testing.T, db *DB) []row {
	t.Helper()
	outcomes := []string{schema.OutcomeOK, schema.OutcomeOK, schema.OutcomeCanceled, schema.OutcomeOK, schema.OutcomeException,
		schema.OutcomeExceededCPU, schema.OutcomeExceededMemory, schema.OutcomeOK, schema.OutcomeInternalError, "killSwitch"}
	var rows []row
	for i := range 5000 {
		r := served(time.Duration(i)*3600*time.Millisecond - 2*time.Hour)
		r.outcome, r.wall, r.sampledOut = outcomes[i%len(outcomes)], new(int64(i%97)), uint64(i%3)
		if i%4 == 0 {
			r.version = v2
			r.cpu = new(int64(i % 7))
		}
		if i%5 == 0 {
			r.script = "blog"
		}
		rows = append(rows, r)
	}
	other := served(0)
	other.account = "00000000000000000000000000000002"
	rows = append(rows, repeat(50, other)...)
	insert(t, db, "mixed", rows...)
	return rows
}

func statusIn(outcome string) string {
	for _, s := range schema.InvocationStatuses {
		if s.Outcome == outcome {
			return s.Status
		}
	}
	return outcome
}

// counted groups rows as Invocations does, without SQL.
func counted(rows []row, q schema.InvocationQuery, keep func(row) bool) map[string]string {
	type sums struct{ requests, errors int64 }
	all := map[string]*sums{}
	for _, r := range rows {
		if r.account != q.AccountID || r.at.Before(q.Since) || !r.at.Before(q.Until) || keep != nil && !keep(r) {
			continue
		}
		var key []string
		for _, dimension := range q.By {
			switch dimension {
			case schema.InvocationScript:
				key = append(key, r.script)
			case schema.InvocationVersion:
				key = append(key, r.version)
			case schema.InvocationStatus:
				key = append(key, statusIn(r.outcome))
			case schema.InvocationTime:
				key = append(key, r.at.Truncate(q.Step).Format(time.RFC3339))
			}
		}
		at := strings.Join(key, " ")
		if all[at] == nil {
			all[at] = &sums{}
		}
		n := int64(1 + r.sampledOut)
		all[at].requests += n
		switch r.outcome {
		case schema.OutcomeOK, schema.OutcomeCanceled:
		default:
			all[at].errors += n
		}
	}
	want := map[string]string{}
	for key, s := range all {
		want[key] = fmt.Sprint(s.requests, s.errors)
	}
	return want
}

func TestInvocationsAgreeWithTheEvents(t *testing.T) {
	db := migrated(t)
	rows := mixed(t, db)
	f := func(q schema.InvocationQuery, keep func(row) bool) {
		t.Helper()
		q.AccountID, q.Limit = account, 10_000
		if q.Since.IsZero() {
			q.Since, q.Until = noon.Add(-90*time.Minute+7*time.Second), noon.Add(2*time.Hour+61*time.Second)
		}
		for _, source := range []string{"rollups", "events"} {
			q.Extremes = source == "events"
			list, err := db.Invocations(t.Context(), q)
			if err != nil {
				t.Fatalf("%s by %v: %v", source, q.By, err)
			}
			want := counted(rows, q, keep)
			if len(list) != len(want) {
				t.Errorf("%s by %v: %d groups, want %d", source, q.By, len(list), len(want))
			}
			for _, g := range list {
				var key []string
				for _, dimension := range q.By {
					key = append(key, map[string]string{schema.InvocationScript: g.ScriptName, schema.InvocationVersion: g.VersionID,
						schema.InvocationStatus: g.Status, schema.InvocationTime: g.Time.Format(time.RFC3339)}[dimension])
				}
				if got := fmt.Sprint(g.Requests, g.Errors); got != want[strings.Join(key, " ")] {
					t.Errorf("%s, group %q: %s, want %s", source, key, got, want[strings.Join(key, " ")])
				}
			}
		}
	}
	const byScript, byVersion, byStatus, byTime = schema.InvocationScript, schema.InvocationVersion, schema.InvocationStatus, schema.InvocationTime
	f(schema.InvocationQuery{}, nil)
	f(schema.InvocationQuery{Since: noon, Until: noon.Add(time.Second)}, nil)
	f(schema.InvocationQuery{Since: noon.Add(20 * time.Hour), Until: noon.Add(21 * time.Hour)}, nil)
	f(schema.InvocationQuery{By: []string{byVersion}}, nil)
	f(schema.InvocationQuery{By: []string{byScript, byVersion, byStatus}}, nil)
	for _, step := range []time.Duration{time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 24 * time.Hour} {
		f(schema.InvocationQuery{By: []string{byTime, byVersion}, Step: step}, nil)
		f(schema.InvocationQuery{By: []string{byStatus, byTime}, Step: step}, nil)
	}
	is := func(dimension string, operator schema.InvocationOperator, values ...string) schema.InvocationCondition {
		return schema.InvocationCondition{Dimension: dimension, Operator: operator, Values: values}
	}
	all := func(list ...schema.InvocationCondition) schema.InvocationQuery {
		return schema.InvocationQuery{By: []string{byVersion}, Where: schema.InvocationCondition{All: list}}
	}
	f(all(is(byScript, schema.InvocationEqual, "shop")), func(r row) bool { return r.script == "shop" })
	f(all(is(byScript, schema.InvocationNotEqual, "shop"), is(byVersion, schema.InvocationIn, v1, v2)), func(r row) bool { return r.script != "shop" })
	f(all(is(byScript, schema.InvocationLike, "b%g"), is(byVersion, schema.InvocationNotIn, v2)), func(r row) bool { return r.script == "blog" && r.version != v2 })
	f(all(is(byScript, schema.InvocationNotLike, "sho_")), func(r row) bool { return r.script != "shop" })
	f(all(is(byStatus, schema.InvocationEqual, "exceededResources")), func(r row) bool { return statusIn(r.outcome) == "exceededResources" })
	f(all(is(byStatus, schema.InvocationNotIn, "success", "killSwitch")), func(r row) bool { return r.outcome != "ok" && r.outcome != "killSwitch" })
	f(all(is(byScript, schema.InvocationGreater, "blog"), is(byScript, schema.InvocationAtMost, "shop")), func(r row) bool { return r.script == "shop" })
	f(all(is(byScript, schema.InvocationAtLeast, "shop"), is(byScript, schema.InvocationLess, "shop")), func(row) bool { return false })
	f(all(schema.InvocationCondition{Any: []schema.InvocationCondition{
		is(byStatus, schema.InvocationEqual, "killSwitch"),
		{All: []schema.InvocationCondition{is(byScript, schema.InvocationEqual, "blog"), is(byVersion, schema.InvocationEqual, v2)}},
	}}), func(r row) bool { return r.outcome == "killSwitch" || r.script == "blog" && r.version == v2 })
	f(all(schema.InvocationCondition{Any: []schema.InvocationCondition{}}), func(row) bool { return false })
	f(all(is(byScript, schema.InvocationEqual, "') OR 1 --")), func(row) bool { return false })
}

func TestInvocationsAreOrderedAndLimited(t *testing.T) {
	db := migrated(t)
	mixed(t, db)
	q := schema.InvocationQuery{AccountID: account, Since: noon.Add(-2 * time.Hour), Until: noon.Add(3 * time.Hour), Limit: 3,
		By: []string{schema.InvocationTime}, Step: 15 * time.Minute}
	f := func(want func(a, b schema.InvocationGroup) bool, order ...schema.InvocationOrder) {
		t.Helper()
		q.Order = order
		list, err := db.Invocations(t.Context(), q)
		if err != nil || len(list) != 3 {
			t.Fatalf("%d groups, %v", len(list), err)
		}
		if !slices.IsSortedFunc(list, func(a, b schema.InvocationGroup) int {
			if want(a, b) {
				return -1
			}
			if want(b, a) {
				return 1
			}
			return 0
		}) {
			t.Errorf("ordered by %+v: %+v", order, list)
		}
	}
	earlier := func(a, b schema.InvocationGroup) bool { return a.Time.Before(b.Time) }
	f(earlier)
	f(func(a, b schema.InvocationGroup) bool { return b.Time.Before(a.Time) }, schema.InvocationOrder{By: schema.InvocationTime, Descending: true})
	f(func(a, b schema.InvocationGroup) bool { return a.Errors > b.Errors }, schema.InvocationOrder{By: schema.InvocationErrors, Descending: true})
	f(earlier, schema.InvocationOrder{By: schema.InvocationTime, Step: time.Hour}, schema.InvocationOrder{By: schema.InvocationTime})
	f(func(a, b schema.InvocationGroup) bool { return a.Requests < b.Requests }, schema.InvocationOrder{By: schema.InvocationRequests})
}

func TestTimesOfInvocations(t *testing.T) {
	db := migrated(t)
	var rows []row
	for i := range 1000 { // 1 to 1000 ms, of which those below 500 threw
		r := served(time.Duration(i) * 10 * time.Millisecond)
		r.wall = new(int64(i + 1))
		if i < 500 {
			r.outcome = schema.OutcomeException
		}
		rows = append(rows, r)
	}
	insert(t, db, "times", rows...)
	q := schema.InvocationQuery{AccountID: account, Since: noon, Until: noon.Add(time.Minute), Limit: 10, Levels: []float64{0.5, 0.9}}
	one := func() schema.InvocationGroup {
		t.Helper()
		list, err := db.Invocations(t.Context(), q)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[0]
	}
	g := one() // of the rollups' sketches
	for level, want := range map[float64]float64{0.5: 500, 0.9: 900, 0.99: 990} {
		if !near(g.WallMs.Quantiles[level], want) {
			t.Errorf("quantile %g of wall times is %g, want about %g", level, g.WallMs.Quantiles[level], want)
		}
	}
	if len(g.WallMs.Quantiles) != 3 {
		t.Errorf("the rollups' quantiles are %v", g.WallMs.Quantiles)
	}
	if g.CPUMs.Quantiles != nil || g.WallMs.Min != nil || g.WallMs.Sum != nil || *g.Stored != 1000 {
		t.Errorf("%+v", g)
	}
	q.Where.All = []schema.InvocationCondition{{Dimension: schema.InvocationStatus, Operator: schema.InvocationEqual, Values: []string{"scriptThrewException"}}}
	g = one() // of the events
	within := func(want map[float64]float64) {
		t.Helper()
		for level, want := range want {
			if got := g.WallMs.Quantiles[level]; got < want-1 || got > want+1 {
				t.Errorf("quantile %g is %g, want %g", level, got, want)
			}
		}
	}
	within(map[float64]float64{0.25: 125, 0.5: 250, 0.75: 375, 0.9: 450, 0.95: 475, 0.99: 495, 0.999: 500})
	q.Where.All, q.Levels = nil, []float64{0.999}
	g = one() // of the events, too
	within(map[float64]float64{0.25: 250, 0.5: 500, 0.999: 999})
	q.Extremes = true
	if g = one(); *g.WallMs.Min != 1 || *g.WallMs.Max != 1000 || *g.WallMs.Sum != 500_500 || g.CPUMs.Min != nil || g.CPUMs.Sum != nil {
		t.Errorf("%+v", g)
	}
	unmeasured := served(time.Second)
	unmeasured.wall = nil
	insert(t, db, "unmeasured", unmeasured)
	if g = one(); g.WallMs.Sum != nil || *g.WallMs.Max != 1000 || g.Requests != 1001 {
		t.Errorf("with a time that nobody measured the sum is known: %+v", g)
	}

	// What is no longer there is not known, and not zero.
	db.cfg.Retention.EventDays = 1
	q.Since, q.Until, q.By = time.Now().Add(-48*time.Hour).Truncate(time.Second), noon.Add(time.Hour), []string{schema.InvocationStatus}
	list, err := db.Invocations(t.Context(), q)
	if err != nil || len(list) != 2 || len(list[0].WallMs.Quantiles) > 0 || list[0].Requests+list[1].Requests != 1001 || list[0].WallMs.Max != nil || list[0].Stored != nil {
		t.Errorf("%+v, %v", list, err)
	}
}

// The rollups do not count the events of one status.
func TestStoredEventsByStatus(t *testing.T) {
	db := migrated(t)
	failed := served(0)
	failed.outcome = schema.OutcomeException
	insert(t, db, "stored", append(repeat(3, failed), standsFor(90, served(0)), standsFor(10, served(time.Second)))...)
	q := schema.InvocationQuery{AccountID: account, Since: noon, Until: noon.Add(time.Minute), Limit: 10, Stored: true, By: []string{schema.InvocationStatus}}
	list, err := db.Invocations(t.Context(), q)
	if err != nil || len(list) != 2 || list[0].Stored == nil || *list[0].Stored != 3 || *list[1].Stored != 2 || list[1].Requests != 100 {
		t.Errorf("%+v, %v", list, err)
	}
	db.cfg.Retention.EventDays = 1
	q.Since = time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	if list, err = db.Invocations(t.Context(), q); err != nil || len(list) != 2 || list[0].Stored != nil {
		t.Errorf("without events: %+v, %v", list, err)
	}
}

// One script is sampled and the other one is not: neither of the rollups' sketches has both.
func TestQuantilesOfScriptsOfWhichOneIsSampled(t *testing.T) {
	db := migrated(t)
	quick, slow := served(0), served(time.Second)
	quick.wall, slow.wall = new(int64(10)), new(int64(1000))
	slow.script = "blog"
	insert(t, db, "quick", repeat(1000, quick)...)
	insert(t, db, "slow", repeat(10, standsFor(90, slow))...)
	q := schema.InvocationQuery{AccountID: account, Since: noon, Until: noon.Add(time.Minute), Limit: 10, Levels: []float64{0.5, 0.9}}
	f := func(name string, want ...float64) {
		t.Helper()
		list, err := db.Invocations(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []float64
		for _, g := range list {
			if p90, ok := g.WallMs.Quantiles[0.9]; ok {
				got = append(got, p90)
			}
		}
		if !slices.EqualFunc(got, want, near) {
			t.Errorf("%s: P90 is %v, want about %v; %+v", name, got, want, list)
		}
	}
	f("of both", 1000)
	q.By = []string{schema.InvocationScript}
	f("of each", 1000, 10)
	q.By = []string{schema.InvocationVersion}
	is := func(operator schema.InvocationOperator, values ...string) {
		q.Where.All = []schema.InvocationCondition{{Dimension: schema.InvocationScript, Operator: operator, Values: values}}
	}
	is(schema.InvocationEqual, "shop")
	f("of the one", 10)
	is(schema.InvocationEqual, "blog")
	f("of the sampled one", 1000)
	is(schema.InvocationIn, "blog", "shop")
	f("of the two", 1000)
	is(schema.InvocationNotEqual, "blog")
	f("of all but one", 10)
	q.Where.All = nil

	db.cfg.Retention.EventDays = 1
	q.Since = time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	f("without events, which nobody knows")
	is(schema.InvocationEqual, "blog")
	f("of the sampled one without events", 1000)
}

func TestInvocationsByStepsThatAreGone(t *testing.T) {
	db := migrated(t)
	q := schema.InvocationQuery{AccountID: account, Until: time.Now(), Limit: 10, By: []string{schema.InvocationTime}, Step: time.Second}
	f := func(days int, step time.Duration, want string) {
		t.Helper()
		q.Since, q.Step = q.Until.AddDate(0, 0, -days), step
		_, err := db.Invocations(t.Context(), q)
		if want == "" && err != nil || want != "" && (errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), want)) {
			t.Errorf("by %s from %d days ago: %v, want %q", step, days, err, want)
		}
	}
	f(6, time.Second, "")
	f(20, time.Second, "") // the events still know
	f(40, time.Second, "steps of less than 1m0s")
	f(40, time.Minute, "")
	f(200, 15*time.Minute, "steps of less than 1h0m0s")
	f(200, time.Hour, "")
}
