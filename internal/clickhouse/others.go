package clickhouse

import (
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// othersOf returns the rows of a block that trace_events_others is to have, by column:
// the events that stand for others, and the failures beside them, whose times would be
// missing in the sketch of theirs. There are none where no event stands for others. It
// depends on the block alone, so that a repeat is recognised.
func othersOf(b *tables.Events) (rows int, columns []tables.Column) {
	var at []int
	sampled := false
	for i, n := range b.SampledOut {
		sampled = sampled || n > 0
		if n > 0 || schema.Failed(b.Outcome[i], int(b.Status[i])) {
			at = append(at, i)
		}
	}
	if !sampled {
		return 0, nil
	}
	return len(at), []tables.Column{
		{Name: "account_id", Type: "String", Values: pick(b.AccountID, at)},
		{Name: "script_name", Type: "String", Values: pick(b.ScriptName, at)},
		{Name: "time", Type: "DateTime64(3, 'UTC')", Values: pick(b.Time, at)},
		{Name: "version_id", Type: "String", Values: pick(b.VersionID, at)},
		{Name: "outcome", Type: "String", Values: pick(b.Outcome, at)},
		{Name: "status", Type: "UInt16", Values: pick(b.Status, at)},
		{Name: "wall_ms", Type: "Nullable(Int64)", Values: pick(b.WallMs, at)},
		{Name: "cpu_ms", Type: "Nullable(Int64)", Values: pick(b.CPUMs, at)},
		{Name: "decision", Type: "String", Values: pick(b.Decision, at)},
		{Name: "sampled_out", Type: "UInt64", Values: pick(b.SampledOut, at)},
	}
}

func pick[T any](values []T, at []int) []T {
	picked := make([]T, len(at))
	for i, from := range at {
		picked[i] = values[from]
	}
	return picked
}
