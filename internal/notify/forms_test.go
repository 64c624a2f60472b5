package notify

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-openapi/strfmt"
	"github.com/prometheus/alertmanager/api/v2/models"

	"tidegate/internal/deploy"
)

func bodyOf[T any](t *testing.T, got received) T {
	t.Helper()
	var body T
	if err := json.Unmarshal(got.body, &body); err != nil {
		t.Fatalf("%s: %v", got.body, err)
	}
	return body
}

func TestSlackGetsBlocksAndText(t *testing.T) {
	r := newReceiver(t, nil)
	n := notificationFor(deploy.NotifyTarget{Type: deploy.NotifySlack, URL: r.URL + "/services/T0/B0/x"})
	n.Decision.Sentence = "rolled back <!channel> & <https://evil.example|click>"
	if err := newService(t, nil, local).try(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	body := bodyOf[slackBody](t, r.next(t))
	const escaped = "rolled back &lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;"
	if body.Text != "Rolled back shop: "+escaped+" <https://tidegate.example.com/|Open Tidegate>" {
		t.Errorf("the text is %q", body.Text)
	}
	var types []string
	for _, b := range body.Blocks {
		types = append(types, b.Type)
	}
	if !slices.Equal(types, []string{"header", "section", "section", "section"}) || body.Blocks[0].Text.Text != "Rolled back shop" ||
		body.Blocks[1].Text.Text != escaped || !slices.Contains(body.Blocks[2].Fields, slackText{"mrkdwn", "*Failed*\n31 of 312 requests (9.94 %)"}) {
		t.Errorf("the blocks are %+v", body.Blocks)
	}
}

// Whatever a text says, Slack reads it as text and takes it.
func FuzzSlackTextIsOnlyText(f *testing.F) {
	f.Add("rolled back", "shop")
	f.Add("<!channel> <@U1> & &amp; <http://x|y>", "<>")
	f.Add("\x00\xff\u2028", "é")
	f.Add(strings.Repeat("&", 5000), "")
	f.Fuzz(func(t *testing.T, sentence, value string) {
		body := slackMessage(message{title: value, sentence: sentence, facts: []fact{{"Script", value}, {sentence, sentence}}})
		check := func(text string, limit int) {
			if strings.ContainsAny(text, "<>") {
				t.Fatalf("%q can be more than text", text)
			}
			for _, rest := range strings.Split(text, "&")[1:] {
				if !strings.HasPrefix(rest, "amp;") && !strings.HasPrefix(rest, "lt;") && !strings.HasPrefix(rest, "gt;") {
					t.Fatalf("%q has a broken escape", text)
				}
			}
			if n := utf8.RuneCountInString(text); n > limit || !utf8.ValidString(text) {
				t.Fatalf("%d characters, valid %v", n, utf8.ValidString(text))
			}
		}
		check(body.Text, slackOtherMax)
		for _, block := range body.Blocks {
			if block.Text != nil {
				limit := slackTextMax
				if block.Type == "header" {
					limit = slackHeaderMax
				}
				check(block.Text.Text, limit)
			}
			if len(block.Fields) > slackFieldsMax {
				t.Fatalf("%d fields", len(block.Fields))
			}
			for _, field := range block.Fields {
				check(field.Text, slackFieldMax+3)
			}
		}
	})
}

// alert sends n and reads it as Alertmanager does.
func alert(t *testing.T, n deploy.Notification) *models.PostableAlert {
	t.Helper()
	r := newReceiver(t, nil)
	n.Target = deploy.NotifyTarget{Type: deploy.NotifyAlertmanager, URL: r.URL}
	if err := newService(t, nil, local).try(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	got := r.next(t)
	if got.path != deploy.AlertsPath || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("sent to %s as %s", got.path, got.header.Get("Content-Type"))
	}
	alerts := bodyOf[models.PostableAlerts](t, got)
	if err := alerts.Validate(strfmt.Default); err != nil || len(alerts) != 1 {
		t.Fatalf("%s: %v", got.body, err)
	}
	return alerts[0]
}

func TestAlertmanagerTakesEachKindAndItsEnd(t *testing.T) {
	seen := map[string]bool{}
	for on := range titles {
		n := notificationFor(deploy.NotifyTarget{})
		n.On = on
		begun := alert(t, n)
		n.EndedOn = n.Decision.At.Add(time.Minute)
		over := alert(t, n)
		labels := begun.Labels
		if labels["script"] != "shop" || labels["account"] != account || labels["version"] != "5f1c" || labels["severity"] == "" || seen[labels["alertname"]] || labels["alertname"] == "" {
			t.Errorf("the labels of %s are %v", on, labels)
		}
		seen[labels["alertname"]] = true
		if !time.Time(begun.EndsAt).After(time.Time(begun.StartsAt)) || !time.Time(begun.StartsAt).Equal(n.Decision.At) || begun.GeneratorURL == "" ||
			begun.Annotations["description"] != n.Decision.Sentence || begun.Annotations["failed_on_the_baseline"] != "" || begun.Annotations["failed"] == "" {
			t.Errorf("the alert of %s is %+v", on, begun)
		}
		if len(over.Labels) != len(labels) || !time.Time(over.StartsAt).Equal(time.Time(begun.StartsAt)) || !time.Time(over.EndsAt).Equal(n.EndedOn) {
			t.Errorf("the end of %s is %+v", on, over)
		}
		for name, value := range labels {
			if over.Labels[name] != value {
				t.Errorf("the end of %s is another alert: %s is %s", on, name, over.Labels[name])
			}
		}
	}
	if len(seen) != len(alertKinds) {
		t.Errorf("%d kinds of alerts, %d of news", len(alertKinds), len(seen))
	}
}

// The clock of the process that deployed was behind that of the one that decided.
func TestAnAlertDoesNotEndBeforeItStarts(t *testing.T) {
	n := notificationFor(deploy.NotifyTarget{})
	n.EndedOn = n.Decision.At.Add(-time.Second)
	if a := alert(t, n); !time.Time(a.EndsAt).Equal(time.Time(a.StartsAt)) {
		t.Errorf("it starts at %s and ends at %s", a.StartsAt, a.EndsAt)
	}
}

func TestAddressesOfAlertmanagers(t *testing.T) {
	f := func(url, want string) {
		t.Helper()
		if got, err := alertURL(url); err != nil || got != want {
			t.Errorf("%s became %s, error %v; want %s", url, got, err, want)
		}
	}
	f("https://a.example", "https://a.example/api/v2/alerts")
	f("https://a.example/", "https://a.example/api/v2/alerts")
	f("https://a.example/alertmanager", "https://a.example/alertmanager/api/v2/alerts")
	f("https://a.example/api/v2/alerts", "https://a.example/api/v2/alerts")
	f("https://u:p@a.example/x/api/v2/alerts/?t=1", "https://u:p@a.example/x/api/v2/alerts/?t=1")
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	f := func(text string, want time.Duration) {
		t.Helper()
		if got := parseRetryAfter(text, now); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	f("", 0)
	f("7", 7*time.Second)
	f("-7", 0)
	f("99999999999999999999", 0)
	f(now.Add(time.Hour).Format(http.TimeFormat), time.Hour)
	f(now.Add(-time.Hour).Format(http.TimeFormat), 0)
}
