package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"tidegate/schema"
)

// A request to a Worker and what the runtime tells of it, over real connections.
func TestEventOfAWorker(t *testing.T) {
	w := newWorkers(v1, v2)
	e := start(t, snapshot(1, workerScript("shop", []string{v1, v2}, 100_000)), w.use)
	measured := int64(0) // which is not the same as nothing
	w.versions[v1].serve = func(rw http.ResponseWriter, r *http.Request) {
		ray := r.Header.Get("Cf-Ray")
		e.Invocation(v1, schema.Invocation{
			RayID: ray, EventType: "fetch", TimestampMs: 1, Entrypoint: "default", Outcome: schema.OutcomeException, CPUTimeMs: &measured,
			Exceptions: []schema.Exception{{Name: "Error", Message: "no", TimestampMs: 2}},
			Logs:       []schema.Log{{Level: "log", Message: []json.RawMessage{json.RawMessage(`"hi"`)}, TimestampMs: 3}},
		})
		rw.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(rw, "Internal Server Error")
	}
	e.get(t, shop+"/x")
	got := e.events.nth(1)
	wantEvent(t, got, schema.OutcomeException, "", 500)
	if got.Entrypoint != "" || len(got.Exceptions) != 1 || len(got.Logs) != 1 || got.WallTimeMs == nil || got.Gateway.Decision != schema.DecisionOnly {
		t.Errorf("the event is %+v", got)
	}
	if got.CPUTimeMs == nil || *got.CPUTimeMs != 0 {
		t.Errorf("the CPU time is %v", got.CPUTimeMs)
	}

	// A process that is killed takes the event with it, not away.
	w.versions[v2].serve = func(http.ResponseWriter, *http.Request) {}
	e.get(t, "http://bbbbbbbb-shop.dev.localhost/")
	e.Ended(processOf(v2), schema.OutcomeExceededMemory)
	got = e.events.nth(2)
	wantEvent(t, got, schema.OutcomeExceededMemory, "", 200)
	if got.CPUTimeMs != nil {
		t.Errorf("a process that was killed used %d ms", *got.CPUTimeMs)
	}
}

// What did not come through the gateway is an event of its own.
func TestEventsThatBeganInTheRuntime(t *testing.T) {
	w := newWorkers(v1)
	e := start(t, snapshot(1, workerScript("shop", []string{v1}, 100_000)), w.use)
	used := int64(4)
	e.Invocation(v1, schema.Invocation{
		EventType: "scheduled", Event: json.RawMessage(`{"Cron":"* * * * *","ScheduledTimeMs":5}`), TimestampMs: 6, Outcome: schema.OutcomeOK, CPUTimeMs: &used,
	})
	got := e.events.nth(1)
	if got.EventType != "scheduled" || got.EventTimestampMs != 6 || got.WallTimeMs != nil || got.Gateway != (schema.Gateway{}) ||
		got.ScriptName != "shop" || got.ScriptVersion != (schema.ScriptVersion{ID: v1, Tag: "a", Message: "message of a"}) || len(got.ScriptTags) != 1 {
		t.Errorf("the event is %+v", got)
	}
	if string(got.Event) != `{"Cron":"* * * * *","ScheduledTimeMs":5}` {
		t.Errorf("what triggered it is %s", got.Event)
	}
	if got.CPUTimeMs == nil || *got.CPUTimeMs != 4 {
		t.Errorf("the CPU time is %v", got.CPUTimeMs)
	}
	e.Invocation(v1, schema.Invocation{EventType: "alarm", Event: json.RawMessage(`{"Sched`), TimestampMs: 7})
	if got := e.events.nth(2); got.Outcome != schema.OutcomeUnknown || string(got.Event) != "{}" || got.CPUTimeMs != nil {
		t.Errorf("the event of half an invocation is %+v", got)
	}
	e.Invocation(v3, schema.Invocation{EventType: "alarm", TimestampMs: 8}) // no script has it
	e.events.nth(2)
}

// What waits when the gateway stops goes out.
func TestStopSendsWaitingEvents(t *testing.T) {
	w := newWorkers(v1)
	e := start(t, snapshot(1, workerScript("shop", []string{v1}, 100_000)), w.use)
	e.get(t, shop+"/")
	if n := len(e.events.all()); n != 0 {
		t.Fatalf("%d events before the runtime told anything", n)
	}
	e.stop()
	wantEvent(t, e.events.nth(1), schema.OutcomeOK, "", 200)
}
