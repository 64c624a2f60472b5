package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
)

// TestDecisionsAreExplained holds what a person reads against testdata/decision.txt.
func TestDecisionsAreExplained(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var series []deploy.EvidencePoint
	for i := range 30 {
		series = append(series, deploy.EvidencePoint{At: at.Add(time.Duration(i-29) * time.Second), LogE: 0.01 * float64(i*i)})
	}
	var d client.Decision
	d.RollbackDecision = deploy.RollbackDecision{
		ID: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", At: at, Verdict: deploy.VerdictFail, Action: deploy.ActionRollback, FromDeployment: "from", ToDeployment: "to",
		VersionID: "5f1c0000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", BaselineVersionID: "77770000-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
		Numbers:  deploy.Numbers{Requests: new(int64(312)), Failures: new(int64(31)), FailureRate: new(31.0 / 312), BaselineRequests: new(int64(2800)), BaselineFailures: new(int64(6)), BaselineRate: new(6.0 / 2800)},
		Sentence: "rolled back 5f1c0000 after 312 requests", Metric: deploy.MetricFailureRatio, PolicyRevision: 4, PolicySource: deploy.PolicyOfAccount,
		Evidence: []deploy.Evidence{
			{Metric: deploy.MetricFailureRatio, Limit: 1, LogE: 8.41, Threshold: 7.6, PValue: 0.00022, Trials: 37, Events: 31, Expected: 3.7, Low: new(4.713), High: new(211.2), Series: series},
			{Metric: deploy.MetricFailureRate, Limit: 0.5, LogE: -3, Threshold: 7.6, PValue: 1, Trials: 312, Events: 31, Expected: 156, High: new(0.163)},
		},
	}
	d.Links.Exceptions, d.Links.Events, d.Links.Metrics = "/e", "/v", "/m"
	var out strings.Builder
	(&session{}).writeDecision(&out, "shop", d, []deploy.Version{{ID: d.VersionID, Annotations: deploy.Annotations{Tag: "v2"}}})
	path := filepath.Join("testdata", "decision.txt")
	want, err := os.ReadFile(path)
	if diff := cmp.Diff(string(want), out.String()); diff != "" || err != nil {
		t.Errorf("%v, (-want +got)\n%s\n%s", err, diff, out.String())
	}
}

func TestSentencesNameTags(t *testing.T) {
	versions := []deploy.Version{
		{ID: "5f1c0000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", Annotations: deploy.Annotations{Tag: "v2\n"}},
		{ID: "77770000-aaaa-4aaa-8aaa-aaaaaaaaaaaa"}, // it has none
	}
	f := func(sentence, want string) {
		t.Helper()
		if got := tagged(sentence, versions); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f("paused the ramp of 5f1c0000: no request", "paused the ramp of v2  (5f1c0000): no request")
	f("kept 5f1c0000 after 20 requests; 77770000 was no better", "kept v2  (5f1c0000) after 20 requests; 77770000 was no better")
	f("version 5f1c0000-aaaa-4aaa-8aaa-aaaaaaaaaaaa, and 15f1c0000, and 99999999", "version 5f1c0000-aaaa-4aaa-8aaa-aaaaaaaaaaaa, and 15f1c0000, and 99999999")
}

func TestEndsAreRoundedOutwards(t *testing.T) {
	f := func(low, high float64, want string) {
		t.Helper()
		if got := between(&low, &high); got != want {
			t.Errorf("%v to %v: %q, want %q", low, high, got, want)
		}
	}
	f(1.89, 5.21, "1.8 and 5.3")
	f(0.0123, 0.0999, "0.012 and 0.100")
	f(0.3, 3, "0.30 and 3.0")
	f(99.9, 1234, "99 and 1300")
	f(1e-9, 1e9, "0.0000000010 and 1000000000")
	f(0, math.Inf(1), "0 and +Inf")
	f(0.02, 0.0037, "at least 0.020 and at most 0.0037 in turn") // it was good, and turned bad
	if got := between(new(0.7), nil) + ", " + between(nil, new(0.71)) + between(nil, nil); got != "at least 0.70, at most 0.71" {
		t.Errorf("one end: %q", got)
	}
}

func TestDecisionsAreFoundByTheirBeginning(t *testing.T) {
	list := []scriptDecision{{Script: "a", RollbackDecision: deploy.RollbackDecision{ID: "11111111-1"}}, {Script: "b", RollbackDecision: deploy.RollbackDecision{ID: "11111111-2"}}}
	f := func(id, script, want string) {
		t.Helper()
		got, err := findDecision(list, id)
		if got.Script != script || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v", id, got, err)
		}
	}
	f("11111111-2", "b", "")
	f("11111111", "", "give more")
	f("1111", "", "no decision")
	f("22222222", "", "no decision")
}

func TestChartsFitTheTerminal(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f := func(threshold float64, values ...float64) {
		t.Helper()
		var series []deploy.EvidencePoint
		for i, v := range values {
			series = append(series, deploy.EvidencePoint{At: at.Add(time.Duration(i) * time.Second), LogE: v})
		}
		lines := chart(series, threshold)
		if len(lines) != chartHeight+1 {
			t.Fatalf("%v: %d lines", values, len(lines))
		}
		for _, line := range lines {
			if n := len([]rune(line)); n > 80 {
				t.Errorf("%v: a line of %d characters: %s", values, n, line)
			}
		}
		if text := strings.Join(lines, "\n"); strings.Count(text, "100% |") != 1 || strings.Count(text, "  0% |") != 1 {
			t.Errorf("%v:\n%s", values, text)
		}
	}
	f(7, 1)
	f(7, -5, -1e300)
	f(7, 1e300, 2, math.NaN(), math.Inf(1))
	f(1e-300, 0, 0)
	f(7, 0, 1, 2, 3, 50)
	if lines := chart(nil, 7); lines != nil {
		t.Errorf("of nothing: %q", lines)
	}
	if lines := chart([]deploy.EvidencePoint{{LogE: math.NaN()}}, 7); lines != nil {
		t.Errorf("of no number: %q", lines)
	}
}

// The same chances are in dashboards/web/src/pages/rollback/evidence.test.ts: one decision was
// "1 in 3234" and "1 in 37" here, and "1 in 3,230" and "1 in 36" there.
func TestChance(t *testing.T) {
	for p, want := range map[float64]string{
		1: "100%", 0.25: "25%", 0.1234: "13%", 0.0999: "1 in 10", 0.05: "1 in 20", 1 / 36.6: "1 in 36", 0.001: "1 in 1,000", 1 / 3234.4: "1 in 3,230", 0.00025: "1 in 4,000",
		1 / 1239999.0: "1 in 1,230,000", 1e-9: "1 in 1,000,000,000", 1e-12: "below 1 in 1,000,000,000", 0: "below 1 in 1,000,000,000",
	} {
		if got := chance(p); got != want {
			t.Errorf("%v: %q, want %q", p, got, want)
		}
	}
}
