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

const (
	// seriesPointsMax bounds a time series: more points than any screen has pixels.
	seriesPointsMax = 11_000
	// totalsResolution is how many buckets a total is made of at least, if there is
	// a rollup so fine: a range widened to whole buckets is then at most 2 % too wide.
	totalsResolution = 100
)

// VersionTotals sums what each version of a script did from since up to until,
// both widened to whole buckets of the coarsest rollup that is fine enough for
// 2 % of the range. Time is the start of the first bucket. Versions are in the
// order of their ids; one without requests is absent.
func (db *DB) VersionTotals(ctx context.Context, account, script string, since, until time.Time) ([]schema.VersionRate, error) {
	if err := validRange(since, until); err != nil {
		return nil, err
	}
	r := totalsRollup(until.Sub(since), time.Since(since), db.cfg.Retention)
	return db.rates(ctx, r, account, script, since, until, 0)
}

// VersionSeries is VersionTotals for every step between since and until, oldest
// first. A step is a whole number of seconds and begins at a multiple of itself
// since 1970; one without requests is absent.
func (db *DB) VersionSeries(ctx context.Context, account, script string, since, until time.Time, step time.Duration) ([]schema.VersionRate, error) {
	if err := validRange(since, until); err != nil {
		return nil, err
	}
	if step < time.Second || step%time.Second != 0 {
		return nil, errs.New(errs.Invalid, 0, "step is %s: it must be a whole number of seconds, 1s or more", step)
	}
	if points := until.Sub(since) / step; points > seriesPointsMax {
		return nil, errs.New(errs.Invalid, 0, "step is %s: %d points from since to until are more than %d; choose a longer step", step, points, seriesPointsMax)
	}
	r := seriesRollup(step)
	return db.rates(ctx, r, account, script, since, until, int64(step/time.Second))
}

// RatesBetween sums the seconds that begin at or after since and before until,
// for judging a deployment: exactly what began in between, never widened.
func (db *DB) RatesBetween(ctx context.Context, account, script string, since, until time.Time) ([]schema.VersionRate, error) {
	if err := validRange(since, until); err != nil {
		return nil, err
	}
	since = since.Add(time.Second - 1).Truncate(time.Second)
	return db.rates(ctx, rollups[0], account, script, since, until, 0)
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

// totalsRollup returns the coarsest rollup of which a range has
// totalsResolution buckets, or a coarser one where that no longer goes back far enough.
func totalsRollup(length, age time.Duration, kept Retention) rollup {
	chosen := 0
	for i, r := range rollups {
		if length >= totalsResolution*time.Duration(r.Seconds)*time.Second {
			chosen = i
		}
	}
	days := []int{kept.SecondRateDays, kept.MinuteRateDays, kept.HourRateDays}
	for chosen < len(rollups)-1 && days[chosen] > 0 && age > time.Duration(days[chosen])*24*time.Hour {
		chosen++
	}
	return rollups[chosen]
}

// seriesRollup returns the coarsest rollup whose buckets a step is made of.
func seriesRollup(step time.Duration) rollup {
	chosen := rollups[0]
	for _, r := range rollups {
		if step%(time.Duration(r.Seconds)*time.Second) == 0 {
			chosen = r
		}
	}
	return chosen
}

// rates sums a rollup by version, and by steps of some seconds unless step is 0.
func (db *DB) rates(ctx context.Context, r rollup, account, script string, since, until time.Time, step int64) ([]schema.VersionRate, error) {
	// Widened to whole buckets, and to whole steps, so that none is cut.
	unit := max(r.Seconds, step)
	from := since.Unix() / unit * unit
	to := (until.Add(time.Second-1).Unix() + unit - 1) / unit * unit
	at := fmt.Sprintf("toDateTime(%d, 'UTC')", from)
	if step > 0 {
		at = fmt.Sprintf("toDateTime(intDiv(toUnixTimestamp(time), %d) * %d, 'UTC')", step, step)
	}
	query := `SELECT
		version_id, ` + at + ` AS at,
		toInt64(sum(requests)), toInt64(sum(failures)), toInt64(sum(assigned)), toInt64(sum(assigned_failures)),
		toInt64(sum(exceptions)), toInt64(sum(status_2xx)), toInt64(sum(status_3xx)), toInt64(sum(status_4xx)),
		toInt64(sum(status_5xx)), toInt64(sum(no_status)), toInt64(sum(wall_measured)), toInt64(sum(cpu_measured)),
		toInt64(sum(sampled_out)), toInt64(sum(wall_weighted)), toInt64(sum(cpu_weighted)),
		quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(wall_ms), quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(cpu_ms),
		quantilesTDigestWeightedMerge(0.5, 0.9, 0.99)(wall_ms_weighted), quantilesTDigestWeightedMerge(0.5, 0.9, 0.99)(cpu_ms_weighted)
	FROM ` + r.Table + `
	WHERE account_id = {account:String} AND script_name = {script:String}
		AND time >= toDateTime({from:Int64}, 'UTC') AND time < toDateTime({to:Int64}, 'UTC')
	GROUP BY version_id, at
	ORDER BY at, version_id`
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	attempt := fmt.Sprintf("read %s of script %s", r.Table, script)
	rows, err := db.conn.Query(ctx, query, ch.Named("account", account), ch.Named("script", script), ch.Named("from", from), ch.Named("to", to))
	if err != nil {
		return nil, failed(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	rates := []schema.VersionRate{}
	for rows.Next() {
		rate := schema.VersionRate{AccountID: account, ScriptName: script}
		var wallMeasured, cpuMeasured, sampledOut, wallTotal, cpuTotal int64
		var wall, cpu []float64
		var wallWeighted, cpuWeighted []float32
		if err := rows.Scan(&rate.VersionID, &rate.Time, &rate.Requests, &rate.Failures, &rate.Assigned, &rate.AssignedFailures,
			&rate.Exceptions, &rate.Status2xx, &rate.Status3xx, &rate.Status4xx, &rate.Status5xx, &rate.NoStatus, &wallMeasured, &cpuMeasured, &sampledOut, &wallTotal, &cpuTotal,
			&wall, &cpu, &wallWeighted, &cpuWeighted); err != nil {
			return nil, failed(attempt, err)
		}
		// The sketch with weights lacks what was served while nothing was sampled; the
		// other one lacks what was left out.
		if sampledOut > 0 && 2*wallTotal > wallMeasured {
			wall = widened(wallWeighted)
		}
		if sampledOut > 0 && 2*cpuTotal > cpuMeasured {
			cpu = widened(cpuWeighted)
		}
		rate.Time = rate.Time.UTC()
		rate.WallMs, rate.CPUMs = quantiles(wall, wallMeasured), quantiles(cpu, cpuMeasured)
		rates = append(rates, rate)
	}
	return rates, failed(attempt, rows.Err())
}

func widened(q []float32) []float64 {
	wide := make([]float64, len(q))
	for i, v := range q {
		wide[i] = float64(v)
	}
	return wide
}

// quantiles returns nil where nothing was measured: a sketch without values
// answers NaN.
func quantiles(q []float64, measured int64) *schema.Quantiles {
	if measured == 0 {
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
