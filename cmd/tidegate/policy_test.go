package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
)

func TestParseRamp(t *testing.T) {
	f := func(text string, want ...deploy.RampStep) {
		t.Helper()
		got, err := parseRamp(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v, (-want +got)\n%s", text, err, diff)
		}
	}
	f("5%:5m,25%:5m,100%", deploy.RampStep{Percentage: 5_000, BakeSeconds: 300},
		deploy.RampStep{Percentage: 25_000, BakeSeconds: 300}, deploy.RampStep{Percentage: 100_000})
	f("0.5:90s, 100", deploy.RampStep{Percentage: 500, BakeSeconds: 90}, deploy.RampStep{Percentage: 100_000})
	f("5%:5m,25%:90s:proven,50%:manual,100%", deploy.RampStep{Percentage: 5_000, BakeSeconds: 300},
		deploy.RampStep{Percentage: 25_000, BakeSeconds: 90, Gate: deploy.GateProven}, deploy.RampStep{Percentage: 50_000, Gate: deploy.GateManual}, deploy.RampStep{Percentage: 100_000})
	f("none")
}

func TestBadRampsAreRefused(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got, err := parseRamp(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want an error with %q", text, got, err, want)
		}
	}
	f("", "not a percentage")
	f("5%,", "not a percentage")
	f("5%:5", "a time such as 90s")
	f("5%:", "a time such as 90s")
	f("5%:1.5s", "whole number of seconds")
	f("five:5m", "not a percentage")
	f("5%:5m:vote", "the gate must be one of")
	f("5%:proven:5m", "the gate must be one of")
}

func TestParseShare(t *testing.T) {
	f := func(text string, want float64) {
		t.Helper()
		if got, err := parseShare(text); got != want || err != nil {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	f("2%", 0.02)
	f("0.02", 0.02)
	f("100%", 1)
	f("2", 2) // the policy's own check refuses it
	for _, text := range []string{"", "%", "two", "2 %"} {
		if got, err := parseShare(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestPolicyFileIsReadStrictly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	read := func(text string) (deploy.RollbackPolicy, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return readPolicy(nil, path)
	}
	want := deploy.DefaultPolicy()
	want.Enabled, want.MinRequests = true, 7
	want.Complete()
	got, err := read(`{"enabled": true, "min_requests": 7, "source": "account", "revision": 3, "modified_by": "a@example.com", "modified_on": "2026-11-23T12:00:00.000000Z"}`)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got)\n%s", err, diff)
	}
	bad := func(text, want string) {
		t.Helper()
		if got, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want an error with %q", text, got, err, want)
		}
	}
	bad(`{"min_requests": 7}`, "enabled is missing")
	bad(`{"enabled": true, "max_failure_rat": 3}`, "max_failure_rat")
	bad(`{"enabled": true, "max_failure_rate": 3}`, "max_failure_rate 3")
	bad(`{"enabled": true} {}`, "something follows")
	bad(``, "EOF")
	if _, err := readPolicy(strings.NewReader(`{"enabled": false}`), "-"); err != nil {
		t.Errorf("from standard input: %v", err)
	}
}

// A ramp that parses is written so that it reads back the same.
func FuzzParseRamp(f *testing.F) {
	for _, seed := range []string{"5%:5m,25%:5m:proven,100%:manual", "none", "1:1ns", "1:1s:", "1:-5m", "1:9999999h", "12.346:1h2m3s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := parseRamp(text)
		if err != nil {
			return
		}
		for _, step := range steps {
			if step.BakeSeconds < 0 {
				return // the policy's own check refuses it
			}
		}
		again, err := parseRamp(formatRamp(steps))
		if diff := cmp.Diff(steps, again); diff != "" || err != nil {
			t.Fatalf("%q: %v, (-first +again)\n%s", text, err, diff)
		}
	})
}

