package notify

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/signature"
)

func TestAStoredDecisionIsSentSigned(t *testing.T) {
	r := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL + "/hooks/abc", Secret: secret})
	decision := w.decide(t)
	s := newService(t, w, local)
	start(t, s)
	got := r.next(t)

	// The lines that docs/rollback.md shows to receivers.
	err := signature.Verify(secret, got.header.Get(signature.Header), strings.NewReader(string(got.body)), time.Now(), 5*time.Minute)
	if err != nil {
		t.Errorf("the signature %q: %v", got.header.Get(signature.Header), err)
	}
	var body webhookBody
	if err := json.Unmarshal(got.body, &body); err != nil {
		t.Fatal(err)
	}
	list, err := w.Notifications(t.Context(), account, "shop")
	if err != nil || len(list) != 1 {
		t.Fatalf("listed are %+v, error %v", list, err)
	}
	if id := got.header.Get(IDHeader); id != list[0].ID || body.ID != id {
		t.Errorf("the id is %q in the header, %q in the body and %q in the list", id, body.ID, list[0].ID)
	}
	if body.Type != deploy.OnRollback || body.Script != "shop" || body.AccountID != account || body.Sentence != decision.Sentence ||
		body.Decision.ID != decision.ID || *body.Decision.Numbers.Failures != 31 || body.Title != "Rolled back shop" ||
		body.Links.Decisions != "https://tidegate.example.com/client/v4/accounts/"+account+"/workers/scripts/shop/rollback-decisions" {
		t.Errorf("the body is %s", got.body)
	}
	if got.path != "/hooks/abc" || strings.Contains(string(got.body), secret) {
		t.Errorf("sent to %s: %s", got.path, got.body)
	}
	w.await(t, "sent", all(deploy.NotificationSent))
}

// Whoever is woken after a decision sends it before the next look at the outbox.
func TestWakeLooksAtOnce(t *testing.T) {
	r := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL})
	s := newService(t, w, local)
	start(t, s)
	for range 5 {
		w.decide(t)
		s.Wake()
		if got := r.next(t); got.header.Get(signature.Header) != "" {
			t.Error("signed without a secret")
		}
	}
}

// A process was killed between storing and sending, and another between sending and
// storing the result: nothing is lost, and the repeat has the same id and body.
func TestWhatWasStoredIsToldWhateverIsKilled(t *testing.T) {
	r := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL})
	w.decide(t)
	// The first one claims, and is gone.
	if list, err := w.ClaimNotifications(t.Context(), 1, leaseTime); err != nil || len(list) != 1 {
		t.Fatalf("claimed %+v, error %v", list, err)
	}
	w.clock.add(leaseTime)
	// The second one sends, and is gone.
	stop := start(t, newService(t, forgetful{w}, local))
	first := r.next(t)
	stop()
	w.clock.add(leaseTime)
	start(t, newService(t, w, local))
	second := r.next(t)
	if first.header.Get(IDHeader) != second.header.Get(IDHeader) || string(first.body) != string(second.body) {
		t.Errorf("sent %s\nand then %s", first.body, second.body)
	}
	w.await(t, "sent", all(deploy.NotificationSent))
}

// forgetful never stores what came of a message.
type forgetful struct{ *world }

func (forgetful) SettleNotification(context.Context, deploy.Notification) error { return nil }

// A message that ends its process at each try was tried again after each restart.
func TestAMessageThatEndsItsProcessIsNotTriedForEver(t *testing.T) {
	r := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL})
	w.decide(t)
	for range triesMax {
		if list, err := w.ClaimNotifications(t.Context(), 1, leaseTime); err != nil || len(list) != 1 {
			t.Fatalf("claimed %+v, error %v", list, err)
		}
		w.clock.add(leaseTime)
	}
	start(t, newService(t, w, local))
	w.await(t, "given up", func(list []deploy.Notification) bool {
		return len(list) == 1 && list[0].State == deploy.NotificationFailed && strings.Contains(list[0].LastError, "did not come to an end")
	})
	if len(r.got) != 0 {
		t.Error("it was sent")
	}
}

func TestAHangingTargetDelaysNoOther(t *testing.T) {
	release := make(chan struct{})
	hanging := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	good := newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: hanging.URL}, deploy.NotifyTarget{Type: deploy.NotifySlack, URL: good.URL})
	s := newService(t, w, local)
	start(t, s)
	t.Cleanup(func() { close(release) })
	w.decide(t)
	hanging.next(t)
	good.next(t)
	for range 3 {
		w.decide(t)
		s.Wake()
		good.next(t)
	}
	if len(hanging.got) != 0 {
		t.Error("a target that hangs is tried again beside")
	}
}

