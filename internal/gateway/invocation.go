package gateway

import (
	"context"
	"encoding/json"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const (
	joinTick = time.Second
	// stopJoinWait is how long a stop waits for what the runtime has yet to tell.
	stopJoinWait = time.Second
	stopJoinTick = 10 * time.Millisecond
)

// dropUnknownVersion: no script in the snapshot has the version any more, so the
// event has no name to go under.
const dropUnknownVersion = "unknown_version"

// expect enters an exchange of a Workers version into joins before it is passed
// on. It returns nil for an origin.
func (g *Gateway) expect(x *exchange) *pending {
	if x.version.Worker == nil || g.deps.Emitter == nil {
		return nil
	}
	return g.joins.open(x.version.ID, x.ray, x.entrypoint)
}

// Invocation takes what the runtime tells of an invocation of a version that has
// ended. One that came through the gateway is joined with its request; any other
// one is an event of its own. It never blocks on anything but memory, may be
// called concurrently, and owns inv from then on.
func (g *Gateway) Invocation(versionID string, inv schema.Invocation) {
	if inv.Entrypoint == "default" {
		inv.Entrypoint = "" // as the dataset has it
	}
	// A Durable Object sees the header of the request that its caller passes on,
	// ray included; the exchange is the caller's.
	if inv.RayID != "" && inv.EventType == "fetch" && inv.DurableObjectID == "" {
		switch g.joins.tell(versionID, &inv) {
		case joinedKept, joinedDone:
			return
		case joinedLate:
			g.metrics.unjoined[index(unjoinedReasons, unjoinedLate)].Add(1)
			return
		}
	}
	g.emitInvocation(versionID, &inv)
}

// Ended says that a process has ended, after the last call of Invocation for it: what
// it has not told of, it never will. The outcome is "exceededCpu" or "exceededMemory"
// if it was killed for that, "internalError" if it died by itself, and empty if it
// stopped in peace. Other processes of its version go on. May be called concurrently
// with anything.
func (g *Gateway) Ended(process deploy.Process, outcome string) {
	g.joins.processEnded(process, outcome)
}

// emitJoined sends the event of an exchange that has left joins.
func (g *Gateway) emitJoined(p *pending, inv *schema.Invocation, reason string) {
	if reason != "" {
		g.metrics.unjoined[index(unjoinedReasons, reason)].Add(1)
	}
	rec := recorders.Get().(*recorder)
	g.emit(rec, &p.half, inv)
	recorders.Put(rec)
	p.release()
}

// emit sends the event of a request, with the runtime's half unless that is nil.
func (g *Gateway) emit(rec *recorder, h *half, inv *schema.Invocation) {
	if inv != nil {
		h.outcome = jointOutcome(h, inv)
		h.script.redaction.invocation(inv)
	}
	g.metrics.count(h.decision, h.outcome)
	rec.fill(h, inv)
	g.deliver(rec, h.script, h.version, h.kept, h.status)
	if len(h.tail) > 0 {
		rec.tail = appendTailFetch(rec.tail[:0], h.tail, h.status)
		g.emitTail(rec, h.script, h.clientIP, rec.tail)
	}
}

// jointOutcome is the runtime's word, unless the gateway knows better: a client
// that left, or a response that came broken or not at all, is nothing that the
// runtime notices. Of a WebSocket the runtime notices its end, and takes a client
// that goes without the closing handshake, as phones and closed tabs do, for a
// broken response; the version must not answer for it.
func jointOutcome(h *half, inv *schema.Invocation) string {
	switch {
	case h.outcome == schema.OutcomeCanceled, h.outcome == schema.OutcomeResponseStreamDisconnected, inv.Outcome == "":
		return h.outcome
	case inv.Outcome == schema.OutcomeOK && h.failed():
		return h.outcome
	case inv.Outcome == schema.OutcomeResponseStreamDisconnected && h.left:
		return schema.OutcomeCanceled
	}
	return inv.Outcome
}

// emitInvocation sends the event of what began inside the runtime.
func (g *Gateway) emitInvocation(versionID string, inv *schema.Invocation) {
	if g.deps.Emitter == nil {
		return
	}
	var of servedVersion
	if t := g.table.Load(); t != nil {
		of = t.versions[versionID]
	}
	if of.version == nil {
		g.metrics.dropped.Add(1)
		return
	}
	if len(inv.Event) > 0 && !json.Valid(inv.Event) {
		inv.Event = nil // or the whole event would be none
		g.metrics.malformed.Add(1)
	}
	if inv.TimestampMs <= 0 {
		inv.TimestampMs = time.Now().UnixMilli() // it is over by now: the closest that is known
	}
	if inv.Outcome == "" {
		inv.Outcome = schema.OutcomeUnknown
	}
	of.script.redaction.invocation(inv)
	g.metrics.invocations[index(invocationTypes, inv.EventType)].Add(1)
	rec := recorders.Get().(*recorder)
	defer recorders.Put(rec)
	rec.members = of.version.members
	rec.event = schema.TraceEvent{
		CPUTimeMs:        inv.CPUTimeMs,
		Entrypoint:       inv.Entrypoint,
		Event:            inv.Event,
		EventTimestampMs: inv.TimestampMs,
		EventType:        inv.EventType,
		Exceptions:       inv.Exceptions,
		Logs:             inv.Logs,
		Outcome:          inv.Outcome,
		ScriptName:       of.script.Name,
		ScriptTags:       of.script.Tags,
		ScriptVersion:    of.version.stamp(),
	}
	status := 0
	if of.script.samples() || of.version.leftOut.size.Load() > 0 {
		status, _ = rec.event.Status()
	}
	g.deliver(rec, of.script, of.version, !sampledTypes[inv.EventType] || of.script.keepsEvent(), status)
	if g.watched(of.script) {
		g.emitTail(rec, of.script, "", tailEvent(inv.Event))
	}
}

// keepJoining lets exchanges go that wait in vain, until ctx ends.
func (g *Gateway) keepJoining(ctx context.Context) {
	tick := time.NewTicker(joinTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.joins.expire()
		}
	}
}

// finishJoining gives handlers that were cut off a moment to record how they ended,
// and the runtime one to tell what it has yet to tell, and sends what is left without
// it. Servers do not wait for the handlers of HTTP/2 connections that have broken.
func (g *Gateway) finishJoining() {
	patience := time.NewTimer(stopJoinWait)
	defer patience.Stop()
	tick := time.NewTicker(stopJoinTick)
	defer tick.Stop()
	for g.joins.waiting() > 0 || g.metrics.inFlight.Load() > 0 {
		select {
		case <-tick.C:
			continue
		case <-patience.C:
		}
		break
	}
	g.joins.close()
}
