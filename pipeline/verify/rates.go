package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

const (
	// settleTimeout is how long a block that is being stored is waited for.
	settleTimeout = 15 * time.Second
	settlePoll    = 100 * time.Millisecond
	// cellsMax rows of a rollup are looked at in one hour: their keys fit into a statement.
	cellsMax = 5_000
	// hoursMax hours of a rollup that have faults are looked at row by row.
	hoursMax = 16
)

// rollups compares each rollup with the events. A rollup must count at least what the
// settled events stand for, and at most what all do once the blocks are settled that
// were being stored when it was read. Both hold at any moment, so nothing has to stand still.
func (v *verifier) rollups(ctx context.Context) error {
	for _, kept := range v.kept.Rollups {
		r, err := v.rollup(ctx, kept)
		if err != nil {
			return err
		}
		v.report.Rollups = append(v.report.Rollups, r)
	}
	return nil
}

// window is the hours in which a rollup and the events have all their rows.
func (v *verifier) window(kept tables.KeptRollup) (from, to time.Time) {
	from, to = v.now, v.now.Add(schema.EventAheadMax)
	switch {
	case !v.cfg.Since.IsZero():
		from = v.cfg.Since
	case v.oldest != tables.NoTime:
		from = time.UnixMilli(v.oldest)
	}
	from = from.UTC().Truncate(time.Hour)
	for _, days := range []int{v.kept.EventDays, kept.Days} {
		// An hour is whole until the retention reaches its beginning; a run may take one.
		if least := v.now.AddDate(0, 0, -days).Truncate(time.Hour).Add(2 * time.Hour); days > 0 && from.Before(least) {
			from = least
		}
	}
	return from, to.Truncate(time.Hour).Add(time.Hour)
}

func (v *verifier) rollup(ctx context.Context, kept tables.KeptRollup) (Rollup, error) {
	from, to := v.window(kept)
	r := Rollup{Table: kept.Table, Verdict: Exact, From: from, To: to, Faults: []Cell{}, Notes: []string{}}
	rolled, raw, err := v.db.RateSums(ctx, kept.Table, from, to)
	if err != nil {
		return r, err
	}
	for _, s := range rolled {
		r.Requests += s.Requests
	}
	hours := differingHours(rolled, raw)
	faulty := 0
	for i, hour := range hours {
		if faulty == hoursMax || r.More > 0 {
			r.Unexamined = int64(len(hours) - i)
			r.Notes = append(r.Notes, fmt.Sprintf("%d more hours, from %s on, looked different and were not looked at row by row.", r.Unexamined, hour.Format(time.RFC3339)))
			break
		}
		before := r.Different
		if err := v.hour(ctx, &r, hour); err != nil {
			return r, err
		}
		if r.Different > before {
			faulty++
		}
	}
	if r.Different > 0 {
		r.Verdict = Different
	}
	return r, nil
}

// differingHours returns the hours in which two lists do not count the same, in order.
func differingHours(rolled, raw []tables.RateSum) (hours []time.Time) {
	sums := map[time.Time]tables.RateSum{}
	for _, s := range rolled {
		sums[s.Hour] = s
	}
	for _, s := range raw {
		if sums[s.Hour] == s {
			delete(sums, s.Hour)
		} else {
			sums[s.Hour] = s
		}
	}
	for hour, s := range sums {
		if s.Requests > 0 || s.Sum > 0 { // a rollup may have rows of nothing
			hours = append(hours, hour)
		}
	}
	slices.SortFunc(hours, time.Time.Compare)
	return hours
}

