package e2e

import (
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/detection"
	"tidegate/test/platform"
)

// Releases under traffic, watched by the policy that has nothing but defaults: bad ones
// go back by themselves and say why, and one that is as good as the version before stays.
// How soon they go is logged; `go run ./bench/detection` holds it to its limits.
func TestBadReleasesGoBackByThemselves(t *testing.T) {
	p := start(t, platform.Options{})
	tenth := deploy.Full / 10
	policy := map[string]any{"enabled": true}
	for _, s := range []detection.Scenario{
		{Name: "half-fails", Rate: 500, Share: tenth, New: 0.5, Policy: policy, Patience: 2 * time.Minute},
		{Name: "ten-times-worse", Rate: 500, Share: tenth, Baseline: 0.005, New: 0.05, Policy: policy, Patience: 4 * time.Minute},
	} {
		t.Run(s.Name, func(t *testing.T) {
			r, err := detection.Run(t.Context(), p, s.Name, s)
			if err != nil {
				t.Fatal(err)
			}
			if !r.RolledBack {
				t.Fatalf("not rolled back in %v, after %d requests with %d failures", s.Patience, r.Requests, r.Failures)
			}
			t.Logf("out of traffic %v after its first failure, after %d requests with %d failures: %s", r.After, r.Requests, r.Failures, r.Decision.Sentence)
			d := r.Decision
			if d.Verdict != deploy.VerdictFail || d.Action != deploy.ActionRollback || d.Metric != deploy.MetricFailureRatio || d.ToDeployment == "" {
				t.Errorf("the decision is %+v: want a rollback for %s", d, deploy.MetricFailureRatio)
			}
			if !strings.HasPrefix(d.Sentence, "rolled back "+d.VersionID[:8]) {
				t.Errorf("the decision says %q: want what was rolled back", d.Sentence)
			}
			if d.Numbers.Failures == nil || *d.Numbers.Failures > int64(r.Failures) || *d.Numbers.Requests > int64(r.Requests) {
				t.Errorf("the decision counts %+v; the version served %d requests, %d of which failed", d.Numbers, r.Requests, r.Failures)
			}
		})
	}
	t.Run("as-good", func(t *testing.T) {
		r, err := detection.Run(t.Context(), p, "as-good", detection.Scenario{
			Rate: 500, Share: deploy.Full / 2, Baseline: 0.05, New: 0.05, Policy: policy, Patience: 20 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.RolledBack {
			t.Errorf("rolled back: %s", r.Decision.Sentence)
		}
		if r.Failures == 0 {
			t.Error("the new version never failed: nothing was tested")
		}
	})
}
