package store

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

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
			mustPolicy(t, s, script, policy)
		}
		var served []deploy.Deployment
		for range deploy.WatchedDeployments + 4 {
			served = append(served, mustDeploy(t, s, "shop", full(v)))
		}
		decide := func(sentence string) {
			clock.add(time.Second)
			current := served[len(served)-1].ID
			ramp := deploy.Ramp{VersionID: v.ID, DeploymentID: current, State: deploy.RampRunning}
			decision := deploy.RollbackDecision{
				ID: uuid.NewString(), At: clock.now(), Verdict: deploy.VerdictInconclusive, FromDeployment: current, Sentence: sentence,
			}
			if err := s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: current}, nil, &ramp, &decision); err != nil {
				t.Fatal(err)
			}
		}
		decide("old")
		current := mustDeploy(t, s, "shop", full(v))
		served = append(served, current)
		decide("first")
		decide("second")
		list, err := s.Watched(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d watched, error %v", len(list), err)
		}
		w := list[0]
		if w.Script != "shop" || w.PolicySource != deploy.PolicyOfScript || w.PolicyRevision != 1 || w.PolicySince.IsZero() || w.PolicySince.After(current.CreatedOn) || len(w.Deployments) != deploy.WatchedDeployments || w.Deployments[0].ID != current.ID || w.Deployments[deploy.WatchedDeployments-1].ID != served[5].ID ||
			w.Ramp == nil || w.Ramp.DeploymentID != current.ID || len(w.Decisions) != 2 || w.Decisions[0].Sentence != "second" {
			t.Fatalf("watched %+v", w)
		}
		if list, _, err := s.Decisions(ctx, testAccount, "shop", 100, 0); err != nil || len(list) != 3 || list[0].Sentence != "second" {
			t.Fatalf("decisions %+v, error %v", list, err)
		}
		mustDeploy(t, s, "shop", full(v))
		if list, err = s.Watched(ctx); err != nil || len(list[0].Decisions) > 0 {
			t.Fatalf("decisions about a past deployment are of the present: %+v, error %v", list[0].Decisions, err)
		}
	})
}

// A controller that had lost the lease ended what it had begun to judge, and the same failure was
// recorded, and told, twice.
func TestDecisionThatDoesNotKnowTheNewest(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		p := deploy.DefaultPolicy()
		p.Enabled = true
		mustDeploy(t, s, "shop", full(mustVersion(t, s, "shop")))
		mustPolicy(t, s, "shop", p)
		list, err := s.Watched(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		decide := func(w deploy.Watched) error {
			d := deploy.RollbackDecision{ID: uuid.NewString(), At: at, Verdict: deploy.VerdictFail, FromDeployment: w.Deployments[0].ID, Sentence: "kept"}
			return s.ApplyDecision(t.Context(), testAccount, "shop", w.Judged(), nil, nil, &d)
		}
		if err := decide(list[0]); err != nil {
			t.Fatal(err)
		}
		wantKind(t, decide(list[0]), errs.Conflict, "came first")
		if list, err = s.Watched(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := decide(list[0]); err != nil {
			t.Errorf("who knows the newest: %v", err)
		}
		// The one who took over has a clock that is behind.
		before := list[0]
		if list, err = s.Watched(t.Context()); err != nil {
			t.Fatal(err)
		}
		at = at.Add(-time.Minute)
		if err := decide(list[0]); err != nil {
			t.Fatal(err)
		}
		wantKind(t, decide(list[0]), errs.Conflict, "came first")
		wantKind(t, decide(before), errs.Conflict, "came first")
	})
}

