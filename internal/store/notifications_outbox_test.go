package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

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
