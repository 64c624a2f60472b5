package ingest

import (
	"encoding/json"
	"strings"

	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// event is what a row needs of a trace event. Its texts are the record's bytes where
// those are what is meant. It has what every event has: schema.DecodeEvent looks.
type event struct {
	timestampMs                   int64
	cpuMs, wallMs                 tables.Maybe[int64]
	scriptName                    []byte
	versionID, versionTag         []byte
	versionMessage                []byte
	eventType, outcome, errorKind []byte
	entrypoint, dispatchNamespace []byte
	decision, rayID               []byte
	callerScript, callerVersionID []byte
	upstreamMs                    tables.Maybe[float64]
	affinityRule                  int
	sampledOut                    int64
	event, exceptions, logs, tags []byte // JSON
	request                       fetch
}

// fetch is what an event of type "fetch" says of its request; zero values are
// absent, and so is everything for other types.
type fetch struct {
	url, method []byte
	status      int
}

// decodeEvent reads one record's value: by its shape where a gateway of this version
// wrote it, which is nearly always, and as any JSON otherwise. The two are the same but
// for the time that they take: FuzzShape.
func decodeEvent(value []byte, e *event) error {
	if readShape(value, e) {
		return nil
	}
	return decodeAny(value, e)
}

// decodeAny reads an event that may be written in any way that JSON allows.
func decodeAny(value []byte, e *event) error {
	var t schema.TraceEvent
	if err := schema.DecodeEvent(value, &t); err != nil {
		return err
	}
	*e = event{
		timestampMs: t.EventTimestampMs, cpuMs: tables.MaybeOf(t.CPUTimeMs), wallMs: tables.MaybeOf(t.WallTimeMs),
		scriptName: []byte(t.ScriptName), versionID: []byte(t.ScriptVersion.ID), versionTag: []byte(t.ScriptVersion.Tag), versionMessage: []byte(t.ScriptVersion.Message),
		eventType: []byte(t.EventType), outcome: []byte(t.Outcome), errorKind: []byte(t.ErrorKind),
		entrypoint: []byte(t.Entrypoint), dispatchNamespace: []byte(t.DispatchNamespace),
		decision: []byte(t.Gateway.Decision), rayID: []byte(t.Gateway.RayID), upstreamMs: tables.MaybeOf(t.Gateway.UpstreamMs),
		callerScript: []byte(t.Gateway.CallerScript), callerVersionID: []byte(t.Gateway.CallerVersionID),
		affinityRule: t.Gateway.AffinityRule, sampledOut: t.Gateway.SampledOut,
		event: t.Event, exceptions: list(t.Exceptions), logs: list(t.Logs), tags: list(t.ScriptTags),
	}
	if t.EventType == eventTypeFetch {
		e.request = decodeFetch(t.Event)
	}
	return nil
}

const eventTypeFetch = "fetch"

func decodeFetch(event []byte) fetch {
	var f struct {
		Request  struct{ URL, Method string }
		Response struct{ Status int }
	}
	// What is not shaped like a request has none, as schema.TraceEvent.Status has it.
	if len(event) == 0 || json.Unmarshal(event, &f) != nil {
		return fetch{}
	}
	return fetch{[]byte(f.Request.URL), []byte(f.Request.Method), f.Response.Status}
}

// list writes a list as JSON, an empty one as []. A replay sends it again.
func list[T any](values []T) []byte {
	if len(values) == 0 {
		return []byte("[]")
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(values) != nil {
		return []byte("[]") // what was unmarshalled marshals
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}