// mustRamp stores a ramp that runs on the script's current deployment.
func mustRamp(t *testing.T, s *Store, script string, current deploy.Deployment, r deploy.Ramp) deploy.Ramp {
	t.Helper()
	r.DeploymentID, r.State = current.ID, deploy.RampRunning
	if err := s.ApplyDecision(t.Context(), testAccount, script, deploy.Judged{DeploymentID: current.ID}, nil, &r, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// A person paused a ramp while the controller decided on its next step. The step
// came all the same, and later, when pauses won, the last step still did: a ramp is
// not running but done with it.
func TestAHeldRampDoesNotGoOn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		for action, held := range map[string]deploy.RampState{deploy.RampPause: deploy.RampPaused, deploy.RampAbort: deploy.RampAborted} {
			v1, v2 := mustVersion(t, s, action), mustVersion(t, s, action)
			current := mustDeploy(t, s, action, share(v1, 90), share(v2, 10))
			running := mustRamp(t, s, action, current, deploy.Ramp{VersionID: v2.ID})
			if _, err := s.ControlRamp(ctx, testAccount, action, action, ""); err != nil {
				t.Fatal(err)
			}
			refuse := func(state deploy.RampState, next *deploy.Deployment) {
				t.Helper()
				r := running
				r.State = state
				if next != nil {
					next.ID = uuid.NewString()
					r.DeploymentID, r.Step = next.ID, 1
				}
				wantKind(t, s.ApplyDecision(ctx, testAccount, action, deploy.Judged{DeploymentID: current.ID}, next, &r, nil), errs.Conflict, string(held))
				if list, err := s.Deployments(ctx, testAccount, action); err != nil || list[0].ID != current.ID {
					t.Fatalf("deployments %+v, error %v", list, err)
				}
				if r, err := s.Ramp(ctx, testAccount, action); err != nil || r.State != held || r.Step != 0 {
					t.Fatalf("ramp %+v, error %v", r, err)
				}
			}
			refuse(deploy.RampRunning, &deploy.Deployment{Versions: []deploy.Split{share(v1, 50), share(v2, 50)}})
			refuse(deploy.RampDone, &deploy.Deployment{Versions: []deploy.Split{full(v2)}})
			refuse(deploy.RampRunning, nil) // a new reason
			refuse(deploy.RampPaused, nil)
			refuse(deploy.RampAborted, nil) // without a rollback
		}
	})
}

// Holding a ramp keeps it from going on, and not a failing version in traffic.
func TestAHeldRampIsEndedByARollback(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		v1, v2 := mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		current := mustDeploy(t, s, "shop", share(v1, 90), share(v2, 10))
		r := mustRamp(t, s, "shop", current, deploy.Ramp{VersionID: v2.ID})
		if _, err := s.ControlRamp(ctx, testAccount, "shop", deploy.RampPause, ""); err != nil {
			t.Fatal(err)
		}
		back := deploy.Deployment{ID: uuid.NewString(), Versions: []deploy.Split{full(v1)}}
		r.State, r.Reason = deploy.RampAborted, "rolled back"
		if err := s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: current.ID}, &back, &r, nil); err != nil {
			t.Fatal(err)
		}
		if list, err := s.Deployments(ctx, testAccount, "shop"); err != nil || list[0].ID != back.ID {
			t.Fatalf("deployments %+v, error %v", list, err)
		}
		if r, err := s.Ramp(ctx, testAccount, "shop"); err != nil || r.State != deploy.RampAborted || r.Reason != "rolled back" || r.LastChange == nil || r.LastChange.Action != deploy.RampPause {
			t.Fatalf("ramp %+v, error %v; want it ended, and with who held it meanwhile", r, err)
		}
	})
}

// A script with many uploads and few deployments was not rolled back: the version
// that had served before was older than the newest 100, which are all that a person
// may deploy, and the controller was refused it, step after step.
func TestARollbackReachesAVersionOfAnyAge(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		v1 := mustVersion(t, s, "shop")
		mustDeploy(t, s, "shop", full(v1))
		for range deploy.DeployableVersions {
			mustVersion(t, s, "shop")
		}
		v2, foreign := mustVersion(t, s, "shop"), mustVersion(t, s, "other")
		current := mustDeploy(t, s, "shop", full(v2))
		_, err := s.Deploy(ctx, testAccount, "shop", deploy.Deployment{Versions: []deploy.Split{full(v1)}}, "")
		wantKind(t, err, errs.Invalid, v1.ID, "not deployable")

		rollBack := func(splits ...deploy.Split) error {
			d := deploy.Deployment{ID: uuid.NewString(), Versions: splits}
			return s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: current.ID}, &d, nil, nil)
		}
		wantKind(t, rollBack(full(foreign)), errs.Invalid, foreign.ID)
		wantKind(t, rollBack(share(v1, 99)), errs.Invalid, "99%")
		wantKind(t, rollBack(share(v1, 50), share(v2, 25), share(foreign, 25)), errs.Invalid, "at most 2")
		if err := rollBack(full(v1)); err != nil {
			t.Fatal(err)
		}
		snap, err := s.Snapshot(ctx, testAccount, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := snap.Validate(); err != nil { // the gateways must get the old version too
			t.Fatal(err)
		}
		i := slices.IndexFunc(snap.Scripts, func(script deploy.SnapshotScript) bool { return script.Name == "shop" })
		if got := snap.Scripts[i].Splits; len(got) != 1 || got[0].VersionID != v1.ID {
			t.Fatalf("splits %+v, want version 1", got)
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
		decision := deploy.RollbackDecision{
			ID: uuid.NewString(), Verdict: deploy.VerdictFail, FromDeployment: current.ID, ToDeployment: back.ID,
		}
		apply := func(ifCurrent string, d deploy.Deployment) error {
			return s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: ifCurrent}, &d, &ramp, &decision)
		}
		nothing := func() {
			t.Helper()
			if list, err := s.Deployments(ctx, testAccount, "shop"); err != nil || list[0].ID != current.ID {
				t.Fatalf("deployments %+v, error %v", list, err)
			}
			if list, _, err := s.Decisions(ctx, testAccount, "shop", 100, 0); err != nil || len(list) != 0 {
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
		decision.ID = uuid.NewString()
		if err := s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: back.ID}, nil, nil, &decision); err != nil {
			t.Fatal(err)
		}
		if list, _, err := s.Decisions(ctx, testAccount, "shop", 100, 0); err != nil || len(list) != 2 {
			t.Fatalf("decisions %+v, error %v", list, err)
		}
		if after, err := s.revision(ctx); err != nil || after != before+1 {
			t.Fatalf("a decision that moved nothing moved the revision to %d, error %v", after, err)
		}
	})
}

