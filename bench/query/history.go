package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tidegate/internal/clickhouse"
	"tidegate/internal/deploy"
	"tidegate/internal/store"
	"tidegate/schema/control"
)

const (
	hour = 3600
	day  = 24 * hour

	rollupDays    = 30      // that the billion events are spread over
	secondDays    = 7       // of them are still there by the second
	sketchMost    = 200     // values in a sketch: its size stays what a busy one's is
	sketchKinds   = 8       // sketches of each size
	rawHours      = 24      // that the raw events are spread over
	rawBlock      = 500_000 // rows of an insert
	failing       = 50      // one event in so many throws
	exceptionKind = 40      // different exceptions
)

// history is what the measurements read. Its description lies beside it, so that a
// later run finds the same scripts and the same end.
type history struct {
	options
	engine string
	store  *store.Store
	facts
}

// facts of a finished history.
type facts struct {
	End     time.Time  // the events lie before it
	Token   string     // of the operator
	Scripts []twoNamed // the first has half of the traffic
	Events  int64
	Raw     int64
}

type twoNamed struct {
	Name     string
	Versions [2]string
}

// make reports whether there was none yet.
func (h *history) make(ctx context.Context, addr string) (bool, error) {
	h.engine = addr
	file := filepath.Join(h.dir, "history.json")
	if h.dir != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			if err := json.Unmarshal(text, &h.facts); err != nil {
				return false, err
			}
			if h.Events != h.events || h.Raw != h.raw || len(h.Scripts) != h.scripts {
				return false, fmt.Errorf("%s holds %d and %d events of %d scripts: choose another folder", h.dir, h.Events, h.Raw, len(h.Scripts))
			}
			return false, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if _, err := h.store.Bootstrap(ctx, control.Account{}, func(token string) error { h.Token = token; return nil }); err != nil {
		return false, err
	}
	for i := range h.scripts {
		s := twoNamed{Name: fmt.Sprintf("script-%02d", i)}
		for v := range s.Versions {
			made, err := h.store.CreateVersion(ctx, control.FirstAccountID, s.Name, deploy.Version{
				Origin: &deploy.Origin{URL: "http://127.0.0.1:9000"}, Annotations: deploy.Annotations{Tag: fmt.Sprintf("v%d", v+1)}})
			if err != nil {
				return false, err
			}
			s.Versions[v] = made.ID
		}
		h.Scripts = append(h.Scripts, s)
	}
	h.End = time.Now().UTC().Truncate(time.Hour)
	h.Events, h.Raw = h.events, h.raw
	if err := h.fill(ctx); err != nil {
		return false, err
	}
	if h.dir == "" {
		return true, nil
	}
	text, err := json.Marshal(h.facts)
	if err != nil {
		return false, err
	}
	return true, os.WriteFile(file, text, 0o600)
}

func (h *history) fill(ctx context.Context) error {
	// The rollups are made by themselves, from other events than the raw ones.
	for _, table := range []string{"version_rates_1s", "version_rates_1m", "version_rates_1h"} {
		if err := h.exec(ctx, "DROP VIEW IF EXISTS "+table+"_view"); err != nil {
			return err
		}
	}
	if err := h.makeSketches(ctx); err != nil {
		return err
	}
	for _, r := range []struct {
		table         string
		seconds, days int64
	}{{"version_rates_1h", hour, rollupDays}, {"version_rates_1m", 60, rollupDays}, {"version_rates_1s", 1, secondDays}} {
		began := time.Now()
		if err := h.fillRollup(ctx, r.table, r.seconds, r.days); err != nil {
			return err
		}
		fmt.Printf("history    %s in %.0f s\n", r.table, time.Since(began).Seconds())
	}
	began := time.Now()
	for done := int64(0); done < h.raw; done += rawBlock {
		if err := h.exec(ctx, h.rawInsert(done, min(done+rawBlock, h.raw))); err != nil {
			return err
		}
	}
	fmt.Printf("history    trace_events in %.0f s\n", time.Since(began).Seconds())
	return nil
}

