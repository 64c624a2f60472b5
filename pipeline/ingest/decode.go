package ingest

import (
	"fmt"
	"math"
	"strconv"
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
	reasonSize        = "size"        // larger than any event that a gateway sends
	reasonLength      = "length"      // what it would be counted under is too long to be a name
	reasonCardinality = "cardinality" // one of too many things that its account would be counted under, or of too many accounts
	reasonBatch       = "batch"       // Kafka's batch around it cannot be decoded
)

// detailNames is the same for all, whoever builds the block.
const detailNames = "too many combinations of script, version and outcome, or too many accounts, were in use"

const (
	// quarantineValueBytes of a record are kept; enough to recognise its sender.
	quarantineValueBytes = 16 << 10
	// quarantineDetailBytes of a reason are, which may quote the record.
	quarantineDetailBytes = 1 << 10
	// valueBytesMax is more than a producer puts into a whole batch.
	valueBytesMax = 16 << 20
	// methodBytesMax of a request's method are in its column. A client chooses it; what
	// it sent is in the event.
	methodBytesMax = 32
)

// block is a contiguous range of one partition's records, and what becomes of them. Its
// rows share the records' memory.
type block struct {
	events     tables.Events
	quarantine tables.Quarantine
	deleted    tables.Quarantine // of what tombstones cover, the offsets
	skewed     int               // events whose own time was replaced by the record's
	tombstones *schema.Tombstones

	records int   // that it is made of
	first   int64 // offset
	words   words
	cells   cells

	// refused are records that the plan refuses, set before decodeBlock, or, while
	// hasPlace decides, set by it.
	refused  refused
	hasPlace func(cell) bool

	// broken are offsets whose batch cannot be decoded, and why. Set before decodeBlock.
	broken map[int64]string
}

// entries is what ClickHouse remembers of the block in the table that has most of it. The
// quarantine has the records that are no events and those that are deleted.
func (b *block) entries() int64 {
	quarantine := int64(min(1, b.quarantine.Len()) + min(1, b.deleted.Len()))
	return max(1, b.events.Entries(), quarantine)
}

// decodeBlock fills b with the rows of records, in their order. It depends on the
// records alone, so that a block that is built again is the same block, but for what was
// deleted meanwhile (b.tombstones), and what the plan refuses (b.refused).
func decodeBlock(b *block, partition int, records []stream.Record) {
	b.events.Reset(len(records))
	b.quarantine.Reset(0)
	b.deleted.Reset(0)
	b.skewed, b.records, b.first = 0, len(records), -1
	if len(records) > 0 {
		b.first = records[0].Offset
	}
	b.words.reset()
	b.cells.reset()
	var e event
	for i := range records {
		r := &records[i]
		reason, detail := b.add(partition, r, &e)
		if reason == "" {
			continue
		}
		if reason == tables.ReasonDeleted || b.tombstones.CoverUnread(r.Account, r.Value, r.Time) {
			b.drop(partition, r)
			continue
		}
		q := &b.quarantine
		q.KafkaPartition = append(q.KafkaPartition, int32(partition))
		q.KafkaOffset = append(q.KafkaOffset, r.Offset)
		q.KafkaTime = append(q.KafkaTime, clamp(r.Time))
		q.AccountID = append(q.AccountID, shorten(r.Account))
		q.Reason = append(q.Reason, reason)
		q.Detail = append(q.Detail, detail[:min(len(detail), quarantineDetailBytes)])
		q.Value = append(q.Value, string(r.Value[:min(len(r.Value), quarantineValueBytes)]))
		q.ValueBytes = append(q.ValueBytes, uint64(len(r.Value)))
	}
}

