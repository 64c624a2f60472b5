package rollback

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const (
	v1 = "11111111-0000-4000-8000-000000000000"
	v2 = "22222222-0000-4000-8000-000000000000"
	v3 = "33333333-0000-4000-8000-000000000000"
)

func row(version string, requests, failures int64) *schema.VersionRate {
	return &schema.VersionRate{VersionID: version, Assigned: requests, AssignedFailures: failures}
}

func limits(rate, ratio float64) deploy.RollbackPolicy {
	p := deploy.RollbackPolicy{Enabled: true, MinRequests: 100}
	if rate > 0 {
		p.MaxFailureRate = &rate
	}
	if ratio > 0 {
		p.MaxFailureRatio = &ratio
	}
	return p
}

// expectAssessment checks verdict, limit and sentence, which are what people see.
func expectAssessment(t *testing.T, policy deploy.RollbackPolicy, candidate, baseline *schema.VersionRate, want Assessment) {
	t.Helper()
	got := Assess(policy, candidate, baseline)
	got.Numbers = deploy.Numbers{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Assess (-want +got):\n%s", diff)
	}
}

func TestAssessFails(t *testing.T) {
	f := func(policy deploy.RollbackPolicy, candidate, baseline *schema.VersionRate, limit Limit, sentence string) {
		t.Helper()
		expectAssessment(t, policy, candidate, baseline, Assessment{Verdict: deploy.VerdictFail, Limit: limit, Sentence: sentence})
	}
	f(limits(0.02, 0), row(v2, 5120, 412), nil, LimitFailureRate,
		"412 of 5 120 requests failed (8.05 % > 2 %)")
	f(limits(0.02, 0), row(v2, 100, 100), row(v1, 900, 0), LimitFailureRate,
		"100 of 100 requests failed (100 % > 2 %)")
	// As many decimals as it takes to see why.
	f(limits(0.02, 0), row(v2, 1_000_000, 20_001), nil, LimitFailureRate,
		"20 001 of 1 000 000 requests failed (2.0001 % > 2 %)")
	f(limits(0, 3), row(v2, 5120, 412), row(v1, 4000, 77), LimitFailureRatio,
		"412 of 5 120 requests failed (8.05 %), 4.18 > 3 times the rate of 11111111 (77 of 4 000)")
	f(limits(0.1, 3), row(v2, 5120, 412), row(v1, 4000, 77), LimitFailureRatio,
		"412 of 5 120 requests failed (8.05 % ≤ 10 %), 4.18 > 3 times the rate of 11111111 (77 of 4 000)")
	f(limits(0, 3), row(v2, 500, 5), row(v1, 4000, 0), LimitFailureRatio,
		"5 of 500 requests failed (1 %), 40 > 3 times the rate of 11111111 (0 of 4 000, counted as 1)")
	// The absolute limit needs no baseline, also when a ratio is asked for.
	f(limits(0.02, 3), row(v2, 5120, 412), nil, LimitFailureRate,
		"412 of 5 120 requests failed (8.05 % > 2 %)")
	f(limits(0.02, 3), row(v2, 5120, 412), row(v1, 4000, 77), LimitFailureRate,
		"412 of 5 120 requests failed (8.05 % > 2 %)")
}

func TestAssessPasses(t *testing.T) {
	f := func(policy deploy.RollbackPolicy, candidate, baseline *schema.VersionRate, sentence string) {
		t.Helper()
		expectAssessment(t, policy, candidate, baseline, Assessment{Verdict: deploy.VerdictPass, Sentence: sentence})
	}
	f(limits(0.02, 0), row(v2, 1200, 3), nil, "3 of 1 200 requests failed (0.25 % ≤ 2 %)")
	f(limits(0.02, 0), row(v2, 100, 2), nil, "2 of 100 requests failed (2 % ≤ 2 %)")
	f(limits(0.02, 0), row(v2, 100, 0), nil, "0 of 100 requests failed (0 % ≤ 2 %)")
	f(limits(0, 0), row(v2, 100, 100), nil, "100 of 100 requests failed (100 %)")
	f(limits(0, 3), row(v2, 1000, 0), row(v1, 4000, 0),
		"0 of 1 000 requests failed (0 %), 0 ≤ 3 times the rate of 11111111 (0 of 4 000, counted as 1)")
	f(limits(0.02, 3), row(v2, 1200, 6), row(v1, 4000, 20),
		"6 of 1 200 requests failed (0.5 % ≤ 2 %), 1 ≤ 3 times the rate of 11111111 (20 of 4 000)")
	// Exactly the limit, where dividing the two rates would give 7.000000000000001.
	f(limits(0, 7), row(v2, 100, 7), row(v1, 100, 1),
		"7 of 100 requests failed (7 %), 7 ≤ 7 times the rate of 11111111 (1 of 100)")
	// Requests that were not assigned by chance are not counted.
	overridden := row(v2, 100, 0)
	overridden.Requests, overridden.Failures = 10_000, 10_000
	f(limits(0.02, 0), overridden, nil, "0 of 100 requests failed (0 % ≤ 2 %)")
}

