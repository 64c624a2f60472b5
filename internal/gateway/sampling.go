package gateway

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
	"tidegate/schema"
)

// Head sampling: of a script's requests that do not fail, a share keeps its event.
// What rates and rollback count must be exact all the same, so no request is
// forgotten: one whose event is left out is counted in its cell, which is all that
// the rollups tell apart, the second and the calling version included, and the next event of that cell says
// how many it stands for (schema.Gateway.SampledOut). Where no other event comes, one
// that was left out says it: a cell holds the event of one of its requests, each with
// the same chance, and emits it within sampleTick.
//
// A failure is emitted at once, and must not run ahead of the successes before it, or
// a version would look worse than it is for a moment, which is long enough for a
// rollback. So what its version has counted goes out first.
const (
	sampleTick = time.Second
	// sampleCellsMax bounds the cells of one version, and sampleBytesMax the events
	// that all of them hold. What finds no room keeps its event.
	sampleCellsMax = 1024
	sampleBytesMax = 32 << 20
)

// sampledTypes are the types of invocations inside the runtime that are sampled: what
// requests cause. A schedule, an alarm, a queue's batch or an e-mail is a piece of
// work that somebody may look for.
var sampledTypes = map[string]bool{"fetch": true, "worker_rpc": true, "hibernatable_web_socket": true}

// keepsEvent throws the dice for a request. They know nothing of how it went; the rate
// is that of the snapshot by which the request was routed.
func (sc *script) keepsEvent() bool {
	return !sc.samples() || rand.Float64() < sc.HeadSamplingRate
}

func (sc *script) samples() bool { return sc.HeadSamplingRate > 0 && sc.HeadSamplingRate < 1 }

// sampleCell is what counts of events are told apart by. Failures have none.
type sampleCell struct {
	second      int64 // of the event's time
	status      int
	decision    string
	outcome     string
	eventType   string
	caller      string // its version
	cpuMeasured bool
}

func cellOf(e *schema.TraceEvent, status int) sampleCell {
	return sampleCell{
		second: e.EventTimestampMs / 1000, status: status, decision: e.Gateway.Decision,
		outcome: e.Outcome, eventType: e.EventType, caller: e.Gateway.CallerVersionID, cpuMeasured: e.CPUTimeMs != nil,
	}
}

// tally counts the requests of one version whose events are left out. It belongs to
// its sampler.
type tally struct {
	size atomic.Int64 // of cells, to be asked without the lock

	mu     sync.Mutex
	cells  map[sampleCell]*heldEvent
	listed bool // in sampler.tallies
}

// heldEvent is the event of one of a cell's requests that were left out.
type heldEvent struct {
	account string
	value   []byte
	logpush bool
	others  int64 // requests beside its own
}

// sampler holds what was left out and not told yet. Its methods may be called
// concurrently.
type sampler struct {
	emit     func(account string, value []byte, logpush bool)
	bytes    atomic.Int64 // of held events
	told     atomic.Int64
	waiting  atomic.Int64
	full     atomic.Int64
	observed metric.Registration

	mu      sync.Mutex
	tallies []*tally // that have had a cell since the last tick
	closed  bool     // nothing is held any more
}

// leaveOut counts a request of c without an event of its own, or returns false where
// it must keep its event. encode is called at most once, under the tally's lock, if
// the cell is to hold this one's event.
func (s *sampler) leaveOut(t *tally, c sampleCell, encode func() heldEvent) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.cells[c]
	if held != nil {
		// The nth request takes the place with a chance of 1/n: then all of them have
		// the same, and fast ones no advantage.
		held.others++
		s.waiting.Add(1)
		if rand.Int64N(held.others+1) == 0 {
			others := held.others
			s.bytes.Add(-int64(len(held.value)))
			*held = encode()
			held.others = others
			s.bytes.Add(int64(len(held.value)))
		}
		return true
	}
	if len(t.cells) >= sampleCellsMax || s.bytes.Load() >= sampleBytesMax || !s.list(t) {
		s.full.Add(1)
		return false
	}
	if t.cells == nil {
		t.cells = map[sampleCell]*heldEvent{}
	}
	e := encode()
	t.cells[c] = &e
	t.size.Add(1)
	s.bytes.Add(int64(len(e.value)))
	s.waiting.Add(1)
	return true
}

