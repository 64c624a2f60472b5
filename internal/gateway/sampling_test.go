package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// sampledGateway serves one origin, whose script is sampled, and is not running: the
// test ticks.
func sampledGateway(t testing.TB, rate float64) (*Gateway, *collected) {
	t.Helper()
	events := &collected{t: t}
	g, err := New(DefaultConfig(), Deps{Snapshots: instantBackend{}, Backends: instantBackend{}, Emitter: events, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.stopObserving(); err != nil {
			t.Error(err)
		}
	})
	s := testSnapshot()
	s.Scripts[0].HeadSamplingRate = rate
	if err := g.accept(s); err != nil {
		t.Fatal(err)
	}
	return g, events
}

// setSampling gives the gateway a snapshot in which only the rate has changed.
func setSampling(t *testing.T, g *Gateway, rate float64) {
	t.Helper()
	s := *g.latest
	s.Scripts = slices.Clone(s.Scripts)
	s.Scripts[0].HeadSamplingRate = rate
	s.Revision++
	if err := g.accept(&s); err != nil {
		t.Fatal(err)
	}
}

// never is a rate at which no dice in a test's lifetime keep an event.
const never = 1e-300

// counts are the requests of each cell.
type counts map[sampleCell]int64

// told counts what events say, and requires that failures stand for themselves alone.
func told(t *testing.T, events []schema.TraceEvent) counts {
	t.Helper()
	got := counts{}
	for i := range events {
		e := &events[i]
		status, _ := e.Status()
		got[cellOf(e, status)] += 1 + e.Gateway.SampledOut
		if schema.Failed(e.Outcome, status) && e.Gateway.SampledOut != 0 {
			t.Errorf("a failure stands for %d others: %+v", e.Gateway.SampledOut, e)
		}
	}
	return got
}

func wantCounts(t *testing.T, got, want counts) {
	t.Helper()
	for c, n := range want {
		if got[c] != n {
			t.Errorf("the events count %d of %+v, want %d", got[c], c, n)
		}
	}
	for c, n := range got {
		if want[c] == 0 {
			t.Errorf("the events count %d of %+v, of which there was none", n, c)
		}
	}
}

func sumOf(c counts) (n int64) {
	for _, v := range c {
		n += v
	}
	return n
}

// any origin's exchange that may happen, mostly a success.
func anyExchange(g *Gateway, seconds int) *exchange {
	x := exchangeOf(g, testVersion, newRay(time.Now()))
	x.received = testReceived.Add(time.Duration(rand.IntN(seconds)) * time.Second)
	x.decision = []string{schema.DecisionSplit, schema.DecisionAffinity, schema.DecisionOverride}[rand.IntN(3)]
	switch rand.IntN(20) {
	case 0:
		x.status = 500 + rand.IntN(4)
	case 1:
		x.status, x.outcome, x.errorKind = http.StatusBadGateway, schema.OutcomeInternalError, schema.ErrorKindConnect
	case 2:
		x.status, x.outcome = 0, schema.OutcomeCanceled
	case 3:
		x.status = http.StatusNotFound
	case 4, 5:
		x.caller = deploy.Caller{Script: "front", VersionID: fmt.Sprint("caller-", rand.IntN(2))}
	}
	return x
}

func (c counts) addExchange(x *exchange) {
	c[sampleCell{x.received.Unix(), x.status, x.decision, x.outcome, "fetch", x.caller.VersionID, false}]++
}