// names are the scripts' names, and their versions' ids, as SQL arrays.
func (h *history) names() (scripts, versions string) {
	var names, ids []string
	for _, s := range h.Scripts {
		names = append(names, "'"+s.Name+"'")
		ids = append(ids, "'"+s.Versions[0]+"'", "'"+s.Versions[1]+"'")
	}
	return "[" + strings.Join(names, ", ") + "]", "[" + strings.Join(ids, ", ") + "]"
}

// makeSketches makes a few sketches of every size up to sketchMost, which the rows of
// rollups are given: to build one for each row would take hours.
func (h *history) makeSketches(ctx context.Context) error {
	const sketch = "quantilesDDState(0.01, 0.5, 0.9, 0.99)"
	for _, statement := range []string{
		`CREATE TABLE sketches (k UInt64, wall AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Nullable(Int64)), cpu AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Nullable(Int64))) ENGINE = MergeTree ORDER BY k`,
		fmt.Sprintf(`INSERT INTO sketches SELECT k, %[1]s(CAST(ms AS Nullable(Int64))), %[1]s(CAST(intDiv(ms, 4) AS Nullable(Int64)))
FROM (SELECT k, toInt64(5 + exp(rand(i) / 4294967296. * 5)) AS ms
	FROM (SELECT number AS k, arrayJoin(range(intDiv(number, %[2]d))) AS i FROM numbers(%[2]d, %[2]d * %[3]d)))
GROUP BY k`, sketch, sketchKinds, sketchMost),
	} {
		if err := h.exec(ctx, statement); err != nil {
			return fmt.Errorf("make sketches: %w", err)
		}
	}
	return nil
}

// fillRollup gives each version of each script a row in each bucket. The first
// script has half of all requests; of two versions the second has a tenth, one in
// fifty of whose requests fails. Days are inserted one by one: they are partitions.
func (h *history) fillRollup(ctx context.Context, table string, seconds, days int64) error {
	scripts, versions := h.names()
	perDay := day / seconds * int64(2*h.scripts)
	perBucket := float64(h.events) / rollupDays / day * float64(seconds)
	for d := range days {
		begin := h.End.Unix() - (d+1)*day
		statement := fmt.Sprintf(`INSERT INTO %[1]s (account_id, script_name, version_id, time, requests, failures, assigned, assigned_failures, exceptions,
	status_2xx, status_3xx, status_4xx, status_5xx, no_status, wall_measured, cpu_measured, outcomes, wall_ms, cpu_ms)
SELECT '%[2]s', %[3]s[s + 1], %[4]s[2 * s + v + 1], toDateTime(at, 'UTC'), n, bad, n, bad, bad,
	n - bad - intDiv(n, 50), 0, intDiv(n, 50), bad, 0, n, n,
	if(bad > 0, map('ok', n - bad, 'exception', bad), map('ok', n)), wall, cpu
FROM (
	SELECT intDiv(number, %[5]d * 2) * %[6]d + %[7]d AS at, intDiv(number, 2) %% %[5]d AS s, number %% 2 AS v,
		toUInt64(%[8]g * if(s = 0, 0.5, 0.5 / %[9]d) * if(v = 0, 0.9, 0.1) + rand(number) / 4294967296.) AS n,
		least(n, if(v = 0, if(rand(number + 1) %% 1000 < 2, 1, 0), toUInt64(n / 50 + rand(number + 2) / 4294967296.))) AS bad,
		least(n, %[10]d) * %[12]d + rand(number + 3) %% %[12]d AS k
	FROM numbers(%[11]d)
) AS made INNER JOIN sketches USING (k)
WHERE n > 0 SETTINGS max_block_size = 8192, min_insert_block_size_rows = 8192, min_insert_block_size_bytes = 0, max_insert_threads = 1`, table, control.FirstAccountID, scripts, versions, h.scripts, seconds, begin, perBucket, max(1, h.scripts-1), sketchMost, perDay, sketchKinds)
		if err := h.exec(ctx, statement); err != nil {
			return fmt.Errorf("fill %s: %w", table, err)
		}
	}
	return nil
}

