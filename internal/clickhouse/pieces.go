package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"tidegate/internal/errs"
)

// piece is a stretch of time that is read from one rollup: whole buckets from
// (inclusive) to (exclusive), in Unix seconds.
type piece struct {
	rollup
	from, to int64
}

// union is a subquery of all that the pieces hold for a condition. They have no bucket in common.
func union(pieces []piece, where string) string {
	parts := make([]string, len(pieces))
	for i, p := range pieces {
		parts[i] = "SELECT * FROM " + p.rows(where)
	}
	return "(" + strings.Join(parts, " UNION ALL ") + ")"
}

// rows is what follows FROM for all that a piece holds for a condition.
func (p piece) rows(where string) string {
	return fmt.Sprintf("%s WHERE %s AND time >= toDateTime(%d, 'UTC') AND time < toDateTime(%d, 'UTC')", p.Table, where, p.from, p.to)
}

// rowsOf is the same of several pieces. A single one is no subquery, of whose columns
// ClickHouse would have to find out first which are needed.
func rowsOf(pieces []piece, where string) string {
	if len(pieces) == 1 {
		return pieces[0].rows(where)
	}
	return union(pieces, where)
}

// pieces covers the seconds from since to until, widened to whole ones: hours in the
// middle, minutes and seconds towards the ends. So a long range costs no more than a
// short one and is exact all the same. An end that lies where a rollup may have lost its rows is
// widened to the buckets of a coarser one. No bucket is longer than those of the rollup coarsest.
func (k known) pieces(since, until time.Time, coarsest int) []piece {
	left, right := min(k.finest(since), coarsest), coarsest
	from := floorTo(since, rollups[left].Seconds)
	// At the end, buckets of a rollup are read from where the last one of the next coarser one ends.
	for right > 0 && !later(since, time.Unix(floorTo(until, rollups[right].Seconds), 0)).Before(k.rates[right-1]) {
		right--
	}
	return cover(from, ceilTo(until, rollups[right].Seconds), min(left, right), coarsest)
}

// cover splits [from, to) into buckets of a rollup and, between them, as coarse ones as fit.
func cover(from, to int64, level, coarsest int) (list []piece) {
	if level == coarsest {
		return []piece{{rollups[level], from, to}}
	}
	next := rollups[level+1].Seconds
	inner, outer := (from+next-1)/next*next, to/next*next
	if inner >= outer {
		return []piece{{rollups[level], from, to}}
	}
	if from < inner {
		list = append(list, piece{rollups[level], from, inner})
	}
	list = append(list, cover(inner, outer, level+1, coarsest)...)
	if outer < to {
		list = append(list, piece{rollups[level], outer, to})
	}
	return list
}

// seriesPiece is what a series is made of: one rollup, in whole steps.
func (db *DB) seriesPiece(ctx context.Context, since, until time.Time, step time.Duration) (piece, error) {
	if err := validRange(since, until); err != nil {
		return piece{}, err
	}
	if step < time.Second || step%time.Second != 0 {
		return piece{}, errs.New(errs.Invalid, 0, "step is %s: it must be a whole number of seconds, 1s or more", step)
	}
	if points := until.Sub(since) / step; points > seriesPointsMax {
		return piece{}, errs.New(errs.Invalid, 0, "step is %s: %d points from since to until are more than %d; choose a longer step", step, points, seriesPointsMax)
	}
	r := seriesRollup(step)
	k, err := db.known(ctx)
	if err != nil {
		return piece{}, err
	}
	if least := rollups[k.finest(since)]; r.Seconds < least.Seconds {
		return piece{}, errs.New(errs.Invalid, 0, "step is %s: what began at %s is no longer known by steps of less than %s; choose a step that is a multiple of it, or a later since",
			step, since.UTC().Format(time.RFC3339), time.Duration(least.Seconds)*time.Second)
	}
	seconds := int64(step / time.Second)
	return piece{r, floorTo(since, seconds), ceilTo(until, seconds)}, nil
}

// seriesSteps are the steps that SeriesStep chooses from.
var seriesSteps = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute,
	15 * time.Minute, time.Hour, 3 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour,
}

// seriesBucketsMax bounds the buckets of each version that a step of SeriesStep is
// summed from: to read the sketches of one costs two microseconds of processor time.
const seriesBucketsMax = 1500

// SeriesStep returns the shortest usual step with which a range has no more than so
// many points, and of which its rollup still has the rows, no more than seriesBucketsMax.
func (db *DB) SeriesStep(ctx context.Context, since, until time.Time, points int) (time.Duration, error) {
	k, err := db.known(ctx)
	if err != nil {
		return 0, err
	}
	least := time.Duration(rollups[k.finest(since)].Seconds) * time.Second
	for _, step := range seriesSteps {
		buckets := int64(until.Sub(since)/time.Second) / seriesRollup(step).Seconds
		if step >= least && int64(until.Sub(since)/step) <= int64(points) && buckets <= seriesBucketsMax {
			return step, nil
		}
	}
	return seriesSteps[len(seriesSteps)-1], nil
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

func floorTo(t time.Time, seconds int64) int64 { return t.Unix() / seconds * seconds }

func ceilTo(t time.Time, seconds int64) int64 {
	return (t.Add(time.Second-1).Unix() + seconds - 1) / seconds * seconds
}
