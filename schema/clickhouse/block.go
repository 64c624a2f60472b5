package clickhouse

import (
	"slices"
	"time"
)

// Events is a block of rows for trace_events, a slice a column, all of one
// length, in the order of their offsets. The columns mean what the table's do
// (001_trace_events.sql and what follows it). Its owner may Reset and fill it again.
type Events struct {
	AccountID         []string
	ScriptName        []string
	Time              []time.Time
	SkewMs            []int64
	VersionID         []string
	VersionTag        []string
	VersionMessage    []string
	EventType         []string
	Outcome           []string
	Status            []uint16
	WallMs            []*int64
	CPUMs             []*int64
	UpstreamMs        []*float64
	Decision          []string
	AffinityRule      []uint16
	SampledOut        []uint64
	RayID             []string
	ErrorKind         []string
	Method            []string
	URL               []string
	Entrypoint        []string
	DispatchNamespace []string
	ScriptTags        []string
	Event             []string
	Exceptions        []string
	Logs              []string
	Logpush           []string // LogpushYes or LogpushNo
	KafkaPartition    []int32
	KafkaOffset       []int64
}

// Column is one column of a block.
type Column struct {
	Name string // in the table
	// Type of the values on the way; the server converts them to the table's own.
	Type   string
	Values any // a slice
	reset  func(rows int)
}

// column clears the values on a reset, so that a small block does not keep the
// strings of a large one alive.
func column[T any](name, typ string, values *[]T) Column {
	return Column{name, typ, *values, func(rows int) {
		clear(*values)
		*values = slices.Grow((*values)[:0], rows)
	}}
}

func reset(columns []Column, rows int) {
	for _, c := range columns {
		c.reset(rows)
	}
}

// Columns lists the block's columns in the order in which they are sent.
func (b *Events) Columns() []Column {
	return []Column{
		column("account_id", "String", &b.AccountID),
		column("script_name", "String", &b.ScriptName),
		column("time", "DateTime64(3, 'UTC')", &b.Time),
		column("skew_ms", "Int64", &b.SkewMs),
		column("version_id", "String", &b.VersionID),
		column("version_tag", "String", &b.VersionTag),
		column("version_message", "String", &b.VersionMessage),
		column("event_type", "String", &b.EventType),
		column("outcome", "String", &b.Outcome),
		column("status", "UInt16", &b.Status),
		column("wall_ms", "Nullable(Int64)", &b.WallMs),
		column("cpu_ms", "Nullable(Int64)", &b.CPUMs),
		column("upstream_ms", "Nullable(Float64)", &b.UpstreamMs),
		column("decision", "String", &b.Decision),
		column("affinity_rule", "UInt16", &b.AffinityRule),
		column("sampled_out", "UInt64", &b.SampledOut),
		column("ray_id", "String", &b.RayID),
		column("error_kind", "String", &b.ErrorKind),
		column("method", "String", &b.Method),
		column("url", "String", &b.URL),
		column("entrypoint", "String", &b.Entrypoint),
		column("dispatch_namespace", "String", &b.DispatchNamespace),
		column("script_tags", "String", &b.ScriptTags),
		column("event", "String", &b.Event),
		column("exceptions", "String", &b.Exceptions),
		column("logs", "String", &b.Logs),
		column("logpush", "String", &b.Logpush),
		column("kafka_partition", "Int32", &b.KafkaPartition),
		column("kafka_offset", "Int64", &b.KafkaOffset),
	}
}

// Len is the number of rows.
func (b *Events) Len() int { return len(b.KafkaOffset) }

// Reset empties the block and makes room for rows.
func (b *Events) Reset(rows int) { reset(b.Columns(), rows) }

// Quarantine is a block of rows for trace_events_quarantine, as Events is for
// trace_events.
type Quarantine struct {
	KafkaPartition []int32
	KafkaOffset    []int64
	KafkaTime      []time.Time
	AccountID      []string
	Reason         []string
	Detail         []string
	Value          []string
	ValueBytes     []uint64
}

// Columns lists the block's columns in the order in which they are sent.
func (b *Quarantine) Columns() []Column {
	return []Column{
		column("kafka_partition", "Int32", &b.KafkaPartition),
		column("kafka_offset", "Int64", &b.KafkaOffset),
		column("kafka_time", "DateTime64(3, 'UTC')", &b.KafkaTime),
		column("account_id", "String", &b.AccountID),
		column("reason", "String", &b.Reason),
		column("detail", "String", &b.Detail),
		column("value", "String", &b.Value),
		column("value_bytes", "UInt64", &b.ValueBytes),
	}
}

// Len is the number of rows.
func (b *Quarantine) Len() int { return len(b.KafkaOffset) }

// Reset empties the block and makes room for rows.
func (b *Quarantine) Reset(rows int) { reset(b.Columns(), rows) }
