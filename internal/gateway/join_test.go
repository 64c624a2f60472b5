package gateway

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const otherVersion = "bbbbbbbb-2222-4222-8222-222222222222"

// collected are the events of a gateway, by ray.
type collected struct {
	t    testing.TB
	mu   sync.Mutex
	list []schema.TraceEvent
}

func (c *collected) Emit(_ string, value []byte, _ bool) {
	var e schema.TraceEvent
	if err := schema.DecodeEvent(value, &e); err != nil {
		c.t.Errorf("the event %s: %v", value, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, e)
}

// only returns the events so far, which must be n, and forgets them.
func (c *collected) only(n int) []schema.TraceEvent {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) != n {
		c.t.Fatalf("%d events, want %d: %+v", len(c.list), n, c.list)
	}
	list := c.list
	c.list = nil
	return list
}

// joining is a gateway with two Workers versions and a clock of its own.
func joining(t testing.TB) (*Gateway, *collected, *time.Time) {
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
	s.Scripts[0].Versions = nil
	for _, id := range []string{testVersion, otherVersion} {
		s.Scripts[0].Versions = append(s.Scripts[0].Versions, deploy.SnapshotVersion{ID: id, Tag: id[:1], Worker: &deploy.SnapshotWorker{}})
	}
	if err := g.accept(s); err != nil {
		t.Fatal(err)
	}
	now := testReceived
	g.joins.now = func() time.Time { return now }
	return g, events, &now
}

// exchangeOf is a request that was passed on to a version.
func exchangeOf(g *Gateway, versionID, ray string) *exchange {
	of := g.table.Load().versions[versionID]
	return &exchange{picked: picked{script: of.script, version: of.version, decision: schema.DecisionSplit}, ray: ray, received: time.Now(), outcome: schema.OutcomeOK, status: 200}
}

// sent enters an exchange whose request goes to the one process of its version.
func sent(g *Gateway, x *exchange) *pending {
	p := g.expect(x)
	p.SentTo(deploy.Process{VersionID: x.version.ID, Number: 1})
	return p
}

var joinRequest = httptest.NewRequest(http.MethodGet, "http://shop.dev.localhost/path?q=1", nil)

func (g *Gateway) endExchange(x *exchange, p *pending) { g.record(ask(joinRequest), "/path?q=1", x, p) }

func invocationOf(ray, outcome string) schema.Invocation {
	return schema.Invocation{RayID: ray, EventType: "fetch", Outcome: outcome, TimestampMs: 1, Logs: []schema.Log{{Level: "log"}}}
}

func wantUnjoined(t *testing.T, g *Gateway, reason string, n int64) {
	t.Helper()
	if got := g.metrics.unjoined[index(unjoinedReasons, reason)].Load(); got != n {
		t.Errorf("unjoined for %s: %d, want %d", reason, got, n)
	}
}

// Whichever half comes first waits, and one event has both.
func TestJoinInEitherOrder(t *testing.T) {
	for _, runtimeFirst := range []bool{true, false} {
		g, events, _ := joining(t)
		x := exchangeOf(g, testVersion, "0123456789abcdef")
		p := sent(g, x)
		steps := []func(){
			func() { g.Invocation(testVersion, invocationOf(x.ray, schema.OutcomeException)) },
			func() { g.endExchange(x, p) },
		}
		if !runtimeFirst {
			steps[0], steps[1] = steps[1], steps[0]
		}
		steps[0]()
		events.only(0)
		steps[1]()
		e := events.only(1)[0]
		if e.Outcome != schema.OutcomeException || len(e.Logs) != 1 || e.Gateway.RayID != x.ray || e.Gateway.Decision != schema.DecisionSplit || e.WallTimeMs == nil || e.ScriptVersion.Tag != "a" {
			t.Errorf("runtime first %t: the event is %+v", runtimeFirst, e)
		}
		if status, _ := e.Status(); status != 200 {
			t.Errorf("the event has status %d", status)
		}
	}
}

func TestJointOutcome(t *testing.T) {
	f := func(gateway, runtime, want string) {
		t.Helper()
		if got := jointOutcome(&half{outcome: gateway}, &schema.Invocation{Outcome: runtime}); got != want {
			t.Errorf("%s and %s gave %s, want %s", gateway, runtime, got, want)
		}
	}
	f("ok", "ok", "ok")
	f("ok", "exception", "exception")
	f("ok", "", "ok")
	f("canceled", "exception", "canceled")
	f("responseStreamDisconnected", "ok", "responseStreamDisconnected")
	f("exceededWallTime", "ok", "exceededWallTime") // the client got a 504
	f("internalError", "exceededCpu", "exceededCpu")
}

