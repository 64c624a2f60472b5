package verify

import (
	"context"
	"slices"
	"time"

	tables "tidegate/schema/clickhouse"
)

// strays looks for rows behind the end of their partition, or in one that there is not.
// Ingest goes on meanwhile, so the end is asked for again after the rows: what lies
// below it then may have come in between, and is looked at again.
func (v *verifier) strays(ctx context.Context) error {
	ends, err := v.ends(ctx)
	if err != nil {
		return err
	}
	var found []tables.StrayRows
	for range attempts {
		if found, err = v.db.StrayRows(ctx, ends, v.cfg.InsertedSince); err != nil {
			return err
		}
		if len(found) == 0 {
			return nil
		}
		if ends, err = v.ends(ctx); err != nil {
			return err
		}
		moving := func(s tables.StrayRows) bool {
			return s.Partition >= 0 && s.Partition < len(ends) && s.First >= 0 && s.First < ends[s.Partition].End
		}
		gone := func(s tables.StrayRows) bool { return moving(s) && s.Last < ends[s.Partition].End }
		if found = slices.DeleteFunc(found, gone); !slices.ContainsFunc(found, moving) {
			break
		}
	}
	for _, s := range found {
		v.stray(s, ends)
	}
	return nil
}

// ends asks where each partition ends.
func (v *verifier) ends(ctx context.Context) ([]tables.PartitionEnd, error) {
	ids, err := v.log.Partitions(ctx) // there may be more of them by now
	if err != nil {
		return nil, err
	}
	ends := make([]tables.PartitionEnd, len(ids))
	for id := range ends {
		first, next, err := v.log.Bounds(ctx, id)
		if err != nil {
			return nil, err
		}
		// Without a last record nobody knows what came after it, and of a batch that cannot
		// be decoded nobody knows the time.
		ends[id] = tables.PartitionEnd{End: next, Recent: v.now}
		list, err := v.records(ctx, id, max(first, next-1))
		if err != nil && !isGone(err) {
			return nil, err
		}
		if len(list) > 0 && !list[0].broken {
			ends[id].Recent = time.UnixMilli(list[0].ms)
		}
	}
	return ends, nil
}

// stray sorts rows behind the end of a partition. One that was inserted before the
// partition's last record was written cannot be of the topic as it is now. Those that
// came later can only be a fault, but for notes of deleted offsets: nobody knows when the
// row was inserted whose place they took.
func (v *verifier) stray(s tables.StrayRows, ends []tables.PartitionEnd) {
	if s.Partition < 0 || s.Partition >= len(ends) {
		p := newPart(s.Partition)
		p.doubt("The tables have %d rows of this partition, at the offsets %d to %d, and the topic does not have it: the rows are of an earlier topic, which had more partitions, or of no topic.", s.Rows, s.First, s.Last)
		v.others = append(v.others, p)
		return
	}
	if s.Partition >= len(v.parts) {
		return // a partition that came while this one ran
	}
	p, end := v.parts[s.Partition], ends[s.Partition].End
	if s.First >= 0 {
		s.First = max(s.First, end)
	}
	if earlier := s.Rows - s.Recent; earlier > 0 || p.reason != "" {
		p.doubt("The tables have %d rows at the offsets %d to %d, %d of them inserted before the partition's last record was written or notes of deleted records, and the partition ends at %d: the topic was made anew, or a broker lost the end of the partition. "+
			"If you know when that was, --inserted-since leaves the older rows out.", s.Rows, s.First, s.Last, earlier, end)
		return
	}
	p.Stray += int64(s.Rows) // #nosec G115 -- a count of rows
	p.Verdict = worse(p.Verdict, Different)
	if len(p.Faults) < v.cfg.Limit {
		p.Faults = append(p.Faults, Fault{Kind: Stray, First: s.First, Last: s.Last, Offsets: s.Last - s.First + 1, Rows: s.Rows})
	} else {
		p.More++
	}
	p.tell("%d rows have offsets from %d to %d, and the partition ends at %d: Kafka never gave these, or a broker lost them.", s.Rows, s.First, s.Last, end)
}
