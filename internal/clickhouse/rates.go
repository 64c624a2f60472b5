package clickhouse

import (
	"context"
	"fmt"
	"math"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/internal/errs"
	"tidegate/schema"
)

// seriesPointsMax bounds a time series: more points than any screen has pixels.
const seriesPointsMax = 11_000

// VersionTotals sums what each version of a script did in the seconds from since up
// to until, both widened to whole ones; where a rollup by the second no longer goes
// back far enough, to whole minutes or hours. Time is the start of the first bucket.
// Versions are in the order of their ids; one without requests is absent.
func (db *DB) VersionTotals(ctx context.Context, account, script string, since, until time.Time) ([]schema.VersionRate, error) {
	if err := validRange(since, until); err != nil {
		return nil, err
	}
	k, err := db.known(ctx)
	if err != nil {
		return nil, err
	}
	return db.rates(ctx, ratesQuery{account: account, script: script, pieces: k.pieces(since, until, len(rollups)-1), outcomes: true})
}

// VersionSeries is VersionTotals for every step between since and until, oldest
// first. A step is a whole number of seconds and begins at a multiple of itself
// since 1970; both ends are widened to whole steps, and one without requests is absent.
func (db *DB) VersionSeries(ctx context.Context, account, script string, since, until time.Time, step time.Duration) ([]schema.VersionRate, error) {
	p, err := db.seriesPiece(ctx, since, until, step)
	if err != nil {
		return nil, err
	}
	return db.rates(ctx, ratesQuery{account: account, script: script, pieces: []piece{p}, step: int64(step / time.Second), outcomes: true})
}

// RatesBetween sums the seconds that begin at or after since and before until,
// for judging a deployment: exactly what began in between, never widened.
func (db *DB) RatesBetween(ctx context.Context, account, script string, since, until time.Time) ([]schema.VersionRate, error) {
	if err := validRange(since, until); err != nil {
		return nil, err
	}
	seconds := piece{rollups[0], ceilTo(since, 1), ceilTo(until, 1)}
	return db.rates(ctx, ratesQuery{account: account, script: script, pieces: []piece{seconds}})
}