// A share that parses is the number that was written, or a hundredth of it.
func FuzzParseShare(f *testing.F) {
	for _, seed := range []string{"2%", "0.02", "1e400%", "NaN", "-0%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		share, err := parseShare(text)
		if err != nil {
			return
		}
		p := deploy.DefaultPolicy()
		p.MaxFailureRate = &share
		if p.Validate() == nil && !(share > 0 && share < 1) {
			t.Fatalf("%q became %v, which the policy accepts", text, share)
		}
		if strings.HasSuffix(text, "%") {
			whole, err := parseShare(strings.TrimSuffix(text, "%"))
			if err != nil || whole == whole && whole/100 != share { // NaN equals nothing
				t.Fatalf("%q is %v, without the sign %v, %v", text, share, whole, err)
			}
		}
	})
}

// set applies flags as the command does, to a policy with defaults.
func setFlags(t *testing.T, p *deploy.RollbackPolicy, flags ...string) error {
	t.Helper()
	texts := make(map[string][]string)
	for i := 0; i < len(flags); i += 2 {
		texts[flags[i]] = append(texts[flags[i]], flags[i+1])
	}
	for _, f := range policyFlags {
		if given, ok := texts[f.name]; ok {
			delete(texts, f.name)
			if err := f.apply(p, given); err != nil {
				return err
			}
		}
	}
	if len(texts) > 0 {
		t.Fatalf("no flags: %v", texts)
	}
	p.Complete()
	return nil
}

