package notify

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tidegate/internal/deploy"
)

// alertKind is how one kind of news looks as an alert.
type alertKind struct {
	name     string
	severity string
	// lasts is how long it stands unless its end is told: what is told once would
	// otherwise end at the receiver's resolve_timeout, which is 5 minutes.
	lasts time.Duration
}

var alertKinds = map[deploy.NotifyOn]alertKind{
	deploy.OnRollback: {"TidegateRollback", "critical", 24 * time.Hour},
	deploy.OnPause:    {"TidegateRampPaused", "warning", 24 * time.Hour},
	deploy.OnFail:     {"TidegateVersionFailing", "critical", 24 * time.Hour},
	deploy.OnError:    {"TidegateVerdictError", "warning", time.Hour},
	deploy.OnPromote:  {"TidegateRampPromoted", "info", 5 * time.Minute},
	deploy.OnDone:     {"TidegateRampDone", "info", 5 * time.Minute},
	deploy.OnTest:     {"TidegateTest", "info", 5 * time.Minute},
}

// postableAlert is Alertmanager's, in version 2 of its API.
type postableAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

func alertmanager(ctx context.Context, n deploy.Notification, m message) (*http.Request, error) {
	target, err := alertURL(n.Target.URL)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal([]postableAlert{alertOf(n, m)})
	if err != nil {
		return nil, err
	}
	return jsonRequest(ctx, n, target, body)
}

// alertOf is the alert that n tells of, or its end. Labels are what tells alerts apart,
// so nothing that differs between the two is one.
func alertOf(n deploy.Notification, m message) postableAlert {
	kind := alertKinds[n.On]
	a := postableAlert{
		Labels: map[string]string{
			"alertname": kind.name, "severity": kind.severity, "account": n.AccountID, "script": n.Script,
		},
		Annotations:  map[string]string{"summary": m.title, "description": m.sentence},
		StartsAt:     n.Decision.At.UTC(),
		EndsAt:       n.EndedOn.UTC(),
		GeneratorURL: m.history,
	}
	if n.Decision.VersionID != "" {
		a.Labels["version"] = n.Decision.VersionID
	}
	for _, f := range m.facts {
		a.Annotations[strings.ReplaceAll(strings.ToLower(f.name), " ", "_")] = f.value
	}
	if n.EndedOn.IsZero() {
		a.EndsAt = a.StartsAt.Add(kind.lasts)
	}
	if a.EndsAt.Before(a.StartsAt) { // by clocks of two processes; Alertmanager refuses it
		a.EndsAt = a.StartsAt
	}
	return a
}

// alertURL takes the address of an Alertmanager, or of where it takes alerts.
func alertURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	if strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), deploy.AlertsPath) {
		return text, nil
	}
	return u.JoinPath(deploy.AlertsPath).String(), nil
}
