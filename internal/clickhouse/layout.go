package clickhouse

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"text/template"

	tables "tidegate/schema/clickhouse"
)

// A table remembers its latest tables.RememberedBlocks blocks, 30,000. One that ingest stores
// is as many of them as it makes entries (tables.Events.Entries): usually one or two, and more
// where it is of several days. What comes between a block and its repeat can only be other
// partitions' blocks, because a partition goes on when its block is settled, and only so many
// come:
//
//   - A sender whose partition went to another one has 30 s from its proof
//     (012_inserted_in_time.sql), 60 s if its body comes as slowly as a server allows.
//     All readers together settle 300 entries a second, and 9,000 at once after a quiet time
//     (ingest.openBlocks): 27,000 in a minute. 24 partitions that make five blocks a second
//     of two entries each stay below it; more, or smaller full blocks, are held back.
//   - A block that lost its reader, or is refused, is open, and the other partitions begin
//     no new block when 15,000 entries have gone by (ingest.Config.OpenEntriesMax). Readers
//     look every 2 s what is open, in which 9,600 may go by before they count, and each may
//     have one block under way: that leaves 5,400 for those.
//
// A remembered block costs some hundred bytes of memory and a line in a file.

// replicatedDeduplicationSeconds is the age at which Replicated tables forget a
// block even if few came after it. A server that was away for a weekend must not
// count its last block twice.
const replicatedDeduplicationSeconds = 7 * 24 * 3600

// rollup is one of the tables that hold rates.
type rollup struct {
	Table       string
	Seconds     int64  // length of a bucket
	Bucket      string // SQL: start of the bucket of "at"
	PartitionBy string // SQL
	Of          string // SQL: which events it counts
}

// rollups from fine to coarse.
var rollups = []rollup{
	{"version_rates_1s", 1, "toDateTime(at, 'UTC')", "toDate(time)", "1"},
	{"version_rates_1m", 60, "toStartOfMinute(at)", "toYYYYMM(time)", "1"},
	{"version_rates_1h", 3600, "toStartOfHour(at)", "toYear(time)", "1"},
}

// assigned counts, beside them, what a rollback is decided by.
var assigned = rollup{"assigned_rates_1s", 1, "toDateTime(at, 'UTC')", "toDate(time)", "decision IN ('split', 'affinity', 'only')"}

// bucketOf is schema.DurationBucket of whole milliseconds, in SQL.
func bucketOf(ms string) string {
	return fmt.Sprintf("toUInt16(if(%[1]s > 1, ceil(16 * log2(%[1]s)), 0))", ms)
}

// rateTables are all that hold rates.
var rateTables = append(slices.Clone(rollups), assigned)

// partitioned are the tables of the first migrations whose partitions are ranges of time (ttl_only_drop_parts).
var partitioned = []string{"trace_events", rollups[0].Table, rollups[1].Table, rollups[2].Table}

// remembering are the tables of the first migrations that drop a block that they have;
// fenced are those of them that ingest writes to.
var (
	remembering = []string{"trace_events", "trace_events_quarantine", rollups[0].Table, rollups[1].Table, rollups[2].Table}
	fenced      = remembering[:2]
)

// layout decides how tables are spread. On a cluster every table t becomes a
// Replicated table t_local on each host and a Distributed face called t, so that
// queries and inserts name the same table either way.
type layout struct {
	database, cluster string
}

func (l layout) local(table string) string {
	if l.cluster == "" {
		return table
	}
	return table + "_local"
}

func (l layout) onCluster() string {
	if l.cluster == "" {
		return ""
	}
	return " ON CLUSTER `" + l.cluster + "`"
}

func (l layout) engine(family string) string {
	if l.cluster == "" {
		return family
	}
	return "Replicated" + family // path and replica by the server's default macros
}

func (l layout) deduplication() string {
	if l.cluster == "" {
		return fmt.Sprintf("non_replicated_deduplication_window = %d", tables.RememberedBlocks)
	}
	return fmt.Sprintf("replicated_deduplication_window = %d, replicated_deduplication_window_seconds = %d",
		tables.RememberedBlocks, replicatedDeduplicationSeconds)
}

// face is the statement that makes the Distributed table, or nothing. key decides
// the shard of a row and must depend on the row alone: a repeated block has to
// reach the shards that know it.
func (l layout) face(table, key string) string {
	if l.cluster == "" {
		return ""
	}
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s%s AS %s\nENGINE = Distributed(`%s`, `%s`, %s, %s);",
		table, l.onCluster(), l.local(table), l.cluster, l.database, l.local(table), key)
}

// spread lists the tables that a change of a table's columns must reach, in their
// order: who writes to the face writes to the local ones.
func (l layout) spread(table string) []string {
	if l.cluster == "" {
		return []string{table}
	}
	return []string{l.local(table), table}
}

// statements renders one migration and splits it at the semicolons that end a line.
func (l layout) statements(name string) ([]string, error) {
	text, err := fs.ReadFile(tables.Migrations, name)
	if err != nil {
		return nil, fmt.Errorf("read migration %s: %w", name, err)
	}
	t, err := template.New(name).Funcs(template.FuncMap{
		"local": l.local, "onCluster": l.onCluster, "engine": l.engine, "deduplication": l.deduplication, "face": l.face,
		"spread": l.spread, "rollups": func() []rollup { return rollups }, "assigned": func() rollup { return assigned }, "bucketOf": bucketOf,
		"partitioned": func() []string { return partitioned }, "remembering": func() []string { return remembering },
		"fenced": func() []string { return fenced },
	}).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("parse migration %s: %w", name, err)
	}
	var sql strings.Builder
	if err := t.Execute(&sql, nil); err != nil {
		return nil, fmt.Errorf("render migration %s: %w", name, err)
	}
	var statements []string
	for statement := range strings.SplitSeq(sql.String(), ";\n") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements, nil
}
