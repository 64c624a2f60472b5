package store

import (
	"testing"
	"time"

	"tidegate/internal/logjob"
	"tidegate/schema/control"
)

func TestRoutersTellOfThemselves(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		begun, first := clock.now(), clock.now().UTC()
		save := func(r control.RouterState) {
			t.Helper()
			if err := s.SaveRouter(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		routers := func() []control.RouterState {
			t.Helper()
			var facts control.SystemFacts
			if err := s.SystemFacts(t.Context(), &facts); err != nil {
				t.Fatal(err)
			}
			return facts.Routers
		}
		save(control.RouterState{ID: "a", StartedOn: begun, SpoolBytes: 1})
		save(control.RouterState{ID: "b", StartedOn: begun})
		clock.add(time.Minute)
		save(control.RouterState{ID: "a", StartedOn: begun.Add(time.Second), SpoolBytes: 2, Dropped: map[string]int64{"away": 3}}) // the next process
		save(control.RouterState{ID: "a", StartedOn: begun, SpoolBytes: 4})                                                        // and the last word of the one before
		save(control.RouterState{ID: "a", StartedOn: begun, Stopping: true})
		list := routers()
		if len(list) != 2 || list[0].SpoolBytes != 2 || list[0].Dropped["away"] != 3 || !list[0].SeenSince.Equal(first) || !list[0].ReportedOn.Equal(first.Add(time.Minute)) ||
			!list[1].ReportedOn.Equal(first) {
			t.Fatalf("the routers are %+v", list)
		}
		clock.add(routerGone)
		save(control.RouterState{ID: "a", StartedOn: begun.Add(-time.Hour), SpoolBytes: 5})
		if list := routers(); list[0].SpoolBytes != 2 {
			t.Errorf("one that reported %s ago was replaced by an older one: %+v", routerGone, list[0])
		}
		clock.add(time.Microsecond)
		save(control.RouterState{ID: "a", StartedOn: begun.Add(-time.Hour), SpoolBytes: 5})
		if list := routers(); list[0].SpoolBytes != 5 || !list[0].StartedOn.Equal(begun.Add(-time.Hour)) {
			t.Errorf("an older start than that of one that is gone is left out: %+v", list[0])
		}
		save(control.RouterState{ID: "a", StartedOn: begun.Add(time.Second), Stopping: true})
		if list := routers(); len(list) != 1 || list[0].ID != "b" {
			t.Errorf("after a good-bye the routers are %+v", list)
		}
		clock.add(routersKept)
		save(control.RouterState{ID: "c", StartedOn: begun})
		if list := routers(); len(list) != 1 || list[0].ID != "c" {
			t.Errorf("after a week the routers are %+v", list)
		}
	})
}

func TestSystemFacts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		look := func() (facts control.SystemFacts) {
			t.Helper()
			if err := s.SystemFacts(t.Context(), &facts); err != nil {
				t.Fatal(err)
			}
			return facts
		}
		if facts := look(); facts.Rollback != nil || facts.Delivery != nil || facts.Outbox != (control.Outbox{}) || facts.DatabaseKind == "" {
			t.Errorf("of an empty database: %+v", facts)
		}
		if _, err := s.AcquireLease(t.Context(), "rollback", "me", time.Minute); err != nil {
			t.Fatal(err)
		}
		j := mustJob(t, s)
		now := clock.now().UTC().Truncate(time.Microsecond)
		_, err := s.ReportHealth(t.Context(), []logjob.HealthReport{{JobID: j.ID, At: now, FailingSince: now.Add(-time.Minute), Partitions: []logjob.PartitionHealth{
			{Partition: 0, ReportedOn: now, Committed: 3, Next: 10, OldestOn: now.Add(-time.Hour)},
			{Partition: 1, ReportedOn: now.Add(-time.Second), Committed: 5, Next: 5, OldestOn: now.Add(-2 * time.Hour)},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		facts := look()
		if facts.Rollback == nil || facts.Rollback.Holder != "me" || !facts.Rollback.ExpiresOn.Equal(now.Add(time.Minute)) {
			t.Errorf("the lease is %+v", facts.Rollback)
		}
		if len(facts.Delivery) != 1 {
			t.Fatalf("the deliveries are %+v", facts.Delivery)
		}
		if d := facts.Delivery[0]; d.JobID != j.ID || d.AccountID != j.AccountID || d.Name != j.Name || d.Enabled != j.Enabled || d.LagEvents != 7 ||
			!d.ReportedOn.Equal(now.Add(-time.Second)) || !d.OldestEventOn.Equal(now.Add(-time.Hour)) || !d.FailingSince.Equal(now.Add(-time.Minute)) {
			t.Errorf("the delivery is %+v", d)
		}
		// One partition that lags and does not know since when makes the age of all unknown.
		_, err = s.ReportHealth(t.Context(), []logjob.HealthReport{{JobID: j.ID, At: now, Partitions: []logjob.PartitionHealth{
			{Partition: 1, ReportedOn: now, Committed: 5, Next: 6},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if d := look().Delivery[0]; d.LagEvents != 8 || !d.OldestEventOn.IsZero() {
			t.Errorf("the delivery is %+v", d)
		}
	})
}