// Each step of the controller read the series of all evidence, megabytes of it.
func TestDecisionsAreListedWithoutTheirSeries(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		p := deploy.DefaultPolicy()
		p.Enabled = true
		current := mustDeploy(t, s, "shop", full(mustVersion(t, s, "shop")))
		mustPolicy(t, s, "shop", p)
		decide := func(evidence ...deploy.Evidence) deploy.RollbackDecision {
			t.Helper()
			clock.add(time.Second)
			d := deploy.RollbackDecision{ID: uuid.NewString(), At: clock.now(), Verdict: deploy.VerdictFail, FromDeployment: current.ID,
				PolicyRevision: 1, PolicySource: deploy.PolicyOfScript, Evidence: evidence}
			if err := s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: current.ID}, nil, nil, &d); err != nil {
				t.Fatal(err)
			}
			return d
		}
		short := deploy.Evidence{Metric: deploy.MetricFailureRate, Limit: 0.02, LogE: 1.5, Threshold: 6.9, PValue: 0.2, Trials: 30, Events: 2, Expected: 0.6}
		long := short
		long.Series = []deploy.EvidencePoint{{At: clock.now(), LogE: 0.5}, {At: clock.now().Add(time.Second), LogE: 1.5}}
		want := []deploy.RollbackDecision{decide(long, short), decide(short), decide()}
		for i, d := range want {
			got, err := s.Decision(ctx, testAccount, "shop", d.ID)
			if diff := cmp.Diff(d, got); diff != "" || err != nil {
				t.Errorf("decision %d: %v, (-want +got)\n%s", i, err, diff)
			}
		}
		want[0].Evidence = []deploy.Evidence{short, short}
		slices.Reverse(want)
		list, total, err := s.Decisions(ctx, testAccount, "shop", 100, 0)
		if diff := cmp.Diff(want, list); diff != "" || total != 3 || err != nil {
			t.Errorf("%d decisions, error %v, (-want +got)\n%s", total, err, diff)
		}
		list, total, err = s.Decisions(ctx, testAccount, "shop", 1, 1)
		if diff := cmp.Diff(want[1:2], list); diff != "" || total != 3 || err != nil {
			t.Errorf("of %d decisions, error %v, (-want +got)\n%s", total, err, diff)
		}
		_, err = s.Decision(ctx, testAccount, "shop", uuid.NewString())
		wantKind(t, err, errs.NotFound, "shop")
		mustVersion(t, s, "other")
		_, err = s.Decision(ctx, testAccount, "other", want[0].ID)
		wantKind(t, err, errs.NotFound, "other")
	})
}

func TestControlRamp(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		current := mustDeploy(t, s, "shop", full(mustVersion(t, s, "shop")))
		_, err := s.ControlRamp(ctx, testAccount, "shop", deploy.RampPause, "")
		wantKind(t, err, errs.NotFound)
		mustRamp(t, s, "shop", current, deploy.Ramp{})
		clock.add(time.Minute)
		for _, step := range []struct {
			action string
			state  deploy.RampState
		}{{deploy.RampPause, deploy.RampPaused}, {deploy.RampResume, deploy.RampRunning}, {deploy.RampAbort, deploy.RampAborted}} {
			r, err := s.ControlRamp(ctx, testAccount, "shop", step.action, "")
			if err != nil || r.State != step.state {
				t.Fatalf("%s: %+v, error %v", step.action, r, err)
			}
		}
		_, err = s.ControlRamp(ctx, testAccount, "shop", deploy.RampResume, "")
		wantKind(t, err, errs.Conflict, "resume", "aborted")
		if r, err := s.Ramp(ctx, testAccount, "shop"); err != nil || r.State != deploy.RampAborted || !r.StepStartedAt.Equal(clock.now()) || !r.ResumedAt.Equal(clock.now()) {
			t.Fatalf("ramp %+v, error %v", r, err)
		}
	})
}

