package main

import (
	"context"
	"fmt"
	"strings"

	"tidegate/test/events"
)

// alternatives are other ways to store a column, from which the migrations chose. An
// expression of its own stands for what a change of shape would store.
type alternatives struct {
	column string
	kinds  []string // type and codec
}

var columnAlternatives = map[string][]alternatives{
	"trace_events": {
		{"time", []string{
			"DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))", "DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))", "DateTime64(3, 'UTC') CODEC(DoubleDelta)",
			"DateTime64(3, 'UTC') CODEC(T64, ZSTD(1))", "DateTime64(3, 'UTC') CODEC(Delta, ZSTD(3))", "DateTime64(3, 'UTC') CODEC(Delta, T64, ZSTD(1))",
		}},
		{"inserted_at", []string{"DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))", "DateTime64(3, 'UTC') CODEC(T64, ZSTD(1))", "DateTime64(3, 'UTC') CODEC(ZSTD(1))", "DateTime64(3, 'UTC') CODEC(ZSTD(3))"}},
		{"kafka_offset", []string{"Int64 CODEC(Delta, ZSTD(1))", "Int64 CODEC(DoubleDelta, ZSTD(1))", "Int64 CODEC(T64, ZSTD(1))", "Int64 CODEC(Delta, T64, ZSTD(1))"}},
		{"kafka_partition", []string{"Int32 CODEC(ZSTD(1))", "Int32 CODEC(T64, ZSTD(1))", "Int32 CODEC(T64('bit'), ZSTD(1))", "LowCardinality(Int32)"}},
		{"status", []string{"UInt16 CODEC(ZSTD(1))", "UInt16 CODEC(T64, ZSTD(1))", "LowCardinality(UInt16)"}},
		{"wall_ms", []string{"Nullable(Int64) CODEC(ZSTD(1))", "Nullable(Int64) CODEC(T64, ZSTD(1))", "Nullable(Int64) CODEC(Delta, ZSTD(1))"}},
		{"cpu_ms", []string{"Nullable(Int64) CODEC(ZSTD(1))", "Nullable(Int64) CODEC(T64, ZSTD(1))"}},
		{"upstream_ms", []string{"Nullable(Float64) CODEC(ZSTD(1))", "Nullable(Float64) CODEC(ZSTD(3))", "Nullable(Float64) CODEC(Gorilla, ZSTD(1))", "Nullable(Float32) CODEC(ZSTD(1))"}},
		{"ray_id", []string{"String CODEC(ZSTD(1))", "String CODEC(ZSTD(3))", "String CODEC(LZ4)"}},
		{"unhex(ray_id)", []string{"String CODEC(NONE)", "FixedString(8) CODEC(NONE)"}},
		{"version_id", []string{"LowCardinality(String)", "String CODEC(ZSTD(1))", "LowCardinality(String) CODEC(ZSTD(1))"}},
		{"version_tag", []string{"LowCardinality(String)", "LowCardinality(String) CODEC(ZSTD(1))"}},
		{"script_name", []string{"LowCardinality(String)", "String CODEC(ZSTD(1))"}},
		{"outcome", []string{"LowCardinality(String)", "String CODEC(ZSTD(1))", "LowCardinality(String) CODEC(ZSTD(1))"}},
		{"method", []string{"LowCardinality(String)", "LowCardinality(String) CODEC(ZSTD(1))"}},
		{"url", []string{"String CODEC(ZSTD(1))", "String CODEC(ZSTD(3))", "String CODEC(ZSTD(6))", "String CODEC(ZSTD(12))"}},
		{"domain(url)", []string{"LowCardinality(String) CODEC(ZSTD(1))"}},
		{"path(url)", []string{"String CODEC(ZSTD(1))", "LowCardinality(String) CODEC(ZSTD(1))"}},
		{"queryString(url)", []string{"String CODEC(ZSTD(1))"}},
		{"event", []string{"String CODEC(ZSTD(1))", "String CODEC(ZSTD(3))", "String CODEC(ZSTD(6))", "String CODEC(ZSTD(12))"}},
		{"replaceOne(replaceOne(event, url, ''), ray_id, '')", []string{"String CODEC(ZSTD(3))"}},
		{"logs", []string{"String CODEC(ZSTD(1))", "String CODEC(ZSTD(3))", "String CODEC(ZSTD(6))"}},
		{"exceptions", []string{"String CODEC(ZSTD(1))", "String CODEC(ZSTD(3))", "String CODEC(ZSTD(6))"}},
		{"script_tags", []string{"String CODEC(ZSTD(1))", "LowCardinality(String)", "LowCardinality(String) CODEC(ZSTD(1))"}},
	},
	"version_rates_1s": {
		{"time", []string{"DateTime('UTC') CODEC(Delta, ZSTD(1))", "DateTime('UTC') CODEC(DoubleDelta, ZSTD(1))", "DateTime('UTC') CODEC(Delta, ZSTD(3))"}},
		{"requests", []string{"UInt64 CODEC(ZSTD(1))", "UInt64 CODEC(T64, ZSTD(1))", "UInt64 CODEC(Delta, ZSTD(1))", "UInt64 CODEC(DoubleDelta, ZSTD(1))", "UInt64 CODEC(Gorilla, ZSTD(1))"}},
		{"failures", []string{"UInt64 CODEC(ZSTD(1))", "UInt64 CODEC(T64, ZSTD(1))"}},
		{"status_2xx", []string{"UInt64 CODEC(ZSTD(1))", "UInt64 CODEC(T64, ZSTD(1))"}},
		{"outcomes", []string{"Map(String, UInt64) CODEC(ZSTD(1))", "Map(LowCardinality(String), UInt64) CODEC(ZSTD(1))", "Map(String, UInt64) CODEC(ZSTD(3))"}},
		{"wall_ms", []string{
			"AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Nullable(Int64)) CODEC(ZSTD(1))", "AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Nullable(Int64)) CODEC(ZSTD(3))",
			"AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Nullable(Int64)) CODEC(ZSTD(6))",
		}},
		{"cpu_ms", []string{"AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Nullable(Int64)) CODEC(ZSTD(1))", "AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Nullable(Int64)) CODEC(ZSTD(3))"}},
	},
}

