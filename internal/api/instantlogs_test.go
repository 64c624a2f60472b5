package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tidegate/internal/api"
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

type instantAnswer struct {
	DestinationConf string `json:"destination_conf"`
	SessionID       string `json:"session_id"`
	Fields, Filter  string
	Sample          int
}

func (a answer) instant(t *testing.T) (session instantAnswer) {
	t.Helper()
	a.ok(t)
	if err := json.Unmarshal(a.Result, &session); err != nil {
		t.Fatal(err)
	}
	return session
}

func listen(t *testing.T, url string) *socket {
	t.Helper()
	conn, buffered, _, err := ws.Dial(t.Context(), url)
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the server may have closed it
	if buffered == nil {
		buffered = bufio.NewReader(conn)
	}
	return &socket{t, conn, buffered}
}

func traceEvent(host, outcome string) deploy.TailMessage {
	return deploy.TailMessage{Value: fmt.Appendf(nil,
		`{"ScriptName":"shop","Outcome":%q,"EventType":"fetch","Event":{"Request":{"URL":"https://%s/a"}}}`, outcome, host)}
}

func instantLogs(t *testing.T, p *platform) {
	zone := "/client/v4/zones/" + p.zoneOf(t, "logs.example.org") + "/logpush/edge/jobs"
	for _, base := range []string{"/client/v4/accounts/" + account + "/logpush/edge/jobs", zone} {
		session := p.do(t, http.MethodPost, base, bearer(p.token), `{"fields": "Outcome", "sample": 1, "filter": "", "kind": "instant-logs"}`).instant(t)
		if !strings.HasPrefix(session.DestinationConf, "ws"+strings.TrimPrefix(p.url, "http")+"/instant-logs/ws/sessions/"+session.SessionID) || len(session.SessionID) < 50 {
			t.Errorf("session %+v", session)
		}
		p.do(t, http.MethodGet, base, bearer(p.token), "").ok(t, session.SessionID)
		p.do(t, http.MethodPost, base, bearer(p.token), `{}`).want(t, http.StatusForbidden, 1004, "creating a new instant logs job is not allowed: exceeded max jobs allowed")
	}
}

// TestListenersGetWhatTheirSessionShows: lines of the fields that were asked for,
// of events that the filter keeps, of hosts of the zone, and of one's own account.
func TestListenersGetWhatTheirSessionShows(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	zone := "/client/v4/zones/" + p.zoneOf(t, "shop.example.com") + "/logpush/edge/jobs"
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	all := p.call(t, http.MethodPost, "/logpush/edge/jobs", `{"fields": "Outcome,ScriptName"}`).instant(t)
	some := p.do(t, http.MethodPost, zone, bearer(p.token),
		`{"fields": "Outcome", "filter": "{\"where\":{\"key\":\"Outcome\",\"operator\":\"!eq\",\"value\":\"ok\"}}"}`).instant(t)
	foreign := p.do(t, http.MethodPost, "/client/v4/accounts/"+other.ID+"/logpush/edge/jobs", bearer(p.token), `{"fields": "Outcome"}`).instant(t)
	a, b, c := listen(t, all.DestinationConf), listen(t, some.DestinationConf), listen(t, foreign.DestinationConf)
	p.instant.await(t, 3)
	for _, m := range []deploy.TailMessage{
		traceEvent("shop.example.com", "ok"), traceEvent("example.com:8443", "exception"), {Value: []byte("{broken")},
		traceEvent("notexample.com", "canceled"), {Notice: "the feed stands still"},
	} {
		p.instant.sendTo(account, m)
	}
	p.instant.sendTo(other.ID, traceEvent("shop.example.com", "ok"))
	for _, want := range []string{
		`{"Outcome":"ok","ScriptName":"shop","sampleInterval":1}`, `{"Outcome":"exception","ScriptName":"shop","sampleInterval":1}`,
		`{"Outcome":"canceled","ScriptName":"shop","sampleInterval":1}`, `{"notice":"the feed stands still"}`,
	} {
		if got := a.text(); got != want+"\n" {
			t.Errorf("the account's listener got %q, want %q", got, want)
		}
	}
	for _, want := range []string{`{"Outcome":"exception","sampleInterval":1}`, `{"notice":"the feed stands still"}`} {
		if got := b.text(); got != want+"\n" {
			t.Errorf("the zone's listener got %q, want %q", got, want)
		}
	}
	if got := c.text(); got != `{"Outcome":"ok","sampleInterval":1}`+"\n" {
		t.Errorf("the other account's listener got %q", got)
	}
	a.close()
	p.instant.await(t, 2)
	again := listen(t, all.DestinationConf) // a session outlives its listener
	p.instant.await(t, 3)
	p.instant.sendTo(account, traceEvent("a.example.net", "ok"))
	if got := again.text(); !strings.HasPrefix(got, `{"Outcome":"ok"`) {
		t.Errorf("got %q", got)
	}
	p.server.StopWaiting()
	again.wantClose(ws.StatusGoingAway)
	b.wantClose(ws.StatusGoingAway)
	c.wantClose(ws.StatusGoingAway)
	p.server.WaitForViewers()
}

