package clickhouse

import (
	"slices"
	"time"
)

// Events is a block of rows for trace_events, a slice a column, all of one
// length, in the order of their offsets. The columns mean what the table's do
// (001_trace_events.sql and what follows it). Its owner may Reset and fill it again.
// Bytes are those of somebody else, the records that the rows were made of: nobody
// changes them, and they are good until Reset.
type Events struct {
	// ProvenAt is when the sender last knew that the partition was its own, by the clock
	// of the server. Zero leaves the bound on its age out. Reset leaves it alone.
	ProvenAt time.Time

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
	WallMs            []Maybe[int64]
	CPUMs             []Maybe[int64]
	UpstreamMs        []Maybe[float64]
	Decision          []string
	AffinityRule      []uint16
	CallerScript      []string
	CallerVersionID   []string
	SampledOut        []uint64
	RayID             [][]byte
	ErrorKind         []string
	Method            []string
	URL               [][]byte
	Entrypoint        []string
	DispatchNamespace []string
	ScriptTags        [][]byte
	Event             [][]byte
	Exceptions        [][]byte
	Logs              [][]byte
	Logpush           []string // LogpushYes or LogpushNo
	KafkaPartition    []int32
	KafkaOffset       []int64
}

// Maybe is a value that may be unknown: NULL in the table, and zero here.
type Maybe[T any] struct {
	Value T
	Known bool
}

// Known returns a value that is known.
func Known[T any](value T) Maybe[T] { return Maybe[T]{value, true} }

// MaybeOf returns what a pointer leads to; nil is unknown.
func MaybeOf[T any](value *T) Maybe[T] {
	if value == nil {
		return Maybe[T]{}
	}
	return Known(*value)
}

// Types of text on the way. Of a word there are few different ones in a block: each is
// sent once.
const (
	TypeText = "String"
	TypeWord = "LowCardinality(String)"
)

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
		column("account_id", TypeWord, &b.AccountID),
		column("script_name", TypeWord, &b.ScriptName),
		column("time", "DateTime64(3, 'UTC')", &b.Time),
		column("skew_ms", "Int64", &b.SkewMs),
		column("version_id", TypeWord, &b.VersionID),
		column("version_tag", TypeWord, &b.VersionTag),
		column("version_message", TypeWord, &b.VersionMessage),
		column("event_type", TypeWord, &b.EventType),
		column("outcome", TypeWord, &b.Outcome),
		column("status", "UInt16", &b.Status),
		column("wall_ms", "Nullable(Int64)", &b.WallMs),
		column("cpu_ms", "Nullable(Int64)", &b.CPUMs),
		column("upstream_ms", "Nullable(Float64)", &b.UpstreamMs),
		column("decision", TypeWord, &b.Decision),
		column("affinity_rule", "UInt16", &b.AffinityRule),
		column("caller_script", TypeWord, &b.CallerScript),
		column("caller_version_id", TypeWord, &b.CallerVersionID),
		column("sampled_out", "UInt64", &b.SampledOut),
		column("ray_id", TypeText, &b.RayID),
		column("error_kind", TypeWord, &b.ErrorKind),
		column("method", TypeWord, &b.Method),
		column("url", TypeText, &b.URL),
		column("entrypoint", TypeWord, &b.Entrypoint),
		column("dispatch_namespace", TypeWord, &b.DispatchNamespace),
		column("script_tags", TypeText, &b.ScriptTags),
		column("event", TypeText, &b.Event),
		column("exceptions", TypeText, &b.Exceptions),
		column("logs", TypeText, &b.Logs),
		column("logpush", TypeWord, &b.Logpush),
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
	ProvenAt time.Time // as of Events

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
		column("account_id", TypeWord, &b.AccountID),
		column("reason", TypeWord, &b.Reason),
		column("detail", TypeText, &b.Detail),
		column("value", TypeText, &b.Value),
		column("value_bytes", "UInt64", &b.ValueBytes),
	}
}

// Len is the number of rows.
func (b *Quarantine) Len() int { return len(b.KafkaOffset) }

// Reset empties the block and makes room for rows.
func (b *Quarantine) Reset(rows int) { reset(b.Columns(), rows) }
