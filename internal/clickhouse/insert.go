package clickhouse

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
	tables "tidegate/schema/clickhouse"
)

// InsertEvents stores a block of events in trace_events and the rollups and
// returns when it is in all of them. token names the block: a repeat with the
// same token completes what the first try left undone and changes nothing else,
// as long as others of fewer than tables.RememberedBlocks entries came in between. A
// block that was proven (tables.Events.ProvenAt) more than 30 s before an insert begins
// is refused. After an error the block may be in some of the tables; repeat it, proven
// anew, until it succeeds. The rows are only read.
func (db *DB) InsertEvents(ctx context.Context, token string, rows *tables.Events) error {
	// What events stand for comes first: failures, which stand for themselves, are not to
	// be seen without the successes that were left out before them.
	others, columns := othersOf(rows)
	if err := db.insert(ctx, "trace_events_others", token, others, proven(columns, others, rows.ProvenAt)); err != nil {
		return err
	}
	return db.insert(ctx, "trace_events", token, rows.Len(), proven(rows.Columns(), rows.Len(), rows.ProvenAt))
}

// InsertQuarantine stores records that are no events, under the rules of InsertEvents.
func (db *DB) InsertQuarantine(ctx context.Context, token string, rows *tables.Quarantine) error {
	return db.insert(ctx, "trace_events_quarantine", token, rows.Len(), proven(rows.Columns(), rows.Len(), rows.ProvenAt))
}

func (db *DB) insert(ctx context.Context, table, token string, rows int, columns []tables.Column) error {
	if rows == 0 {
		return nil
	}
	start := time.Now()
	attempt := fmt.Sprintf("insert block %s of %d rows into %s", token, rows, table)
	if err := db.send(ctx, table, token, rows, columns); err != nil {
		return db.late(ctx, attempt, err)
	}
	of := metric.WithAttributes(attribute.String("table", table))
	db.metrics.rows.Add(ctx, int64(rows), of)
	db.metrics.duration.Record(ctx, time.Since(start).Seconds(), of)
	return nil
}

func (db *DB) send(ctx context.Context, table, token string, rows int, columns []tables.Column) error {
	buffer := buffers.Get().(*[]byte)
	data, err := appendBlock((*buffer)[:0], rows, columns)
	if err != nil {
		return err
	}
	body := data
	if c := db.compression; c != nil {
		if body, err = c.pack(data); err != nil {
			return fmt.Errorf("compress: %w", err)
		}
		ctx = withPacked(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	err = db.conn.InsertFormat(ch.Context(ctx, ch.WithSettings(db.insertSettings(token))), "Native", insertStatement(table, columns), bytes.NewReader(body))
	if err != nil {
		return err // and somebody may still be reading the buffer
	}
	*buffer = data
	buffers.Put(buffer)
	return nil
}

// buffers for blocks on their way, which are as large as all values together.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// insertSettings are what "once, in the table and in every view" depends on.
// They are sent with each block because the defaults differ between versions.
func (db *DB) insertSettings(token string) ch.Settings {
	return db.onReplicas(ch.Settings{
		"insert_deduplicate":         1,
		"insert_deduplication_token": token,
		// Without it a repeat stops at trace_events and never reaches the views
		// that the first try did not get to.
		"deduplicate_blocks_in_dependent_materialized_views": 1,
		"materialized_views_ignore_errors":                   0,
		// An answer must mean stored, here and on the other shards.
		"async_insert":                    0,
		"distributed_foreground_insert":   1,
		"wait_end_of_query":               1,
		"input_format_parallel_parsing":   0, // one block stays one block
		"max_partitions_per_insert_block": 0, // times are bounded where rows are made; a limit here would stop a partition for ever
	})
}

// quorumTimeout is how long one table waits for its other replicas: trace_events and its four
// views, one after the other, for less than insertTimeout.
const quorumTimeout = 10 * time.Second

// onReplicas adds to the settings of an insert that its answer is to mean, on a cluster,
// that most replicas of the shard have it: the one that took it may be gone for good in the
// next moment, and its rows with it. With too few of them an insert is refused. A repeat of a
// block that one replica has waits for the others as the first try did. They count for each
// block by itself, because several are under way at once.
func (db *DB) onReplicas(settings ch.Settings) ch.Settings {
	if db.cfg.Cluster != "" {
		settings["insert_quorum"] = "auto"
		settings["insert_quorum_parallel"] = 1
		settings["insert_quorum_timeout"] = quorumTimeout.Milliseconds()
	}
	return settings
}

type metrics struct {
	rows     metric.Int64Counter
	duration metric.Float64Histogram
}

// newMetrics panics on a bad name: the names below are constants.
func newMetrics() metrics {
	meter := telemetry.Meter("tidegate/internal/clickhouse")
	rows, err := meter.Int64Counter("tidegate_clickhouse_rows_inserted_total",
		metric.WithDescription("Rows stored in ClickHouse, by table. A repeated block counts again."))
	if err != nil {
		panic(err)
	}
	duration, err := meter.Float64Histogram("tidegate_clickhouse_insert_duration_seconds",
		metric.WithDescription("Time until a block was stored in a table and its views, by table."), metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
	if err != nil {
		panic(err)
	}
	return metrics{rows, duration}
}