// TestSlowListenersAreTold how many lines they miss.
func TestSlowListenersAreTold(t *testing.T) {
	p := newPlatform(t)
	s := listen(t, p.call(t, http.MethodPost, "/logpush/edge/jobs", `{"fields": "ScriptName"}`).instant(t).DestinationConf)
	p.instant.await(t, 1)
	name := strings.Repeat("x", 1<<20)
	const sent = 64 // MiB: more than the queue and the connection's buffers hold
	got, missing := 0, 0
	take := func() {
		var line struct{ ScriptName, Notice string }
		if err := json.Unmarshal([]byte(s.text()), &line); err != nil {
			t.Fatal(err)
		}
		if line.Notice == "" {
			got++
			return
		}
		var n int
		if _, err := fmt.Sscanf(line.Notice, "%d events are missing here", &n); err != nil {
			t.Fatalf("%q: %v", line.Notice, err)
		}
		missing += n
	}
	for i := range sent {
		p.instant.sendTo(account, deploy.TailMessage{Value: []byte(`{"ScriptName":"` + name + `"}`)})
		if i%4 == 3 { // slow, but not one that takes nothing: such a listener is sent away
			take()
		}
	}
	for got+missing < sent {
		take()
	}
	if got == 0 || missing == 0 || got+missing != sent {
		t.Errorf("%d events came and %d are said to be missing of %d", got, missing, sent)
	}
}

// TestSessionsEnd after an hour, or five minutes without listeners.
func TestSessionsEnd(t *testing.T) {
	clock := time.Now()
	p := newPlatformAt(t, api.Config{Now: func() time.Time { return clock }}, func() time.Time { return clock })
	begin := func() answer { return p.call(t, http.MethodPost, "/logpush/edge/jobs", `{}`) }
	first := begin().instant(t)
	clock = clock.Add(5*time.Minute - time.Second)
	if err := p.store.KeepInstantLogs(t.Context(), first.SessionID); err != nil { // as a listener does
		t.Fatal(err)
	}
	clock = clock.Add(5*time.Minute - time.Second)
	begin().want(t, http.StatusForbidden, 1004, "exceeded max jobs allowed")
	clock = clock.Add(time.Second)
	wantKind(t, p.store.KeepInstantLogs(t.Context(), first.SessionID), errs.NotFound)
	p.call(t, http.MethodGet, "/logpush/edge/jobs", "").ok(t, `"result":[]`)
	connect := func(s instantAnswer) answer {
		return p.do(t, http.MethodGet, strings.TrimPrefix(s.DestinationConf, "ws"+strings.TrimPrefix(p.url, "http")), http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}, "")
	}
	if a := connect(first); a.status != http.StatusNotFound {
		t.Errorf("answered %d %s", a.status, a.text)
	}
	second := begin().instant(t)
	for range 14 {
		clock = clock.Add(4 * time.Minute)
		if err := p.store.KeepInstantLogs(t.Context(), second.SessionID); err != nil {
			t.Fatal(err)
		}
	}
	clock = clock.Add(4*time.Minute - 50*time.Millisecond)
	s := listen(t, second.DestinationConf)
	s.wantClose(4000)
}

func TestInstantLogsOpenNothingElse(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	id := p.zoneOf(t, "shop.example.com")
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := p.CreateToken(t.Context(), control.Token{AccountID: other.ID, Name: "logs", Scopes: []control.Scope{control.LogsRead}})
	if err != nil {
		t.Fatal(err)
	}
	path := "/client/v4/zones/" + id + "/logpush/edge/jobs"
	p.do(t, http.MethodPost, path, bearer(foreign), `{}`).want(t, http.StatusNotFound, 1002, id)
	p.do(t, http.MethodGet, path, bearer(foreign), "").want(t, http.StatusNotFound, 1002, id)
	p.do(t, http.MethodPost, "/client/v4/zones/7/logpush/edge/jobs", bearer(p.token), `{}`).want(t, http.StatusNotFound, 1002, "zone \"7\" does not exist")
	if a := p.do(t, http.MethodGet, "/instant-logs/ws/sessions/guess", http.Header{"Upgrade": {"websocket"}}, ""); a.status != http.StatusNotFound {
		t.Errorf("answered %d %s", a.status, a.text)
	}
	if a := p.do(t, http.MethodGet, "/instant-logs/ws/sessions/guess", nil, ""); a.status != http.StatusBadRequest || !strings.Contains(a.text, "WebSocket") {
		t.Errorf("answered %d %s", a.status, a.text)
	}
}
