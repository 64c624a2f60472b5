package deletion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/internal/store"
	"tidegate/internal/store/storetest"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
	"tidegate/schema/control"
)

const account = control.FirstAccountID

// errKilled is what a worker meets that is killed: nothing of it goes on.
var errKilled = errors.New("killed")

// killer lets so many calls pass. The next one is carried out or not, and is the last.
type killer struct {
	left     int
	before   bool // the last call is not carried out
	stopped  bool
	maximum  int
	finished bool
}

func (k *killer) call(do func() error) error {
	k.maximum++
	switch {
	case k.stopped:
		return errKilled
	case k.left > 0 || k.finished:
		k.left--
		return do()
	}
	k.stopped = true
	if !k.before {
		_ = do() // it is done, and nobody hears of it
	}
	return errKilled
}

// world is tables in memory, beside a real database.
type world struct {
	*store.Store
	*killer
	now        time.Time
	tombstones []schema.Tombstone
	rows       map[string]int64 // of each table, that a tombstone covers
	fresh      int64            // rows of trace_events, inserted at freshAt, besides
	freshAt    time.Time
	border     int64 // rates of the hour that ends at borderEnd, besides
	borderEnd  time.Time
	counts     int
	noted      int64
	removing   map[string]int
	removals   int
	// removesBorder is set when a removal began that takes the border, too.
	removesBorder bool
	failure       string
}

func (w *world) AddTombstone(_ context.Context, t schema.Tombstone) error {
	return w.call(func() error {
		w.tombstones = append(w.tombstones, t)
		return nil
	})
}

// tables hides the store's method of the same name.
type asTables struct{ *world }

func (w asTables) Tombstones(context.Context) (list []schema.Tombstone, err error) {
	err = w.call(func() error { list = slices.Clone(w.tombstones); return nil })
	return list, err
}

func (w *world) DeletionTables() []string { return []string{"trace_events", "version_rates_1h"} }

func (w *world) ServerTime(context.Context) (time.Time, error) { return w.now, nil }

func (w *world) CountDeletion(_ context.Context, table string, _ schema.Tombstone, at tables.Look) (d tables.Doomed, err error) {
	err = w.call(func() error {
		w.counts++
		if w.freshAt.Before(at.Settled) {
			w.rows["trace_events"], w.fresh = w.rows["trace_events"]+w.fresh, 0
		}
		switch table {
		case "trace_events":
			d = tables.Doomed{Left: w.rows[table] + w.fresh, Ready: w.rows[table]}
		default:
			d = tables.Doomed{Left: w.rows[table], Ready: w.rows[table], Kept: w.border}
			if !at.Settled.Before(w.borderEnd) {
				d = tables.Doomed{Left: w.rows[table] + w.border, Ready: w.rows[table] + w.border, Due: w.border}
			}
		}
		return nil
	})
	return d, err
}

func (w *world) NoteDeleted(_ context.Context, table string, _ schema.Tombstone, _ tables.Look) error {
	return w.call(func() error {
		if table != "trace_events" || w.removing[table] > 0 && w.noted < w.rows[table] {
			return fmt.Errorf("rows of %s are removed before they are noted", table)
		}
		w.noted = w.rows[table]
		return nil
	})
}

func (w *world) Removing(_ context.Context, table, _ string) (m tables.Mutation, err error) {
	err = w.call(func() error {
		if w.removing[table] > 0 {
			m = tables.Mutation{Running: true, PartsLeft: int64(w.removing[table]), Failure: w.failure}
			if w.removing[table]--; w.removing[table] == 0 {
				w.rows[table] = 0
				if w.removesBorder && table == "version_rates_1h" {
					w.border = 0
				}
			}
		}
		return nil
	})
	return m, err
}

func (w *world) DeleteRows(_ context.Context, table, _ string, _ schema.Tombstone, at tables.Look) error {
	return w.call(func() error {
		if table == "trace_events" && w.noted < w.rows[table] {
			return fmt.Errorf("%d rows are removed of which %d are noted", w.rows[table], w.noted)
		}
		if len(w.tombstones) == 0 {
			return errors.New("rows are removed before late ones are refused")
		}
		w.removesBorder = !at.Settled.Before(w.borderEnd)
		w.removing[table] = 2 // it is over when it was looked at so often
		w.removals++
		return nil
	})
}

func (w *world) HoldsDeleted(_ context.Context, _ schema.Tombstone, _ int, begin, end int64) (bool, error) {
	return begin <= 15 && 15 < end, nil
}

func (w *world) SaveDeletion(ctx context.Context, d schema.Deletion) (saved schema.Deletion, err error) {
	err = w.call(func() (err error) { saved, err = w.Store.SaveDeletion(ctx, d); return err })
	return saved, err
}

