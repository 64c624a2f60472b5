package verify

import (
	"context"
	"fmt"

	"tidegate/pipeline/stream"
	tables "tidegate/schema/clickhouse"
)

// offsets compares the range of each partition whose rows can be told.
func (v *verifier) offsets(ctx context.Context) error {
	var ranges []tables.OffsetRange
	for _, p := range v.parts {
		if p.reason == "" && p.From < p.To {
			ranges = append(ranges, tables.OffsetRange{Partition: p.ID, Begin: p.From, End: p.To})
		}
	}
	var sums map[bucketKey]tables.OffsetSum
	wrong := ranges
	for attempt := range attempts {
		if len(wrong) == 0 {
			break
		}
		if attempt > 0 {
			if err := stream.Sleep(ctx, pause); err != nil {
				return err
			}
		}
		sums = map[bucketKey]tables.OffsetSum{}
		err := v.db.OffsetSums(ctx, ranges, v.cfg.InsertedSince, func(s tables.OffsetSum) { sums[bucketKey{s.Partition, s.Bucket}] = s })
		if err != nil {
			return err
		}
		wrong = differing(ranges, sums)
	}
	for key, s := range sums {
		v.parts[key.partition].Rows += s.Rows
		v.oldest = min(v.oldest, s.OldestMS)
	}
	for len(wrong) > 0 {
		p, n := v.parts[wrong[0].Partition], 0
		for n < len(wrong) && wrong[n].Partition == p.ID {
			n++
		}
		if err := v.examine(ctx, p, wrong[:n], sums); err != nil {
			return err
		}
		wrong = wrong[n:]
	}
	return nil
}

// examine looks at buckets of a partition offset by offset, until enough is found.
func (v *verifier) examine(ctx context.Context, p *part, buckets []tables.OffsetRange, sums map[bucketKey]tables.OffsetSum) error {
	f := &findings{limit: v.cfg.Limit}
	looked, faulty := 0, 0
	for _, bucket := range buckets {
		if faulty == bucketsMax || f.more > 0 || f.foreign > 0 {
			break
		}
		// The rows first: records that come later are none of this range.
		rows, err := v.db.OffsetRows(ctx, []tables.OffsetRange{bucket}, v.cfg.InsertedSince)
		if err != nil {
			return err
		}
		begin, records, err := v.recordsOf(ctx, bucket)
		if err != nil {
			return err
		}
		if begin > bucket.Begin {
			p.tell("Kafka removed the offsets %d to %d in the meantime, so nobody can tell about them any more.", bucket.Begin, begin-1)
		}
		for len(rows) > 0 && rows[0].Offset < begin {
			rows = rows[1:]
		}
		before := f.wrong()
		f.judge(begin, bucket.End, rows, records, v.old)
		if looked++; f.wrong() > before {
			faulty++
		}
	}
	f.into(p)
	if f.foreign > 0 {
		p.remade(f.foreignFirst, f.foreignEvents[0], f.foreignEvents[1])
	}
	v.unexamined(p, buckets[looked:], sums)
	return nil
}

// wrong counts the offsets that have something wrong with them.
func (f *findings) wrong() int64 { return f.missing + f.repeated + f.stray + f.foreign }

func (f *findings) into(p *part) {
	p.Missing, p.Repeated, p.Stray, p.Gaps, p.Undecodable = f.missing, f.repeated, f.stray, f.gaps, f.unread
	p.Expired += f.expired
	p.Faults, p.More = append(p.Faults, f.faults...), f.more
	// Of a partition whose offsets were used twice nobody knows what is a fault.
	if f.foreign == 0 && f.wrong() > 0 {
		p.Verdict = worse(p.Verdict, Different)
	}
	if f.unread > 0 {
		p.tell("%d offsets without a row lie in batches that cannot be decoded: of each batch the first %d offsets have rows, in the quarantine.", f.unread, tables.BatchRowsMax)
	}
	if f.expired > 0 {
		p.tell("%d records have no row, and are older than the tables keep rows: nobody can tell whether they had one.", f.expired)
	}
}

// unexamined says what is known of buckets that were not looked at.
func (v *verifier) unexamined(p *part, buckets []tables.OffsetRange, sums map[bucketKey]tables.OffsetSum) {
	if len(buckets) == 0 {
		return
	}
	p.Unexamined = int64(len(buckets))
	var offsets, rows uint64
	for _, b := range buckets {
		offsets += uint64(b.End - b.Begin) // #nosec G115 -- not negative
		rows += sums[bucketKey{b.Partition, b.Begin / tables.BucketOffsets}].Rows
	}
	if p.reason == "" {
		p.tell("%d more stretches of offsets, from %d to %d, differ and were not looked at one by one: they have %d rows of %d offsets. A larger --limit lists more faults, --since begins later.",
			len(buckets), buckets[0].Begin, buckets[len(buckets)-1].End-1, rows, offsets)
	}
}

// recordsOf reads all records of a range, and returns from which offset on Kafka has
// them: the beginning of the range, unless its retention was faster.
func (v *verifier) recordsOf(ctx context.Context, r tables.OffsetRange) (begin int64, known []record, err error) {
	begin = r.Begin
	for offset := r.Begin; offset < r.End; {
		list, err := v.records(ctx, r.Partition, offset)
		if isGone(err) {
			first, _, err := v.log.Bounds(ctx, r.Partition)
			if err != nil {
				return 0, nil, err
			}
			if first <= offset {
				return 0, nil, fmt.Errorf("partition %d of %s became shorter while it was read: the topic is being deleted, or a broker loses records", r.Partition, v.cfg.Topic)
			}
			begin, offset, known = min(first, r.End), first, nil
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		if len(list) == 0 {
			break
		}
		for i := range list {
			if list[i].offset < r.End {
				known = append(known, list[i])
			}
		}
		offset = list[len(list)-1].end()
	}
	return begin, known, nil
}