// Whatever is left out, changed in the middle and stopped: what the events say of
// every second, decision, outcome and status is what was served.
func TestEventsOfASampledScriptCountEveryRequest(t *testing.T) {
	const exchanges = 1000 // of each of four handlers: hundreds in a cell of successes, a few in one of failures
	for _, rate := range []float64{never, 0.01, 0.3, 1} {
		g, events := sampledGateway(t, rate)
		want := counts{}
		var mu sync.Mutex
		var emitters sync.WaitGroup
		done := make(chan struct{})
		go func() { // a sweep at every moment
			defer close(done)
			for !func() bool { g.sampler.mu.Lock(); defer g.sampler.mu.Unlock(); return g.sampler.closed }() {
				g.sampler.tick()
			}
		}()
		for range 4 {
			emitters.Go(func() {
				for i := range exchanges {
					x := anyExchange(g, 3)
					g.record(ask(joinRequest), "/path?q=1", x, nil)
					mu.Lock()
					want.addExchange(x)
					if i == exchanges/2 {
						setSampling(t, g, rate/2)
					}
					mu.Unlock()
				}
			})
		}
		emitters.Wait()
		g.sampler.close()
		<-done
		late := anyExchange(g, 1) // as of a handler whose connection broke
		g.record(ask(joinRequest), "/path?q=1", late, nil)
		want.addExchange(late)

		got := told(t, events.list)
		wantCounts(t, got, want)
		s := &g.sampler
		if s.waiting.Load() != 0 || s.bytes.Load() != 0 || int64(len(events.list))+s.told.Load() != sumOf(want) {
			t.Errorf("rate %v: %d wait, %d bytes are held, %d events and %d told of others make not %d", rate, s.waiting.Load(), s.bytes.Load(), len(events.list), s.told.Load(), sumOf(want))
		}
	}
}

// The share that is kept is the rate, within five standard deviations, whatever the
// requests took; all failures are kept.
func TestShareOfKeptEvents(t *testing.T) {
	const n, rate = 50_000, 0.02
	g, events := sampledGateway(t, rate)
	failures := 0
	for i := range n {
		x := exchangeOf(g, testVersion, newRay(time.Now()))
		x.received = testReceived
		if i%100 == 0 {
			x.status, failures = 503, failures+1
		}
		g.record(ask(joinRequest), "/path?q=1", x, nil)
	}
	g.sampler.close()
	kept, failed := 0, 0
	for i := range events.list {
		switch status, _ := events.list[i].Status(); {
		case status == 503:
			failed++
		default:
			kept++
		}
	}
	held := failures + 1 // at most: one goes out before each failure, and at the end
	mean := rate * (n - float64(failures))
	sigma := math.Sqrt(mean * (1 - rate))
	if failed != failures || float64(kept) < mean-5*sigma || float64(kept) > mean+5*sigma+float64(held) {
		t.Errorf("%d of %d failures and %d other events were emitted, want %.0f ± %.0f and at most %d more", failed, failures, kept, mean, 5*sigma, held)
	}
}

// A version must not look worse than it is, not even for a moment: a rollback would
// not wait for the rest of the numbers.
func TestFailuresDoNotOvertakeSuccesses(t *testing.T) {
	g, events := sampledGateway(t, never)
	var served int64
	for range 2000 {
		x := anyExchange(g, 2)
		g.record(ask(joinRequest), "/path?q=1", x, nil)
		served++
		if !schema.Failed(x.outcome, x.status) {
			continue
		}
		if got := sumOf(told(t, events.list)); got != served {
			t.Fatalf("when request %d failed, the events counted %d", served, got)
		}
	}
}

// Another version's failure tells nothing of this one.
func TestTalliesAreOfOneVersionAndOutliveSnapshots(t *testing.T) {
	g, events, _ := joining(t)
	setSampling(t, g, never)
	leave := func(version, ray string, status int) {
		x := exchangeOf(g, version, ray)
		x.received, x.status = testReceived, status
		p := sent(g, x)
		g.Invocation(version, invocationOf(ray, schema.OutcomeOK))
		g.endExchange(x, p)
	}
	leave(testVersion, "0000000000000001", 200)
	leave(testVersion, "0000000000000002", 200)
	leave(otherVersion, "0000000000000003", 200)
	events.only(0)
	setSampling(t, g, never) // a new table, with new versions
	leave(testVersion, "0000000000000004", 200)
	leave(testVersion, "0000000000000005", 500)
	list := events.only(2)
	if list[0].Gateway.SampledOut != 2 || list[0].ScriptVersion.ID != testVersion || list[1].Gateway.RayID != "0000000000000005" {
		t.Errorf("the events are %+v", list)
	}
	setSampling(t, g, 1) // the next event is kept, and tells
	leave(otherVersion, "0000000000000006", 200)
	if e := events.only(1)[0]; e.Gateway.SampledOut != 1 || e.Gateway.RayID != "0000000000000006" {
		t.Errorf("the event is %+v", e)
	}
	g.sampler.tick()
	events.only(0)
}

