package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tidegate/internal/api"
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

// TestAddressesInListsAreOnesOwn: whoever found a feed in a list watched it for as long as it
// lived, also when they had signed out, their token was deleted or their role was gone.
func TestAddressesInListsAreOnesOwn(t *testing.T) {
	p := newPeople(t, idp.PublicID, "payments=logs:read@"+account+"; on call=policy:edit@"+account)
	p.server.BeatEvery(10 * time.Millisecond)
	p.upload(t, "shop", "v1")
	const tails, edge = "/client/v4/accounts/" + account + "/workers/scripts/shop/tails", "/client/v4/accounts/" + account + "/logpush/edge/jobs"
	maker := p.browser().signIn(t, p.token)
	var made tailAnswer
	if err := json.Unmarshal(maker.do(t, http.MethodPost, tails, "").Result, &made); err != nil {
		t.Fatal(err)
	}
	logs := maker.do(t, http.MethodPost, edge, `{"fields": "Outcome"}`).instant(t)
	found := func(list func(path string) answer) (tail, instant string) {
		t.Helper()
		var watched []tailAnswer
		var sessions []instantAnswer
		if err := errors.Join(json.Unmarshal(list(tails).Result, &watched), json.Unmarshal(list(edge).Result, &sessions)); err != nil || len(watched) != 1 || len(sessions) != 1 {
			t.Fatalf("%+v, %+v, error %v", watched, sessions, err)
		}
		return watched[0].URL, sessions[0].DestinationConf
	}
	refused := func(url string, status string) {
		t.Helper()
		dialer := ws.Dialer{Protocols: []string{"trace-v1"}}
		if _, _, _, err := dialer.Dial(t.Context(), url); err == nil || !strings.Contains(err.Error(), status) {
			t.Errorf("%s says %v, want %s", url, err, status)
		}
	}
	byMaker, toMaker := found(func(path string) answer { return maker.do(t, http.MethodGet, path, "") })
	if byMaker != made.URL || toMaker != logs.DestinationConf {
		t.Errorf("the maker is listed %s and %s, and made %s and %s", byMaker, toMaker, made.URL, logs.DestinationConf)
	}
	kept := watch(t, made.URL)
	p.feed.await(t, 1)

	token, secret, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "leaver", Scopes: []control.Scope{control.LogsRead}})
	if err != nil {
		t.Fatal(err)
	}
	b := p.browser()
	asPerson := func(path string) answer { return b.do(t, http.MethodGet, path, "") }
	withGroup := func(group string) {
		t.Helper()
		session, err := p.store.OpenSession(t.Context(), b.cookie.Value)
		if err != nil {
			t.Fatal(err)
		}
		session.Person.Groups = []string{group}
		if _, _, err := p.store.CreatePersonSession(t.Context(), *session.Person); err != nil { // as they sign in elsewhere
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, status string
		list         func(path string) answer
		leave        func()
	}{
		{"by a token", "401", func(path string) answer { return p.do(t, http.MethodGet, path, bearer(secret), "") }, func() {
			if err := p.DeleteToken(t.Context(), account, token.ID); err != nil {
				t.Fatal(err)
			}
		}},
		{"a person who signs out", "401", asPerson, func() { b.do(t, http.MethodDelete, "/session", "") }},
		{"a person who loses a role", "403", asPerson, func() { withGroup("on call") }},
	} {
		if c.name != "by a token" {
			b = p.signInAs(t, grace)
		}
		tail, instant := found(c.list)
		if strings.Contains(tail, made.URL) || strings.Contains(instant, logs.SessionID) {
			t.Errorf("%s: the list shows the maker's address", c.name)
		}
		proof := strings.LastIndexByte(tail, '.')
		for _, forged := range []string{tail[:len(tail)-1], tail[:proof] + "0" + tail[proof:], tail[:proof+1], instant + "0"} {
			refused(forged, "404")
		}
		watched, listened := watch(t, tail), listen(t, instant)
		p.feed.await(t, 2)
		p.instant.await(t, 1)
		p.instant.sendTo(account, traceEvent("shop.example.com", "ok"))
		if got := listened.text(); !strings.Contains(got, "ok") {
			t.Errorf("%s: listened to %s", c.name, got)
		}
		c.leave()
		watched.wantClose(ws.StatusPolicyViolation)
		listened.wantClose(ws.StatusPolicyViolation)
		p.feed.await(t, 1)
		p.instant.await(t, 0)
		refused(tail, c.status)
		refused(instant, c.status)
	}

	// What a person made ends for themselves with their role, too.
	b = p.signInAs(t, grace)
	withGroup("payments")
	var own tailAnswer
	if err := json.Unmarshal(b.do(t, http.MethodPost, tails, "").Result, &own); err != nil {
		t.Fatal(err)
	}
	mine := watch(t, own.URL)
	p.feed.await(t, 2)
	withGroup("on call")
	mine.wantClose(ws.StatusPolicyViolation)
	refused(own.URL, "403")

	p.feed.await(t, 1)
	m := event("ok", "GET", "one")
	p.feed.send(m)
	if got := kept.text(); got != string(m.Value) {
		t.Errorf("the maker got %s", got)
	}
}

// outage is a database that may be away when it is asked whose an address is.
type outage struct {
	api.Sessions
	began atomic.Bool
	asked atomic.Int32
}

func (o *outage) Holding(ctx context.Context, holder control.Holder) (control.Session, error) {
	if !o.began.Load() {
		return o.Sessions.Holding(ctx, holder)
	}
	o.asked.Add(1)
	return control.Session{}, errors.New("connection refused")
}

// Who watches stays where nobody can tell whether they still may.
func TestAnOutageSendsNoWatcherAway(t *testing.T) {
	var o outage
	p := newPlatformAt(t, api.Config{GatewayURL: "http://localhost:8080"}, nil, func(d *api.Deps) { o.Sessions, d.Sessions = d.Sessions, &o })
	p.server.BeatEvery(time.Millisecond)
	p.upload(t, "shop", "v1")
	watched := watch(t, p.newTail(t, "shop", "").URL)
	p.feed.await(t, 1)
	o.began.Store(true)
	for until := time.Now().Add(time.Minute); o.asked.Load() < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("nobody asks whether the viewer may still watch")
		}
	}
	m := event("ok", "GET", "one")
	p.feed.send(m)
	if got := watched.text(); got != string(m.Value) {
		t.Errorf("the viewer got %s", got)
	}
}
