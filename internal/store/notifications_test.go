package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const testLease = time.Minute

// told is a script with a policy that tells targets.
type told struct {
	*testing.T
	*Store
	script  string
	clock   *clock
	v1, v2  deploy.Version
	current deploy.Deployment
}

func newTold(t *testing.T, s *Store, clock *clock, script string, targets ...deploy.NotifyTarget) *told {
	t.Helper()
	w := &told{T: t, Store: s, script: script, clock: clock, v1: mustVersion(t, s, script), v2: mustVersion(t, s, script)}
	p := deploy.DefaultPolicy()
	p.Enabled, p.Notify = true, targets
	if _, err := s.SavePolicy(t.Context(), testAccount, script, p, nil); err != nil {
		t.Fatal(err)
	}
	w.current = mustDeploy(t, s, script, share(w.v1, 90), share(w.v2, 10))
	return w
}

// decide applies a decision that moves nothing.
func (w *told) decide(change func(*deploy.RollbackDecision)) deploy.RollbackDecision {
	w.Helper()
	w.clock.add(time.Second)
	d := deploy.RollbackDecision{
		ID: uuid.NewString(), At: w.clock.now(), Verdict: deploy.VerdictFail, FromDeployment: w.current.ID, VersionID: w.v2.ID,
		Sentence: "kept it", Evidence: []deploy.Evidence{{Metric: deploy.MetricFailureRate, Series: []deploy.EvidencePoint{{LogE: 1}}}},
	}
	if change != nil {
		change(&d)
	}
	if err := w.ApplyDecision(w.Context(), testAccount, w.script, deploy.Judged{DeploymentID: w.current.ID}, nil, nil, &d); err != nil {
		w.Fatal(err)
	}
	return d
}

func (w *told) claim(most int) []deploy.Notification {
	w.Helper()
	list, err := w.ClaimNotifications(w.Context(), most, testLease)
	if err != nil {
		w.Fatal(err)
	}
	return list
}

func (w *told) settle(n deploy.Notification, state deploy.NotificationState) {
	w.Helper()
	n.State = state
	if state == deploy.NotificationWaiting {
		n.NextTry, n.LastError = w.clock.now().Add(5*time.Second), "the target answered 503"
	}
	if err := w.SettleNotification(w.Context(), n); err != nil {
		w.Fatal(err)
	}
}

func (w *told) list() []deploy.Notification {
	w.Helper()
	list, err := w.Notifications(w.Context(), testAccount, w.script)
	if err != nil {
		w.Fatal(err)
	}
	return list
}

func hook(path string, on ...deploy.NotifyOn) deploy.NotifyTarget {
	return deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: "https://hook.example/" + path, Secret: "correct horse battery", On: on}
}

func TestADecisionIsToldToTheTargetsOfThePolicy(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop",
			hook("all"), hook("promotions", deploy.OnPromote), hook("failures", deploy.OnFail, deploy.OnPause),
			deploy.NotifyTarget{Type: deploy.NotifyEmail, To: []string{"a@example.com", "b@example.com"}})
		decision := w.decide(nil)

		claimed := w.claim(10)
		var places []string
		for _, n := range claimed {
			places = append(places, n.Target.URL+strings.Join(n.Target.To, " "))
			if n.On != deploy.OnFail || n.State != deploy.NotificationWaiting || n.Attempts != 1 || !n.CreatedOn.Equal(clock.now()) ||
				n.Decision.ID != decision.ID || n.Decision.Sentence != "kept it" || n.Decision.Evidence[0].Series != nil {
				t.Errorf("the message is %+v", n)
			}
			if n.Target.Type == deploy.NotifyWebhook && n.Target.Secret != "correct horse battery" {
				t.Error("the secret is lost")
			}
		}
		slices.Sort(places)
		want := []string{"a@example.com", "b@example.com", "https://hook.example/all", "https://hook.example/failures"}
		if !slices.Equal(places, want) {
			t.Errorf("told are %q, want %q", places, want)
		}
		if stored, err := s.Decision(t.Context(), testAccount, "shop", decision.ID); err != nil || len(stored.Evidence[0].Series) != 1 {
			t.Errorf("the stored decision lost its series: %+v, error %v", stored, err)
		}
		if targets, err := s.NotifyTargets(t.Context(), testAccount, "shop"); err != nil || len(targets) != 4 || targets[0].Secret == "" {
			t.Errorf("targets %+v, error %v", targets, err)
		}
		_, err := s.Notifications(t.Context(), testAccount, "none")
		wantKind(t, err, errs.NotFound, "none")
	})
}

