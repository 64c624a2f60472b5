package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"tidegate/internal/deploy"
)

func TestServingIsWhatAListOfScriptsShows(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		mustVersion(t, s, "undeployed")
		quiet := mustDeploy(t, s, "quiet", full(mustVersion(t, s, "quiet")))
		v1 := mustVersion(t, s, "shop")
		v2, err := s.CreateVersion(ctx, testAccount, "shop", deploy.Version{Origin: &deploy.Origin{URL: "http://127.0.0.1:9000"}, Annotations: deploy.Annotations{Tag: "v2"}})
		if err != nil {
			t.Fatal(err)
		}
		mustDeploy(t, s, "shop", full(v1))
		current := mustDeploy(t, s, "shop", share(v1, 90), share(v2, 10))
		p := deploy.DefaultPolicy()
		p.Enabled = true
		mustPolicy(t, s, "shop", p)
		ramp := mustRamp(t, s, "shop", current, deploy.Ramp{VersionID: v2.ID, BaselineVersionID: v1.ID})
		decide := func(action deploy.Action) deploy.RollbackDecision {
			t.Helper()
			clock.add(time.Second)
			d := deploy.RollbackDecision{
				ID: uuid.NewString(), At: clock.now(), Verdict: deploy.VerdictFail, Action: action, FromDeployment: current.ID, VersionID: v2.ID,
				PolicyRevision: 1, PolicySource: deploy.PolicyOfScript, Evidence: []deploy.Evidence{{Metric: deploy.MetricFailureRate}},
			}
			if err := s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: current.ID}, nil, nil, &d); err != nil {
				t.Fatal(err)
			}
			d.Evidence = nil
			return d
		}
		decide(deploy.ActionNotify)
		acted := decide(deploy.ActionPause)
		decide("") // nothing was done

		want := []deploy.Serving{
			{Script: "quiet", Deployment: quiet, Versions: []deploy.VersionName{{ID: quiet.Versions[0].VersionID, Number: 1}}},
			{Script: "shop", Deployment: current, Versions: []deploy.VersionName{{ID: v1.ID, Number: 1}, {ID: v2.ID, Number: 2, Tag: "v2"}}, Ramp: &ramp, Decision: &acted},
		}
		got, err := s.Serving(ctx, testAccount, acted.At)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("error %v, (-want +got)\n%s", err, diff)
		}
		want[1].Decision = nil
		got, err = s.Serving(ctx, testAccount, acted.At.Add(time.Microsecond))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("after the decision: error %v, (-want +got)\n%s", err, diff)
		}
	})
}