// A version can write any ray into its own requests. It finds no other version's
// exchange with it, and a call of another entry point is not the request either.
func TestForgedRay(t *testing.T) {
	g, events, now := joining(t)
	x := exchangeOf(g, testVersion, "0123456789abcdef")
	p := sent(g, x)
	g.endExchange(x, p)
	g.Invocation(otherVersion, invocationOf(x.ray, schema.OutcomeException))
	entrypoint := invocationOf(x.ray, schema.OutcomeException)
	entrypoint.Entrypoint = "Admin"
	g.Invocation(testVersion, entrypoint)
	object := invocationOf(x.ray, schema.OutcomeException)
	object.DurableObjectID = "d"
	g.Invocation(testVersion, object)
	for i, e := range events.only(3) {
		if e.Gateway != (schema.Gateway{}) || e.WallTimeMs != nil || (e.ScriptVersion.Tag == "b") != (i == 0) {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	*now = now.Add(joinWait)
	g.joins.expire()
	if e := events.only(1)[0]; e.Outcome != schema.OutcomeOK || e.Gateway.RayID != x.ray {
		t.Errorf("the exchange became %+v", e)
	}
}

// A Worker that calls itself with the request that it got is told of twice, and
// nothing says which is which: docs/workers.md, section 4. Neither of the two is lost.
func TestSelfCall(t *testing.T) {
	for _, open := range []bool{true, false} {
		g, events, _ := joining(t)
		x := exchangeOf(g, testVersion, "0123456789abcdef")
		p := sent(g, x)
		if !open {
			g.endExchange(x, p)
		}
		for range 2 {
			g.Invocation(testVersion, invocationOf(x.ray, schema.OutcomeOK))
		}
		if open {
			g.endExchange(x, p)
		}
		joined := 0
		for _, e := range events.only(2) {
			if e.Gateway.RayID == x.ray {
				joined++
			}
			if len(e.Logs) != 1 {
				t.Errorf("the event is %+v", e)
			}
		}
		if joined != 1 {
			t.Errorf("open %t: %d events of the exchange", open, joined)
		}
	}
}

// What the runtime tells too late is no second event.
func TestJoinTimesOut(t *testing.T) {
	g, events, now := joining(t)
	x := exchangeOf(g, testVersion, "0123456789abcdef")
	g.endExchange(x, sent(g, x))
	*now = now.Add(joinWait - 1)
	g.joins.expire()
	events.only(0)
	*now = now.Add(1)
	g.joins.expire()
	events.only(1)
	g.Invocation(testVersion, invocationOf(x.ray, schema.OutcomeOK))
	events.only(0)
	wantUnjoined(t, g, unjoinedTimeout, 1)
	wantUnjoined(t, g, unjoinedLate, 1)
	// It is forgotten in the end.
	x = exchangeOf(g, testVersion, "fedcba9876543210")
	g.endExchange(x, sent(g, x))
	*now = now.Add(joinWait)
	g.joins.expire()
	*now = now.Add(goneWait)
	g.joins.expire()
	for i := range g.joins.shards {
		if n := len(g.joins.shards[i].all); n != 0 {
			t.Errorf("shard %d holds %d exchanges", i, n)
		}
	}
	events.only(1)
}

// At the bound the oldest goes out. A connection that failed waits for nobody, and so
// does a request that no process got, because its client left or none started in time.
func TestJoinBound(t *testing.T) {
	g, events, _ := joining(t)
	const perShard = joinsMax / joinShards
	for i := range perShard + 3 {
		x := exchangeOf(g, testVersion, fmt.Sprintf("%014xab", i)) // all in one shard
		g.endExchange(x, sent(g, x))
	}
	for i, e := range events.only(3) {
		if want := fmt.Sprintf("%014xab", i); e.Gateway.RayID != want {
			t.Errorf("event %d is of %s, want %s", i, e.Gateway.RayID, want)
		}
	}
	wantUnjoined(t, g, unjoinedBound, 3)
	x := exchangeOf(g, testVersion, "0123456789abcdef")
	x.outcome, x.errorKind = schema.OutcomeInternalError, schema.ErrorKindConnect
	g.endExchange(x, sent(g, x))
	events.only(1)
	x.outcome, x.errorKind = schema.OutcomeCanceled, ""
	g.endExchange(x, g.expect(x))
	events.only(1)
	g.joins.close()
	events.only(perShard)
	wantUnjoined(t, g, unjoinedStop, perShard)
	g.endExchange(x, sent(g, exchangeOf(g, testVersion, "1")))
	events.only(1)
}

// The processes of the versions, and one more of testVersion.
var (
	testProcess  = deploy.Process{VersionID: testVersion, Number: 1}
	otherProcess = deploy.Process{VersionID: otherVersion, Number: 1}
	nextProcess  = deploy.Process{VersionID: testVersion, Number: 2}
)

func TestProcessEnded(t *testing.T) {
	f := func(processOutcome, gateway, want string) {
		t.Helper()
		for _, open := range []bool{true, false} {
			g, events, _ := joining(t)
			x := exchangeOf(g, testVersion, "0123456789abcdef")
			x.outcome = gateway
			p := sent(g, x)
			if open {
				g.Ended(testProcess, processOutcome)
			}
			g.endExchange(x, p)
			if !open {
				g.Ended(otherProcess, "exceededMemory")
				events.only(0)
				g.Ended(testProcess, processOutcome)
			}
			wantUnjoined(t, g, unjoinedEnded, 1)
			if e := events.only(1)[0]; e.Outcome != want {
				t.Errorf("process %s, gateway %s, open %t: %s, want %s", processOutcome, gateway, open, e.Outcome, want)
			}
		}
	}
	f("exceededCpu", "internalError", "exceededCpu")
	f("exceededCpu", "responseStreamDisconnected", "exceededCpu")
	f("exceededCpu", "ok", "exceededCpu")
	f("exceededMemory", "canceled", "canceled")
	f("internalError", "ok", "ok")
	f("internalError", "responseStreamDisconnected", "internalError")
	f("", "ok", "ok")
	f("", "responseStreamDisconnected", "responseStreamDisconnected")
}

// A version that stopped for being idle finishes what it has in hand while the next
// request has started another process of it. When the first was killed, requests of
// the second went out as killed, without what the runtime told of them afterwards.
func TestEndOfOneOfTwoProcesses(t *testing.T) {
	for _, waiting := range []bool{true, false} {
		g, events, _ := joining(t)
		first, second := exchangeOf(g, testVersion, "0123456789abcdef"), exchangeOf(g, testVersion, "fedcba9876543210")
		p, q := sent(g, first), sent(g, second)
		q.SentTo(nextProcess)
		g.endExchange(first, p)
		if waiting {
			g.endExchange(second, q)
		}
		g.Ended(testProcess, schema.OutcomeExceededCPU)
		if e := events.only(1)[0]; e.Gateway.RayID != first.ray || e.Outcome != schema.OutcomeExceededCPU {
			t.Errorf("after the end the event is %+v", e)
		}
		if !waiting {
			g.endExchange(second, q)
		}
		events.only(0)
		g.Invocation(testVersion, invocationOf(second.ray, schema.OutcomeException))
		if e := events.only(1)[0]; e.Gateway.RayID != second.ray || e.Outcome != schema.OutcomeException || len(e.Logs) != 1 {
			t.Errorf("the event of the other process is %+v", e)
		}
	}
}

// A process may end before the request that it was picked for has begun; the next one
// has it then.
func TestRequestOfAProcessThatIsGoneGoesToTheNext(t *testing.T) {
	g, events, _ := joining(t)
	x := exchangeOf(g, testVersion, "0123456789abcdef")
	p := sent(g, x)
	g.Ended(testProcess, schema.OutcomeExceededMemory)
	p.SentTo(nextProcess)
	g.endExchange(x, p)
	events.only(0)
	g.Invocation(testVersion, invocationOf(x.ray, schema.OutcomeOK))
	if e := events.only(1)[0]; e.Outcome != schema.OutcomeOK || len(e.Logs) != 1 {
		t.Errorf("the event is %+v", e)
	}
}

// Halves in every order, processes that die, halves that never come: one event
// for each exchange, no more and no less, and nothing stays behind.
func TestOneEventPerExchangeUnderChaos(t *testing.T) {
	g, events, _ := joining(t)
	const workers, each = 8, 300
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for range each {
				id := []string{testVersion, otherVersion}[rand.N(2)]
				x := exchangeOf(g, id, newRay(time.Now()))
				p := sent(g, x)
				process := deploy.Process{VersionID: id, Number: rand.N(3)}
				p.SentTo(process)
				var other sync.WaitGroup
				if rand.N(4) > 0 {
					other.Go(func() { g.Invocation(id, invocationOf(x.ray, schema.OutcomeOK)) })
				}
				if rand.N(20) == 0 {
					other.Go(func() { g.Ended(process, schema.OutcomeExceededCPU) })
				}
				if rand.N(10) == 0 {
					x.outcome = schema.OutcomeInternalError
				}
				g.endExchange(x, p)
				other.Wait()
			}
		})
	}
	running.Wait()
	g.joins.close()
	seen := map[string]bool{}
	for _, e := range events.only(workers * each) {
		if e.Gateway.RayID == "" || seen[e.Gateway.RayID] {
			t.Fatalf("a second event, or one without a request: %+v", e)
		}
		seen[e.Gateway.RayID] = true
	}
	if n := g.joins.waiting(); n != 0 {
		t.Errorf("%d exchanges still wait", n)
	}
}

// Both halves of a request through joins, both orders mixed.
func BenchmarkJoin(b *testing.B) {
	g, _, _ := joining(b)
	g.deps.Emitter = instantBackend{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			x := exchangeOf(g, testVersion, newRay(time.Now()))
			p := sent(g, x)
			if i%2 == 0 {
				g.Invocation(testVersion, invocationOf(x.ray, schema.OutcomeOK))
				g.endExchange(x, p)
			} else {
				g.endExchange(x, p)
				g.Invocation(testVersion, invocationOf(x.ray, schema.OutcomeOK))
			}
		}
	})
}