// What was not stored is not told: the change was refused because another deployment
// serves.
func TestARefusedDecisionIsNotTold(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", hook(""))
		d := deploy.RollbackDecision{ID: uuid.NewString(), At: clock.now(), Verdict: deploy.VerdictFail}
		wantKind(t, s.ApplyDecision(t.Context(), testAccount, "shop", deploy.Judged{DeploymentID: "another"}, nil, nil, &d), errs.Conflict)
		if list := w.list(); len(list) != 0 {
			t.Errorf("told are %+v", list)
		}
	})
}

func TestKindsOfNews(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		f := func(want deploy.NotifyOn, ramp *deploy.Ramp, change func(*deploy.RollbackDecision)) {
			t.Helper()
			w := newTold(t, s, clock, "shop-"+uuid.NewString()[:8], hook("", deploy.OnRollback, deploy.OnPause, deploy.OnFail, deploy.OnError, deploy.OnPromote, deploy.OnDone))
			var d *deploy.RollbackDecision
			if change != nil {
				d = &deploy.RollbackDecision{ID: uuid.NewString(), At: clock.now(), VersionID: w.v2.ID}
				change(d)
			}
			if ramp != nil {
				ramp.DeploymentID = w.current.ID
			}
			for range 2 { // the second stores a ramp that was done before
				if d != nil {
					d.ID = uuid.NewString()
				}
				if err := s.ApplyDecision(t.Context(), testAccount, w.script, deploy.Judged{DeploymentID: w.current.ID}, nil, ramp, d); err != nil {
					t.Fatal(err)
				}
			}
			times := 2
			if want == "" {
				times = 0
			} else if d == nil {
				times = 1
			}
			list := w.list()
			if len(list) != times || times > 0 && (list[0].On != want || list[0].Decision.At.IsZero()) {
				t.Errorf("told %d times: %+v; want %d times %q", len(list), list, times, want)
			}
		}
		f(deploy.OnRollback, nil, func(d *deploy.RollbackDecision) { d.Verdict, d.Action = deploy.VerdictFail, deploy.ActionRollback })
		f(deploy.OnPause, nil, func(d *deploy.RollbackDecision) { d.Verdict, d.Action = deploy.VerdictError, deploy.ActionPause })
		f(deploy.OnFail, nil, func(d *deploy.RollbackDecision) { d.Verdict, d.Action = deploy.VerdictFail, deploy.ActionNotify })
		f(deploy.OnFail, nil, func(d *deploy.RollbackDecision) { d.Verdict, d.Action = deploy.VerdictPass, deploy.ActionNotify })
		f(deploy.OnError, nil, func(d *deploy.RollbackDecision) { d.Verdict = deploy.VerdictError })
		f(deploy.OnPromote, nil, func(d *deploy.RollbackDecision) { d.Verdict, d.ToDeployment = deploy.VerdictPass, "x" })
		f(deploy.OnDone, &deploy.Ramp{State: deploy.RampDone}, func(d *deploy.RollbackDecision) { d.Verdict, d.ToDeployment = deploy.VerdictPass, "x" })
		f(deploy.OnDone, &deploy.Ramp{State: deploy.RampDone}, nil)
		f("", &deploy.Ramp{State: deploy.RampRunning}, nil)
		f("", nil, func(d *deploy.RollbackDecision) { d.Verdict = deploy.VerdictInconclusive })
	})
}

