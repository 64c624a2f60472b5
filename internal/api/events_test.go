package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const storedEvent = `{"EventTimestampMs":1767225600000,"EventType":"fetch","Outcome":"ok","ScriptName":"shop","ScriptVersion":{"id":"v"},"Event":{"Request":{"URL":"https://shop.example.com/items","Method":"GET"},"Response":{"Status":200}}}`

func eventsStory(t *testing.T, p *platform) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	place := schema.EventPosition{Time: at, Partition: 3, Offset: 17}
	p.events.list = []schema.StoredEvent{{EventPosition: place, Value: []byte(storedEvent)}}
	p.events.exceptions = []schema.ExceptionGroup{{Fingerprint: "0123456789abcdef", Name: "TypeError", Message: "x", Requests: 3,
		Versions: map[string]int64{"v": 3}, FirstSeen: at, LastSeen: at, Sample: []byte(storedEvent)}}
	p.call(t, http.MethodGet, "/workers/scripts/shop/events?failed=false&status=5xx,none&version=a,b&text=Items&limit=1&cursor="+place.String(), "").
		ok(t, `"events":[`+storedEvent+`],"cursor":"`+place.String()+`"`)
	f, _ := p.events.asked[0].(schema.EventFilter)
	if f.AccountID != account || f.Script != "shop" || f.Failed == nil || *f.Failed || !slices.Equal(f.Versions, []string{"a", "b"}) ||
		!slices.Equal(f.Statuses, []schema.StatusRange{{Low: 500, High: 599}, {}}) || f.Text != "Items" || p.events.asked[1] != place {
		t.Errorf("it was asked for %+v", p.events.asked)
	}
	if a := p.call(t, http.MethodGet, "/workers/scripts/shop/events?limit=2", ""); strings.Contains(a.text, "cursor") {
		t.Errorf("the last page has a cursor: %s", a.text)
	}
	// A page may end before it has as many events as were asked for, and then there are more.
	p.events.list[0].Value = []byte(strings.Replace(storedEvent, "items", strings.Repeat("x", schema.EventPageBytes), 1))
	p.call(t, http.MethodGet, "/workers/scripts/shop/events?limit=2", "").ok(t, `"cursor":"`+place.String()+`"`)
	p.events.list[0].Value = []byte(storedEvent)
	p.call(t, http.MethodGet, "/workers/events/0123456789abcdef-FRA", "").ok(t, storedEvent)
	if asked := p.events.asked[len(p.events.asked)-1]; asked != "0123456789abcdef" {
		t.Errorf("it was asked for ray %v", asked)
	}
	p.call(t, http.MethodGet, "/workers/scripts/shop/exceptions?new_in=b&compared_to=a", "").ok(t, `"total_exceptions":7`, `"sample":{`)
	if q, _ := p.events.asked[len(p.events.asked)-1].(schema.ExceptionQuery); q.AccountID != account || q.NewIn != "b" || q.ComparedTo != "a" || q.Limit != 20 {
		t.Errorf("it was asked for %+v", q)
	}
	p.events.list = nil
	p.call(t, http.MethodGet, "/workers/events/0123456789abcdef", "").want(t, http.StatusNotFound, 10007, "0123456789abcdef")
	for path, want := range map[string]string{
		"/workers/scripts/shop/events?cursor=next":                              "cursor",
		"/workers/scripts/shop/events?status=600-500":                           "600-500",
		"/workers/scripts/shop/events?failed=maybe":                             "failed",
		"/workers/scripts/shop/events?outcome=ok,,":                             "outcome",
		"/workers/scripts/shop/events?outcome=ok,bad":                           `outcome has "bad": it may have ok, canceled`,
		"/workers/scripts/shop/events/live?decision=chance":                     `decision has "chance": it may have override`,
		"/workers/scripts/shop/events?limit=501":                                "from 1 to 500",
		"/workers/scripts/shop/events?since=2025-01-01T00:00:00Z":               "31 days",
		"/workers/scripts/shop/events?text=" + strings.Repeat("x", 501):         "500 bytes",
		"/workers/scripts/shop/events?method=" + strings.Repeat("x,", 20) + "x": "1 to 20 values",
		"/workers/scripts/shop/exceptions?new_in=a":                             "go together",
		"/workers/scripts/shop/exceptions?new_in=a&compared_to=a":               "name two versions",
		"/workers/scripts/shop/exceptions?new_in=a&compared_to=b&version=a":     "beside new_in",
		"/workers/scripts/shop/events/live?status=ok":                           "status",
		"/workers/events/7": "16 hex digits",
	} {
		p.call(t, http.MethodGet, path, "").want(t, http.StatusBadRequest, 10001, want)
	}
	for _, path := range []string{"events", "events/live", "exceptions"} {
		p.call(t, http.MethodGet, "/workers/scripts/none/"+path, "").want(t, http.StatusNotFound, 10007, "none")
	}
	s := p.watch(t, "shop", "")
	s.want("heartbeat", `"sent":0,"dropped":0`)
	s.leave()
}