// A step that a person skips to is deployed by them, at once and with the ramp: a
// controller that decided meanwhile loses.
func TestSkippedStepsAreDeployed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := control.WithActor(t.Context(), control.Actor{Email: "ann@example.com", Source: "api"})
		v1, v2 := mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		first := mustDeploy(t, s, "shop", share(v1, 95), share(v2, 5))
		running := mustRamp(t, s, "shop", first, deploy.Ramp{VersionID: v2.ID, BaselineVersionID: v1.ID,
			Steps: []deploy.RampStep{{Percentage: 5000, Gate: deploy.GateManual}, {Percentage: 25_000}, {Percentage: deploy.Full}}})
		before, err := s.revision(ctx)
		if err != nil {
			t.Fatal(err)
		}
		f := func(step int, state deploy.RampState, splits ...deploy.Split) deploy.Ramp {
			t.Helper()
			clock.add(time.Minute)
			r, err := s.ControlRamp(ctx, testAccount, "shop", deploy.RampSkip, "")
			if err != nil {
				t.Fatal(err)
			}
			list, err := s.Deployments(ctx, testAccount, "shop")
			if err != nil {
				t.Fatal(err)
			}
			d := list[0]
			if diff := cmp.Diff(splits, d.Versions); diff != "" || d.AuthorEmail != "ann@example.com" || d.Annotations.TriggeredBy != "deployment" || !strings.Contains(d.Annotations.Message, "skipped") {
				t.Fatalf("%+v, (-want +got)\n%s", d, diff)
			}
			want := running
			want.DeploymentID, want.Step, want.State, want.StepStartedAt, want.ResumedAt = d.ID, step, state, clock.now(), clock.now()
			want.LastChange = &deploy.RampChange{Action: deploy.RampSkip, By: "ann@example.com", At: clock.now()}
			stored, err := s.Ramp(ctx, testAccount, "shop")
			if diff := cmp.Diff([]deploy.Ramp{want, want}, []deploy.Ramp{r, stored}); diff != "" || err != nil {
				t.Fatalf("error %v, (-want +got)\n%s", err, diff)
			}
			return r
		}
		r := f(1, deploy.RampRunning, share(v1, 75), share(v2, 25))
		running.Reason = "waiting"
		wantKind(t, s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: first.ID}, nil, &running, nil), errs.Conflict)
		if after, err := s.revision(ctx); err != nil || after != before+1 {
			t.Fatalf("revision %d after %d, error %v", after, before, err)
		}
		if _, err := s.ControlRamp(ctx, testAccount, "shop", deploy.RampHold, ""); err != nil {
			t.Fatal(err)
		}
		running.Reason = ""
		f(2, deploy.RampDone, full(v2))
		_, err = s.ControlRamp(ctx, testAccount, "shop", deploy.RampSkip, "")
		wantKind(t, err, errs.Conflict, "done")

		// Somebody deployed, and the controller has not ended the ramp yet.
		mustDeploy(t, s, "shop", full(v1))
		current := mustDeploy(t, s, "shop", share(v1, 50), share(v2, 50))
		mustRamp(t, s, "shop", current, r)
		taken := mustDeploy(t, s, "shop", full(v1))
		for _, action := range []string{deploy.RampSkip, deploy.RampPause, deploy.RampAbort} { // or who pauses believes that what came is paused
			_, err = s.ControlRamp(ctx, testAccount, "shop", action, "")
			wantKind(t, err, errs.Conflict, taken.ID)
		}
		if shown, err := s.Ramp(ctx, testAccount, "shop"); err != nil || shown.State != deploy.RampAborted || shown.Reason != deploy.RampTakenOver || shown.DeploymentID != current.ID {
			t.Errorf("ramp %+v, error %v", shown, err)
		}
		if list, err := s.Deployments(ctx, testAccount, "shop"); err != nil || list[0].ID != taken.ID {
			t.Fatalf("deployments %+v, error %v", list[0], err)
		}
	})
}