// add appends a record's event, or returns why it is none. e is scratch.
func (b *block) add(partition int, r *stream.Record, e *event) (reason, detail string) {
	if len(b.broken) > 0 {
		if detail, broken := b.broken[r.Offset]; broken {
			return reasonBatch, detail
		}
	}
	switch {
	case r.Schema != "" && r.Schema != schema.EventSchemaVersion:
		return reasonSchema, "header " + schema.HeaderSchema + " is " + strconv.Quote(shorten(r.Schema))
	case r.Account == "":
		return reasonAccount, "header " + schema.HeaderAccount + " is missing"
	case len(r.Value) > valueBytesMax:
		return reasonSize, fmt.Sprintf("the value has %d bytes, more than %d", len(r.Value), valueBytesMax)
	}
	if err := decodeEvent(r.Value, e); err != nil {
		return reasonUndecodable, err.Error()
	}
	if e.request.status != 0 && (e.request.status < 100 || e.request.status > 999) {
		return reasonStatus, "the response status is no HTTP status"
	}
	if what := e.tooLong(r.Account); what != "" {
		return reasonLength, fmt.Sprintf("%s has more than %d bytes", what, keyBytesMax)
	}
	at, skew, ok := schema.EventTime(e.timestampMs, r.Time)
	if !ok {
		return reasonTime, "neither EventTimestampMs nor the record's time lies between 2020 and 2100"
	}
	if b.tombstones.In(r.Account) && b.tombstones.Cover(r.Account, string(e.scriptName), at) {
		return tables.ReasonDeleted, ""
	}
	script, version, outcome := b.words.of(wordScript, e.scriptName), b.words.of(wordVersion, e.versionID), b.words.of(wordOutcome, e.outcome)
	k := cell{r.Account, script, version, outcome}
	if b.hasPlace != nil && !b.hasPlace(k) {
		b.refused.add(r.Offset)
	}
	if b.refused.has(r.Offset) {
		return reasonCardinality, detailNames
	}
	if what := b.cells.full(k); what != "" {
		return reasonCardinality, fmt.Sprintf("%s in the %d records from offset %d on", what, b.records, b.first)
	}
	if skew != 0 {
		b.skewed++
	}
	c, words := &b.events, &b.words
	c.AccountID = append(c.AccountID, r.Account)
	c.ScriptName = append(c.ScriptName, script)
	c.Time = append(c.Time, at)
	c.SkewMs = append(c.SkewMs, skew)
	c.VersionID = append(c.VersionID, version)
	c.VersionTag = append(c.VersionTag, words.of(wordTag, e.versionTag))
	c.VersionMessage = append(c.VersionMessage, words.of(wordMessage, e.versionMessage))
	c.EventType = append(c.EventType, words.of(wordEventType, e.eventType))
	c.Outcome = append(c.Outcome, outcome)
	c.Status = append(c.Status, uint16(e.request.status)) // #nosec G115 -- below 1000
	c.WallMs = append(c.WallMs, e.wallMs)
	c.CPUMs = append(c.CPUMs, e.cpuMs)
	c.UpstreamMs = append(c.UpstreamMs, e.upstreamMs)
	c.Decision = append(c.Decision, words.of(wordDecision, e.decision))
	c.AffinityRule = append(c.AffinityRule, uint16(max(0, min(e.affinityRule, math.MaxUint16)))) // #nosec G115 -- within bounds
	c.CallerScript = append(c.CallerScript, words.of(wordCallerScript, e.callerScript))
	c.CallerVersionID = append(c.CallerVersionID, words.of(wordCallerVersion, e.callerVersionID))
	c.SampledOut = append(c.SampledOut, uint64(e.sampledOut)) // #nosec G115 -- not negative
	c.RayID = append(c.RayID, e.rayID)
	c.ErrorKind = append(c.ErrorKind, words.of(wordErrorKind, e.errorKind))
	c.Method = append(c.Method, words.of(wordMethod, e.request.method[:min(len(e.request.method), methodBytesMax)]))
	c.URL = append(c.URL, e.request.url)
	c.Entrypoint = append(c.Entrypoint, words.of(wordEntrypoint, e.entrypoint))
	c.DispatchNamespace = append(c.DispatchNamespace, words.of(wordNamespace, e.dispatchNamespace))
	c.ScriptTags = append(c.ScriptTags, e.tags)
	c.Event = append(c.Event, e.event)
	c.Exceptions = append(c.Exceptions, e.exceptions)
	c.Logs = append(c.Logs, e.logs)
	c.Logpush = append(c.Logpush, logpushOf(r))
	c.KafkaPartition = append(c.KafkaPartition, int32(partition)) // #nosec G115 -- a partition's number
	c.KafkaOffset = append(c.KafkaOffset, r.Offset)
	return "", ""
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