// list has the next tick look at t, whose lock is held. It returns false when there
// will be none.
func (s *sampler) list(t *tally) bool {
	if t.listed {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.tallies = append(s.tallies, t)
	t.listed = true
	return true
}

// take returns how many requests of c were left out and not told. The caller's event
// tells of them now.
func (s *sampler) take(t *tally, c sampleCell) int64 {
	if t.size.Load() == 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.cells[c]
	if held == nil {
		return 0
	}
	delete(t.cells, c)
	t.size.Add(-1)
	n := held.others + 1
	s.bytes.Add(-int64(len(held.value)))
	s.waiting.Add(-n)
	s.told.Add(n)
	return n
}

// tell emits the held events of t, each with the requests that it stands for.
func (s *sampler) tell(t *tally) {
	if t.size.Load() == 0 {
		return
	}
	t.mu.Lock()
	cells := t.cells
	t.cells = nil
	t.size.Store(0)
	t.mu.Unlock()
	for _, held := range cells {
		s.bytes.Add(-int64(len(held.value)))
		s.waiting.Add(-held.others - 1)
		s.told.Add(held.others)
		s.emit(held.account, schema.WithSampledOut(held.value, held.others), held.logpush)
	}
}

// tick tells of all that waits.
func (s *sampler) tick() {
	s.mu.Lock()
	tallies := s.tallies
	s.tallies = nil
	s.mu.Unlock()
	for _, t := range tallies {
		t.mu.Lock()
		t.listed = false // what comes from here on lists it again
		t.mu.Unlock()
		s.tell(t)
	}
}

// keepTelling ticks until ctx ends.
func (s *sampler) keepTelling(ctx context.Context) {
	ticker := time.NewTicker(sampleTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.tick()
		}
	}
}

// close tells of all that waits, and has later requests keep their events.
func (s *sampler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.tick()
}

// leaveOut ends an exchange with an origin, which has not failed and which nobody
// watches, without an event, or returns false if it must have one. An event is not
// even made, unless the cell is to hold it.
func (g *Gateway) leaveOut(rec *recorder, q asked, target string, x *exchange) bool {
	c := sampleCell{second: x.received.Unix(), status: x.status, decision: x.decision, outcome: x.outcome, eventType: "fetch", caller: x.caller.VersionID}
	left := g.sampler.leaveOut(x.version.leftOut, c, func() heldEvent {
		rec.note(&rec.half, g.headers, q, target, x, time.Since(x.received))
		rec.fill(&rec.half, nil)
		return rec.held(x.script)
	})
	if left {
		g.metrics.count(x.decision, x.outcome)
	}
	return left
}

func (rec *recorder) held(sc *script) heldEvent {
	return heldEvent{account: sc.AccountID, value: bytes.Clone(rec.encode()), logpush: !sc.LogpushDisabled}
}

// deliver emits the event that rec has filled in, or leaves it out if it was not kept
// and has not failed.
func (g *Gateway) deliver(rec *recorder, sc *script, v *version, kept bool, status int) {
	if schema.Failed(rec.event.Outcome, status) {
		g.sampler.tell(v.leftOut)
	} else {
		c := cellOf(&rec.event, status)
		if !kept && g.sampler.leaveOut(v.leftOut, c, func() heldEvent { return rec.held(sc) }) {
			return
		}
		rec.event.Gateway.SampledOut = g.sampler.take(v.leftOut, c)
	}
	g.deps.Emitter.Emit(sc.AccountID, rec.encode(), !sc.LogpushDisabled)
}

func (s *sampler) register() error {
	meter := telemetry.Meter("tidegate/gateway")
	told, err := meter.Int64ObservableCounter("tidegate_gateway_events_sampled_out_total",
		metric.WithDescription("Requests and invocations without a trace event of their own, counted in another one's SampledOut."))
	if err != nil {
		return fmt.Errorf("gateway: declare metrics: %w", err)
	}
	waiting, err := meter.Int64ObservableGauge("tidegate_gateway_events_sampled_waiting",
		metric.WithDescription("Requests and invocations that sampling left out and that no event has told of yet; a second at most."))
	if err != nil {
		return fmt.Errorf("gateway: declare metrics: %w", err)
	}
	full, err := meter.Int64ObservableCounter("tidegate_gateway_events_kept_at_bound_total",
		metric.WithDescription("Trace events that were kept although sampling would leave them out, because the requests left out would have been too many kinds to count, or the gateway was stopping."))
	if err != nil {
		return fmt.Errorf("gateway: declare metrics: %w", err)
	}
	s.observed, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(told, s.told.Load())
		o.ObserveInt64(waiting, s.waiting.Load())
		o.ObserveInt64(full, s.full.Load())
		return nil
	}, told, waiting, full)
	if err != nil {
		return fmt.Errorf("gateway: observe metrics: %w", err)
	}
	return nil
}
