package store

import (
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema/control"
)

func TestAlertsOfAnAccount(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		j, other := mustJob(t, s), mustJob(t, s)
		_, err := s.AlertHook(ctx, testAccount)
		wantKind(t, err, errs.NotFound, "alerts")
		wantKind(t, s.DeleteAlertHook(ctx, testAccount), errs.NotFound, "alerts")
		first, err := s.SaveAlertHook(ctx, testAccount, logjob.AlertHook{URL: "https://a/", Secret: "x"})
		if err != nil {
			t.Fatal(err)
		}
		second, err := s.SaveAlertHook(ctx, testAccount, logjob.AlertHook{URL: "https://b/"})
		if err != nil || second.PolicyID != first.PolicyID || first.PolicyID == "" {
			t.Errorf("the policy was %q and is %q, error %v", first.PolicyID, second.PolicyID, err)
		}
		if h, err := s.AlertHook(ctx, testAccount); err != nil || h != second || h.Secret != "" || h.URL != "https://b/" {
			t.Errorf("the alerts are %+v, error %v", h, err)
		}

		claim := func(job int64, kind string, want bool) {
			t.Helper()
			if ok, err := s.ClaimAlert(ctx, job, kind, time.Hour); err != nil || ok != want {
				t.Errorf("the alert %s of job %d may be sent: %v, error %v; want %v", kind, job, ok, err, want)
			}
		}
		due := func(want, wantFails bool) {
			t.Helper()
			if got, fails, err := s.RecoveryDue(ctx, j.ID, "failing", "recovered"); got != want || fails != wantFails || err != nil {
				t.Errorf("to be told that it goes on: %v, while it fails: %v, error %v; want %v, %v", got, fails, err, want, wantFails)
			}
		}
		due(false, false)
		claim(j.ID, "failing", true)
		claim(j.ID, "failing", false)
		due(true, false)
		clock.add(time.Second)
		claim(j.ID, "recovered", true)
		due(false, false)
		for _, message := range []string{"away", ""} {
			if _, err := s.ReportHealth(ctx, []logjob.HealthReport{{JobID: j.ID, At: clock.now(),
				Partitions: []logjob.PartitionHealth{{Partition: 1, ReportedOn: clock.now(), Message: message}}}}); err != nil {
				t.Fatal(err)
			}
			due(false, message != "")
		}
		claim(j.ID, "lost", true)
		claim(other.ID, "failing", true)
		claim(9999, "failing", false) // gone
		clock.add(time.Hour)
		claim(j.ID, "failing", true)
		if err := s.ReleaseAlert(ctx, j.ID, "failing"); err != nil {
			t.Fatal(err)
		}
		claim(j.ID, "failing", true)
		if err := s.DeleteAlertHook(ctx, testAccount); err != nil {
			t.Fatal(err)
		}
	})
}

// The audit log tells where alerts went and go, and nothing of the URL that could open something.
func TestChangesOfAlertsAreAudited(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		for _, h := range []logjob.AlertHook{{URL: "https://user:opens@hooks.example.com:8443/services/opens?key=opens", Secret: "opens"}, {URL: "https://attacker.example.net/opens"}} {
			clock.add(time.Second)
			if _, err := s.SaveAlertHook(ctx, testAccount, h); err != nil {
				t.Fatal(err)
			}
		}
		clock.add(time.Second)
		if err := s.DeleteAlertHook(ctx, testAccount); err != nil {
			t.Fatal(err)
		}
		list, _, err := s.AuditLog(ctx, testAccount, control.AuditFilter{Action: "logpush_alerts", OldestFirst: true}, 10, 0)
		if err != nil || len(list) != 3 {
			t.Fatalf("the log has %+v, error %v", list, err)
		}
		const signed, unsigned = `{"address":"https://hooks.example.com:8443","signed":true}`, `{"address":"https://attacker.example.net","signed":false}`
		for i, want := range [][2]string{{"", signed}, {signed, unsigned}, {unsigned, ""}} {
			if got := [2]string{list[i].Before, list[i].After}; got != want {
				t.Errorf("%s: before and after are %q, want %q", list[i].Action, got, want)
			}
		}
	})
}
