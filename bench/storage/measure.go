package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidegate/internal/clickhouse"
	"tidegate/test/events"
)

// storedTables are those whose bytes count, raw events first.
var storedTables = []string{"trace_events", "version_rates_1s", "version_rates_1m", "version_rates_1h", "assigned_rates_1s"}

// measurement asks the engine. It speaks plain HTTP, because internal/clickhouse
// answers no questions about storage, which nobody else has.
type measurement struct {
	server string
	mix    events.Mix
}

// report prints what is stored, and what it would take otherwise.
func (m *measurement) report(ctx context.Context) error {
	for _, table := range storedTables {
		// The columns of a small part share a file, and nobody knows which has what of it.
		for _, statement := range []string{"ALTER TABLE " + table + " MODIFY SETTING min_bytes_for_wide_part = 0", "OPTIMIZE TABLE " + table + " FINAL"} {
			if err := m.exec(ctx, statement); err != nil {
				return err
			}
		}
	}
	fmt.Println("\nstored in one merged part, bytes an event:")
	sum := 0.0
	for _, table := range storedTables {
		c, err := m.columns(ctx, table)
		if err != nil {
			return err
		}
		fmt.Printf("  %-18s %7.2f (uncompressed %.0f), %d rows\n", table, perEvent(c.bytes, m.mix), perEvent(c.raw, m.mix), c.rows)
		sum += perEvent(c.bytes, m.mix)
	}
	fmt.Printf("  %-18s %7.2f\n", "together", sum)
	c, err := m.columns(ctx, "trace_events")
	if err != nil {
		return err
	}
	fmt.Println("\ntrace_events by column, bytes an event:")
	for _, column := range c.list {
		fmt.Printf("  %-18s %8.3f (uncompressed %.1f)\n", column.name, perEvent(column.bytes, m.mix), perEvent(column.raw, m.mix))
	}
	r, err := m.columns(ctx, "version_rates_1s")
	if err != nil {
		return err
	}
	fmt.Println("\nversion_rates_1s by column, bytes a row:")
	for _, column := range r.list {
		fmt.Printf("  %-18s %8.3f\n", column.name, float64(column.bytes)/float64(r.rows))
	}
	for _, from := range []string{"trace_events", "version_rates_1s"} {
		if err := m.compareColumns(ctx, from, columnAlternatives[from]); err != nil {
			return err
		}
	}
	return m.compareTables(ctx)
}

type stored struct {
	rows, bytes, raw int64
	list             []column // the largest first
}

type column struct {
	name       string
	bytes, raw int64
}

// columns measures a table's active parts.
func (m *measurement) columns(ctx context.Context, table string) (s stored, err error) {
	answer, err := m.ask(ctx, fmt.Sprintf(`SELECT column, sum(column_data_compressed_bytes), sum(column_data_uncompressed_bytes)
		FROM system.parts_columns WHERE database = currentDatabase() AND table = '%s' AND active GROUP BY column`, table))
	if err != nil {
		return s, err
	}
	for _, fields := range answer {
		c := column{name: fields[0]}
		if c.bytes, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
			return s, err
		}
		if c.raw, err = strconv.ParseInt(fields[2], 10, 64); err != nil {
			return s, err
		}
		s.list = append(s.list, c)
	}
	slices.SortFunc(s.list, func(a, b column) int { return cmp.Compare(b.bytes, a.bytes) })
	answer, err = m.ask(ctx, fmt.Sprintf(`SELECT sum(rows), sum(bytes_on_disk), sum(data_uncompressed_bytes)
		FROM system.parts WHERE database = currentDatabase() AND table = '%s' AND active`, table))
	if err != nil {
		return s, err
	}
	for i, to := range []*int64{&s.rows, &s.bytes, &s.raw} {
		if *to, err = strconv.ParseInt(answer[0][i], 10, 64); err != nil {
			return s, err
		}
	}
	return s, nil
}

// exec runs a statement; ask also returns its rows.
func (m *measurement) exec(ctx context.Context, statement string) error {
	_, err := m.ask(ctx, statement)
	return err
}

func (m *measurement) ask(ctx context.Context, query string) (rows [][]string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.server+"/?"+url.Values{
		"database": {clickhouse.DefaultDatabase}, "default_format": {"TSV"}, "wait_end_of_query": {"1"},
		"allow_suspicious_codecs": {"1"}, "allow_suspicious_low_cardinality_types": {"1"},
	}.Encode(), strings.NewReader(query))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end, or given up
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(response.Body, 2000))
		return nil, fmt.Errorf("%.80s: %s (%w)", query, text, err)
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		rows = append(rows, strings.Split(lines.Text(), "\t"))
	}
	return rows, lines.Err()
}

// fill makes a table of a SELECT, in one part, and returns how long that took.
func (m *measurement) fill(ctx context.Context, table, columns, order, selected, from string) (time.Duration, error) {
	if err := m.exec(ctx, fmt.Sprintf("CREATE TABLE %s (%s) ENGINE = MergeTree ORDER BY (%s) SETTINGS min_bytes_for_wide_part = 0", table, columns, order)); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := m.exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT %s FROM %s SETTINGS max_threads = 1, max_insert_threads = 1", table, selected, from)); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, m.exec(ctx, "OPTIMIZE TABLE "+table+" FINAL")
}
