package deploy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/errs"
)

func TestMaskedPoliciesKeepTheirSecrets(t *testing.T) {
	p := wholePolicy()
	masked := p.Masked()
	text, err := json.Marshal(masked)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"s3cret", "t0ken", "services", "B0"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%q is shown: %s", secret, text)
		}
	}
	for _, shown := range []string{"https://hooks.example.com/***", "https://hooks.slack.example/***", "http://alertmanager:9093", "oncall@example.com"} {
		if !strings.Contains(string(text), shown) {
			t.Errorf("%q is not shown: %s", shown, text)
		}
	}
	if p.HasMasked() || !masked.HasMasked() {
		t.Error("HasMasked does not tell the two apart")
	}
	if err := masked.Unmask(p.Notify); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, masked); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The paths of webhooks and of an Alertmanager behind a proxy were shown to whoever may
// read scripts.
func TestWhatOfAURLIsShown(t *testing.T) {
	f := func(kind NotifyType, url, want string) {
		t.Helper()
		p := RollbackPolicy{Notify: []NotifyTarget{{Type: kind, URL: url}}}
		got := p.Masked().Notify[0].URL
		hash := ""
		if base, digits, hidden := strings.Cut(got, maskedText); hidden {
			got, hash = base+maskedText, digits
		}
		if got != want || strings.Contains(want, maskedText) != (len(hash) == 8) {
			t.Errorf("%s %s is shown as %s with the hash %q, want %s", kind, url, got, hash, want)
		}
	}
	for _, kind := range []NotifyType{NotifyWebhook, NotifySlack, NotifyAlertmanager} {
		f(kind, "https://example.com", "https://example.com")
		f(kind, "https://example.com:8443/", "https://example.com:8443/")
		f(kind, "https://example.com/?k=v", "https://example.com/?***")
		f(kind, "https://example.com/key", "https://example.com/***")
		f(kind, "https://example.com/key?k=v", "https://example.com/***")
	}
	f(NotifyAlertmanager, "https://example.com/api/v2/alerts", "https://example.com/api/v2/alerts")
	f(NotifyAlertmanager, "https://example.com/api/v2/alerts?k=v", "https://example.com/api/v2/alerts?***")
	f(NotifyAlertmanager, "https://example.com/key/api/v2/alerts", "https://example.com/***")
	f(NotifyWebhook, "https://example.com/api/v2/alerts", "https://example.com/***")
}

// Two Slack channels of one workspace were taken for each other when somebody changed
// the order of a policy's targets.
func TestMaskedTargetsAreToldApart(t *testing.T) {
	p := DefaultPolicy()
	p.Notify = []NotifyTarget{{Type: NotifySlack, URL: "https://hooks.slack.example/a"}, {Type: NotifySlack, URL: "https://hooks.slack.example/b"}}
	swapped := p.Masked()
	swapped.Notify[0], swapped.Notify[1] = swapped.Notify[1], swapped.Notify[0]
	if err := swapped.Unmask(p.Notify); err != nil || swapped.Notify[0].URL != p.Notify[1].URL || swapped.Notify[1].URL != p.Notify[0].URL {
		t.Fatalf("%+v, error %v", swapped.Notify, err)
	}
}

func TestWhatIsMaskedMustBeKnown(t *testing.T) {
	f := func(pointer string, n NotifyTarget) {
		t.Helper()
		p := RollbackPolicy{Notify: []NotifyTarget{n}}
		err, ok := errors.AsType[*errs.Error](p.Unmask(wholePolicy().Notify))
		if !ok || err.Kind != errs.Invalid || !strings.Contains(err.Message, "give it whole") || err.Pointer != pointer {
			t.Errorf("%+v: %v", n, err)
		}
	}
	f("/notify/0/url", NotifyTarget{Type: NotifySlack, URL: "https://hooks.slack.example/***00000000"})
	f("/notify/0/secret", NotifyTarget{Type: NotifyWebhook, URL: "https://elsewhere.example", Secret: "***"})
	// Moving a webhook elsewhere must not carry its secret along.
	f("/notify/0/secret", NotifyTarget{Type: NotifyWebhook, URL: "https://hooks.slack.example/services/T0/B0/x", Secret: "***"})
}

func TestWants(t *testing.T) {
	all := NotifyTarget{}
	some := NotifyTarget{On: []NotifyOn{OnPromote}}
	for _, on := range notifyOns {
		if all.Wants(on) == (on == OnPromote) || some.Wants(on) != (on == OnPromote) {
			t.Errorf("%s: %v, %v", on, all.Wants(on), some.Wants(on))
		}
	}
}
