package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/signature"
)

// IDHeader carries the message's id, which is the same when it is sent again.
const IDHeader = "Tidegate-Notification-Id"

// webhookBody is what a webhook gets; docs/rollback.md describes it. It is the same at
// every try.
type webhookBody struct {
	ID        string                  `json:"id"`
	Type      deploy.NotifyOn         `json:"type"`
	CreatedOn time.Time               `json:"created_on"`
	AccountID string                  `json:"account_id"`
	Script    string                  `json:"script"`
	Title     string                  `json:"title"`
	Sentence  string                  `json:"sentence"`
	Decision  deploy.RollbackDecision `json:"decision"`
	Links     webhookLinks            `json:"links"`
}

type webhookLinks struct {
	Console   string `json:"console,omitempty"`
	Decisions string `json:"decisions,omitempty"`
}

func webhook(ctx context.Context, n deploy.Notification, m message, now time.Time) (*http.Request, error) {
	body, err := json.Marshal(webhookBody{
		ID: n.ID, Type: n.On, CreatedOn: n.CreatedOn.UTC(), AccountID: n.AccountID, Script: n.Script,
		Title: m.title, Sentence: m.sentence, Decision: n.Decision, Links: webhookLinks{m.console, m.history},
	})
	if err != nil {
		return nil, err
	}
	req, err := jsonRequest(ctx, n, n.Target.URL, body)
	if err != nil || n.Target.Secret == "" {
		return req, err
	}
	signed, err := signature.Sign(n.Target.Secret, now, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set(signature.Header, signed)
	return req, nil
}

// jsonRequest can be sent again by the client, on another connection.
func jsonRequest(ctx context.Context, n deploy.Notification, url string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tidegate")
	req.Header.Set(IDHeader, n.ID)
	return req, nil
}
