package api_test

import (
	"context"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// notifier reaches every target but one, and refuses to test those of "tested".
type notifier struct{}

func (notifier) Test(_ context.Context, _, script string, targets []deploy.NotifyTarget) ([]deploy.NotifyResult, error) {
	if script == "tested" {
		return nil, errs.New(errs.Unavailable, 0, "the account's targets were tested 1 seconds ago")
	}
	var results []deploy.NotifyResult
	for _, target := range targets {
		result := deploy.NotifyResult{Type: target.Type, Target: target.Name(), OK: true}
		if target.Secret == "" {
			result.OK, result.Error = false, "the target answered 503 to "+script
		}
		results = append(results, result)
	}
	return results, nil
}

// outbox is a store with two targets and two messages.
type outbox struct{}

func (outbox) NotifyTargets(context.Context, string, string) ([]deploy.NotifyTarget, error) {
	return []deploy.NotifyTarget{
		{Type: deploy.NotifyWebhook, URL: "https://hook.example/path", Secret: "known to the store only"},
		{Type: deploy.NotifySlack, URL: "https://slack.example/services/T0/B0/secret"},
	}, nil
}

func (outbox) Notifications(context.Context, string, string) ([]deploy.Notification, error) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	one := deploy.Notification{
		ID: "2f1c7f4e-6f0e-4e83-8c9d-0d3c9d7e2c11", On: deploy.OnRollback, State: deploy.NotificationWaiting, Attempts: 2, CreatedOn: at, TriedOn: at, NextTry: at.Add(time.Minute),
		Target:    deploy.NotifyTarget{Type: deploy.NotifySlack, URL: "https://slack.example/services/T0/B0/secret", Secret: "secret"},
		LastError: "the target answered 503", Decision: deploy.RollbackDecision{ID: "d1", Sentence: "rolled back"},
	}
	two := one
	two.State, two.LastError, two.EndedOn = deploy.NotificationSent, "", at
	return []deploy.Notification{one, two}, nil
}

func TestNotificationsShowNoSecrets(t *testing.T) {
	p := newPlatformAt(t, api.Config{}, time.Now, func(d *api.Deps) { d.Notifications = outbox{} })
	list, err := p.Notifications(t.Context(), control.FirstAccountID, "shop")
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, error %v", list, err)
	}
	one, two := list[0], list[1]
	if one.Target.Name != "https://slack.example" || one.Target.Type != deploy.NotifySlack || one.Type != deploy.OnRollback || one.DecisionID != "d1" ||
		one.State != deploy.NotificationWaiting || one.Attempts != 2 || one.NextTryOn == nil || one.TriedOn == nil || one.EndedOn != nil ||
		one.LastError == nil || *one.LastError != "the target answered 503" {
		t.Errorf("the first is %+v", one)
	}
	if two.NextTryOn != nil || two.LastError != nil || two.EndedOn == nil {
		t.Errorf("the second is %+v", two)
	}
}

func TestNotifyTestAnswersForEachTarget(t *testing.T) {
	p := newPlatformAt(t, api.Config{}, time.Now, func(d *api.Deps) { d.Notifications = outbox{} })
	got, err := p.TestNotify(t.Context(), control.FirstAccountID, "shop")
	want := []deploy.NotifyResult{
		{Type: deploy.NotifyWebhook, Target: "https://hook.example", OK: true},
		{Type: deploy.NotifySlack, Target: "https://slack.example", Error: "the target answered 503 to shop"},
	}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, error %v; want %+v", got, err, want)
	}
	if _, err := p.TestNotify(t.Context(), control.FirstAccountID, "tested"); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("a refused test: %v", err)
	}
	silent := newPlatformAt(t, api.Config{}, time.Now, func(d *api.Deps) { d.Notifier = nil })
	if _, err := silent.TestNotify(t.Context(), control.FirstAccountID, "shop"); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("without a notifier: %v", err)
	}
}
