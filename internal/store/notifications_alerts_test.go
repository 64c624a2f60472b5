package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
)

func alerts() deploy.NotifyTarget {
	return deploy.NotifyTarget{Type: deploy.NotifyAlertmanager, URL: "https://alerts.example/secret"}
}

// What an alert tells of is over with the next deployment: the receiver is told so.
func TestTheNextDeploymentEndsAlerts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", alerts(), hook("a"))
		w.decide(nil)
		for _, n := range w.claim(10) {
			w.settle(n, deploy.NotificationSent)
		}
		clock.add(time.Minute)
		back := deploy.Deployment{ID: uuid.NewString(), Versions: []deploy.Split{full(w.v1)}}
		d := deploy.RollbackDecision{ID: uuid.NewString(), At: clock.now(), Verdict: deploy.VerdictFail, Action: deploy.ActionRollback, ToDeployment: back.ID}
		if err := s.ApplyDecision(t.Context(), testAccount, "shop", deploy.Judged{DeploymentID: w.current.ID}, &back, nil, &d); err != nil {
			t.Fatal(err)
		}
		var ended, begun int
		for range 2 { // one at a time for a target
			for _, n := range w.claim(10) {
				switch {
				case n.Target.Type != deploy.NotifyAlertmanager:
				case n.On == deploy.OnFail && n.EndedOn.Equal(clock.now()):
					ended++
				case n.On == deploy.OnRollback && n.EndedOn.IsZero():
					begun++
				}
				w.settle(n, deploy.NotificationSent)
			}
		}
		if ended != 1 || begun != 1 {
			t.Fatalf("the rollback ended %d alerts and began %d, want 1 and 1", ended, begun)
		}
		clock.add(time.Minute)
		mustDeploy(t, s, "shop", full(w.v2))
		last := w.claim(10)
		if len(last) != 1 || last[0].On != deploy.OnRollback || !last[0].EndedOn.Equal(clock.now()) || last[0].Target.URL != alerts().URL {
			t.Fatalf("the next deployment is told as %+v", last)
		}
		w.settle(last[0], deploy.NotificationSent)
		mustDeploy(t, s, "shop", full(w.v1))
		if again := w.claim(10); len(again) != 0 {
			t.Errorf("an alert ended twice: %+v", again)
		}
	})
}

// The alert failed to be sent, was over meanwhile, its end was sent, and then the alert
// itself: it stood at the receiver for a day.
func TestAnAlertThatWaitsGoesOutAsOver(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", alerts())
		w.decide(nil)
		w.settle(w.claim(10)[0], deploy.NotificationWaiting)
		clock.add(time.Second)
		mustDeploy(t, s, "shop", full(w.v2))
		over := clock.now()
		clock.add(time.Minute)
		for want := 2; want > 0; want-- {
			claimed := w.claim(10)
			if len(claimed) != 1 || !claimed[0].EndedOn.Equal(over) {
				t.Fatalf("claimed %+v, want one that ended at %s", claimed, over)
			}
			w.settle(claimed[0], deploy.NotificationSent)
		}
	})
}

// The end of an alert failed to be sent once. Meanwhile the same version failed again;
// then the old end was sent, and the receiver took the new alert for over.
func TestALateEndDoesNotEndTheNextAlert(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", alerts())
		w.decide(nil)
		w.settle(w.claim(1)[0], deploy.NotificationSent)
		again := func() {
			clock.add(time.Second)
			w.current = mustDeploy(t, s, "shop", share(w.v1, 80), share(w.v2, 20))
		}
		again()
		end := w.claim(1)[0]
		if end.EndedOn.IsZero() {
			t.Fatalf("claimed %+v, want the end", end)
		}
		w.settle(end, deploy.NotificationWaiting)
		w.decide(nil)
		other := w.decide(func(d *deploy.RollbackDecision) { d.VersionID = w.v1.ID })
		clock.add(time.Minute)
		for range 4 {
			for _, n := range w.claim(1) {
				if !n.EndedOn.IsZero() {
					t.Errorf("the end was told after the alert stood again: %+v", n)
				}
				w.settle(n, deploy.NotificationSent)
			}
		}
		for _, n := range w.list() {
			if n.ID == end.ID && (n.State != deploy.NotificationDropped || n.LastError != "the same alert stands again") {
				t.Errorf("the old end is %+v", n)
			}
		}
		// The alerts that stand are ended, each by itself.
		again()
		ended := map[string]bool{}
		for range 4 {
			for _, n := range w.claim(1) {
				ended[n.Decision.VersionID] = !n.EndedOn.IsZero()
				w.settle(n, deploy.NotificationSent)
			}
		}
		if !ended[w.v2.ID] || !ended[other.VersionID] {
			t.Errorf("ended are %v", ended)
		}
	})
}