// hour looks for rows of a rollup that do not agree, and adds them to r.
func (v *verifier) hour(ctx context.Context, r *Rollup, from time.Time) error {
	to := from.Add(time.Hour)
	ends := v.settledEnds()
	cells, err := v.db.RateCells(ctx, r.Table, from, to, ends, cellsMax)
	if err != nil {
		return err
	}
	if len(cells) == cellsMax {
		r.Verdict = worse(r.Verdict, Unknown)
		r.Notes = append(r.Notes, fmt.Sprintf("In the hour from %s on, %d rows looked different, and no more were looked at.", from.Format(time.RFC3339), cellsMax))
	}
	settled := true
	for attempt := 0; attempt < attempts && len(cells) > 0; attempt++ {
		if attempt > 0 {
			if err := stream.Sleep(ctx, pause); err != nil {
				return err
			}
		}
		if cells, settled, err = v.recount(ctx, r.Table, from, to, ends, cells); err != nil {
			return err
		}
	}
	if cells, err = v.withoutDeleted(ctx, r, cells); err != nil {
		return err
	}
	over := 0
	for _, c := range cells {
		if c.Requests > c.Rows && !settled {
			over++
			continue
		}
		r.add(c, v.cfg.Limit)
	}
	if over > 0 {
		r.Verdict = worse(r.Verdict, Unknown)
		r.Notes = append(r.Notes, fmt.Sprintf("In the hour from %s on, %d rows count more than the events, while a block is half stored that ingest could not complete in %s: run again when it is stored.",
			from.Format(time.RFC3339), over, settleTimeout))
	}
	return nil
}

// withoutDeleted leaves out cells with a time of which something was deleted by request:
// they go after their events, and one stays that counts younger events as well.
func (v *verifier) withoutDeleted(ctx context.Context, r *Rollup, cells []tables.RateCell) ([]tables.RateCell, error) {
	if len(cells) == 0 {
		return nil, nil
	}
	list, err := v.db.Tombstones(ctx)
	if err != nil {
		return nil, err
	}
	deleted, before := schema.NewTombstones(list), len(cells)
	cells = slices.DeleteFunc(cells, func(c tables.RateCell) bool { return deleted.Cover(c.AccountID, c.ScriptName, c.Time) })
	if n := before - len(cells); n > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d rows are of times of which events were deleted by request, and do not count the same as what is left.", n))
	}
	return cells, nil
}

// settledEnds are the offsets below which all events are settled, by partition.
func (v *verifier) settledEnds() []int64 {
	ends := make([]int64, len(v.parts))
	for i, p := range v.parts {
		ends[i] = p.settled
	}
	return ends
}

// recount reads cells anew, the rollup before the events, with a wait for the blocks in
// between that are being stored. It returns those that do not agree.
func (v *verifier) recount(ctx context.Context, table string, from, to time.Time, ends []int64, cells []tables.RateCell) (wrong []tables.RateCell, settled bool, err error) {
	keys := make([]uint64, len(cells))
	for i, c := range cells {
		keys[i] = c.Key
	}
	rolled, err := v.db.RolledCells(ctx, table, from, to, keys)
	if err != nil {
		return nil, false, err
	}
	if settled, err = v.settle(ctx); err != nil {
		return nil, false, err
	}
	rows, of, err := v.db.CountedCells(ctx, table, from, to, keys, ends)
	if err != nil {
		return nil, false, err
	}
	for _, c := range cells {
		c.Requests, c.Rows, c.Settled = rolled[c.Key], rows[c.Key], of[c.Key]
		if disagrees(c) {
			wrong = append(wrong, c)
		}
	}
	return wrong, settled, nil
}

// disagrees reports whether a cell counts less than its settled events, or more than all.
func disagrees(c tables.RateCell) bool { return c.Requests < c.Settled || c.Requests > c.Rows }

func (r *Rollup) add(c tables.RateCell, limit int) {
	r.Different++
	if len(r.Faults) == limit {
		r.More++
		return
	}
	r.Faults = append(r.Faults, Cell{AccountID: c.AccountID, ScriptName: c.ScriptName, VersionID: c.VersionID, Time: c.Time, Requests: c.Requests, Events: c.Rows})
}

// settle waits until every block that is being stored now is stored, and reports whether
// that came to pass in time.
func (v *verifier) settle(ctx context.Context) (bool, error) {
	open := map[int]int64{} // where the blocks end
	for deadline := time.Now().Add(settleTimeout); ; {
		commits, err := v.log.Commits(ctx, v.cfg.Group)
		if err != nil {
			return false, err
		}
		if len(open) == 0 {
			for id, c := range commits {
				if end, ok := v.cfg.Planned(c.Metadata); ok {
					open[id] = end
				}
			}
		}
		for id, end := range open {
			if c, ok := commits[id]; !ok || c.Offset >= end {
				delete(open, id)
			}
		}
		if len(open) == 0 {
			return true, nil
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		if err := stream.Sleep(ctx, settlePoll); err != nil {
			return false, err
		}
	}
}
