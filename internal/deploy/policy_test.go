package deploy

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/errs"
)

func TestDefaultPolicyIsValid(t *testing.T) {
	p := DefaultPolicy()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	p = wholePolicy()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
}

// wholePolicy is a valid policy that names each member.
func wholePolicy() RollbackPolicy {
	p := DefaultPolicy()
	for _, m := range Metrics() {
		p.SetLimit(m, new(map[limitKind]float64{limitShare: 0.5, limitRatio: 2, limitMillis: 250}[m.kind()]))
	}
	p.Enabled, p.MinFailureDifference, p.GraceSeconds = true, new(0.001), 30
	p.Count, p.Evidence, p.BlockSeconds, p.Action = CountStatus5xx, EvidenceBlocks, 10, ActionPause
	p.Ramp = []RampStep{{Percentage: 1}, {Percentage: 5000, BakeSeconds: 300, Gate: GateProven}, {Percentage: 50_000, Gate: GateManual}, {Percentage: Full}}
	p.Notify = []NotifyTarget{
		{Type: NotifyWebhook, URL: "https://hooks.example.com/a?token=t0ken", Secret: "s3cret and more of it", On: []NotifyOn{OnRollback, OnPromote}},
		{Type: NotifySlack, URL: "https://hooks.slack.example/services/T0/B0/x"},
		{Type: NotifyAlertmanager, URL: "http://alertmanager:9093"},
		{Type: NotifyEmail, To: []string{"oncall@example.com"}},
	}
	p.Promote = []WeeklyWindow{{Days: []string{"mon", "fri"}, From: "09:00", Until: "17:00", TimeZone: "Europe/Berlin"}}
	p.Freeze = []FreezeWindow{{From: time.Date(2026, 12, 20, 0, 0, 0, 0, time.UTC), Until: time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC), Reason: "holidays"}}
	return p
}

func TestAPolicyReadsBackAsItWasWritten(t *testing.T) {
	f := func(p RollbackPolicy) {
		t.Helper()
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadPolicy(text)
		if diff := cmp.Diff(p, again); diff != "" || err != nil {
			t.Errorf("%s: %v, (-wrote +read)\n%s", text, err, diff)
		}
	}
	f(wholePolicy())
	p := DefaultPolicy()
	p.Complete()
	f(p)
}

// Policies that were stored before there was more than two limits have neither a
// confidence nor a count. Some have no limit, and watch nothing: reading gave them one, and
// an upgrade rolled back what nobody had asked to be watched.
func TestOlderPoliciesReadWell(t *testing.T) {
	f := func(text string, change func(*RollbackPolicy)) {
		t.Helper()
		want := DefaultPolicy()
		want.Enabled, want.MinRequests = true, 100
		change(&want)
		got, err := ReadPolicy([]byte(text))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, (-want +got)\n%s", text, err, diff)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	f(`{"enabled":true,"max_failure_rate":0.02,"min_requests":100,"look_back_seconds":300,"action":"rollback"}`,
		func(p *RollbackPolicy) { p.MaxFailureRate = new(0.02) })
	f(`{"enabled":true,"min_requests":100,"look_back_seconds":300,"action":"rollback","ramp":[{"percentage":5,"bake_seconds":300}]}`,
		func(p *RollbackPolicy) {
			p.Ramp = []RampStep{{Percentage: 5000, BakeSeconds: 300}}
		})
	if _, err := ReadPolicy([]byte(`{"enabled":1}`)); err == nil {
		t.Error("nonsense was read")
	}
}

func TestCompletePolicies(t *testing.T) {
	p := RollbackPolicy{MaxP99WallMs: new(300.0), Evidence: EvidenceBlocks}
	p.Complete()
	if p.MaxFailureRatio != nil || p.BlockSeconds != DefaultBlockSeconds {
		t.Errorf("%+v", p)
	}
	p = RollbackPolicy{Evidence: EvidenceRequests}
	p.Complete()
	if got := p.Limits(); len(got) != 1 || got[0] != (Limit{MetricFailureRatio, 1}) || p.BlockSeconds != 0 {
		t.Errorf("%+v", p)
	}
}