// orderOf is the order of the rows, which decides how well what stands beside each
// other compresses.
var orderOf = map[string]string{"trace_events": "account_id, script_name, time", "version_rates_1s": "account_id, script_name, time, version_id"}

// compareColumns stores each alternative in the table's own order.
func (m *measurement) compareColumns(ctx context.Context, from string, list []alternatives) error {
	fmt.Printf("\n%s, alternatives by column, bytes an event:\n", from)
	key := strings.Split(orderOf[from], ", ")
	for _, a := range list {
		var definitions, selected []string
		for _, k := range key {
			kind := "LowCardinality(String)"
			if k == "time" {
				kind = "DateTime64(3, 'UTC')"
			}
			definitions = append(definitions, k+" "+kind)
			selected = append(selected, k)
		}
		for i, kind := range a.kinds {
			definitions = append(definitions, fmt.Sprintf("x%d %s", i, kind))
			selected = append(selected, a.column)
		}
		if err := m.exec(ctx, "DROP TABLE IF EXISTS compared SYNC"); err != nil {
			return err
		}
		if _, err := m.fill(ctx, "compared", strings.Join(definitions, ", "), orderOf[from], strings.Join(selected, ", "), from); err != nil {
			return err
		}
		c, err := m.columns(ctx, "compared")
		if err != nil {
			return err
		}
		bytes := map[string]int64{}
		for _, column := range c.list {
			bytes[column.name] = column.bytes
		}
		for i, kind := range a.kinds {
			fmt.Printf("  %-16s %8.3f  %s\n", strings.SplitN(a.column, ",", 2)[0], perEvent(bytes[fmt.Sprintf("x%d", i)], m.mix), kind)
		}
	}
	return nil
}

// compareTables stores whole rows in other orders, and reads the question of a
// dashboard from each: an hour of one version.
func (m *measurement) compareTables(ctx context.Context) error {
	fmt.Println("\ntrace_events in other orders: bytes an event, seconds to insert, and what a query for one script's, and one version's, newest minute reads:")
	definitions, err := m.ask(ctx, "SELECT arrayStringConcat(groupArray(name || ' ' || type || ' ' || compression_codec), ', ') FROM system.columns WHERE database = currentDatabase() AND table = 'trace_events' AND default_kind != 'MATERIALIZED'") // as SELECT * has them
	if err != nil {
		return err
	}
	columns := strings.ReplaceAll(definitions[0][0], `\'`, `'`)
	for _, order := range []string{
		"account_id, script_name, time",
		"account_id, script_name, version_id, time",
		"account_id, script_name, toStartOfMinute(time), version_id, time",
		"account_id, script_name, toStartOfMinute(time), outcome, url",
		"account_id, time, script_name",
		"kafka_partition, kafka_offset",
	} {
		if err := m.exec(ctx, "DROP TABLE IF EXISTS compared SYNC"); err != nil {
			return err
		}
		took, err := m.fill(ctx, "compared", columns, order, "*", "trace_events")
		if err != nil {
			return err
		}
		c, err := m.columns(ctx, "compared")
		if err != nil {
			return err
		}
		script, err := m.marks(ctx, "script_name = 'service-0'")
		if err != nil {
			return err
		}
		version, err := m.marks(ctx, "script_name = 'service-0' AND version_id = (SELECT min(version_id) FROM compared WHERE script_name = 'service-0')")
		if err != nil {
			return err
		}
		fmt.Printf("  %-66s %7.2f %6.1f s  %s granules, %s\n", order, perEvent(c.bytes, m.mix), took.Seconds(), script, version)
	}
	return nil
}

// marks returns how many granules a question about the newest minute reads.
func (m *measurement) marks(ctx context.Context, which string) (string, error) {
	answer, err := m.ask(ctx, fmt.Sprintf(`SELECT sum(marks) FROM (EXPLAIN ESTIMATE SELECT count() FROM compared WHERE account_id = '%s' AND %s
		AND time >= (SELECT max(time) - INTERVAL 1 MINUTE FROM compared))`, events.Account, which))
	if err != nil {
		return "", err
	}
	return answer[0][0], nil
}