func TestAClaimIsOnesForTheTimeOfItsLease(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", hook("a"), hook("b"))
		w.decide(nil)
		first := w.claim(1)
		second := w.claim(10)
		if len(first) != 1 || len(second) != 1 || first[0].ID == second[0].ID {
			t.Fatalf("claimed %+v, then %+v", first, second)
		}
		if list := w.claim(10); len(list) != 0 {
			t.Fatalf("claimed twice: %+v", list)
		}
		w.settle(second[0], deploy.NotificationSent)

		// Its process was killed.
		clock.add(testLease)
		again := w.claim(10)
		if len(again) != 1 || again[0].ID != first[0].ID || again[0].Attempts != 2 {
			t.Fatalf("claimed %+v after the lease of %s", again, first[0].ID)
		}
		w.settle(first[0], deploy.NotificationFailed) // it was only slow, and is too late
		if list := w.list(); list[0].State == deploy.NotificationFailed || list[1].State == deploy.NotificationFailed {
			t.Errorf("the result of an old claim counts: %+v", list)
		}
		w.settle(again[0], deploy.NotificationWaiting)
		if list := w.claim(10); len(list) != 0 {
			t.Errorf("tried again at once: %+v", list)
		}
		clock.add(5 * time.Second)
		last := w.claim(10)
		if len(last) != 1 || last[0].Attempts != 3 || last[0].LastError != "the target answered 503" {
			t.Fatalf("claimed %+v", last)
		}
		w.settle(last[0], deploy.NotificationFailed)
		clock.add(time.Hour)
		if list := w.claim(10); len(list) != 0 {
			t.Errorf("claimed what is over: %+v", list)
		}
		for _, n := range w.list() {
			if n.Target.Secret != "" || n.Target.URL != "https://hook.example" {
				t.Errorf("the secrets of a message that is over are kept: %+v", n.Target)
			}
		}
	})
}

func TestOneTryAtATimeForATargetAndAFewForAnAccount(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		var many []deploy.NotifyTarget
		for i := range 2 * notificationsAtOnce {
			many = append(many, hook(fmt.Sprint("target", i)))
		}
		w := newTold(t, s, clock, "shop", many...)
		w.decide(nil)
		w.decide(nil)
		claimed := w.claim(100)
		urls := map[string]bool{}
		for _, n := range claimed {
			urls[n.Target.URL] = true
		}
		if len(claimed) != notificationsAtOnce || len(urls) != notificationsAtOnce {
			t.Fatalf("%d claimed of %d targets, want %d of as many", len(claimed), len(urls), notificationsAtOnce)
		}
		w.settle(claimed[0], deploy.NotificationSent)
		if next := w.claim(100); len(next) != 1 || urls[next[0].Target.URL] && next[0].Target.URL != claimed[0].Target.URL {
			t.Errorf("claimed %+v, want one to a target that is not being tried", next)
		}
		// An account that hangs leaves room for the next.
		other, err := s.CreateAccount(t.Context(), "other")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.writer.ExecContext(t.Context(), `UPDATE notifications SET account_id = $1, target_key = id WHERE leased_until = 0 AND state = 'waiting'`, other.ID); err != nil {
			t.Fatal(err)
		}
		if next := w.claim(100); len(next) != notificationsAtOnce || next[0].AccountID != other.ID {
			t.Errorf("claimed %d, want %d of another account", len(next), notificationsAtOnce)
		}
	})
}

