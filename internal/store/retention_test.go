package store

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/schema/control"
)

// swept calls a sweep until it removes nothing, as its caller does.
func swept(t *testing.T, sweep func(context.Context, time.Time) (int64, error), before time.Time) (parts []int64) {
	t.Helper()
	for {
		n, err := sweep(t.Context(), before)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return parts
		}
		parts = append(parts, n)
	}
}

func TestOldAuditEntriesAreSwept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		accounts := []string{testAccount, "", "gone"} // of operators, and of what is not there any more
		note := func(action string, times int) {
			t.Helper()
			if err := s.write(t.Context(), "note", func(tx *tx) error {
				for i := range times {
					if err := tx.audit(t.Context(), accounts[i%len(accounts)], action, fmt.Sprint(i), nil, nil); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		_, begun, err := s.AuditLog(t.Context(), "", control.AuditFilter{}, 1, 0) // the key for secrets
		if err != nil {
			t.Fatal(err)
		}
		note("old.thing", 2*sweptAtOnce+3)
		clock.add(time.Hour)
		border := clock.now()
		note("new.thing", 3)
		if parts := swept(t, s.SweepAuditLog, border); !slices.Equal(parts, []int64{sweptAtOnce, sweptAtOnce, 3 + int64(begun)}) {
			t.Errorf("removed %d, want parts of at most %d", parts, sweptAtOnce)
		}
		for _, id := range accounts {
			list, total, err := s.AuditLog(t.Context(), id, control.AuditFilter{}, 10, 0)
			if err != nil || total != 1 || list[0].Action != "new.thing" {
				t.Errorf("of account %q there are %d left: %+v, error %v", id, total, list, err)
			}
		}
	})
}

// The controller goes by the decisions about what serves, however long that does: without them
// it would tell an old failure again. Why what serves was deployed stays known, too.
func TestOldDecisionsAreSweptButForThoseOfWhatServes(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		p := deploy.DefaultPolicy()
		p.Enabled = true
		versions := map[string]deploy.Version{}
		deployed := map[string]deploy.Deployment{}
		for _, script := range []string{"shop", "basket"} {
			versions[script] = mustVersion(t, s, script)
			deployed[script] = mustDeploy(t, s, script, full(versions[script]))
			mustPolicy(t, s, script, p)
		}
		decide := func(script, sentence string, rollsBack bool) {
			t.Helper()
			clock.add(time.Minute)
			current := deployed[script]
			decision := deploy.RollbackDecision{ID: uuid.NewString(), At: clock.now(), Verdict: deploy.VerdictFail, FromDeployment: current.ID, Sentence: sentence}
			var next *deploy.Deployment
			if rollsBack {
				next = &deploy.Deployment{ID: uuid.NewString(), Strategy: current.Strategy, Versions: current.Versions}
				decision.ToDeployment = next.ID
			}
			if err := s.ApplyDecision(ctx, testAccount, script, deploy.Judged{DeploymentID: current.ID}, next, nil, &decision); err != nil {
				t.Fatal(err)
			}
			if next != nil {
				deployed[script] = *next
			}
		}
		sentences := func(script string) (list []string) {
			t.Helper()
			decisions, _, err := s.Decisions(ctx, testAccount, script, 100, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range decisions {
				list = append(list, d.Sentence)
			}
			return list
		}
		decide("shop", "past", false)
		decide("shop", "made the past", true)
		decide("shop", "about the past", false)
		decide("shop", "made what serves", true)
		decide("shop", "about what serves", false)
		decide("shop", "the newest about it", false)
		decide("basket", "past", false)
		deployed["basket"] = mustDeploy(t, s, "basket", full(versions["basket"]))
		clock.add(time.Minute)
		border := clock.now()
		decide("basket", "young", false)
		deployed["basket"] = mustDeploy(t, s, "basket", full(versions["basket"]))

		if parts := swept(t, s.SweepDecisions, border); !slices.Equal(parts, []int64{4}) {
			t.Errorf("removed %d, want 4 at once", parts)
		}
		if got, want := sentences("shop"), []string{"the newest about it", "about what serves", "made what serves"}; !slices.Equal(got, want) {
			t.Errorf("of shop %q are left, want %q", got, want)
		}
		if got, want := sentences("basket"), []string{"young"}; !slices.Equal(got, want) {
			t.Errorf("of basket %q are left, want %q", got, want)
		}
		watched, err := s.Watched(ctx)
		if err != nil || len(watched) != 2 || len(watched[1].Decisions) != 2 {
			t.Errorf("watched are %+v, error %v", watched, err)
		}
	})
}