func TestAssessIsInconclusive(t *testing.T) {
	f := func(policy deploy.RollbackPolicy, candidate, baseline *schema.VersionRate, sentence string) {
		t.Helper()
		expectAssessment(t, policy, candidate, baseline, Assessment{Verdict: deploy.VerdictInconclusive, Sentence: sentence})
	}
	f(limits(0.02, 0), nil, row(v1, 900, 0), "0 of the 100 requests that are needed")
	f(limits(0.02, 0), row(v2, 99, 99), row(v1, 900, 0), "99 of the 100 requests that are needed")
	f(deploy.RollbackPolicy{}, row(v2, 0, 0), nil, "0 of the 1 requests that are needed")
	f(limits(0.02, 3), row(v2, 5000, 20), nil,
		"20 of 5 000 requests failed (0.4 % ≤ 2 %), but the baseline had 0 of the 100 requests that a ratio needs")
	f(limits(0, 3), row(v2, 5000, 20), row(v1, 99, 0),
		"20 of 5 000 requests failed (0.4 %), but the baseline had 99 of the 100 requests that a ratio needs")
	f(limits(0, 3), row(v2, 200, 4), row(v1, 4000, 0),
		"4 of 200 requests failed (2 %), 80 > 3 times the rate of 11111111 (0 of 4 000, counted as 1), but fewer than 5 failures make no ratio")
}

func TestAssessNumbersAreAbsentWhenUnknown(t *testing.T) {
	got := Assess(limits(0, 3), row(v2, 400, 40), row(v1, 0, 0)).Numbers
	want := deploy.Numbers{
		Requests: new(int64(400)), Failures: new(int64(40)), FailureRate: new(0.1),
		BaselineRequests: new(int64(0)), BaselineFailures: new(int64(0)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("numbers with a baseline that had no requests (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(deploy.Numbers{}, Assess(limits(0, 3), nil, nil).Numbers); diff != "" {
		t.Errorf("numbers without rows (-want +got):\n%s", diff)
	}
	got = Assess(limits(0.02, 0), row(v2, 400, 40), nil).Numbers
	if got.Limit == nil || *got.Limit != 0.02 {
		t.Errorf("limit = %v, want the 0.02 that was passed", got.Limit)
	}
}

// FuzzAssess: whatever the counts, a fail has enough requests, one named limit and
// a rate above it; nothing is NaN or infinite; a sentence fits into a message.
func FuzzAssess(f *testing.F) {
	f.Add(int64(100), 0.02, 3.0, int64(5120), int64(412), int64(4000), int64(77))
	f.Add(int64(0), 0.0, 0.0, int64(0), int64(0), int64(0), int64(0))
	f.Add(int64(1), 1.0, 1e-9, int64(math.MaxInt64), int64(math.MaxInt64), int64(1), int64(0))
	f.Fuzz(func(t *testing.T, least int64, rate, ratio float64, requests, failures, baseRequests, baseFailures int64) {
		if math.IsNaN(rate) || rate < 0 || rate > 1 || math.IsNaN(ratio) || ratio < 0 || ratio > 1e6 ||
			failures < 0 || failures > requests || baseFailures < 0 || baseFailures > baseRequests {
			t.Skip("not a policy or not counts: refused before they come here")
		}
		policy := limits(rate, ratio)
		policy.MinRequests = least
		a := Assess(policy, row(v2, requests, failures), row(v1, baseRequests, baseFailures))
		for _, number := range []*float64{a.Numbers.FailureRate, a.Numbers.BaselineRate, a.Numbers.Limit} {
			if number != nil && (math.IsNaN(*number) || math.IsInf(*number, 0)) {
				t.Errorf("%+v holds the number %v", a, *number)
			}
		}
		if strings.Contains(a.Sentence, "NaN") || strings.Contains(a.Sentence, "Inf") || len(a.Sentence) > deploy.MessageBytesMax/2 {
			t.Errorf("sentence %q", a.Sentence)
		}
		if a.Verdict != deploy.VerdictFail {
			if a.Limit != "" || a.Numbers.Limit != nil {
				t.Errorf("%s with a limit that was passed: %+v", a.Verdict, a)
			}
			return
		}
		switch a.Limit {
		case LimitFailureRate:
			if *a.Numbers.FailureRate <= rate {
				t.Errorf("failed at %v, limit %v", *a.Numbers.FailureRate, rate)
			}
		case LimitFailureRatio:
			if failures < ratioFailuresMin || baseRequests < least {
				t.Errorf("failed by ratio with %d failures against %d requests", failures, baseRequests)
			}
		default:
			t.Errorf("failed without a limit: %+v", a)
		}
		if requests < least || failures == 0 {
			t.Errorf("failed with %d failures in %d requests, at least %d needed", failures, requests, least)
		}
	})
}

func TestCutKeepsCharactersWhole(t *testing.T) {
	f := func(s string, n int, want string) {
		t.Helper()
		if got := cut(s, n); got != want {
			t.Errorf("cut(%q, %d) = %q, want %q", s, n, got, want)
		}
	}
	f("abc", 3, "abc")
	f("abcd", 3, "abc")
	f("a≤b", 3, "a")
	f("a≤b", 4, "a≤")
	f("≤", 2, "")
}