func TestPolicyRefusesBadValues(t *testing.T) {
	f := func(pointer, value string, change func(*RollbackPolicy)) {
		t.Helper()
		p := DefaultPolicy()
		change(&p)
		refused(t, p, pointer, value)
	}
	limit := func(m Metric, values ...float64) {
		t.Helper()
		for _, value := range values {
			f("/"+string(m), string(m)+" "+decimal(value), func(p *RollbackPolicy) { p.SetLimit(m, &value) })
		}
	}
	for _, m := range Metrics() {
		limit(m, 0, -0.1, math.NaN(), math.Inf(1), math.Inf(-1))
		switch {
		case m.IsRatio():
			limit(m, 0.99, 1001)
		case m.IsMillis():
			limit(m, 0.9, 86_400_001)
		default:
			limit(m, 1, 1.1)
		}
	}
	f("/max_p90_wall_ms", "max_p99_wall_ms", func(p *RollbackPolicy) { p.MaxP90WallMs, p.MaxP99WallMs = new(300.0), new(200.0) })
	f("/min_failure_difference", "max_failure_ratio", func(p *RollbackPolicy) { p.MaxFailureRate, p.MinFailureDifference = new(0.1), new(0.01) })
	for _, difference := range []float64{0, 1, math.NaN()} {
		f("/min_failure_difference", decimal(difference), func(p *RollbackPolicy) { p.MaxFailureRatio, p.MinFailureDifference = new(2.0), &difference })
	}
	f("/min_requests", "0", func(p *RollbackPolicy) { p.MinRequests = 0 })
	f("/look_back_seconds", "86401", func(p *RollbackPolicy) { p.LookBackSeconds = 86_401 })
	f("/look_back_seconds", "-300", func(p *RollbackPolicy) { p.LookBackSeconds = -300 })
	for _, confidence := range []float64{0, 0.49, 0.9999995, 1, 99.9, math.NaN()} {
		f("/confidence", decimal(confidence), func(p *RollbackPolicy) { p.Confidence = confidence })
	}
	f("/grace_seconds", "-1", func(p *RollbackPolicy) { p.GraceSeconds = -1 })
	f("/grace_seconds", "86401", func(p *RollbackPolicy) { p.GraceSeconds = 86_401 })
	f("/count", `"4xx"`, func(p *RollbackPolicy) { p.Count = "4xx" })
	f("/evidence", `"hunch"`, func(p *RollbackPolicy) { p.Evidence = "hunch" })
	f("/block_seconds", `"blocks"`, func(p *RollbackPolicy) { p.BlockSeconds = 10 })
	f("/block_seconds", "-1", func(p *RollbackPolicy) { p.Evidence, p.BlockSeconds = EvidenceBlocks, -1 })
	f("/block_seconds", "look_back_seconds", func(p *RollbackPolicy) { p.Evidence, p.BlockSeconds = EvidenceBlocks, 301 })
	f("/action", `""`, func(p *RollbackPolicy) { p.Action = "" })
}

func TestPolicyRefusesBadRamps(t *testing.T) {
	f := func(pointer, value string, steps ...RampStep) {
		t.Helper()
		p := DefaultPolicy()
		p.Ramp = steps
		refused(t, p, pointer, value)
	}
	f("/ramp", "21", make([]RampStep, 21)...)
	f("/ramp/0/percentage", "0%", RampStep{Percentage: 0})
	f("/ramp/1/percentage", "5%", RampStep{Percentage: 5000}, RampStep{Percentage: 5000})
	f("/ramp/0/percentage", "100.001%", RampStep{Percentage: Full + 1})
	f("/ramp/1/percentage", "not the last step", RampStep{Percentage: 5000}, RampStep{Percentage: Full}, RampStep{Percentage: 50_000})
	f("/ramp/0/bake_seconds", "604801", RampStep{Percentage: 1, BakeSeconds: 604_801})
	f("/ramp/0/gate", `"vote"`, RampStep{Percentage: 1, Gate: "vote"})
	f("/ramp/0/gate", "nothing to prove", RampStep{Percentage: 1, Gate: GateProven})
	p := DefaultPolicy()
	p.Ramp = []RampStep{{Percentage: 1, Gate: GateProven}}
	p.MaxFailureRate = new(0.1)
	refused(t, p, "/ramp/0/gate", "nothing to prove")
	p.MaxFailureRatio = new(1.0)
	refused(t, p, "/ramp/0/gate", "max_failure_ratio is 1")
	p.MaxFailureRatio = new(1.5)
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
}