// A judgement under way acted by a policy that was disabled, changed or deleted meanwhile.
func TestDecisionsNeedThePolicyThatWasFollowed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		v1, v2 := mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		off := limited(0.1)
		off.Enabled = false
		f := func(want errs.Kind, change func()) {
			t.Helper()
			current := mustDeploy(t, s, "shop", full(v2))
			list, err := s.Watched(ctx)
			if err != nil || len(list) != 1 {
				t.Fatalf("watched %+v, error %v", list, err)
			}
			change()
			back := deploy.Deployment{ID: uuid.NewString(), Versions: []deploy.Split{full(v1)}}
			err = s.ApplyDecision(ctx, testAccount, "shop", list[0].Judged(), &back, nil, nil)
			serves := back.ID
			if want != "" {
				wantKind(t, err, want, "shop", "policy")
				serves, err = current.ID, nil
			}
			if got, listErr := s.Deployments(ctx, testAccount, "shop"); err != nil || listErr != nil || got[0].ID != serves {
				t.Fatalf("%s serves, want %s, errors %v, %v", got[0].ID, serves, err, listErr)
			}
		}
		mustPolicy(t, s, accountDefault, limited(0.1))
		f("", func() {})
		f(errs.Conflict, func() { mustPolicy(t, s, accountDefault, limited(0.2)) })
		f(errs.Conflict, func() { mustPolicy(t, s, "shop", limited(0.2)) })
		f("", func() { mustPolicy(t, s, accountDefault, limited(0.3)) }) // another's
		f(errs.Conflict, func() { mustPolicy(t, s, "shop", off) })
		mustPolicy(t, s, "shop", limited(0.1))
		f(errs.Conflict, func() {
			if err := s.DeletePolicy(ctx, testAccount, "shop", nil); err != nil {
				t.Fatal(err)
			}
		})
		f(errs.Conflict, func() {
			if err := s.DeletePolicy(ctx, testAccount, accountDefault, nil); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// A person paused and resumed a ramp while the controller judged it. Its state was what
// the controller had seen, and so that was stored over the change, or the version was
// rolled back for what they knew of.
func TestAResumedRampIsJudgedAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		v1, v2 := mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		current := mustDeploy(t, s, "shop", share(v1, 90), share(v2, 10))
		seen := mustRamp(t, s, "shop", current, deploy.Ramp{VersionID: v2.ID})
		for range 2 { // the second time there was a change before
			var resumed deploy.Ramp
			for _, action := range []string{deploy.RampPause, deploy.RampResume} {
				clock.add(time.Second)
				var err error
				if resumed, err = s.ControlRamp(ctx, testAccount, "shop", action, ""); err != nil {
					t.Fatal(err)
				}
			}
			refuse := func(state deploy.RampState, splits ...deploy.Split) {
				t.Helper()
				r := seen
				r.State, r.Reason = state, "stale"
				var next *deploy.Deployment
				if len(splits) > 0 {
					next = &deploy.Deployment{ID: uuid.NewString(), Versions: splits}
				}
				wantKind(t, s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: current.ID}, next, &r, nil), errs.Conflict, "changed the ramp")
				if stored, err := s.Ramp(ctx, testAccount, "shop"); err != nil || !cmp.Equal(resumed, stored) {
					t.Fatalf("ramp %+v, error %v", stored, err)
				}
			}
			refuse(deploy.RampRunning)
			refuse(deploy.RampRunning, share(v1, 50), share(v2, 50))
			refuse(deploy.RampAborted, full(v1))
			seen = resumed
		}
		seen.State = deploy.RampAborted
		back := deploy.Deployment{ID: uuid.NewString(), Versions: []deploy.Split{full(v1)}}
		if err := s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: current.ID}, &back, &seen, nil); err != nil {
			t.Fatal(err)
		}
	})
}

// Two requests to skip a step, or one and a promotion just before it, skipped two.
func TestAStepIsSkippedOnceByTheSameWord(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		v1, v2 := mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		seen := mustDeploy(t, s, "shop", share(v1, 95), share(v2, 5))
		mustRamp(t, s, "shop", seen, deploy.Ramp{VersionID: v2.ID, BaselineVersionID: v1.ID, Steps: []deploy.RampStep{{Percentage: 5000}, {Percentage: 25_000}, {Percentage: deploy.Full}}})
		skipped, err := s.ControlRamp(ctx, testAccount, "shop", deploy.RampSkip, seen.ID)
		if err != nil || skipped.Step != 1 {
			t.Fatalf("%+v, error %v", skipped, err)
		}
		for _, action := range []string{deploy.RampSkip, deploy.RampPause} {
			_, err = s.ControlRamp(ctx, testAccount, "shop", action, seen.ID)
			wantKind(t, err, errs.Conflict, "step 2", skipped.DeploymentID)
		}
		if r, err := s.Ramp(ctx, testAccount, "shop"); err != nil || !cmp.Equal(skipped, r) {
			t.Errorf("ramp %+v, error %v", r, err)
		}
	})
}