func TestEveryMemberOfAPolicyHasAFlag(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret and more of it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := deploy.DefaultPolicy()
	err := setFlags(t, &p, "enabled", "true", "max-failure-rate", "2%", "max-failure-ratio", "2", "min-failure-difference", "0.1%",
		"max-p50-wall-ms", "100", "max-p90-wall-ms", "200ms", "max-p99-wall-ms", "1.5s", "max-p50-wall-ratio", "1.1", "max-p90-wall-ratio", "1.2", "max-p99-wall-ratio", "1.3",
		"max-p99-cpu-ms", "50ms", "max-p99-cpu-ratio", "1.4", "min-traffic-ratio", "80%", "min-requests", "50", "look-back", "10m", "confidence", "99.99%", "grace", "30s",
		"count", "exceptions", "evidence", "blocks:20s", "action", "pause", "ramp", "5%:5m,25%:90s:proven,100%",
		"notify", "webhook:https://hooks.example.com/x secret-file="+secret+" on=rollback,pause", "notify", "email:a@example.com,b@example.com",
		"promote", "mon-wed,fri 09:00-17:00 Europe/Berlin", "promote", "22:00-24:00",
		"freeze", "2026-12-20/2027-01-02T12:00:00+01:00 holidays and rest", "freeze", "2027-03-01/2027-03-02")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	day := func(month time.Month, n int) time.Time { return time.Date(2026, month, n, 0, 0, 0, 0, time.UTC) }
	want := deploy.RollbackPolicy{
		Enabled: true, MaxFailureRate: new(0.02), MaxFailureRatio: new(2.0), MinFailureDifference: new(0.001),
		MaxP50WallMs: new(100.0), MaxP90WallMs: new(200.0), MaxP99WallMs: new(1500.0), MaxP50WallRatio: new(1.1), MaxP90WallRatio: new(1.2), MaxP99WallRatio: new(1.3),
		MaxP99CPUMs: new(50.0), MaxP99CPURatio: new(1.4), MinTrafficRatio: new(0.8), MinRequests: 50, LookBackSeconds: 600, Confidence: 0.9999, GraceSeconds: 30,
		Count: deploy.CountExceptions, Evidence: deploy.EvidenceBlocks, BlockSeconds: 20, Action: deploy.ActionPause,
		Ramp: []deploy.RampStep{{Percentage: 5000, BakeSeconds: 300}, {Percentage: 25_000, BakeSeconds: 90, Gate: deploy.GateProven}, {Percentage: deploy.Full}},
		Notify: []deploy.NotifyTarget{{Type: deploy.NotifyWebhook, URL: "https://hooks.example.com/x", Secret: "s3cret and more of it", On: []deploy.NotifyOn{deploy.OnRollback, deploy.OnPause}},
			{Type: deploy.NotifyEmail, To: []string{"a@example.com", "b@example.com"}}},
		Promote: []deploy.WeeklyWindow{{Days: []string{"mon", "tue", "wed", "fri"}, From: "09:00", Until: "17:00", TimeZone: "Europe/Berlin"}, {From: "22:00", Until: "24:00"}},
		Freeze: []deploy.FreezeWindow{{From: day(12, 20), Until: day(12, 20).AddDate(0, 0, 13).Add(11 * time.Hour), Reason: "holidays and rest"},
			{From: day(15, 1), Until: day(15, 2)}},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// What is shown can be given again: a masked secret stays the masked one.
	masked := p.Masked()
	again := deploy.DefaultPolicy()
	for _, f := range policyFlags {
		texts := []string{f.show(masked)}
		if f.many {
			texts = strings.Split(texts[0], "; ")
		}
		if err := f.apply(&again, texts); err != nil {
			t.Errorf("%s is shown as %q: %v", f.name, texts, err)
		}
	}
	if diff := cmp.Diff(masked, again); diff != "" {
		t.Errorf("what is shown, read (-want +got)\n%s", diff)
	}
	err = setFlags(t, &p, "max-failure-rate", "none", "ramp", "none", "notify", "none", "promote", "none", "freeze", "none", "evidence", "requests")
	if err != nil || p.MaxFailureRate != nil || p.Ramp != nil || p.Notify != nil || p.Promote != nil || p.Freeze != nil || p.BlockSeconds != 0 {
		t.Errorf("%+v, error %v", p, err)
	}
}

func TestBadPolicyFlagsAreRefused(t *testing.T) {
	f := func(name, text, want string) {
		t.Helper()
		p := deploy.DefaultPolicy()
		if err := setFlags(t, &p, name, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--%s %q: %v, want an error with %q", name, text, err, want)
		}
	}
	f("max-p99-wall-ms", "soon", "a time such as 300ms")
	f("evidence", "blocks:soon", "a time such as 90s")
	f("notify", "", "slack:")
	f("notify", "oncall@example.com", "must begin with a type")
	f("notify", "slack:https://a secret=x", "secret-file")
	f("notify", "slack:https://a secret-file=/does/not/exist", "no such file")
	f("promote", "", "mon-fri 09:00-17:00")
	f("promote", "monday 09:00-17:00", `"monday"`)
	f("promote", "mon- 09:00-17:00", "days of")
	f("promote", "09:00", "hours such as")
	f("promote", "mon 09:00-17:00 Europe/Berlin x", "mon-fri")
	f("freeze", "2026-12-20", "a slash between")
	f("freeze", "soon/later", `"soon" must be a date`)
}

func TestPolicyHistoryTellsWhatChanged(t *testing.T) {
	p, q := deploy.DefaultPolicy(), deploy.DefaultPolicy()
	p.MaxFailureRate, q.MaxFailureRatio, q.Ramp = new(0.02), new(3.0), []deploy.RampStep{{Percentage: 5000}}
	f := func(before, after *deploy.RollbackPolicy, want string) {
		t.Helper()
		if got := policyChange(before, after); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(&p, nil, "deleted")
	f(&p, &p, "nothing")
	f(&p, &q, "max-failure-rate 2% -> none, max-failure-ratio none -> 3, ramp none -> 5%")
	f(nil, &p, "set: enabled false, max-failure-rate 2%, min-requests 20, look-back 5m0s, confidence 0.999, grace 0s, count any, evidence requests, action rollback")
}

// Flags were applied to what had been read, and saved over what somebody else had set
// meanwhile.
func TestPolicySetReplacesWhatItRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(file, []byte(`{"enabled": true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(stored, wantMatch string, args ...string) {
		t.Helper()
		saved := false
		api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPut:
				saved = true
				if got := r.Header.Get("If-Match"); got != wantMatch {
					t.Errorf("%q, stored %s: If-Match is %q, want %q", args, stored, got, wantMatch)
				}
				_, _ = io.WriteString(w, `{"success": true, "result": {"enabled": true}}`)
			case stored == "":
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"success": false, "errors": [{"code": 10007, "message": "there is none"}]}`)
			default:
				_, _ = io.WriteString(w, `{"success": true, "result": `+stored+`}`)
			}
		})
		if status := run(t, api, append([]string{"policy"}, args...)...); status != 0 || !saved {
			t.Errorf("%q, stored %s: ended with %d, saved %t", args, stored, status, saved)
		}
	}
	whole := func(source string, revision int) string {
		text, err := json.Marshal(deploy.DefaultPolicy())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`%s, "source": %q, "revision": %d}`, strings.TrimSuffix(string(text), "}"), source, revision)
	}
	f(whole("script", 7), `"7"`, "set", "shop", "--min-requests", "5")
	f(whole("account", 7), `"0"`, "set", "shop", "--min-requests", "5")
	f(whole("account", 7), `"7"`, "default", "set", "--min-requests", "5")
	f("", `"0"`, "set", "shop", "--min-requests", "5")
	f("", `"0"`, "default", "set", "--min-requests", "5")
	f(whole("script", 7), "", "set", "shop", "--file", file)
}

