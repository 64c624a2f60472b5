package ingest

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// Reasons for which a record goes to the quarantine instead of the events. They
// are values of the metric's label "reason" and of the table's column.
const (
	reasonUndecodable = "undecodable" // not JSON, or without a member that every event has
	reasonSchema      = "schema"      // of a shape that this version does not know
	reasonAccount     = "account"     // no header says whose it is
	reasonStatus      = "status"      // the response status is no HTTP status
	reasonTime        = "time"        // neither the event's time nor the record's can be one
)

// quarantineValueBytes of a record are kept; enough to recognise its sender.
const quarantineValueBytes = 16 << 10

// block is a contiguous range of one partition's records, and what becomes of them.
type block struct {
	events     tables.Events
	quarantine tables.Quarantine
	skewed     int // events whose own time was replaced by the record's
}

// decodeBlock fills b with the rows of records, in their order. It depends on the
// records alone, so that a block that is built again is the same block.
func decodeBlock(b *block, partition int, records []stream.Record) {
	b.events.Reset(len(records))
	b.quarantine.Reset(0)
	b.skewed = 0
	var e schema.TraceEvent
	for i := range records {
		r := &records[i]
		reason, detail := b.add(partition, r, &e)
		if reason == "" {
			continue
		}
		q := &b.quarantine
		q.KafkaPartition = append(q.KafkaPartition, int32(partition))
		q.KafkaOffset = append(q.KafkaOffset, r.Offset)
		q.KafkaTime = append(q.KafkaTime, clamp(r.Time))
		q.AccountID = append(q.AccountID, r.Account)
		q.Reason = append(q.Reason, reason)
		q.Detail = append(q.Detail, detail)
		q.Value = append(q.Value, string(r.Value[:min(len(r.Value), quarantineValueBytes)]))
		q.ValueBytes = append(q.ValueBytes, uint64(len(r.Value)))
	}
}

// add appends a record's event, or returns why it is none. e is scratch.
func (b *block) add(partition int, r *stream.Record, e *schema.TraceEvent) (reason, detail string) {
	if r.Schema != "" && r.Schema != schema.EventSchemaVersion {
		return reasonSchema, "header " + schema.HeaderSchema + " is " + r.Schema
	}
	if r.Account == "" {
		return reasonAccount, "header " + schema.HeaderAccount + " is missing"
	}
	if err := schema.DecodeEvent(r.Value, e); err != nil {
		return reasonUndecodable, err.Error()
	}
	request := fetchOf(e)
	if request.status != 0 && (request.status < 100 || request.status > 999) {
		return reasonStatus, "the response status is no HTTP status"
	}
	at, skew, ok := schema.EventTime(e.EventTimestampMs, r.Time)
	if !ok {
		return reasonTime, "neither EventTimestampMs nor the record's time lies between 2020 and 2100"
	}
	if skew != 0 {
		b.skewed++
	}
	c := &b.events
	c.AccountID = append(c.AccountID, r.Account)
	c.ScriptName = append(c.ScriptName, e.ScriptName)
	c.Time = append(c.Time, at)
	c.SkewMs = append(c.SkewMs, skew)
	c.VersionID = append(c.VersionID, e.ScriptVersion.ID)
	c.VersionTag = append(c.VersionTag, e.ScriptVersion.Tag)
	c.VersionMessage = append(c.VersionMessage, e.ScriptVersion.Message)
	c.EventType = append(c.EventType, e.EventType)
	c.Outcome = append(c.Outcome, e.Outcome)
	c.Status = append(c.Status, uint16(request.status))
	c.WallMs = append(c.WallMs, e.WallTimeMs)
	c.CPUMs = append(c.CPUMs, e.CPUTimeMs)
	c.UpstreamMs = append(c.UpstreamMs, e.Gateway.UpstreamMs)
	c.Decision = append(c.Decision, e.Gateway.Decision)
	c.AffinityRule = append(c.AffinityRule, uint16(max(0, min(e.Gateway.AffinityRule, math.MaxUint16)))) // #nosec G115 -- within bounds
	c.SampledOut = append(c.SampledOut, uint64(e.Gateway.SampledOut))
	c.RayID = append(c.RayID, e.Gateway.RayID)
	c.ErrorKind = append(c.ErrorKind, e.ErrorKind)
	c.Method = append(c.Method, request.method)
	c.URL = append(c.URL, request.url)
	c.Entrypoint = append(c.Entrypoint, e.Entrypoint)
	c.DispatchNamespace = append(c.DispatchNamespace, e.DispatchNamespace)
	c.ScriptTags = append(c.ScriptTags, list(e.ScriptTags))
	c.Event = append(c.Event, string(e.Event))
	c.Exceptions = append(c.Exceptions, list(e.Exceptions))
	c.Logs = append(c.Logs, list(e.Logs))
	c.Logpush = append(c.Logpush, logpushOf(r))
	c.KafkaPartition = append(c.KafkaPartition, int32(partition))
	c.KafkaOffset = append(c.KafkaOffset, r.Offset)
	return "", ""
}

// fetch is what an event of type "fetch" says of its request; zero values are
// absent, and so is everything for other types.
type fetch struct {
	url, method string
	status      int
}

func fetchOf(e *schema.TraceEvent) fetch {
	if e.EventType != "fetch" || len(e.Event) == 0 {
		return fetch{}
	}
	var f struct {
		Request  struct{ URL, Method string }
		Response struct{ Status int }
	}
	// What is not shaped like a request has none, as schema.TraceEvent.Status has it.
	if json.Unmarshal(e.Event, &f) != nil {
		return fetch{}
	}
	return fetch{f.Request.URL, f.Request.Method, f.Response.Status}
}

// clamp keeps a time within what a DateTime64 column can hold.
func clamp(t time.Time) time.Time {
	switch {
	case t.Before(time.Unix(0, 0)):
		return time.Unix(0, 0).UTC()
	case t.After(schema.TimeLatest):
		return schema.TimeLatest
	}
	return t.UTC()
}

// logpushOf returns whether Logpush jobs get the event, as its script said.
func logpushOf(r *stream.Record) string {
	if r.Header(schema.HeaderLogpush) == schema.LogpushDisabled {
		return tables.LogpushNo
	}
	return tables.LogpushYes
}

// list writes a list as JSON, an empty one as []. What it writes is what came, byte
// for byte where our own producer wrote it: a replay sends it again.
func list[T any](values []T) string {
	if len(values) == 0 {
		return "[]"
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(values) != nil {
		return "[]" // what was unmarshalled marshals
	}
	return strings.TrimSuffix(b.String(), "\n")
}
