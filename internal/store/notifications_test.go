package store

import (
	"slices"
	"strings"
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