// One row that could not be read rolled back every claim, for ever.
func TestAMessageThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		for _, column := range []string{"target_json", "decision_json"} {
			script := "shop-" + strings.TrimSuffix(column, "_json")
			w := newTold(t, s, clock, script, hook("a"), hook("b"), alerts())
			w.decide(nil)
			if _, err := s.writer.ExecContext(t.Context(), `UPDATE notifications SET `+column+` = '{' WHERE script = $1 AND target_key <> $2`, script, targetKey(testAccount, hook("b"))); err != nil {
				t.Fatal(err)
			}
			states := map[deploy.NotificationState]int{}
			for _, n := range w.claim(10) {
				states[n.State]++
				if n.State == deploy.NotificationWaiting {
					w.settle(n, deploy.NotificationSent)
				}
			}
			if states[deploy.NotificationWaiting] != 1 || states[deploy.NotificationFailed] != 2 {
				t.Fatalf("with %s broken, claimed are %v", column, states)
			}
			failed := 0
			for _, n := range w.list() {
				if n.State == deploy.NotificationFailed && strings.Contains(n.LastError, "cannot be read") && n.Target.Type != "" && n.Target.Secret == "" {
					failed++
				}
			}
			if failed != 2 {
				t.Errorf("listed are %+v", w.list())
			}
			mustDeploy(t, s, script, full(w.v2)) // which ends alerts
			clock.add(time.Hour)
			if again := w.claim(10); len(again) != 0 {
				t.Errorf("claimed again: %+v", again)
			}
		}
	})
}

// An account with much to tell made another's messages to the same place wait.
func TestAccountsDoNotWaitForEachOtherAtOneTarget(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		other, err := s.CreateAccount(t.Context(), "other")
		if err != nil {
			t.Fatal(err)
		}
		w := newTold(t, s, clock, "shop", hook("shared"))
		w.decide(nil)
		w.decide(nil)
		if err := s.write(t.Context(), "tell for another account", func(t *tx) error {
			return t.addNotification(w.Context(), deploy.Notification{AccountID: other.ID, Script: "shop", On: deploy.OnFail, Target: hook("shared"), State: deploy.NotificationWaiting})
		}); err != nil {
			t.Fatal(err)
		}
		accounts := map[string]int{}
		for _, n := range w.claim(10) {
			accounts[n.AccountID]++
		}
		if accounts[testAccount] != 1 || accounts[other.ID] != 1 {
			t.Errorf("claimed are %v, want one of each account", accounts)
		}
	})
}

// A steady stream of messages kept those that had failed once from ever being tried
// again.
func TestFreshMessagesDoNotOvertakeARetryThatIsDue(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", hook("a"))
		w.decide(nil)
		first := w.claim(1)[0]
		w.settle(first, deploy.NotificationWaiting)
		clock.add(5 * time.Second)
		w.decide(nil)
		if list := w.claim(1); len(list) != 1 || list[0].ID != first.ID {
			t.Errorf("claimed %+v, want the one that waits longer", list)
		}
	})
}

