package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/schema"
)

// watching collects what goes to those who watch.
type watching struct {
	mu   sync.Mutex
	list []tailCopy
}

type tailCopy struct {
	account, script, clientIP, value string
}

func (w *watching) EmitTail(account, script, clientIP string, value []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, tailCopy{account, script, clientIP, string(value)})
}

func (w *watching) all() []tailCopy {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

// watchedGateway is joining's with somebody who watches.
func watchedGateway(t *testing.T) (*Gateway, *collected, *watching) {
	g, events, _ := joining(t)
	w := &watching{}
	g.deps.Tail = w
	s := *g.latest
	s.Scripts = slices.Clone(s.Scripts)
	s.Scripts[0].Tailed = true
	s.Revision++
	if err := g.accept(&s); err != nil {
		t.Fatal(err)
	}
	return g, events, w
}

func wantJSON(t *testing.T, got, want string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal([]byte(got), &a); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestTailMessageOfARequest(t *testing.T) {
	g, events, w := watchedGateway(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cart?token=hunter2&q=1", nil)
	r.Header = http.Header{"User-Agent": {"test"}, "Accept": {"a", "b"}, "Cookie": {"hunter2"}, "X-Api-Key": {"hunter2"}, "Cf-Ray": {"forged"}}
	x := exchangeOf(g, testVersion, "0123456789abcdef")
	x.client = client{scheme: "http", host: "shop.dev.localhost", ip: "192.0.2.7"}
	x.received = testReceived
	p := sent(g, x)
	g.record(ask(r), r.RequestURI, x, p)
	if n := len(w.all()); n != 0 {
		t.Fatalf("%d copies before the event", n)
	}
	inv := invocationOf(x.ray, schema.OutcomeException)
	inv.Exceptions = []schema.Exception{{Name: "Error", Message: "no", TimestampMs: 2, Stack: "at x"}}
	inv.Logs = []schema.Log{{Level: "warn", Message: []json.RawMessage{json.RawMessage(`{"a":1}`), json.RawMessage(`"b"`)}, TimestampMs: 3}}
	g.Invocation(testVersion, inv)
	events.only(1)
	copies := w.all()
	if len(copies) != 1 || copies[0].account != "00000000000000000000000000000001" || copies[0].script != "shop" || copies[0].clientIP != "192.0.2.7" {
		t.Fatalf("copies: %+v", copies)
	}
	wantJSON(t, copies[0].value, `{"outcome":"exception","scriptName":"shop","scriptVersion":{"id":"`+testVersion+`","tag":"a"},"entrypoint":null,
		"exceptions":[{"name":"Error","message":"no","timestamp":2,"stack":"at x"}],
		"logs":[{"message":[{"a":1},"b"],"level":"warn","timestamp":3}],"eventTimestamp":1772366400123,
		"event":{"request":{"url":"http://shop.dev.localhost/cart?token=REDACTED&q=1","method":"POST",
			"headers":{"cf-connecting-ip":"192.0.2.7","cf-ray":"0123456789abcdef","accept":"a, b","cookie":"REDACTED","user-agent":"test","x-api-key":"REDACTED"},"cf":{}},
			"response":{"status":200}}}`)
}

func TestTailMessageOfTheRuntime(t *testing.T) {
	f := func(eventType, event, want string) {
		t.Helper()
		g, _, w := watchedGateway(t)
		g.Invocation(testVersion, schema.Invocation{EventType: eventType, Event: json.RawMessage(event), TimestampMs: 7, Outcome: "ok", Entrypoint: "Counter"})
		copies := w.all()
		if len(copies) != 1 || copies[0].clientIP != "" {
			t.Fatalf("copies: %+v", copies)
		}
		wantJSON(t, copies[0].value, `{"outcome":"ok","scriptName":"shop","scriptVersion":{"id":"`+testVersion+`","tag":"a"},"entrypoint":"Counter",
			"exceptions":[],"logs":[],"eventTimestamp":7,"event":`+want+`}`)
	}
	f("scheduled", `{"Cron":"* * * * *","ScheduledTimeMs":5}`, `{"cron":"* * * * *","scheduledTime":5}`)
	f("alarm", `{"ScheduledTimeMs":5}`, `{"scheduledTime":5}`)
	f("worker_rpc", `{"rpcMethod":"add"}`, `{"rpcMethod":"add"}`)
	f("queue", `{"Queue":"q","BatchSize":2}`, `{"queue":"q","batchSize":2}`)
	f("fetch", `{"RayID":"","Request":{"URL":"http://x/","Method":"GET"},"Response":{"Status":200}}`,
		`{"request":{"url":"http://x/","method":"GET","headers":{},"cf":{}},"response":{"status":200}}`)
	f("hibernatable_web_socket", ``, `null`)
}

// Nobody watches: nothing is copied.
func TestNoTail(t *testing.T) {
	g, events, _ := joining(t)
	w := &watching{}
	g.deps.Tail = w
	x := exchangeOf(g, testVersion, "0123456789abcdef")
	g.endExchange(x, sent(g, x))
	g.Invocation(testVersion, invocationOf(x.ray, "ok"))
	events.only(1)
	if n := len(w.all()); n != 0 {
		t.Errorf("%d copies", n)
	}
}

// Beyond the rate those who watch see a sample, and are told of the begin and the
// end of that, once.
func TestTailRate(t *testing.T) {
	tails := tails{}
	shop, blog := scriptKey{"1", "shop"}, scriptKey{"1", "blog"}
	now := testReceived
	sent, notices := 0, []string{}
	for range 3 * tailRate {
		ok, notice := tails.allow(shop, now)
		if ok {
			sent++
		}
		if notice != "" {
			notices = append(notices, notice)
		}
	}
	if sent != tailRate || !slices.Equal(notices, []string{overload}) {
		t.Errorf("%d sent with the notices %v, want %d and one", sent, notices, tailRate)
	}
	if ok, notice := tails.allow(blog, now); !ok || notice != "" {
		t.Error("another script suffers from it")
	}
	now = now.Add(tailTick)
	if got := tails.tick(now); len(got) != 0 {
		t.Errorf("%v recovered while events were dropped", got)
	}
	if got := tails.tick(now.Add(tailTick)); !slices.Equal(got, []scriptKey{shop}) {
		t.Errorf("%v recovered, want %v", got, shop)
	}
	if got := tails.tick(now.Add(tailForget)); len(got) != 0 || len(tails.byScript) != 0 {
		t.Errorf("%v recovered, %d scripts are remembered", got, len(tails.byScript))
	}
}

// All events come in one moment, however slow the machine is: in a second of real time a
// slow one made less than what is too much.
func TestTailNotices(t *testing.T) {
	synctest.Test(t, tailNotices)
}

func tailNotices(t *testing.T) {
	g, _, w := watchedGateway(t)
	for range 2 * tailRate {
		g.Invocation(testVersion, schema.Invocation{EventType: "alarm", TimestampMs: 7, Outcome: "ok"})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var telling sync.WaitGroup
	telling.Go(func() { g.keepTailing(ctx) })
	time.Sleep(2*tailTick + 1) // of the bubble: after the first tick without a dropped copy
	cancel()
	telling.Wait()
	told := map[string]int{}
	for _, c := range w.all() {
		var m struct {
			Event struct{ Message, Type string }
		}
		if err := json.Unmarshal([]byte(c.value), &m); err != nil {
			t.Fatal(err)
		}
		if m.Event.Type != "" {
			told[m.Event.Type]++
			if m.Event.Message == "" {
				t.Errorf("the notice %s says nothing", c.value)
			}
		}
	}
	if told[overload] != 1 || told[overloadEnd] != 1 {
		t.Errorf("notices: %v", told)
	}
	if n := g.metrics.tailDropped.Load(); n != tailRate {
		t.Errorf("%d dropped copies were counted, want %d", n, tailRate)
	}
}
