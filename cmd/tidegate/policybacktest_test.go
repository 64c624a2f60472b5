package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
)

// utc shows times as they are everywhere.
func utc(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
}

// TestBacktestsAreShown holds what a person reads against testdata/backtest.txt.
func TestBacktestsAreShown(t *testing.T) {
	utc(t)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var series []deploy.EvidencePoint
	for i := range 60 {
		series = append(series, deploy.EvidencePoint{At: at.Add(time.Duration(i) * time.Second), LogE: 0.005 * float64(i*i)})
	}
	failedAt := at.Add(39 * time.Second)
	p := deploy.DefaultPolicy()
	p.Enabled = true
	p.Complete()
	b := client.Backtest{Policy: p, BacktestResult: deploy.BacktestResult{Since: at.Add(-time.Hour), Until: at.Add(time.Hour), FailuresSaved: new(120.4), FailuresSavedUnknown: 1, FalseAlarms: 1, Trials: []deploy.BacktestTrial{
		{
			VersionID: "5f1c0000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", BaselineVersionID: "77770000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", Since: at, Until: at.Add(time.Minute),
			Numbers:  deploy.Numbers{Requests: new(int64(312)), Failures: new(int64(31)), FailureRate: new(31.0 / 312), BaselineRequests: new(int64(2800)), BaselineFailures: new(int64(6)), BaselineRate: new(6.0 / 2800)},
			FailedAt: &failedAt, Metric: deploy.MetricFailureRatio, Sentence: "after 312 requests: 31 failures (9.9 %) against 0.2 % on the baseline", FailuresSaved: new(120.4), FalseAlarm: true,
			Evidence: []deploy.Evidence{{Metric: deploy.MetricFailureRatio, Limit: 1, LogE: 7.6, Threshold: 6.9, PValue: 0.00022, Trials: 37, Events: 31, Expected: 3.7, Low: new(4.713), Series: series}},
		},
		{VersionID: "88880000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", BaselineVersionID: "77770000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", Since: at.Add(10 * time.Minute), Until: at.Add(time.Hour), FailuresSaved: new(0.0)},
		{
			VersionID: "99990000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", BaselineVersionID: "77770000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", Since: at.Add(20 * time.Minute), Until: at.Add(time.Hour),
			Numbers:  deploy.Numbers{Requests: new(int64(400)), Failures: new(int64(100)), FailureRate: new(0.25)},
			FailedAt: new(at.Add(21 * time.Minute)), Metric: deploy.MetricFailureRate, Sentence: "after 40 requests: 10 failures (25 %), above the limit of 5 %",
		},
	}}}
	var out strings.Builder
	(&session{}).writeBacktest(&out, &b, []deploy.Version{{ID: "5f1c0000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", Annotations: deploy.Annotations{Tag: "v2"}}}, nil)
	want, err := os.ReadFile(filepath.Join("testdata", "backtest.txt"))
	if diff := cmp.Diff(string(want), out.String()); diff != "" || err != nil {
		t.Errorf("%v, (-want +got)\n%s\n%s", err, diff, out.String())
	}

	b.FailuresSaved, b.FailuresSavedUnknown = nil, 2
	out.Reset()
	(&session{}).writeBacktest(&out, &b, nil, nil)
	if want := "2 of 3 trials would have been acted upon, and how many failed requests that saves is not known; false alarms: 1\n"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, out.String())
	}
	b.FailuresSaved, b.FailuresSavedUnknown = new(120.4), 0
	out.Reset()
	(&session{}).writeBacktest(&out, &b, nil, nil)
	if want := "acted upon, which saves 120 failed requests; false alarms: 1\n"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, out.String())
	}

	out.Reset()
	(&session{}).writeBacktest(&out, &client.Backtest{Policy: p}, nil, nil)
	if !strings.Contains(out.String(), "No version was on trial") || strings.Contains(out.String(), "deployment") {
		t.Errorf("of nothing:\n%s", out.String())
	}
}

