package gateway

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"tidegate/schema"
)

// marked collects for each event whether Logpush jobs may have it.
type marked struct {
	mu   sync.Mutex
	list []bool
}

func (m *marked) Emit(_ string, _ []byte, logpush bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, logpush)
}

// want expects the marks of the events since the last call.
func (m *marked) want(t *testing.T, what string, want ...bool) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.list, want) {
		t.Errorf("%s: events are for Logpush %v, want %v", what, m.list, want)
	}
	m.list = nil
}

// setLogpush gives the gateway a snapshot in which only this has changed.
func setLogpush(t *testing.T, g *Gateway, disabled bool) {
	t.Helper()
	s := *g.latest
	s.Scripts = slices.Clone(s.Scripts)
	s.Scripts[0].LogpushDisabled = disabled
	s.Revision++
	if err := g.accept(&s); err != nil {
		t.Fatal(err)
	}
}

func TestEventsAreMarkedByTheSettingWhenTheRequestCame(t *testing.T) {
	g, _, _ := joining(t)
	events := &marked{}
	g.deps.Emitter = events
	exchange := func(ray string) (end func()) {
		x := exchangeOf(g, testVersion, ray)
		p := g.expect(x)
		p.SentTo(testProcess)
		return func() {
			g.endExchange(x, p)
			g.Invocation(testVersion, invocationOf(ray, schema.OutcomeOK))
		}
	}
	before := exchange("0123456789abcdea")
	setLogpush(t, g, true)
	during := exchange("0123456789abcdeb")
	setLogpush(t, g, false)
	after := exchange("0123456789abcdec")
	before()
	during()
	after()
	events.want(t, "requests", true, false, true)

	// What began inside the runtime has the setting of the moment when it is told.
	alarm := schema.Invocation{EventType: "alarm", Outcome: schema.OutcomeOK, TimestampMs: 1}
	g.Invocation(testVersion, alarm)
	setLogpush(t, g, true)
	g.Invocation(testVersion, alarm)
	events.want(t, "alarms", true, false)
}

func TestRequestsToOriginsAreMarkedToo(t *testing.T) {
	g, _, _ := joining(t)
	events := &marked{}
	g.deps.Emitter = events
	s := testSnapshot()
	s.Revision = g.latest.Revision + 1
	if err := g.accept(s); err != nil {
		t.Fatal(err)
	}
	request := func() {
		g.ServeHTTP(discard{http.Header{}}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.dev.localhost/", nil))
	}
	request()
	setLogpush(t, g, true)
	request()
	events.want(t, "requests", true, false)
}

// Who watches a script sees its events, and they go to Kafka to be counted, whatever
// jobs get.
func TestLogpushDisabledTakesNothingFromWatchersAndCounts(t *testing.T) {
	g, events, w := watchedGateway(t)
	setLogpush(t, g, true)
	x := exchangeOf(g, testVersion, "0123456789abcdef")
	p := g.expect(x)
	p.SentTo(testProcess)
	g.endExchange(x, p)
	g.Invocation(testVersion, invocationOf(x.ray, schema.OutcomeOK))
	events.only(1)
	if n := len(w.all()); n != 1 {
		t.Errorf("%d copies for those who watch, want 1", n)
	}
}