func (w *world) CloseDeadLetter(ctx context.Context, accountID string, job int64, id, state string) (l logjob.DeadLetter, err error) {
	err = w.call(func() (err error) { l, err = w.Store.CloseDeadLetter(ctx, accountID, job, id, state); return err })
	return l, err
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{killer: &killer{finished: true}, now: time.Now().UTC().Truncate(time.Millisecond), removing: map[string]int{},
		rows: map[string]int64{"trace_events": 7, "version_rates_1h": 2}}
	db := storetest.New(t, store.Options{Now: func() time.Time { return w.now }})
	if _, err := db.Bootstrap(t.Context(), control.Account{ID: account, Name: "a", Subdomain: "dev"}, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	w.Store = db
	return w
}

func (w *world) worker(holder string) *Worker {
	return New(Config{Holder: holder, Tables: asTables{w}, Deletions: w, Letters: w, Leases: w.Store, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now }})
}

// letters adds dead letters at offsets 10, 20, ... of ten records each.
func (w *world) letters(t *testing.T, objects ...logjob.LetterObject) {
	t.Helper()
	j := logjob.New(account)
	j.Dataset, j.DestinationConf = "workers_trace_events", "https://logs.example.com"
	j, err := w.CreateJob(t.Context(), j, 10)
	if err != nil {
		t.Fatal(err)
	}
	for i, object := range objects {
		at := int64(10 * (i + 1))
		l := logjob.DeadLetter{JobID: j.ID, BatchID: fmt.Sprint(i), BeginOffset: at, EndOffset: at + 10, Records: 10, From: w.now.Add(-time.Hour), Until: w.now, Status: 400, Reason: "no", Body: []byte{1}, Object: object}
		if err := w.AddDeadLetter(t.Context(), l, logjob.LetterLimits{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) ask(t *testing.T, script string) schema.Deletion {
	t.Helper()
	d, err := w.CreateDeletion(t.Context(), schema.Tombstone{AccountID: account, Script: script, Before: w.now})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// done steps until the deletion is done.
func (w *world) done(t *testing.T, worker *Worker, id string) schema.Deletion {
	t.Helper()
	for range 200 {
		w.now = w.now.Add(time.Second)
		if err := worker.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		d, err := w.Deletion(t.Context(), account, id)
		if err != nil {
			t.Fatal(err)
		}
		if d.State == schema.DeletionDone {
			return d
		}
	}
	t.Fatal("it is never done")
	return schema.Deletion{}
}

var places = []schema.DeletionPlace{{Name: "dead_letters", RowsDeleted: 2}, {Name: "trace_events", RowsDeleted: 7}, {Name: "version_rates_1h", RowsDeleted: 2}}

// A worker that is killed at any call, whether that was carried out or not, leaves what
// another one can finish, with the right numbers.
func TestDeletionSurvivesADeathAtAnyCall(t *testing.T) {
	for kills := 0; ; kills++ { // until there are fewer calls
		calls := 0
		for _, before := range []bool{true, false} {
			w := newWorld(t)
			w.letters(t, logjob.LetterObject{}, logjob.LetterObject{Script: "cart"}, logjob.LetterObject{Script: "shop"}, logjob.LetterObject{})
			d := w.ask(t, "shop")
			w.killer = &killer{left: kills, before: before}
			first := w.worker("first")
			for range 15 {
				w.now = w.now.Add(time.Second)
				_ = first.Step(t.Context()) // it is killed in one of them
			}
			calls = max(calls, w.maximum)
			w.killer = &killer{finished: true}
			w.now = w.now.Add(leaseTTL)
			got := w.done(t, w.worker("second"), d.ID)
			if !slices.Equal(got.Places, places) || w.rows["trace_events"] != 0 || len(w.tombstones) == 0 {
				t.Errorf("killed at call %d, carried out: %v: %+v, of the rows are left %v", kills, !before, got.Places, w.rows)
			}
			if left, err := w.AccountLetters(t.Context(), account, w.now, w.now); err != nil || len(left) != 2 {
				t.Errorf("killed at call %d: %d letters are left, error %v, want 2", kills, len(left), err)
			}
		}
		if calls < kills {
			if kills < 15 {
				t.Errorf("there are %d calls only", kills)
			}
			return
		}
	}
}

func TestOnlyTheHolderOfTheLeaseActs(t *testing.T) {
	w := newWorld(t)
	d := w.ask(t, "")
	first, second := w.worker("first"), w.worker("second")
	for range 3 {
		if err := errors.Join(first.Step(t.Context()), second.Step(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.tombstones) != 1 || w.removals != 2 {
		t.Errorf("%d tombstones and %d removals", len(w.tombstones), w.removals)
	}
	w.done(t, first, d.ID)
}

// A block that was built before the tombstone may be stored after everything was
// removed: it is looked for.
func TestRowsThatComeAfterTheEndGo(t *testing.T) {
	w := newWorld(t)
	d := w.ask(t, "shop")
	worker := w.worker("a")
	begun := w.now
	got := w.done(t, worker, d.ID)
	if got.EndedOn.Sub(got.StartedOn) < worker.Settle || got.EndedOn.Sub(begun) > worker.Settle+5*time.Second {
		t.Errorf("it took from %s to %s", got.StartedOn, got.EndedOn)
	}
	w.rows["trace_events"] = 4
	w.now = w.now.Add(worker.GuardEvery)
	if err := worker.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Deletion(t.Context(), account, d.ID); err != nil || got.State != schema.DeletionRunning {
		t.Errorf("rows came, and it is %+v, error %v", got, err)
	}
	got = w.done(t, worker, d.ID)
	if got.Places[1] != (schema.DeletionPlace{Name: "trace_events", RowsDeleted: 11}) {
		t.Errorf("it is done, with %+v", got.Places)
	}
	w.now = w.now.Add(worker.Guard + time.Second)
	w.rows["trace_events"] = 1
	before := w.removals
	if err := worker.Step(t.Context()); err != nil || w.removals != before {
		t.Errorf("a day later it is still looked after, error %v", err)
	}
}

// What was inserted just now is left until nothing can come any more that is as old, and
// ClickHouse is not asked all the time.
func TestFreshRowsWait(t *testing.T) {
	w := newWorld(t)
	w.fresh, w.freshAt = 3, w.now
	begun := w.now
	d := w.ask(t, "shop")
	worker := w.worker("a")
	got := w.done(t, worker, d.ID)
	if took := got.EndedOn.Sub(begun); took < worker.Wait || took > worker.Wait+3*restInterval {
		t.Errorf("it took %s", took)
	}
	if got.Places[1] != (schema.DeletionPlace{Name: "trace_events", RowsDeleted: 10}) || w.fresh != 0 || w.rows["trace_events"] != 0 {
		t.Errorf("it is done, with %+v, and %d and %d rows are left", got.Places, w.fresh, w.rows["trace_events"])
	}
	if most := 2 * int(worker.Wait/restInterval+10); w.removals != 3 || w.counts > most {
		t.Errorf("rows were removed %d times and counted %d times, want 3 and at most %d", w.removals, w.counts, most)
	}
}

// Rates of the hour in which the time lies are left until its end. They go later, and the
// deletion is done all the while.
func TestRatesOfTheLastHourGoAfterIt(t *testing.T) {
	w := newWorld(t)
	w.border, w.borderEnd = 2, w.now.Add(30*time.Minute)
	d := w.ask(t, "shop")
	worker := w.worker("a")
	if got := w.done(t, worker, d.ID); got.Places[2] != (schema.DeletionPlace{Name: "version_rates_1h", RowsDeleted: 2, RowsKept: 2}) {
		t.Errorf("it is done, with %+v", got.Places)
	}
	until := w.borderEnd.Add(worker.Wait + worker.GuardEvery + 10*time.Second)
	var got schema.Deletion
	for w.now.Before(until) {
		w.now = w.now.Add(time.Second)
		if err := worker.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		if got, err = w.Deletion(t.Context(), account, d.ID); err != nil || got.State != schema.DeletionDone {
			t.Fatalf("at %s it is %+v, error %v", w.now, got, err)
		}
	}
	if got.Places[2] != (schema.DeletionPlace{Name: "version_rates_1h", RowsDeleted: 4}) || w.border != 0 || w.removals != 3 {
		t.Errorf("in the end it has %+v, after %d removals", got.Places, w.removals)
	}
	if !got.CheckedOn.After(w.borderEnd) {
		t.Errorf("nothing was left at %s", got.CheckedOn)
	}
}

func TestTroubleIsShown(t *testing.T) {
	w := newWorld(t)
	d := w.ask(t, "shop")
	w.failure = "no space left on the device"
	worker := w.worker("a")
	for range 2 {
		if err := worker.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.Deletion(t.Context(), account, d.ID)
	if err != nil || got.Error != "ClickHouse fails to remove rows and tries again: version_rates_1h: no space left on the device" {
		t.Errorf("it shows %q, error %v", got.Error, err)
	}
	away := New(Config{Holder: "a", Tables: unavailable{asTables{w}}, Deletions: w, Letters: w, Leases: w.Store, Log: slog.New(slog.DiscardHandler), Now: worker.Now})
	if err := away.Step(t.Context()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("the error is %v", err)
	}
	if got, err := w.Deletion(t.Context(), account, d.ID); err != nil || got.Error != "ClickHouse does not answer: trying again" {
		t.Errorf("it shows %q, error %v", got.Error, err)
	}
	if got := w.done(t, worker, d.ID); got.Error != "" {
		t.Errorf("it is done, and shows %q", got.Error)
	}
}

type unavailable struct{ asTables }

func (unavailable) Removing(context.Context, string, string) (tables.Mutation, error) {
	return tables.Mutation{}, errs.New(errs.Unavailable, 0, "away")
}

// ClickHouse may be another one than it was, such as one from a backup.
func TestTombstonesThatAreMissingAreAdded(t *testing.T) {
	w := newWorld(t)
	d := w.ask(t, "shop")
	w.done(t, w.worker("a"), d.ID)
	want := w.tombstones
	w.tombstones = nil
	w.now = w.now.Add(leaseTTL)
	b := w.worker("b")
	for range 2 { // at the start, and later
		if err := b.Step(t.Context()); err != nil || len(w.tombstones) != 1 || w.tombstones[0] != want[0] {
			t.Errorf("tombstones are %+v, error %v, want %+v", w.tombstones, err, want)
		}
		w.tombstones = nil
		w.now = w.now.Add(publishInterval)
	}
}