// rawInsert is the statement for the events from begin to end, in the order of their times.
func (h *history) rawInsert(begin, end int64) string {
	scripts, versions := h.names()
	return fmt.Sprintf(`INSERT INTO trace_events (account_id, script_name, time, skew_ms, version_id, version_tag, version_message, event_type, outcome, status,
	wall_ms, cpu_ms, upstream_ms, decision, ray_id, error_kind, method, url, entrypoint, dispatch_namespace, script_tags, event, exceptions, logs, logpush, kafka_partition, kafka_offset)
SELECT '%[1]s', %[2]s[s + 1], fromUnixTimestamp64Milli(toInt64(at), 'UTC'), 0, %[5]s[2 * s + v + 1], concat('v', toString(v + 1)), '', 'fetch',
	if(bad, 'exception', 'ok') AS outcome, if(bad, 500, if(rand(number + 3) %% 50 = 0, 404, 200)) AS status,
	toInt64(5 + exp(randCanonical(number) * 5)) AS wall, if(s %% 2 = 0, intDiv(wall, 4), NULL), wall - 1, 'split', leftPad(lower(hex(bitOr(bitShiftLeft(intDiv(at, 64000), 44), bitShiftRight(sipHash64(number), 20)))), 16, '0') AS ray, '',
	if(number %% 9 = 0, 'POST', 'GET') AS method, concat('https://', %[2]s[s + 1], '.example.com/items/', toString(rand(number + 4) %% 100000), '?page=', toString(number %% 97)) AS url, '', '', '[]',
	concat('{"RayID":"', ray, '","Request":{"URL":"', url, '","Method":"', method, '","Headers":{"accept":"*/*","user-agent":"Mozilla/5.0 (X11; Linux x86_64)"}},"Response":{"Status":', toString(status), '}}'),
	if(bad, concat('[{"Name":"', ['TypeError','RangeError','Error','SyntaxError'][kind %% 4 + 1], '","Message":"cannot read item ', toString(rand(number + 5) %% 100000), ' of list ', toString(kind),
		'","TimestampMs":', toString(at), ',"Stack":"Error: cannot read\\n    at handle', toString(kind), ' (worker.js:', toString(kind * 7), ':13)\\n    at fetch (worker.js:3:5)"}]'), '[]'),
	'[]', 'yes', 0, number
FROM (
	SELECT number, toUInt64(%[3]d + number * %[4]g) AS at, if(rand(number) %% 2 = 0, 0, 1 + rand(number + 1) %% %[6]d) AS s, rand(number + 2) %% 10 = 0 AS v,
		rand(number + 6) %% %[7]d = 0 AS bad, if(v, rand(number + 7) %% %[8]d, rand(number + 7) %% (%[8]d - 5)) AS kind
	FROM numbers(%[9]d, %[10]d)
)`, control.FirstAccountID, scripts, (h.End.Unix()-rawHours*hour)*1000, float64(rawHours*hour*1000)/float64(h.raw), versions, max(1, h.scripts-1), failing, exceptionKind, begin, end-begin)
}

// describe says how much there is.
func (h *history) describe(ctx context.Context) error {
	text, err := h.query(ctx, `SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts WHERE active AND database = '`+clickhouse.DefaultDatabase+`' AND rows > 0 GROUP BY table ORDER BY table`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		var table string
		var rows, bytes, parts int64
		if _, err := fmt.Sscan(line, &table, &rows, &bytes, &parts); err != nil {
			return err
		}
		fmt.Printf("history    %-18s %11d rows, %7.1f MB, %5.1f bytes a row, %d parts\n", table, rows, float64(bytes)/1e6, float64(bytes)/float64(rows), parts)
	}
	return nil
}

func (h *history) exec(ctx context.Context, statement string) error {
	_, err := h.query(ctx, statement)
	return err
}

// query runs one statement, over HTTP as anybody may.
func (h *history) query(ctx context.Context, statement string) (string, error) {
	address := "http://" + h.engine + "/?" + url.Values{"database": {clickhouse.DefaultDatabase}, "async_insert": {"0"}, "max_partitions_per_insert_block": {"0"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(statement))
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the engine answered %d: %.500s", res.StatusCode, text)
	}
	return string(text), err
}