// Who saved a policy by which nothing that serves can be judged was shown the policy, as if it
// watched. With --json the answer to the PUT is all that is printed.
func TestPolicySetSaysWhatItJudges(t *testing.T) {
	utc(t)
	const saved = `{"enabled": true, "max_failure_ratio": 1, "source": "script", "revision": 1}`
	api := func(saved, evidence string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			result := saved
			switch {
			case strings.HasSuffix(r.URL.Path, "/evidence"):
				result = evidence
			case strings.HasSuffix(r.URL.Path, "/versions"):
				result = `{"items": [{"id": "5f1c0000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "annotations": {"workers/tag": "v2"}}]}`
			case r.Method == http.MethodGet:
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"success": false, "errors": [{"code": 10007, "message": "there is none"}]}`)
				return
			}
			if result == "" {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.WriteString(w, `{"success": false, "errors": [{"code": 10100, "message": "the rates cannot be read"}]}`)
				return
			}
			_, _ = fmt.Fprintf(w, `{"success": true, "result": %s}`, result)
		})
	}
	f := func(saved, evidence, want string, args ...string) {
		t.Helper()
		got, err := output(t, api(saved, evidence), append([]string{"policy"}, args...)...)
		if _, after, _ := strings.Cut(got, "\n\n"); after != want || err != nil {
			t.Errorf("%q of %s: %v, prints %q, want %q in the end", args, evidence, err, got, want)
		}
	}
	set := []string{"set", "shop", "--max-failure-ratio", "1"}
	const none = `{"at": "2026-11-23T12:00:00Z", "enabled": true, "reason": "there is no version to go back to; deploy one at 100 % first", "trials": []}`
	const said = "Nothing that serves can be judged: there is no version to go back to; deploy one at 100 % first.\n"
	f(saved, none, said, set...)
	f(saved, none, "", append(set, "--json")...)
	const trial = `{"at": "2026-11-23T12:00:00Z", "enabled": true, "trials": [{"version_id": "5f1c0000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "baseline_version_id": "77770000-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
		"since": "2026-11-23T12:00:00Z", "verdict": "inconclusive", "sentence": "0 of the 20 requests that are needed; the baseline gets no requests in this deployment"}]}`
	f(saved, trial, "v2 (5f1c0000) against 77770000 since 2026-11-23T12:00:00Z: inconclusive: 0 of the 20 requests that are needed; the baseline gets no requests in this deployment\n", set...)
	f(saved, "", "What it judges now is not known: read the evidence of shop: the rates cannot be read.\n", set...)
	f(`{"enabled": false, "max_failure_ratio": 1, "source": "script", "revision": 1}`, none, "", set...)
	f(saved, none, "", "default", "set", "--max-failure-ratio", "1")
}

// A policy whose last limit was taken away got another one, unasked: max-failure-ratio 1,
// the strictest of its kind.
func TestTheLastLimitStays(t *testing.T) {
	f := func(status int, stored string, flags ...string) {
		t.Helper()
		saved := false
		api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			saved = saved || r.Method == http.MethodPut
			_, _ = io.WriteString(w, `{"success": true, "result": `+stored+`}`)
		})
		if got := run(t, api, append([]string{"policy", "set", "shop"}, flags...)...); got != status || saved != (status == 0) {
			t.Errorf("%q on %s ended with %d, want %d; saved: %t", flags, stored, got, status, saved)
		}
	}
	stored := func(limits string) string {
		return `{"enabled": true, "min_requests": 20, "look_back_seconds": 300, "confidence": 0.999, "count": "any", "evidence": "requests", "action": "rollback", ` +
			limits + `"source": "script", "revision": 1}`
	}
	ratio := stored(`"max_failure_ratio": 3, `)
	f(2, ratio, "--max-failure-ratio", "none")
	f(2, stored(""), "--max-failure-rate", "none") // there was none
	f(0, ratio, "--max-failure-ratio", "none", "--enabled=false")
	f(0, ratio, "--max-failure-ratio", "none", "--max-failure-rate", "2%")
	f(0, stored(`"max_failure_rate": 0.1, "max_failure_ratio": 3, `), "--max-failure-ratio", "none")
	f(0, ratio, "--min-requests", "5")
}

// A target that is taken, shown as the API shows it, is read again as itself.
func FuzzParseNotify(f *testing.F) {
	for _, seed := range []string{"slack:https://a/b on=rollback,pause", "email:a@b,c@d", "webhook:https://h/x secret=***", ":", "email: on=", "slack:a\u00a0b", "email:on=x on=x on=y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "secret-file=") {
			return // the name of a file of this machine
		}
		n, err := parseNotify(text)
		if err != nil {
			return
		}
		if again, err := parseNotify(formatNotify(n)); err != nil || !cmp.Equal(n, again) {
			t.Fatalf("%q is %+v, shown as %q, then %+v, %v", text, n, formatNotify(n), again, err)
		}
	})
}

// The times of a freeze are read from what they are shown as; a window's days are of the week, each as often as it was named.
func FuzzParseFreezeAndWindow(f *testing.F) {
	for _, seed := range []string{
		"2026-12-20/2027-01-02 holidays", "2026-12-20T18:00:00+01:00/2027-01-02", "mon-wed,fri 09:00-17:00 Europe/Berlin", "22:00-02:00", "fri-mon 1-2",
		"0000-01-01/9999-12-31", "2026-12-20T18:00:00.5Z/2026-12-21  a  b", "mon- 1-2", "2026-12-20T18:00:00+23:59/2026-12-20",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if freeze, err := parseFreeze(text); err == nil {
			shown := formatFreeze(freeze)
			again, err := parseFreeze(shown)
			near := func(a, b time.Time) bool { d := a.Sub(b); return d >= 0 && d < time.Second } // shown in seconds
			if err != nil || !near(freeze.From, again.From) || !near(freeze.Until, again.Until) || again.Reason != freeze.Reason {
				t.Fatalf("%q is %+v, shown as %q, then %+v, %v", text, freeze, shown, again, err)
			}
		}
		if window, err := parseWindow(text); err == nil {
			again, err := parseWindow(strings.TrimSpace(strings.Join(window.Days, ",") + " " + window.From + "-" + window.Until + " " + window.TimeZone))
			if err != nil || !cmp.Equal(window, again) {
				t.Fatalf("%q is %+v, then %+v, %v", text, window, again, err)
			}
		}
	})
}

// A second release left the first one's ramp, and nothing told that it was that.
func TestRampsOfReleasesBeforeAreTold(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	list := []deploy.Deployment{{ID: "d2", CreatedOn: at}, {ID: "d1", CreatedOn: at.Add(-time.Hour)}}
	f := func(id string, began time.Time, want string) {
		t.Helper()
		r := deploy.Ramp{VersionID: "v1", DeploymentID: id, State: deploy.RampDone, StepStartedAt: began}
		var out strings.Builder
		writeRamp(&out, r, replaced(r, list))
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "no longer") != strings.Contains(want, "no longer") {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	f("d2", at, "d2\n")
	f("d1", at.Add(-time.Hour), "d1, which no longer serves\n")
	f("gone", at.Add(-2*time.Hour), "gone, which no longer serves\n")
	f("d3", at.Add(time.Minute), "d3\n") // it went on between the two questions
}
