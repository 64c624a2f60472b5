package store

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

func TestPolicyIsKeptUntilDeleted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		_, err := s.Policy(ctx, testAccount, "shop")
		wantKind(t, err, errs.NotFound, "shop")
		rate := 0.02
		p := deploy.DefaultPolicy()
		p.Enabled, p.MaxFailureRate, p.Ramp = true, &rate, []deploy.RampStep{{Percentage: 5000, BakeSeconds: 300}}
		for range 2 { // the second replaces the first
			if err := s.SavePolicy(ctx, testAccount, "shop", p); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Policy(ctx, testAccount, "shop")
		if err != nil || !got.Enabled || *got.MaxFailureRate != rate || got.MinRequests != deploy.DefaultMinRequests || got.Ramp[0] != p.Ramp[0] {
			t.Fatalf("policy %+v, error %v", got, err)
		}
		if err := s.DeletePolicy(ctx, testAccount, "shop"); err != nil {
			t.Fatal(err)
		}
		_, err = s.Policy(ctx, testAccount, "shop")
		wantKind(t, err, errs.NotFound)
		wantKind(t, s.SavePolicy(ctx, testAccount, "none", p), errs.NotFound, "none")
	})
}

func TestWatchedIsWhatTheControllerNeeds(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		p := deploy.DefaultPolicy()
		p.Enabled = true
		off := deploy.DefaultPolicy()
		v := mustVersion(t, s, "shop")
		for script, policy := range map[string]deploy.RollbackPolicy{"shop": p, "off": off, "undeployed": p} {
			mustVersion(t, s, script)
			if err := s.SavePolicy(ctx, testAccount, script, policy); err != nil {
				t.Fatal(err)
			}
		}
		var served []deploy.Deployment
		for range watchedDeployments + 5 {
			served = append(served, mustDeploy(t, s, "shop", full(v)))
		}
		current := served[len(served)-1]
		for i, from := range []string{served[len(served)-2].ID, current.ID, current.ID} {
			clock.add(time.Second)
			err := s.RecordDecision(ctx, testAccount, "shop", deploy.RollbackDecision{
				Verdict: deploy.VerdictInconclusive, FromDeployment: from, Sentence: []string{"old", "first", "second"}[i],
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		ramp := deploy.Ramp{VersionID: v.ID, DeploymentID: current.ID, State: deploy.RampRunning}
		if err := s.SaveRamp(ctx, testAccount, "shop", &ramp); err != nil {
			t.Fatal(err)
		}
		list, err := s.Watched(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d watched, error %v", len(list), err)
		}
		w := list[0]
		if w.Script != "shop" || len(w.Deployments) != watchedDeployments || w.Deployments[0].ID != current.ID || w.Deployments[watchedDeployments-1].ID != served[5].ID ||
			w.Ramp == nil || w.Ramp.DeploymentID != current.ID || w.LastDecision == nil || w.LastDecision.Sentence != "second" {
			t.Fatalf("watched %+v", w)
		}
		if list, err := s.Decisions(ctx, testAccount, "shop"); err != nil || len(list) != 3 || list[0].Sentence != "second" || list[0].ID == "" {
			t.Fatalf("decisions %+v, error %v", list, err)
		}
		mustDeploy(t, s, "shop", full(v))
		if list, err = s.Watched(ctx); err != nil || list[0].LastDecision != nil {
			t.Fatalf("a decision about a past deployment is the last one: %+v, error %v", list[0].LastDecision, err)
		}
		if err := s.SaveRamp(ctx, testAccount, "shop", nil); err != nil {
			t.Fatal(err)
		}
		_, err = s.Ramp(ctx, testAccount, "shop")
		wantKind(t, err, errs.NotFound)
	})
}

// A person who pauses a ramp while the controller decides on its next step must
// not be overruled by that step.
func TestAHeldRampDoesNotGoOn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		v1, v2 := mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		current := mustDeploy(t, s, "shop", share(v1, 90), share(v2, 10))
		running := deploy.Ramp{VersionID: v2.ID, DeploymentID: current.ID, State: deploy.RampRunning}
		if err := s.SaveRamp(ctx, testAccount, "shop", &running); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ControlRamp(ctx, testAccount, "shop", deploy.RampPause); err != nil {
			t.Fatal(err)
		}
		next := deploy.Deployment{ID: uuid.NewString(), Versions: []deploy.Split{share(v1, 50), share(v2, 50)}}
		advanced := running
		advanced.DeploymentID, advanced.Step = next.ID, 1
		wantKind(t, s.ApplyDecision(ctx, testAccount, "shop", current.ID, &next, &advanced, nil), errs.Conflict, "paused")
		if list, err := s.Deployments(ctx, testAccount, "shop"); err != nil || list[0].ID != current.ID {
			t.Fatalf("deployments %+v, error %v", list, err)
		}
		if r, err := s.Ramp(ctx, testAccount, "shop"); err != nil || r.State != deploy.RampPaused || r.Step != 0 {
			t.Fatalf("ramp %+v, error %v", r, err)
		}
	})
}

func TestApplyDecisionIsAllOrNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		v1, v2 := mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		current := mustDeploy(t, s, "shop", share(v1, 90), share(v2, 10))
		back := deploy.Deployment{ID: uuid.NewString(), Source: "rollback", Versions: []deploy.Split{full(v1)}}
		ramp := deploy.Ramp{VersionID: v2.ID, DeploymentID: back.ID, State: deploy.RampAborted}
		decision := deploy.RollbackDecision{Verdict: deploy.VerdictFail, FromDeployment: current.ID, ToDeployment: back.ID}
		apply := func(ifCurrent string, d deploy.Deployment) error {
			return s.ApplyDecision(ctx, testAccount, "shop", ifCurrent, &d, &ramp, &decision)
		}
		nothing := func() {
			t.Helper()
			if list, err := s.Deployments(ctx, testAccount, "shop"); err != nil || list[0].ID != current.ID {
				t.Fatalf("deployments %+v, error %v", list, err)
			}
			if list, err := s.Decisions(ctx, testAccount, "shop"); err != nil || len(list) != 0 {
				t.Fatalf("decisions %+v, error %v", list, err)
			}
			_, err := s.Ramp(ctx, testAccount, "shop")
			wantKind(t, err, errs.NotFound)
		}
		wantKind(t, apply(uuid.NewString(), back), errs.Conflict, current.ID)
		nothing()
		bad := back
		bad.Versions = []deploy.Split{{VersionID: "nope", Percentage: deploy.Full}}
		wantKind(t, apply(current.ID, bad), errs.Invalid, "nope")
		nothing()

		before, err := s.revision(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := apply(current.ID, back); err != nil {
			t.Fatal(err)
		}
		if after, err := s.revision(ctx); err != nil || after != before+1 {
			t.Fatalf("revision %d after %d, error %v", after, before, err)
		}
		if list, err := s.Deployments(ctx, testAccount, "shop"); err != nil || list[0].ID != back.ID || list[0].Source != "rollback" {
			t.Fatalf("deployments %+v, error %v", list, err)
		}
		if r, err := s.Ramp(ctx, testAccount, "shop"); err != nil || r.State != deploy.RampAborted {
			t.Fatalf("ramp %+v, error %v", r, err)
		}
		if err := s.ApplyDecision(ctx, testAccount, "shop", back.ID, nil, nil, &decision); err != nil {
			t.Fatal(err)
		}
		if list, err := s.Decisions(ctx, testAccount, "shop"); err != nil || len(list) != 2 {
			t.Fatalf("decisions %+v, error %v", list, err)
		}
		if after, err := s.revision(ctx); err != nil || after != before+1 {
			t.Fatalf("a decision that moved nothing moved the revision to %d, error %v", after, err)
		}
	})
}

func TestControlRamp(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		_, err := s.ControlRamp(ctx, testAccount, "shop", deploy.RampPause)
		wantKind(t, err, errs.NotFound)
		if err := s.SaveRamp(ctx, testAccount, "shop", &deploy.Ramp{State: deploy.RampRunning}); err != nil {
			t.Fatal(err)
		}
		clock.add(time.Minute)
		for _, step := range []struct {
			action string
			state  deploy.RampState
		}{{deploy.RampPause, deploy.RampPaused}, {deploy.RampResume, deploy.RampRunning}, {deploy.RampAbort, deploy.RampAborted}} {
			r, err := s.ControlRamp(ctx, testAccount, "shop", step.action)
			if err != nil || r.State != step.state {
				t.Fatalf("%s: %+v, error %v", step.action, r, err)
			}
		}
		_, err = s.ControlRamp(ctx, testAccount, "shop", deploy.RampResume)
		wantKind(t, err, errs.Conflict, "resume", "aborted")
		if r, err := s.Ramp(ctx, testAccount, "shop"); err != nil || r.State != deploy.RampAborted || !r.StepStartedAt.Equal(clock.now()) {
			t.Fatalf("ramp %+v, error %v", r, err)
		}
	})
}