// Right after a release that was rolled back a backtest said that no version had been on trial.
func TestDeploymentsThatAreTooNewToBeReplayed(t *testing.T) {
	utc(t)
	ended := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) deploy.Deployment {
		return deploy.Deployment{CreatedOn: ended.Add(time.Duration(seconds) * time.Second)}
	}
	f := func(want string, asked time.Time, deployments ...deploy.Deployment) {
		t.Helper()
		got := ""
		if d := notReplayed(deployments, ended, asked); d != nil {
			got = moment(d.CreatedOn)
		}
		if got != want {
			t.Errorf("%q cannot be replayed, want %q", got, want)
		}
	}
	f("2026-11-23T12:01:30Z", time.Time{}, at(90), at(30), at(-3600))
	f("2026-11-23T12:00:00Z", time.Time{}, at(0))
	f("", time.Time{}, at(-1), at(-3600))
	f("", time.Time{})
	f("2026-11-23T12:00:30Z", ended.Add(time.Minute), at(90), at(30))
	f("", ended, at(90), at(-3600)) // it was not asked about

	const result = `{"since": "2026-11-22T12:00:00Z", "until": "2026-11-23T12:00:00Z", "trials": [], "failures_saved": 0, "failures_saved_unknown": 0, "false_alarms": 0, "policy": {}}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch base := path.Base(r.URL.Path); base {
		case "backtest":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "event: result\ndata: %s\n\n", result)
		case "deployments":
			fmt.Fprint(w, `{"success": true, "errors": [], "messages": [], "result": {"deployments": [{"id": "d", "created_on": "2026-11-23T12:01:30Z", "versions": []}]}}`)
		default:
			fmt.Fprint(w, `{"success": true, "errors": [], "messages": [], "result": {"items": []}}`)
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("TIDEGATE_TOKEN", "token")
	var out strings.Builder
	root := &cobra.Command{Use: "tidegate"}
	root.AddCommand(clientCommands()...)
	root.SetOut(&out)
	root.SetArgs([]string{"policy", "backtest", "shop", "--api", server.URL, "--account", "a1", "--data-dir", t.TempDir()})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	if want := "The newest deployment, of 2026-11-23T12:01:30Z, cannot be replayed yet"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, out.String())
	}
}

func TestEvidenceOfNowIsShown(t *testing.T) {
	utc(t)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	live := deploy.LiveEvidence{At: at, PolicySource: deploy.PolicyOfAccount, PolicyRevision: 4}
	var out strings.Builder
	(&session{}).writeLive(&out, &live, nil)
	for _, want := range []string{"the account's default, revision 4", "Enabled  no", "No version is on trial"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	live.Reason = "there is no version to go back to; deploy one"
	out.Reset()
	(&session{}).writeLive(&out, &live, nil)
	if got := out.String(); !strings.Contains(got, "\nNothing that serves can be judged: there is no version to go back to; deploy one.\n") || strings.Contains(got, "on trial") {
		t.Errorf("of what cannot be judged:\n%s", got)
	}
	live.Enabled, live.Reason = true, ""
	live.Trials = []deploy.LiveTrial{{VersionID: "5f1c0000-aaaa", BaselineVersionID: "77770000-aaaa", Since: at, Verdict: deploy.VerdictPass, Sentence: "1 of 400 requests failed",
		Evidence: []deploy.Evidence{{Metric: deploy.MetricFailureRatio, Limit: 1, LogE: 3.45, Threshold: 6.9, PValue: 0.03, Trials: 5, Events: 1, Expected: 0.5,
			Series: []deploy.EvidencePoint{{At: at, LogE: 0}, {At: at.Add(time.Minute), LogE: 3.45}}}}}}
	out.Reset()
	(&session{}).writeLive(&out, &live, []deploy.Version{{ID: "5f1c0000-aaaa", Annotations: deploy.Annotations{Tag: "v2"}}})
	for _, want := range []string{"v2 (5f1c0000) against 77770000 since 2026-11-23T12:00:00Z: pass: 1 of 400 requests failed", "max_failure_ratio  1      1 of 5  0.5                1 in 33  50%", "100% |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestBacktestBar(t *testing.T) {
	utc(t)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f := func(p client.BacktestProgress, want string) {
		t.Helper()
		if got := backtestBar(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f(client.BacktestProgress{Since: at, Until: at.Add(3 * time.Hour), At: at.Add(time.Hour)}, "[##########····················]  33% replayed until 2026-11-23T13:00:00Z")
	f(client.BacktestProgress{Since: at, Until: at.Add(time.Hour), At: at.Add(time.Hour)}, "[##############################] 100% replayed until 2026-11-23T13:00:00Z")
	f(client.BacktestProgress{}, "[······························] replayed until ")
}

func TestMomentsAreBelowTheirColumn(t *testing.T) {
	utc(t)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	series := []deploy.EvidencePoint{{At: at}, {At: at.Add(64 * time.Minute)}}
	lines := chartMoments(series, []chartMoment{{at, "a"}, {at.Add(10 * time.Minute), "b"}, {at.Add(63 * time.Minute), "acted upon"}, {at.Add(-time.Hour), "before"}, {at.Add(5 * time.Hour), "after"}})
	for i, column := range []int{0, 10, 63, 0, 63} {
		if got := len([]rune(lines[i][:strings.Index(lines[i], "▲")])); got != 7+column || len([]rune(lines[i])) > 80 {
			t.Errorf("%q: the mark is in column %d, want %d", lines[i], got, 7+column)
		}
	}
	if lines := chartMoments(nil, []chartMoment{{at, "a"}}); lines != nil {
		t.Errorf("below nothing: %q", lines)
	}
}

func TestTimesInDays(t *testing.T) {
	cmd := policyBacktest(newConnection())
	if at, err := timeFlag(cmd, "since", "7d"); err != nil || time.Since(at).Round(time.Hour) != 7*24*time.Hour {
		t.Errorf("%v, error %v", at, err)
	}
	for _, text := range []string{"d", "-1d", "1.5d", "7 d", "99999999d"} {
		if at, err := timeFlag(cmd, "since", text); err == nil {
			t.Errorf("%q is %v", text, at)
		}
	}
}