func validRange(since, until time.Time) error {
	if !since.Before(until) {
		return errs.New(errs.Invalid, 0, "since is %s and until is %s: since must be the earlier one",
			since.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	}
	// What a DateTime column can hold.
	if since.Unix() < 0 || until.Unix() > math.MaxUint32 {
		return errs.New(errs.Invalid, 0, "since and until must lie between 1970 and 2106")
	}
	return nil
}

// ratesQuery asks for the rates of a script's versions. Step 0 is one sum of all.
type ratesQuery struct {
	account, script string
	pieces          []piece
	step            int64 // seconds
	outcomes        bool
}

// sketchReads let a second thread read, too, where there is more than two granules of sketches: to merge
// them is most of the time that a day takes, and ClickHouse would give one thread eight.
var sketchReads = ch.Settings{
	"merge_tree_min_read_task_size":           2,
	"merge_tree_min_rows_for_concurrent_read": 1, "merge_tree_min_bytes_for_concurrent_read": 1,
}

// rates sums pieces of rollups by version, and by steps.
func (db *DB) rates(ctx context.Context, q ratesQuery) ([]schema.VersionRate, error) {
	at := fmt.Sprintf("toDateTime(%d, 'UTC')", q.pieces[0].from)
	if q.step > 0 {
		at = fmt.Sprintf("toDateTime(intDiv(toUnixTimestamp(time), %d) * %d, 'UTC')", q.step, q.step)
	}
	outcomes := "map()::Map(String, UInt64)"
	if q.outcomes {
		outcomes = "sumMap(outcomes)"
	}
	// One aggregate of all counts, because ClickHouse takes longer to understand a query
	// of fifteen than to answer it.
	query := `SELECT
		version_id, ` + at + ` AS at,
		sumForEach([requests, failures, assigned, assigned_failures, exceptions, status_2xx, status_3xx, status_4xx,
			status_5xx, no_status, wall_measured, cpu_measured, sampled_out, wall_weighted, cpu_weighted]),
		quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(wall_ms), quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(cpu_ms),
		quantilesTDigestWeightedMerge(0.5, 0.9, 0.99)(wall_ms_weighted), quantilesTDigestWeightedMerge(0.5, 0.9, 0.99)(cpu_ms_weighted),
		` + outcomes + `
	FROM ` + rowsOf(q.pieces, "account_id = {account:String} AND script_name = {script:String}") + `
	GROUP BY version_id, at
	ORDER BY at, version_id`
	ctx, cancel := bounded(ctx, sketchReads)
	defer cancel()
	attempt := "read the rates of script " + q.script
	rows, err := db.conn.Query(ctx, query, ch.Named("account", q.account), ch.Named("script", q.script))
	if err != nil {
		return nil, tooMuch(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	rates := []schema.VersionRate{}
	for rows.Next() {
		rate := schema.VersionRate{AccountID: q.account, ScriptName: q.script}
		var wall, cpu sketch
		var sampledOut int64
		var counts []uint64
		var byOutcome map[string]uint64
		if err := rows.Scan(&rate.VersionID, &rate.Time, &counts, &wall.plain, &cpu.plain, &wall.heavy, &cpu.heavy, &byOutcome); err != nil {
			return nil, failed(attempt, err)
		}
		for i, into := range []*int64{&rate.Requests, &rate.Failures, &rate.Assigned, &rate.AssignedFailures, &rate.Exceptions,
			&rate.Status2xx, &rate.Status3xx, &rate.Status4xx, &rate.Status5xx, &rate.NoStatus,
			&wall.measured, &cpu.measured, &sampledOut, &wall.weighted, &cpu.weighted} {
			*into = int64(counts[i]) // #nosec G115 -- a count of requests
		}
		if rate.Requests == 0 {
			continue // of a block of which only what others stand for is stored
		}
		rate.Time = rate.Time.UTC()
		rate.WallMs, rate.CPUMs = wall.quantiles(sampledOut), cpu.quantiles(sampledOut)
		if q.outcomes {
			rate.Outcomes = make(map[string]int64, len(byOutcome))
			for outcome, n := range byOutcome {
				rate.Outcomes[outcome] = int64(n) // #nosec G115 -- a count of requests
			}
		}
		rates = append(rates, rate)
	}
	return rates, tooMuch(attempt, rows.Err())
}

// sketch is what rollups know of a duration.
type sketch struct {
	measured, weighted int64     // requests whose time was measured, and those of them in heavy
	plain              []float64 // quantiles of the events themselves
	heavy              []float32 // quantiles with what the events stand for
}

// partial reports whether each of the two sketches lacks something. What is in both cannot
// be told apart, so that they cannot be merged.
func (s sketch) partial(sampledOut int64) bool {
	return s.measured > 0 && sampledOut > 0 && s.weighted != s.measured
}

// values are the sketch's quantiles in milliseconds, nil where nothing was measured: a
// sketch without values answers NaN. The sketch with weights lacks what was served while
// nothing was sampled; the other one lacks what was left out. The fuller one stands for a
// script whose sampling changed; of several scripts it would leave some out, which partial tells.
func (s sketch) values(sampledOut int64) []float64 {
	if s.measured == 0 {
		return nil
	}
	if sampledOut == 0 || 2*s.weighted <= s.measured {
		return s.plain
	}
	wide := make([]float64, len(s.heavy))
	for i, v := range s.heavy {
		wide[i] = float64(v)
	}
	return wide
}

func (s sketch) quantiles(sampledOut int64) *schema.Quantiles {
	q := s.values(sampledOut)
	if q == nil {
		return nil
	}
	return &schema.Quantiles{P50: q[0], P90: q[1], P99: q[2]}
}

// Counts are the events in each table, and the requests that those in trace_events
// stand for beside their own. Once ingest has caught up, each rollup counts
// Events + SampledOut requests, as far back as every table still keeps its rows.
type Counts struct {
	Events, SampledOut      int64
	Seconds, Minutes, Hours int64
	Quarantined             int64
}

// Counts reads every table once.
func (db *DB) Counts(ctx context.Context) (Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var c Counts
	err := db.conn.QueryRow(ctx, `SELECT
		(SELECT toInt64(count()) FROM trace_events),
		(SELECT toInt64(sum(sampled_out)) FROM trace_events),
		(SELECT toInt64(sum(requests)) FROM version_rates_1s),
		(SELECT toInt64(sum(requests)) FROM version_rates_1m),
		(SELECT toInt64(sum(requests)) FROM version_rates_1h),
		(SELECT toInt64(count()) FROM trace_events_quarantine)`).Scan(&c.Events, &c.SampledOut, &c.Seconds, &c.Minutes, &c.Hours, &c.Quarantined)
	return c, failed("count events", err)
}