// Two processes share the work.
func TestConcurrentClaimsShareNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		other := open(Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", hook("a"), hook("b"), hook("c"), hook("d"))
		const decisions = 10
		for range decisions {
			w.decide(nil)
		}
		var mu sync.Mutex
		times, underWay := map[string]int{}, map[string]int{}
		var group sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for i := range 4 {
			store := []*Store{s, other}[i%2]
			group.Go(func() {
				for ctx.Err() == nil {
					list, err := store.ClaimNotifications(ctx, 3, testLease)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, n := range list {
						times[n.ID]++
						if underWay[n.Target.URL]++; underWay[n.Target.URL] > 1 {
							t.Errorf("%d tries at once to %s", underWay[n.Target.URL], n.Target.URL)
						}
					}
					done := len(times) == 4*decisions
					mu.Unlock()
					if done {
						return
					}
					for _, n := range list {
						mu.Lock()
						underWay[n.Target.URL]--
						mu.Unlock()
						n.State = deploy.NotificationSent
						if err := store.SettleNotification(ctx, n); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		group.Wait()
		if len(times) != 4*decisions {
			t.Errorf("%d of %d messages were claimed", len(times), 4*decisions)
		}
		for id, n := range times {
			if n != 1 {
				t.Errorf("message %s was claimed %d times", id, n)
			}
		}
	})
}

func TestTheOutboxIsBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", hook("a"))
		w.decide(nil)
		if _, err := s.writer.ExecContext(t.Context(), `WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < $1)
			INSERT INTO notifications (id, account_id, script, kind, target_type, target_key, target_json, decision_json, created_on, state, attempts, next_try, leased_until, error)
			SELECT 'copy-' || n, account_id, script, kind, target_type, target_key || n, target_json, decision_json, created_on, state, 0, next_try, 0, ''
			FROM counted CROSS JOIN notifications`, notificationsWaitingMax-1); err != nil {
			t.Fatal(err)
		}
		for range notificationsKeptMax + 5 {
			w.decide(nil)
		}
		var dropped, waiting int
		if err := s.reader.QueryRowContext(t.Context(), `SELECT SUM(CASE WHEN state = 'dropped' THEN 1 ELSE 0 END), SUM(CASE WHEN state = 'waiting' THEN 1 ELSE 0 END)
			FROM notifications`).Scan(&dropped, &waiting); err != nil {
			t.Fatal(err)
		}
		if waiting != notificationsWaitingMax || dropped != notificationsKeptMax {
			t.Errorf("%d wait and %d were dropped, want %d and %d", waiting, dropped, notificationsWaitingMax, notificationsKeptMax)
		}
		list := w.list()
		if n := list[0]; len(list) != notificationsKeptMax || n.State != deploy.NotificationDropped || n.LastError == "" || n.Target.Secret != "" {
			t.Errorf("%d are listed, the newest %+v", len(list), n)
		}
		clock.add(notificationHistory + time.Hour)
		if _, err := s.writer.ExecContext(t.Context(), `DELETE FROM notifications WHERE state = 'waiting'`); err != nil {
			t.Fatal(err)
		}
		w.decide(nil)
		if list := w.list(); len(list) != 1 {
			t.Errorf("%d are kept after their time", len(list)-1)
		}
	})
}

// One that is dead took the room of all others.
func TestADeadTargetHasItsOwnBound(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", hook("dead"), hook("good"))
		for range notificationsTargetMax + 3 {
			w.decide(nil)
			for _, n := range w.claim(2) {
				state := deploy.NotificationSent
				if n.Target.URL == hook("dead").URL {
					state = deploy.NotificationWaiting
				}
				w.settle(n, state)
			}
		}
		var waiting, dropped int
		for _, n := range w.list() { // the newest ones
			if n.State != deploy.NotificationDropped {
				continue
			}
			if dropped++; n.LastError != "too many messages for the target waited" {
				t.Errorf("dropped was %+v", n)
			}
		}
		if err := s.reader.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM notifications WHERE state = 'waiting'`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting != notificationsTargetMax || dropped != 3 {
			t.Errorf("%d wait, want %d; %d were dropped, want 3", waiting, notificationsTargetMax, dropped)
		}
	})
}

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

// Whoever waits for the end of a ramp was not told when a person skipped to it.
func TestASkipToTheLastStepIsTold(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", hook("a"))
		mustRamp(t, s, "shop", w.current, deploy.Ramp{VersionID: w.v2.ID, BaselineVersionID: w.v1.ID,
			Steps: []deploy.RampStep{{Percentage: 10_000}, {Percentage: 50_000}, {Percentage: deploy.Full}}})
		for want := range 2 { // after the first skip nothing is told
			r, err := s.ControlRamp(t.Context(), testAccount, "shop", deploy.RampSkip, "")
			if err != nil {
				t.Fatal(err)
			}
			list := w.claim(10)
			if len(list) != want || want > 0 && (list[0].On != deploy.OnDone || list[0].Decision.FromDeployment != r.DeploymentID || list[0].Decision.VersionID != w.v2.ID) {
				t.Errorf("after skip %d told are %+v", want+1, list)
			}
		}
	})
}

// Whoever deletes a script has not taken back what happened.
func TestMessagesOutliveTheirScript(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		w := newTold(t, s, clock, "shop", hook("a"))
		w.decide(nil)
		if err := s.DeleteScript(t.Context(), testAccount, "shop", true); err != nil {
			t.Fatal(err)
		}
		if list := w.claim(1); len(list) != 1 || list[0].Script != "shop" {
			t.Errorf("told are %+v", list)
		}
	})
}
