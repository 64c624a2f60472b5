package store

import (
	"slices"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
	"tidegate/schema/control"
)

func TestDeletionsAreKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := control.WithActor(t.Context(), control.Actor{TokenID: "t", Email: "a@example.com"})
		what := schema.Tombstone{AccountID: testAccount, Script: "shop", Before: time.UnixMilli(1_700_000_000_123).UTC()}
		first, err := s.CreateDeletion(ctx, what)
		if err != nil || first.RequestedBy != "a@example.com" || first.Tombstone != what {
			t.Fatal(first, err)
		}
		clock.add(time.Second)
		later := what
		later.Before = later.Before.Add(time.Hour)
		second, err := s.CreateDeletion(control.WithActor(ctx, control.Actor{TokenID: "t"}), later)
		if err != nil || second.RequestedBy != "t" {
			t.Fatal(second, err)
		}
		if _, err := s.CreateDeletion(ctx, schema.Tombstone{AccountID: "nobody", Before: what.Before}); errs.KindOf(err) != errs.NotFound {
			t.Errorf("for nobody's account: %v", err)
		}
		if list, err := s.Tombstones(ctx); err != nil || !slices.Equal(list, []schema.Tombstone{later}) {
			t.Errorf("tombstones are %+v, error %v", list, err)
		}

		d := first
		d.State, d.StartedOn, d.EndedOn, d.CheckedOn = schema.DeletionDone, clock.now(), clock.now(), clock.now()
		d.Places = []schema.DeletionPlace{{Name: "trace_events", RowsDeleted: 5}}
		if d, err = s.SaveDeletion(ctx, d); err != nil || d.Revision != 1 {
			t.Fatal(d, err)
		}
		if _, err := s.SaveDeletion(ctx, first); errs.KindOf(err) != errs.Conflict { // of who did not see that
			t.Errorf("an old revision is saved: %v", err)
		}
		got, err := s.Deletion(ctx, testAccount, first.ID)
		if err != nil || !got.EndedOn.Equal(clock.now().UTC().Truncate(time.Microsecond)) || len(got.Places) != 1 || got.Places[0] != d.Places[0] || got.Revision != 1 {
			t.Errorf("it is %+v, error %v", got, err)
		}
		for since, want := range map[time.Duration]int{0: 2, time.Second: 1} { // one that is done is looked after for a while
			if list, err := s.OpenDeletions(ctx, clock.now().Add(since)); err != nil || len(list) != want {
				t.Errorf("%d are open that were done since %s, error %v, want %d", len(list), since, err, want)
			}
		}
		var done int
		if err := s.reader.QueryRow(`SELECT COUNT(*) FROM audit_log WHERE target = $1 AND action IN ('deletion.create', 'deletion.done')`, first.ID).Scan(&done); err != nil || done != 2 {
			t.Errorf("the audit log has %d entries, error %v", done, err)
		}
	})
}

func TestAccountLetters(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		j := mustJob(t, s)
		for begin := range int64(3) {
			if err := s.AddDeadLetter(t.Context(), letterOf(j, begin), logjob.LetterLimits{}); err != nil {
				t.Fatal(err)
			}
			clock.add(time.Second)
		}
		from := letterOf(j, 0).From
		f := func(account string, before, created time.Time, want int) {
			t.Helper()
			list, err := s.AccountLetters(t.Context(), account, before, created)
			if err != nil || len(list) != want || want > 0 && list[0].Object.Script != "shop" {
				t.Errorf("%+v, error %v, want %d", list, err, want)
			}
		}
		f(testAccount, from.Add(time.Second), clock.now(), 3)
		f(testAccount, from, clock.now(), 0)
		f(testAccount, from.Add(time.Second), clock.now().Add(-2*time.Second), 1)
		f("another", from.Add(time.Second), clock.now(), 0)
		list, err := s.AccountLetters(t.Context(), testAccount, from.Add(time.Second), clock.now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CloseDeadLetter(t.Context(), testAccount, j.ID, list[0].ID, logjob.LetterDeleted); err != nil {
			t.Fatal(err)
		}
		f(testAccount, from.Add(time.Second), clock.now(), 2)
	})
}

func TestDeletionsOfADayAreBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		what := schema.Tombstone{AccountID: testAccount, Script: "shop", Before: clock.now().UTC().Truncate(time.Millisecond)}
		for range deletionsADay {
			d, err := s.CreateDeletion(t.Context(), what)
			if err != nil {
				t.Fatal(err)
			}
			d.State, d.StartedOn, d.EndedOn, d.CheckedOn = schema.DeletionDone, clock.now(), clock.now(), clock.now()
			if _, err := s.SaveDeletion(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.CreateDeletion(t.Context(), what); errs.KindOf(err) != errs.Conflict {
			t.Errorf("one more than a day's: %v", err)
		}
		clock.add(25 * time.Hour)
		if _, err := s.CreateDeletion(t.Context(), what); err != nil {
			t.Errorf("a day later: %v", err)
		}
	})
}
