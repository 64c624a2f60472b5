package gateway

import (
	"fmt"
	"math"
	"testing"
	"time"

	"tidegate/schema"
)

// At its bounds sampling keeps more, and counts no less.
func TestBoundsOfWhatIsHeld(t *testing.T) {
	g, events := sampledGateway(t, never)
	const extra = 50
	for i := range sampleCellsMax + extra {
		x := exchangeOf(g, testVersion, newRay(time.Now()))
		x.received = testReceived.Add(time.Duration(i) * time.Second)
		g.record(ask(joinRequest), "/path?q=1", x, nil)
	}
	events.only(extra)
	if n := g.sampler.full.Load(); n != extra {
		t.Errorf("%d were counted as kept at the bound, want %d", n, extra)
	}
	g.sampler.tick()
	events.only(sampleCellsMax)

	g, events = sampledGateway(t, never)
	g.sampler.bytes.Store(sampleBytesMax)
	x := exchangeOf(g, testVersion, newRay(time.Now()))
	g.record(ask(joinRequest), "/path?q=1", x, nil)
	events.only(1)
}

// Of the requests that a held event stands for, each is held with the same chance:
// within five standard deviations of one in ten.
func TestHeldEventIsAnyOfItsCell(t *testing.T) {
	const trials, n = 5000, 10
	s := &sampler{}
	var seen [n]int
	s.emit = func(_ string, value []byte, _ bool) {
		var e schema.TraceEvent
		if err := schema.DecodeEvent(value, &e); err != nil || e.Gateway.SampledOut != n-1 {
			t.Fatalf("the event %s: %v", value, err)
		}
		seen[e.EventTimestampMs-1]++
	}
	tl := &tally{}
	for range trials {
		for i := range n {
			e := schema.TraceEvent{ScriptName: "shop", Outcome: schema.OutcomeOK, EventTimestampMs: int64(i + 1)}
			if !s.leaveOut(tl, sampleCell{}, func() heldEvent { return heldEvent{value: e.AppendJSON(nil)} }) {
				t.Fatal("not left out")
			}
		}
		s.tick()
	}
	sigma := math.Sqrt(trials * 0.1 * 0.9)
	for i, got := range seen {
		if math.Abs(float64(got)-trials/n) > 5*sigma {
			t.Errorf("request %d was held %d times of %d, want %d ± %.0f", i+1, got, trials, trials/n, 5*sigma)
		}
	}
}

// Without sampling a request costs what it did; a request that is left out costs no
// allocation.
func TestSamplingAllocations(t *testing.T) {
	g, _ := sampledGateway(t, never)
	g.deps.Emitter = instantBackend{}
	rec := recorders.New().(*recorder) // of the test alone: the race detector empties pools
	x := exchangeOf(g, testVersion, newRay(time.Now()))
	leaveOut := func() {
		if !g.leaveOut(rec, ask(joinRequest), "/path?q=1", x) {
			t.Fatal("the event was not left out")
		}
	}
	for range 100_000 { // the event that is held gives way once in so many
		leaveOut()
	}
	if n := testing.AllocsPerRun(1000, leaveOut); n != 0 {
		t.Errorf("%v allocations for a request that is left out, want none", n)
	}
	g.sampler.tick()
	if n := testing.AllocsPerRun(1000, func() {
		rec.note(&rec.half, g.headers, ask(joinRequest), "/path?q=1", x, time.Second)
		rec.half.kept = true
		g.emit(rec, &rec.half, nil)
	}); n > 3 {
		t.Errorf("%v allocations for an event, want at most 3", n)
	}
}

// What becomes of a request's event at some rates, and what the dice cost where
// nothing is sampled.
func BenchmarkRecord(b *testing.B) {
	for _, rate := range []float64{0, 0.1, 0.01, 0.001} {
		b.Run(fmt.Sprintf("rate=%v", rate), func(b *testing.B) {
			g, _ := sampledGateway(b, rate)
			g.deps.Emitter = instantBackend{}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				x := exchangeOf(g, testVersion, newRay(time.Now()))
				for pb.Next() {
					g.record(ask(joinRequest), "/path?q=1", x, nil)
				}
			})
		})
	}
}