// On PostgreSQL a claim and the end of alerts locked the same rows in different orders, and
// one of the two failed.
func TestClaimsAndEndsOfAlertsDoNotBlockEachOther(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		var targets []deploy.NotifyTarget
		for i := range notificationsAtOnce {
			targets = append(targets, deploy.NotifyTarget{Type: deploy.NotifyAlertmanager, URL: fmt.Sprintf("https://alerts%d.example", i)})
		}
		w := newTold(t, s, clock, "shop", targets...)
		for range 10 {
			w.decide(nil)
			var group sync.WaitGroup
			group.Go(func() {
				if _, err := s.ClaimNotifications(t.Context(), notificationsAtOnce, testLease); err != nil {
					t.Error(err)
				}
			})
			if err := s.write(t.Context(), "end alerts", func(t *tx) error { return t.endAlerts(w.Context(), testAccount, "shop") }); err != nil {
				t.Error(err)
			}
			group.Wait()
			if _, err := s.writer.ExecContext(t.Context(), `DELETE FROM notifications`); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAPersonWhoResumesARampEndsItsAlerts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", alerts())
		running := mustRamp(t, s, "shop", w.current, deploy.Ramp{VersionID: w.v2.ID})
		running.State = deploy.RampPaused
		d := deploy.RollbackDecision{ID: uuid.NewString(), At: clock.now(), Verdict: deploy.VerdictFail, Action: deploy.ActionPause}
		if err := s.ApplyDecision(t.Context(), testAccount, "shop", deploy.Judged{DeploymentID: w.current.ID}, nil, &running, &d); err != nil {
			t.Fatal(err)
		}
		w.settle(w.claim(1)[0], deploy.NotificationSent)
		if _, err := s.ControlRamp(t.Context(), testAccount, "shop", deploy.RampResume, ""); err != nil {
			t.Fatal(err)
		}
		if list := w.claim(1); len(list) != 1 || list[0].On != deploy.OnPause || list[0].EndedOn.IsZero() {
			t.Errorf("told are %+v", list)
		}
	})
}

// Alerts about a script that was deleted stood for a day, and one that was made anew under its
// name listed its messages.
func TestADeletedScriptEndsItsAlerts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", alerts(), hook("a"))
		other := newTold(t, s, clock, "blog", alerts())
		w.decide(nil)
		other.decide(nil)
		for range 2 { // one at a time for a target
			for _, n := range w.claim(10) {
				w.settle(n, deploy.NotificationSent)
			}
		}
		w.decide(nil) // is still to be sent
		clock.add(time.Minute)
		if err := s.DeleteScript(t.Context(), testAccount, "shop", false); err != nil {
			t.Fatal(err)
		}
		var ended, sent int
		for range 3 {
			for _, n := range w.claim(10) {
				if n.Script != "shop" {
					t.Errorf("of another script: %+v", n)
				}
				if n.Target.Type != deploy.NotifyAlertmanager {
					sent++
				} else if n.EndedOn.Equal(clock.now()) {
					ended++
				}
				w.settle(n, deploy.NotificationSent)
			}
		}
		if ended != 2 || sent != 1 {
			t.Errorf("%d alerts were ended and %d other messages sent, want 2 and 1", ended, sent)
		}
		clock.add(time.Second)
		mustVersion(t, s, "shop")
		if list := w.list(); len(list) != 0 {
			t.Errorf("a script of the same name has the messages %+v", list)
		}
		if list := other.list(); len(list) != 1 {
			t.Errorf("the other script has the messages %+v", list)
		}
	})
}
