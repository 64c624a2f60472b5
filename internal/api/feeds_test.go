package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tidegate/schema/control"
	"tidegate/test/idp"
)

// TestFeedsEndWithTheirToken: the address of a WebSocket opens it without a token, so a token
// that is taken away takes what it has opened along, and leaves others alone.
func TestFeedsEndWithTheirToken(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	until := time.Now().Add(time.Hour / 2)
	token, secret, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "leaver", Scopes: []control.Scope{control.LogsEdit}, ExpiresOn: until})
	if err != nil {
		t.Fatal(err)
	}
	const base = "/client/v4/accounts/" + account
	var tail tailAnswer
	a := p.do(t, http.MethodPost, base+"/workers/scripts/shop/tails", bearer(secret), "")
	if err := json.Unmarshal(a.Result, &tail); err != nil {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	if tail.ExpiresAt.After(until) {
		t.Errorf("the tail lives until %s, and its token until %s", tail.ExpiresAt, until)
	}
	session := p.do(t, http.MethodPost, base+"/logpush/edge/jobs", bearer(secret), `{"fields": "Outcome"}`).instant(t)
	another := p.newTail(t, "shop", "")
	watched, listened, other := watch(t, tail.URL), listen(t, session.DestinationConf), watch(t, another.URL)
	p.feed.await(t, 2)
	p.instant.await(t, 1)

	if err := p.DeleteToken(t.Context(), account, token.ID); err != nil {
		t.Fatal(err)
	}
	watched.wantClose(ws.StatusNormalClosure)
	listened.wantClose(ws.StatusNormalClosure)
	for _, url := range []string{tail.URL, session.DestinationConf} {
		dialer := ws.Dialer{Protocols: []string{"trace-v1"}}
		if _, _, _, err := dialer.Dial(t.Context(), url); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("after its token was deleted %s says %v, want 404", url, err)
		}
	}
	m := event("ok", "GET", "one")
	p.feed.await(t, 1)
	p.feed.send(m)
	if got := other.text(); got != string(m.Value) {
		t.Errorf("the viewer by another token got %s", got)
	}
}

// TestFeedsEndWithTheirSession: who signs out watches nothing any more, by addresses that were
// made in the session either; by those of another session one still does.
func TestFeedsEndWithTheirSession(t *testing.T) {
	p := newPeople(t, idp.PublicID, "payments=logs:edit,scripts:edit@"+account)
	p.upload(t, "shop", "v1")
	const base = "/client/v4/accounts/" + account
	newTail := func(b *browser) (tail tailAnswer) {
		t.Helper()
		a := b.do(t, http.MethodPost, base+"/workers/scripts/shop/tails", "")
		if err := json.Unmarshal(a.Result, &tail); err != nil {
			t.Fatalf("answered %d %s", a.status, a.text)
		}
		return tail
	}
	for _, everywhere := range []string{"", "?everywhere=true"} {
		b, stays := p.signInAs(t, grace), p.browser().signIn(t, p.token)
		kept := watch(t, newTail(stays).URL)
		tail := newTail(b)
		logs := b.do(t, http.MethodPost, base+"/logpush/edge/jobs", `{"fields": "Outcome"}`).instant(t)
		watched, listened := watch(t, tail.URL), listen(t, logs.DestinationConf)
		p.feed.await(t, 2)
		p.instant.await(t, 1)

		if a := b.do(t, http.MethodDelete, "/session"+everywhere, ""); a.status != http.StatusOK {
			t.Fatalf("signing out answered %d %s", a.status, a.text)
		}
		watched.wantClose(ws.StatusNormalClosure)
		listened.wantClose(ws.StatusNormalClosure)
		dialer := ws.Dialer{Protocols: []string{"trace-v1"}}
		if _, _, _, err := dialer.Dial(t.Context(), tail.URL); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("after its session %s says %v, want 404", tail.URL, err)
		}
		m := event("ok", "GET", "one")
		p.feed.await(t, 1)
		p.feed.send(m)
		if got := kept.text(); got != string(m.Value) {
			t.Errorf("the viewer by another session got %s", got)
		}
		stays.do(t, http.MethodDelete, "/session", "")
		kept.wantClose(ws.StatusNormalClosure)
		p.feed.await(t, 0)
	}
}