// The runtime's half may turn a request into a failure after the response has ended.
func TestFailureThatOnlyTheRuntimeSawIsKept(t *testing.T) {
	g, events, _ := joining(t)
	setSampling(t, g, never)
	x := exchangeOf(g, testVersion, "0123456789abcdef")
	p := sent(g, x)
	g.endExchange(x, p)
	g.Invocation(testVersion, invocationOf(x.ray, schema.OutcomeException))
	if e := events.only(1)[0]; e.Outcome != schema.OutcomeException || len(e.Logs) != 1 {
		t.Errorf("the event is %+v", e)
	}
}

// What began inside the runtime is sampled if a request caused it.
func TestInvocationsAreSampledByTheirType(t *testing.T) {
	g, events, _ := joining(t)
	setSampling(t, g, never)
	cpu := new(int64(3))
	for range 3 {
		for eventType := range sampledTypes {
			g.Invocation(testVersion, schema.Invocation{EventType: eventType, Outcome: schema.OutcomeOK, TimestampMs: 5000, CPUTimeMs: cpu})
			g.Invocation(testVersion, schema.Invocation{EventType: eventType, Outcome: schema.OutcomeOK, TimestampMs: 5000})
		}
	}
	events.only(0)
	for _, eventType := range []string{"scheduled", "alarm", "queue", "email", "tail", "something new"} {
		g.Invocation(testVersion, schema.Invocation{EventType: eventType, Outcome: schema.OutcomeOK, TimestampMs: 5000})
		events.only(1)
	}
	g.sampler.tick()
	list := events.only(2 * len(sampledTypes))
	for _, e := range list {
		if !sampledTypes[e.EventType] || e.Gateway.SampledOut != 2 {
			t.Errorf("the event is %+v, want one of a sampled type that stands for two more", e)
		}
	}
	// A call of a Durable Object that answered with a failure.
	g.Invocation(testVersion, schema.Invocation{EventType: "fetch", DurableObjectID: "a", Outcome: schema.OutcomeOK, TimestampMs: 5000,
		Event: []byte(`{"Request":{"URL":"http://a/","Method":"GET"},"Response":{"Status":500}}`)})
	events.only(1)
}

// shown collects what goes to those who watch.
type shown struct {
	mu sync.Mutex
	n  int
}

func (s *shown) EmitTail(string, string, string, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
}

func TestThoseWhoWatchSeeWhatIsLeftOut(t *testing.T) {
	g, events := sampledGateway(t, never)
	watching := &shown{}
	g.deps.Tail = watching
	s := *g.latest
	s.Scripts = slices.Clone(s.Scripts)
	s.Scripts[0].Tailed, s.Revision = true, s.Revision+1
	if err := g.accept(&s); err != nil {
		t.Fatal(err)
	}
	for range 7 {
		x := exchangeOf(g, testVersion, newRay(time.Now()))
		x.received = testReceived
		g.record(ask(joinRequest), "/path?q=1", x, nil)
	}
	g.sampler.tick()
	if e := events.only(1)[0]; watching.n != 7 || e.Gateway.SampledOut != 6 {
		t.Errorf("%d were shown, the event stands for %d others, want 7 and 6", watching.n, e.Gateway.SampledOut)
	}
}

// Run tells of what is left out without another request, and at its end.
func TestRunTellsOfWhatIsLeftOut(t *testing.T) {
	events := &collected{t: t}
	g, err := New(DefaultConfig(), Deps{Snapshots: waitingSnapshots{}, Backends: instantBackend{}, Emitter: events, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := testSnapshot()
	s.Scripts[0].HeadSamplingRate = never
	if err := g.accept(s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	serve := func() {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.dev.localhost/", nil)
		r.RequestURI = "/"
		g.ServeHTTP(httptest.NewRecorder(), r)
	}
	number := func() int {
		events.mu.Lock()
		defer events.mu.Unlock()
		return int(sumOf(told(t, events.list)))
	}
	serve()
	for deadline := time.Now().Add(time.Minute); number() < 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody told of the request")
		}
	}
	serve()
	serve()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if number() != 3 {
		t.Errorf("the events count %d requests, want 3", number())
	}
}

// waitingSnapshots have nothing new.
type waitingSnapshots struct{}

func (waitingSnapshots) Snapshot(ctx context.Context, _ int64) (*deploy.Snapshot, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
