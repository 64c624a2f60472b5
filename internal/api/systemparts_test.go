package api

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"tidegate/schema/control"
)

func TestAssessParts(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	healthy := func() control.SystemFacts {
		return control.SystemFacts{
			DatabaseKind: "SQLite", Revision: 7, NewestOn: now.Add(-time.Second),
			Rollback: &control.Lease{Holder: "host/1", ExpiresOn: now.Add(time.Second)},
			Ingest:   []control.PartitionLag{{Partition: 0, Committed: 10, Next: 10}, {Partition: 1, Committed: -1}},
			Routers: []control.RouterState{{ID: "edge", Revision: 7, ReportedOn: now.Add(-5 * time.Second), SentOn: now.Add(time.Hour), // its clock is ahead
				ConfirmedOn: now.Add(time.Hour - 20*time.Second), SpoolBytesMax: 1000}},
			Delivery: []control.DeliveryState{{JobID: 1, AccountID: "acc", Name: "a", Enabled: true, EnabledOn: now.Add(-time.Hour), ReportedOn: now.Add(-10 * time.Second), LagEvents: 5, OldestEventOn: now.Add(-3 * time.Second)}},
		}
	}
	f := func(kind string, change func(*control.SystemFacts), state partState, words ...string) {
		t.Helper()
		facts := healthy()
		change(&facts)
		for _, p := range assess(&facts, now) {
			if p.Kind != kind {
				continue
			}
			text, err := json.Marshal(p)
			if err != nil || p.State != state || p.Sentence == "" || (p.Advice == "") != (state == partOK) {
				t.Errorf("%s: %s, error %v, want %s", kind, text, err, state)
			}
			for _, word := range words {
				if !strings.Contains(string(text), word) {
					t.Errorf("%s has no %q: %s", kind, word, text)
				}
			}
			return
		}
		t.Errorf("there is no part %s", kind)
	}
	same := func(*control.SystemFacts) {}
	down := errors.New("down")
	for _, kind := range []string{"database", "kafka", "clickhouse", "ingest", "router", "logpush", "rollback", "notifications"} {
		f(kind, same, partOK)
	}
	lag := func(p control.PartitionLag) func(*control.SystemFacts) {
		return func(s *control.SystemFacts) { s.Ingest[1] = p }
	}
	young := control.PartitionLag{Partition: 1, Committed: 20, Next: 25, Minute: 20, FiveMinutes: 15}
	f("ingest", lag(young), partOK, "5 events are on their way", `"lag_events":5`)
	// The first event after a quiet time is young, however old the newest is that is stored.
	f("ingest", func(s *control.SystemFacts) { lag(young)(s); s.NewestOn = now.Add(-time.Hour) }, partOK)
	f("ingest", func(s *control.SystemFacts) { lag(young)(s); s.Newest.Err, s.NewestOn = down, time.Time{} }, partOK)
	f("ingest", lag(control.PartitionLag{Partition: 1, Committed: 24, Next: 25, Minute: 20, FiveMinutes: 15}), partOK, "1 event is on its way")
	f("ingest", lag(control.PartitionLag{Committed: 19, Next: 25, Minute: 20, FiveMinutes: 19}), partDegraded, "6 events", "in 1 partition for more than a minute")
	// One partition is stuck while the other one is stored: the newest event is young.
	f("ingest", lag(control.PartitionLag{Committed: 19, Next: 1_000_019, Minute: 30, FiveMinutes: 20}), partDown, "1000000 events", "in 1 partition for more than 5 minutes")
	f("ingest", lag(control.PartitionLag{Committed: -1, First: 7, Next: 9, Minute: 9, FiveMinutes: 9}), partDown, "2 events")
	f("ingest", lag(control.PartitionLag{Committed: -1, First: 7, Next: 9, Minute: 7, FiveMinutes: 7}), partOK, "2 events")
	f("ingest", lag(control.PartitionLag{Committed: 1, Next: 9, Minute: -1, FiveMinutes: -1}), partUnknown, "does not tell for how long")
	f("ingest", func(s *control.SystemFacts) { lag(young)(s); s.Engine.Err = down }, partDown, "wait for ClickHouse")
	f("ingest", func(s *control.SystemFacts) { s.Kafka.Err = down }, partUnknown)
	// What Kafka does not have any more does not wait.
	f("ingest", func(s *control.SystemFacts) { s.Ingest[0] = control.PartitionLag{Committed: 3, First: 10, Next: 10} }, partOK)

	router := func(change func(*control.RouterState)) func(*control.SystemFacts) {
		return func(s *control.SystemFacts) { change(&s.Routers[0]) }
	}
	f("router", router(func(r *control.RouterState) { r.ReportedOn = now.Add(-31 * time.Second) }), partDown, "for 31 seconds")
	f("router", router(func(r *control.RouterState) { r.Revision = 0 }), partDown, "no snapshot")
	starts := func(started, seen time.Duration) func(*control.SystemFacts) {
		return router(func(r *control.RouterState) {
			r.Revision, r.StartedOn, r.SeenSince = 0, r.SentOn.Add(-started), r.ReportedOn.Add(-seen)
		})
	}
	f("router", starts(29*time.Second, 29*time.Second), partUnknown, "is starting", "Look again")
	f("router", starts(30*time.Second, 29*time.Second), partDown, "serves nobody")
	f("router", starts(time.Second, 30*time.Second), partDown, "serves nobody")  // it ended without a good-bye, and started again
	f("router", router(func(r *control.RouterState) { r.Revision = 6 }), partOK) // it has a minute for it
	f("router", router(func(r *control.RouterState) { r.Revision, r.ConfirmedOn = 6, r.SentOn.Add(-2*time.Minute) }), partDegraded, "the newest is 7")
	f("router", router(func(r *control.RouterState) {
		r.SnapshotError, r.ConfirmedOn = "no route.", r.SentOn.Add(-2*time.Minute)
	}), partDegraded, "a newer one: no route.")
	f("router", router(func(r *control.RouterState) { r.SpoolBytes = 10 }), partDegraded, "0.0 KiB of events wait")
	f("router", router(func(r *control.RouterState) { r.SpoolBytes = 900 }), partDegraded, "90% full")
	lost := func(since time.Duration) func(*control.SystemFacts) {
		return router(func(r *control.RouterState) {
			r.Dropped, r.DroppedOn = map[string]int64{"queue_full": 2}, r.SentOn.Add(-since)
		})
	}
	f("router", lost(time.Minute), partDegraded, "has lost 2 events", "60 seconds ago")
	f("router", lost(time.Hour), partOK, `"queue_full":2`)
	f("router", router(func(r *control.RouterState) { r.ProducerIDsRefused = true }), partDegraded, "no producer ids", "IDEMPOTENT_WRITE")
	f("router", func(s *control.SystemFacts) { s.Routers = nil }, partUnknown, "upgrade it")

	job := func(change func(*control.DeliveryState)) func(*control.SystemFacts) {
		return func(s *control.SystemFacts) { change(&s.Delivery[0]) }
	}
	f("logpush", same, partOK, `"lag_events":5`, `"lag_seconds":3`)
	lacks := func(part string, change func(*control.SystemFacts), words ...string) {
		t.Helper()
		facts := healthy()
		change(&facts)
		for _, p := range assess(&facts, now) {
			text, err := json.Marshal(p)
			for _, word := range words {
				if err != nil || p.Kind == part && strings.Contains(string(text), word) {
					t.Errorf("%s has %s, which nobody knows: %s, error %v", part, word, text, err)
				}
			}
		}
	}
	lacks("logpush", job(func(d *control.DeliveryState) { d.OldestEventOn = time.Time{} }), "lag_seconds")
	lacks("logpush", job(func(d *control.DeliveryState) { d.ReportedOn, d.EnabledOn = time.Time{}, now.Add(-time.Second) }), "lag_seconds", "lag_events")
	// It was switched on again, and what was told before is old.
	lacks("logpush", job(func(d *control.DeliveryState) { d.ReportedOn, d.EnabledOn = now.Add(-time.Hour), now.Add(-time.Second) }), "lag_seconds", "lag_events")
	lacks("logpush", func(s *control.SystemFacts) {
		s.Delivery = append(s.Delivery, control.DeliveryState{JobID: 2, Enabled: true, ReportedOn: now, LagEvents: 1})
	}, "lag_seconds")
	f("logpush", job(func(d *control.DeliveryState) { d.FailingSince = now.Add(-time.Hour) }), partDegraded, "1 job cannot deliver: 1 (a).", "tidegate jobs health 1 --account acc.")
	f("logpush", func(s *control.SystemFacts) {
		s.Delivery = nil
		for id := range int64(5) {
			s.Delivery = append(s.Delivery, control.DeliveryState{JobID: id, DisabledOn: now})
		}
	}, partDegraded, "5 jobs cannot deliver: 0, 1, 2, 2 more.")
	f("logpush", job(func(d *control.DeliveryState) { d.Enabled, d.DisabledOn = false, now }), partDegraded, "disabled_on")
	f("logpush", job(func(d *control.DeliveryState) { d.ReportedOn = now.Add(-2 * time.Minute) }), partDown, "No process tells")
	f("logpush", job(func(d *control.DeliveryState) { d.ReportedOn, d.EnabledOn = time.Time{}, now.Add(-time.Second) }), partOK) // it has just begun
	f("logpush", job(func(d *control.DeliveryState) { d.Enabled = false }), partOK, "No job is switched on")

	f("rollback", func(s *control.SystemFacts) { s.Rollback.ExpiresOn = now }, partDown)
	f("rollback", func(s *control.SystemFacts) { s.Rollback = nil }, partDown, "No process judges")
	f("notifications", func(s *control.SystemFacts) { s.Outbox = control.Outbox{Waiting: 1, OldestOn: now.Add(-time.Second)} }, partOK, "1 message about decisions is on its way")
	f("notifications", func(s *control.SystemFacts) { s.Outbox = control.Outbox{Waiting: 2, OldestOn: now.Add(-time.Hour)} }, partDegraded, "the oldest for 60 minutes")
	f("notifications", func(s *control.SystemFacts) { s.Outbox.FailedToday = 1 }, partDegraded, "given up")
	f("database", func(s *control.SystemFacts) { s.Database.Err = down }, partDown)
	f("rollback", func(s *control.SystemFacts) { s.Database.Err = down }, partUnknown)
	f("kafka", func(s *control.SystemFacts) { s.Kafka.Err = down }, partDown)
	f("clickhouse", func(s *control.SystemFacts) { s.Engine.Err = down }, partDown)
}
