package verify

import (
	"math"
	"time"

	tables "tidegate/schema/clickhouse"
)

// bucketsOf cuts a range of offsets where buckets end.
func bucketsOf(r tables.OffsetRange, visit func(tables.OffsetRange)) {
	for begin := r.Begin; begin < r.End; {
		end := min(r.End, (begin/tables.BucketOffsets+1)*tables.BucketOffsets)
		visit(tables.OffsetRange{Partition: r.Partition, Begin: begin, End: end})
		begin = end
	}
}

// full reports whether a bucket's rows are one of each offset in a range that lies in it.
func full(r tables.OffsetRange, s tables.OffsetSum) bool {
	if s.Rows != uint64(r.End-r.Begin) { // #nosec G115 -- not negative
		return false
	}
	var sum uint64
	for offset := r.Begin; offset < r.End; offset++ {
		sum += tables.OffsetHash(offset)
	}
	return s.Sum == sum
}

// bucketKey names a bucket.
type bucketKey struct {
	partition int
	bucket    int64
}

// differing returns the parts of ranges, each within one bucket, whose rows are not one of
// each offset, in their order. That need not be a fault: Kafka may have no record there.
// What it has none of and the tables have a row of goes unseen where nothing else is wrong.
func differing(ranges []tables.OffsetRange, sums map[bucketKey]tables.OffsetSum) (list []tables.OffsetRange) {
	for _, r := range ranges {
		bucketsOf(r, func(part tables.OffsetRange) {
			if !full(part, sums[bucketKey{r.Partition, part.Begin / tables.BucketOffsets}]) {
				list = append(list, part)
			}
		})
	}
	return list
}

// horizon is what the tables' retention may have taken: what is older.
type horizon struct{ events, quarantine time.Time }

// newHorizon knows nothing that is as old where a table keeps its rows for ever.
func newHorizon(kept tables.Kept, now time.Time) horizon {
	ago := func(days int) time.Time {
		if days == 0 {
			return time.UnixMilli(math.MinInt64 / 2)
		}
		return now.AddDate(0, 0, -days)
	}
	return horizon{ago(kept.EventDays), ago(kept.QuarantineDays)}
}

// passed reports whether the row of a record may be gone by now. An event that went to the
// quarantine is kept no shorter there.
func (h horizon) passed(r *record) bool {
	if r.event {
		return r.at < h.events.UnixMilli()
	}
	return r.ms < h.quarantine.UnixMilli()
}

// findings are what was found in a partition, in the order of offsets.
type findings struct {
	limit                                   int
	missing, repeated, stray, expired, gaps int64
	unread                                  int64 // offsets without a row in batches that cannot be decoded
	faults                                  []Fault
	more                                    int64
	last                                    Fault // the newest, listed or not
	foreign                                 int64 // offsets whose rows are of another record
	foreignFirst                            int64
	foreignEvents                           [2]string // for a sentence: Kafka's, the table's
	haveLast                                bool
}

// add notes that an offset has a fault, and joins it to the one before if it goes on from that.
func (f *findings) add(kind string, offset int64, rows uint64, r *record) {
	if f.haveLast && f.last.Kind == kind && f.last.Rows == rows && f.last.Last+1 == offset {
		f.last.Last = offset
		f.last.Offsets++
		if f.more == 0 {
			f.faults[len(f.faults)-1] = f.last
		}
		return
	}
	f.last, f.haveLast = Fault{Kind: kind, First: offset, Last: offset, Offsets: 1, Rows: rows}, true
	if r != nil {
		f.last.Time = new(time.UnixMilli(r.ms).UTC())
	}
	if len(f.faults) < f.limit {
		f.faults = append(f.faults, f.last)
	} else {
		f.more++
	}
}

// judge compares all rows and all records of the offsets [begin, end), both in the order
// of their offsets.
func (f *findings) judge(begin, end int64, rows []tables.OffsetRows, records []record, old horizon) {
	for offset := begin; offset < end; offset++ {
		var have *tables.OffsetRows
		var want *record
		if len(rows) > 0 && rows[0].Offset == offset {
			have, rows = &rows[0], rows[1:]
		}
		for len(records) > 0 && records[0].end() <= offset {
			records = records[1:]
		}
		if len(records) > 0 && records[0].offset <= offset {
			want = &records[0]
		}
		f.one(offset, have, want, old)
	}
}

func (f *findings) one(offset int64, have *tables.OffsetRows, want *record, old horizon) {
	switch {
	case have == nil && want == nil:
		f.gaps++ // a transaction's marker, or compacted away
	case have == nil && !want.hasRow(offset):
		f.unread++
	case have == nil && old.passed(want):
		f.expired++
	case have == nil:
		f.missing++
		f.add(Missing, offset, 0, want)
	case want == nil:
		n := have.Rows()
		f.stray += int64(n) // #nosec G115 -- rows of one offset
		f.add(Stray, offset, n, nil)
	case !want.of(have):
		if f.foreign == 0 {
			f.foreignFirst, f.foreignEvents = offset, [2]string{want.String(), describe(have)}
		}
		f.foreign++
	case have.Rows() > 1:
		n := have.Rows()
		f.repeated += int64(n - 1) // #nosec G115 -- rows of one offset
		f.add(Repeated, offset, n, want)
	}
}