// A stop does not wait for a target that hangs, and what was being sent is sent by the
// next process.
func TestAStopLeavesWhatHangs(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	hanging := newReceiver(t, func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-release:
		case <-req.Context().Done():
		}
	})
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: hanging.URL})
	stop := start(t, newService(t, w, local))
	w.decide(t)
	first := hanging.next(t)
	stop()
	w.await(t, "waiting", func(list []deploy.Notification) bool {
		return len(list) == 1 && list[0].State == deploy.NotificationWaiting && strings.Contains(list[0].LastError, "stopped")
	})
	once.Do(func() { close(release) })
	start(t, newService(t, w, local))
	if again := hanging.next(t); again.header.Get(IDHeader) != first.header.Get(IDHeader) {
		t.Error("the next process sent another message")
	}
}

// Two processes on one database tell each decision once.
func TestTwoProcessesShareTheOutbox(t *testing.T) {
	a, b := newReceiver(t, nil), newReceiver(t, nil)
	w := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: a.URL}, deploy.NotifyTarget{Type: deploy.NotifySlack, URL: b.URL})
	start(t, newService(t, w, local))
	start(t, newService(t, w, local))
	const decisions = 20
	for range decisions {
		w.decide(t)
	}
	states := make([]deploy.NotificationState, 2*decisions)
	for i := range states {
		states[i] = deploy.NotificationSent
	}
	w.await(t, "all sent", all(states...))
	ids := map[string]bool{}
	for _, r := range []*receiver{a, b} {
		for range decisions {
			ids[r.next(t).header.Get(IDHeader)] = true
		}
		if len(r.got) != 0 {
			t.Errorf("%d messages were sent twice", len(r.got))
		}
	}
	if len(ids) != 2*decisions {
		t.Errorf("%d ids for %d messages", len(ids), 2*decisions)
	}
}

func TestTriesEndAfterADayOrSixty(t *testing.T) {
	n := notificationFor(deploy.NotifyTarget{})
	now, broken := n.CreatedOn, &failure{text: "broken"}
	tries := 0
	for n.Attempts = 0; n.State == deploy.NotificationWaiting; {
		n.Attempts++
		tries++
		n, _ = settled(n, broken, now)
		if n.State == deploy.NotificationWaiting && !n.NextTry.After(now) {
			t.Fatalf("the next try is at %s, now is %s", n.NextTry, now)
		}
		if pause := n.NextTry.Sub(now); pause > pauseMax*11/10 {
			t.Fatalf("a pause of %s after %d tries", pause, tries)
		}
		now = n.NextTry
	}
	if lasted := now.Sub(n.CreatedOn); tries < 45 || tries > triesMax || lasted < triedFor-pauseMax || lasted > triedFor+2*pauseMax {
		t.Errorf("given up after %d tries in %s", tries, lasted)
	}
	n = notificationFor(deploy.NotifyTarget{})
	n.Attempts = triesMax
	if n, result := settled(n, broken, n.CreatedOn); n.State != deploy.NotificationFailed || result != "failed" || n.LastError != "broken" {
		t.Errorf("after %d tries it is %+v", triesMax, n)
	}
}

// A target says when to come again in one of two forms. Whatever it says, the wait is none that an attacker
// could overflow, and one that is written by the library is read as it was meant.
func FuzzParseRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{"120", "-1", "+5", "4294967296", "Fri, 27 Nov 2026 12:00:30 GMT", "Friday, 27-Nov-26 12:00:30 GMT", "1e3", " 5"} {
		f.Add(seed, int64(30))
	}
	f.Fuzz(func(t *testing.T, text string, seconds int64) {
		if wait := parseRetryAfter(text, now); wait < 0 {
			t.Fatalf("%q is a wait of %s", text, wait)
		}
		at := now.Add(time.Duration(seconds%(1<<31)) * time.Second)
		if at.Before(now) {
			at = now
		}
		if wait := parseRetryAfter(at.Format(http.TimeFormat), now); now.Add(wait) != at {
			t.Fatalf("%s is a wait of %s", at.Format(http.TimeFormat), wait)
		}
	})
}