func TestPolicyRefusesBadTargets(t *testing.T) {
	f := func(pointer, value string, targets ...NotifyTarget) {
		t.Helper()
		p := DefaultPolicy()
		p.Notify = targets
		refused(t, p, pointer, value)
	}
	hook := func(url string) NotifyTarget { return NotifyTarget{Type: NotifyWebhook, URL: url} }
	mail := func(to ...string) NotifyTarget { return NotifyTarget{Type: NotifyEmail, To: to} }
	f("/notify", "11", make([]NotifyTarget, 11)...)
	f("/notify/0/type", `"pager"`, NotifyTarget{Type: "pager"})
	f("/notify/0/url", "missing", hook(""))
	for _, url := range []string{"hooks.example.com", "/x", "ftp://example.com", "https://", "https://:80/", "https://a b/", "https:example.com"} {
		f("/notify/0/url", "https://", hook(url))
	}
	f("/notify/0/url", "user info", hook("https://me:secret@example.com"))
	f("/notify/0/url", "fragment", hook("https://example.com/#x"))
	f("/notify/0/url", "4097", hook("https://example.com/"+strings.Repeat("x", 4077)))
	f("/notify/0/url", "addresses are in to", NotifyTarget{Type: NotifyEmail, URL: "https://example.com"})
	f("/notify/0/to", "email", NotifyTarget{Type: NotifySlack, URL: "https://example.com", To: []string{"a@example.com"}})
	f("/notify/0/secret", "webhook", NotifyTarget{Type: NotifySlack, URL: "https://example.com", Secret: "x"})
	f("/notify/0/secret", "at least 16", NotifyTarget{Type: NotifyWebhook, URL: "https://example.com", Secret: "fifteen letters"})
	f("/notify/0/secret", "1024", NotifyTarget{Type: NotifyWebhook, URL: "https://example.com", Secret: "a\nb"})
	f("/notify/0/to", "0 entries", mail())
	for _, to := range []string{"", "oncall", "On Call <oncall@example.com>", "a@b\r\nBcc: c@d", "ä@example.com", "a@example.com, b@example.com"} {
		f("/notify/0/to/0", "oncall@example.com", mail(to))
	}
	f("/notify/0/to/1", "twice", mail("a@example.com", "A@example.com"))
	f("/notify/1/on/1", `"lunch"`, hook("https://example.com"), NotifyTarget{Type: NotifySlack, URL: "https://example.com", On: []NotifyOn{OnFail, "lunch"}})
	f("/notify/0/on/1", "twice", NotifyTarget{Type: NotifySlack, URL: "https://example.com", On: []NotifyOn{OnFail, OnFail}})
	f("/notify/1", "notify[0]", hook("https://example.com"), hook("https://example.com"))
}

func refused(t *testing.T, p RollbackPolicy, pointer, value string) {
	t.Helper()
	err, ok := errors.AsType[*errs.Error](p.Validate())
	if !ok || err.Kind != errs.Invalid || err.Pointer != pointer || !strings.Contains(err.Message, value) {
		t.Errorf("%+v: %+v, want %s at %s", p, err, value, pointer)
	}
}

// FuzzReadPolicy: whatever is read and valid is written so that it reads back the
// same, also without its secrets, which can be put back.
func FuzzReadPolicy(f *testing.F) {
	whole, err := json.Marshal(wholePolicy())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, seed := range []string{`{"enabled":true}`, `{"max_failure_rate":1e-300}`, `{"evidence":"blocks"}`, `{"ramp":[{"percentage":100,"gate":"proven"}]}`,
		`{"notify":[{"type":"slack","url":"https://x/%zz"},{"type":"email","to":["a@b"]}]}`, `{"promote":[{"from":"22:00","until":"24:00","time_zone":"Local"}]}`,
		`{"freeze":[{"from":"9999-12-31T23:59:59-01:00","until":"9999-12-31T23:59:59-02:00"}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ReadPolicy(text)
		if err != nil || p.Validate() != nil {
			return
		}
		p.MayPromote(time.Unix(1_800_000_000, 0))
		written, err := json.Marshal(p)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := ReadPolicy(written)
		if err != nil || again.Validate() != nil {
			t.Fatalf("%q was written %s, which is refused: %v, %v", text, written, err, again.Validate())
		}
		masked := p.Masked()
		if err := masked.Validate(); err != nil {
			t.Fatalf("%q: masked it is refused: %v", text, err)
		}
		if err := masked.Unmask(p.Notify); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, q := range []RollbackPolicy{again, masked} {
			if back, err := json.Marshal(q); err != nil || string(back) != string(written) {
				t.Fatalf("%q was written %s, which was written %s, error %v", text, written, back, err)
			}
		}
	})
}