// stream is what a viewer of events receives.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	leave context.CancelFunc
}

func (p *platform) watch(t *testing.T, script, query string) *stream {
	t.Helper()
	return p.watchAs(t, script, query, bearer(p.token))
}

func (p *platform) watchAs(t *testing.T, script, query string, who http.Header) *stream {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	t.Cleanup(leave)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/client/v4/accounts/"+account+"/workers/scripts/"+script+"/events/live"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = who
	res, err := p.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("answered %d %v", res.StatusCode, res.Header)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 8<<20)
	return &stream{t, lines, leave}
}

// next returns the next event of the stream; false is its end.
func (s *stream) next() (name, data string, ok bool) {
	for s.lines.Scan() {
		line := s.lines.Text()
		if text, ok := strings.CutPrefix(line, "event: "); ok {
			name = text
		} else if text, ok := strings.CutPrefix(line, "data: "); ok {
			data = text
		} else if line == "" {
			return name, data, true
		}
	}
	return "", "", false
}

func (s *stream) want(name, part string) {
	s.t.Helper()
	if got, data, ok := s.next(); !ok || got != name || !strings.Contains(data, part) {
		s.t.Errorf("the stream has %q %.200s, want %q with %s", got, data, name, part)
	}
}

func TestEventsAreWatchedAsTheyCome(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	all, some := p.watch(t, "shop", ""), p.watch(t, "shop", "?failed=true&status=5xx")
	all.want("heartbeat", `"sent":0`)
	some.want("heartbeat", `"sent":0`)
	p.live.await(t, 2)
	send := func(script, outcome string, status int) {
		p.live.sendTo(account, deploy.TailMessage{Value: fmt.Appendf(nil, "{\"EventTimestampMs\": 1767225600000,\n \"EventType\":\"fetch\",\"Outcome\":%q,\"ScriptName\":%q,\"Event\":{\"Response\":{\"Status\":%d}}}", outcome, script, status)})
	}
	send("blog", "exception", 500)
	send("shop", "ok", 200)
	p.live.sendTo(account, deploy.TailMessage{Value: []byte("{broken")})
	p.live.sendTo("00000000000000000000000000000002", deploy.TailMessage{Value: []byte(storedEvent)})
	send("shop", "exception", 503)
	p.live.sendTo(account, deploy.TailMessage{Notice: "the feed stands still"})
	all.want("event", `"Outcome":"ok"`)
	all.want("event", `"Status":503`)
	all.want("notice", "stands still")
	all.want("heartbeat", `"sent":2,"dropped":0`)
	some.want("event", `"Status":503`)
	some.want("notice", "stands still")
	some.want("heartbeat", `"sent":1`)
	some.leave()
	p.live.await(t, 1)
	for range 9 {
		p.watch(t, "shop", "")
	}
	p.call(t, http.MethodGet, "/workers/scripts/shop/events/live", "").want(t, http.StatusBadRequest, 10001, "10 viewers")
	p.server.StopWaiting()
	all.want("notice", "stopping")
	if name, data, ok := all.next(); ok {
		t.Errorf("after the end there is %q %s", name, data)
	}
	p.server.WaitForViewers()
}

// TestSlowViewersOfEventsAreTold how many they miss, and the numbers add up.
func TestSlowViewersOfEventsAreTold(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	s := p.watch(t, "shop", "")
	s.want("heartbeat", `"sent":0`)
	p.live.await(t, 1)
	const sent = 64 // MiB: more than the queue and the connection's buffers hold
	value := []byte(`{"EventTimestampMs":1767225600000,"Outcome":"ok","ScriptName":"shop","Entrypoint":"` + strings.Repeat("x", 1<<20) + `"}`)
	got, missing, dropped := 0, 0, 0
	take := func() {
		name, data, ok := s.next()
		if !ok {
			t.Fatalf("the stream ended after %d events", got)
		}
		switch name {
		case "event":
			got++
		case "notice":
			var notice struct{ Message string }
			var n int
			if json.Unmarshal([]byte(data), &notice) != nil {
				t.Fatal(data)
			}
			if _, err := fmt.Sscanf(notice.Message, "%d events are missing", &n); err != nil {
				t.Fatalf("%q: %v", notice.Message, err)
			}
			missing += n
		case "heartbeat":
			var beat struct{ Dropped int }
			if json.Unmarshal([]byte(data), &beat) != nil {
				t.Fatal(data)
			}
			dropped = beat.Dropped
		}
	}
	for i := range sent {
		p.live.sendTo(account, deploy.TailMessage{Value: value})
		if i%4 == 3 { // slow, but not one that takes nothing: such a viewer is sent away
			take()
		}
	}
	for got+missing < sent || dropped < missing {
		take()
	}
	if missing == 0 || got+missing != sent || dropped != missing {
		t.Errorf("%d events came, %d are said to be missing and %d dropped, of %d", got, missing, dropped, sent)
	}
}
