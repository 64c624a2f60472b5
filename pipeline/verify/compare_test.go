package verify

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// world is what a fuzz test puts into Kafka and the tables: one digit of choices for each
// offset. It is written to be looked at, not to be fast.
type world struct {
	choices []byte
	begin   int64
}

// Choices for an offset.
const (
	fine = iota
	gap
	missing
	twice
	stray
	strayTwice
	foreign
	expired
	quarantined
	quarantineTwice
	inBoth
	unlike
	choices
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// build makes the records and rows of the world, and says in words what is wrong with it.
func (w world) build() (rows []tables.OffsetRows, records []record, wrong []string) {
	for i, choice := range w.choices {
		offset := w.begin + int64(i)
		r := record{offset: offset, ms: noon.UnixMilli() + offset, bytes: 7, event: true, at: noon.UnixMilli(), skew: 3, ray: fmt.Sprint(offset)}
		row := tables.OffsetRows{Offset: offset, Events: 1, Alike: true, TimeMS: r.at, SkewMS: 3, RayID: r.ray}
		quarantine := tables.OffsetRows{Offset: offset, Quarantined: 1, Alike: true, QuarantineTimeMS: r.ms, QuarantineBytes: 7}
		hasRecord, hasRow := true, true
		say := ""
		switch choice % choices {
		case gap:
			hasRecord, hasRow = false, false
		case missing:
			hasRow, say = false, "missing 0"
		case twice:
			row.Events, say = 2, "repeated 2"
		case stray:
			hasRecord, say = false, "stray 1"
		case strayTwice:
			row.Events, hasRecord, say = 2, false, "stray 2"
		case foreign:
			row.RayID, say = "another", "foreign"
		case expired:
			r.at, hasRow, say = noon.AddDate(0, 0, -9).UnixMilli(), false, "expired"
		case quarantined:
			row = quarantine
		case quarantineTwice:
			row = quarantine
			row.Quarantined, say = 3, "repeated 3"
		case inBoth:
			row.Quarantined, row.QuarantineTimeMS, row.QuarantineBytes, say = 1, r.ms, 7, "repeated 2"
		case unlike:
			row.Events, row.Alike, say = 2, false, "foreign"
		}
		if hasRecord {
			records = append(records, r)
		}
		if hasRow {
			rows = append(rows, row)
		}
		if say != "" {
			wrong = append(wrong, fmt.Sprintf("%d %s", offset, say))
		}
	}
	return rows, records, wrong
}

// Whatever is wrong with a range, findings say of each offset what the world says,
// in runs that join to the same, also when the range is looked at in parts.
func FuzzJudge(f *testing.F) {
	f.Add([]byte{fine, gap, missing, missing, twice, stray, strayTwice, foreign, expired, quarantined, quarantineTwice, inBoth, unlike}, uint16(5), uint8(20))
	f.Add([]byte{missing, missing, missing, fine, missing}, uint16(2), uint8(1))
	f.Add([]byte{}, uint16(0), uint8(0))
	old := newHorizon(tables.Kept{EventDays: 7, QuarantineDays: 8}, noon)
	f.Fuzz(func(t *testing.T, script []byte, middle uint16, limit uint8) {
		w := world{script, 1000}
		rows, records, wrong := w.build()
		end := w.begin + int64(len(script))
		cut := w.begin + int64(middle)%(int64(len(script))+1)
		got := &findings{limit: int(limit)}
		firstRows, _ := slices.BinarySearchFunc(rows, cut, func(r tables.OffsetRows, at int64) int { return int(r.Offset - at) })
		firstRecords, _ := slices.BinarySearchFunc(records, cut, func(r record, at int64) int { return int(r.offset - at) })
		got.judge(w.begin, cut, rows[:firstRows], records[:firstRecords], old)
		got.judge(cut, end, rows[firstRows:], records[firstRecords:], old)

		// What the naive model says, offset by offset.
		counts := map[string]int64{}
		var runs []string
		last, lastOffset := "", int64(-2)
		for _, line := range wrong {
			var offset, n int64
			var kind string
			_, _ = fmt.Sscanf(line, "%d %s %d", &offset, &kind, &n) // some kinds have no number
			switch kind {
			case "missing":
				counts[kind]++
			case "repeated":
				counts[kind] += n - 1
			case "stray":
				counts[kind] += n
			default: // no fault, as far as anybody can tell
				counts[kind]++
				continue
			}
			if _, say, _ := strings.Cut(line, " "); say == last && offset == lastOffset+1 {
				runs[len(runs)-1] += "+"
			} else {
				runs = append(runs, line)
				last = say
			}
			lastOffset = offset
		}
		var listed []string
		for _, fault := range got.faults {
			if fault.Last-fault.First+1 != fault.Offsets {
				t.Fatalf("%+v is no run", fault)
			}
			listed = append(listed, fmt.Sprintf("%d %s %d%s", fault.First, fault.Kind, fault.Rows, strings.Repeat("+", int(fault.Offsets-1))))
		}
		want := runs[:min(len(runs), int(limit))]
		if !slices.Equal(listed, want) || got.more != int64(len(runs)-len(want)) {
			t.Errorf("%v: listed %q and %d more, want %q of %q", script, listed, got.more, want, runs)
		}
		have := map[string]int64{"missing": got.missing, "repeated": got.repeated, "stray": got.stray, "foreign": got.foreign, "expired": got.expired}
		for kind, n := range have {
			if n != counts[kind] {
				t.Errorf("%v: %d %s, want %d", script, n, kind, counts[kind])
			}
		}
	})
}

// A bucket is looked at exactly when its rows are not one of each offset.
func FuzzDiffering(f *testing.F) {
	f.Add(int64(0), int64(10), uint64(0), uint8(0))
	f.Add(int64(65_530), int64(20), uint64(7), uint8(1))
	f.Add(int64(131_000), int64(140_000), uint64(1), uint8(2))
	f.Fuzz(func(t *testing.T, begin, length int64, seed uint64, kind uint8) {
		if begin < 0 || begin > 1<<40 || length < 1 || length > 3*tables.BucketOffsets {
			return
		}
		dice := rand.New(rand.NewPCG(seed, 0)) // #nosec G404 -- repeatable on purpose
		r := tables.OffsetRange{Partition: 2, Begin: begin, End: begin + length}
		rows := map[int64]int{}
		for offset := r.Begin; offset < r.End; offset++ {
			rows[offset] = 1
		}
		pick := func() int64 { return begin + dice.Int64N(length) }
		switch kind % 5 {
		case 1:
			delete(rows, pick())
		case 2:
			rows[pick()]++
		case 3: // as many rows as before
			delete(rows, pick())
			rows[pick()]++
		case 4:
			clear(rows)
		}
		sums := map[bucketKey]tables.OffsetSum{}
		for offset, n := range rows {
			key := bucketKey{2, offset / tables.BucketOffsets}
			s := sums[key]
			s.Rows += uint64(n)
			s.Sum += uint64(n) * tables.OffsetHash(offset)
			sums[key] = s
		}
		want := map[int64]bool{}
		for offset := r.Begin; offset < r.End; offset++ {
			if rows[offset] != 1 {
				want[offset/tables.BucketOffsets] = true
			}
		}
		got := map[int64]bool{}
		at := r.Begin
		for _, part := range differing([]tables.OffsetRange{r}, sums) {
			if part.Partition != 2 || part.Begin < at || part.Begin >= part.End || part.End > r.End || part.Begin/tables.BucketOffsets != (part.End-1)/tables.BucketOffsets {
				t.Fatalf("%+v is no part of a bucket of %+v", part, r)
			}
			at = part.End
			got[part.Begin/tables.BucketOffsets] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("buckets that differ (-want +got)\n%s", diff)
		}
	})
}

func TestBucketsCoverARange(t *testing.T) {
	f := func(begin, end int64, want ...int64) {
		t.Helper()
		var got []int64
		bucketsOf(tables.OffsetRange{Begin: begin, End: end}, func(r tables.OffsetRange) { got = append(got, r.Begin, r.End) })
		if !slices.Equal(got, want) {
			t.Errorf("%d to %d: got %v, want %v", begin, end, got, want)
		}
	}
	f(5, 5)
	f(0, 1, 0, 1)
	f(65_535, 65_537, 65_535, 65_536, 65_536, 65_537)
	f(65_536, 196_608, 65_536, 131_072, 131_072, 196_608)
}

// Rows are compared with a record by what ingest makes of it.
func TestARecordKnowsItsRows(t *testing.T) {
	event := schema.TraceEvent{ScriptName: "s", Outcome: "ok", EventTimestampMs: noon.UnixMilli() - 5, Gateway: schema.Gateway{RayID: "r"}}
	good := recordOf(&stream.Record{Offset: 1, Time: noon, Value: event.AppendJSON(nil)})
	early := event
	early.EventTimestampMs = 1 // its record's time counts
	skewed := recordOf(&stream.Record{Offset: 1, Time: noon, Value: early.AppendJSON(nil)})
	poison := recordOf(&stream.Record{Offset: 1, Time: time.UnixMilli(-7), Value: []byte("poison")})
	f := func(want bool, r record, rows tables.OffsetRows) {
		t.Helper()
		if got := r.of(&rows); got != want {
			t.Errorf("%+v of %+v is %v", rows, r, got)
		}
	}
	f(true, good, tables.OffsetRows{Events: 1, Alike: true, TimeMS: noon.UnixMilli() - 5, RayID: "r"})
	f(true, good, tables.OffsetRows{Quarantined: 1, Alike: true, QuarantineTimeMS: noon.UnixMilli(), QuarantineBytes: uint64(good.bytes)}) // of too many kinds
	f(false, good, tables.OffsetRows{Events: 1, TimeMS: noon.UnixMilli() - 5, RayID: "r"})
	f(false, good, tables.OffsetRows{Events: 1, Alike: true, TimeMS: noon.UnixMilli(), RayID: "r"})
	f(false, good, tables.OffsetRows{Events: 1, Alike: true, TimeMS: noon.UnixMilli() - 5, RayID: "q"})
	f(true, skewed, tables.OffsetRows{Events: 1, Alike: true, TimeMS: noon.UnixMilli(), SkewMS: 1 - noon.UnixMilli(), RayID: "r"})
	f(true, poison, tables.OffsetRows{Quarantined: 1, Alike: true, QuarantineTimeMS: 0, QuarantineBytes: 6})
	f(false, poison, tables.OffsetRows{Quarantined: 1, Alike: true, QuarantineTimeMS: 0, QuarantineBytes: 7})
	f(false, poison, tables.OffsetRows{Events: 1, Alike: true})
	f(true, good, tables.OffsetRows{Quarantined: 1, Deleted: 1, Alike: true}) // deleted by request
	broken := record{offset: 1, ms: noon.UnixMilli(), bytes: 70, broken: true, next: 4}
	f(true, broken, tables.OffsetRows{Quarantined: 1, Alike: true, QuarantineTimeMS: noon.UnixMilli(), QuarantineBytes: 70}) // the first offset
	f(true, broken, tables.OffsetRows{Quarantined: 1, Alike: true, QuarantineTimeMS: noon.UnixMilli()})                      // another
	f(false, broken, tables.OffsetRows{Events: 1, Alike: true, RayID: "r"})                                                  // of another topic
}

// A rollup is wrong when it counts less than what is settled, or more than what there is.
func TestCellsThatDisagree(t *testing.T) {
	f := func(settled, requests, rows uint64, want bool) {
		t.Helper()
		if got := disagrees(tables.RateCell{Settled: settled, Requests: requests, Rows: rows}); got != want {
			t.Errorf("settled %d, rollup %d, all %d: %v", settled, requests, rows, got)
		}
	}
	f(3, 3, 3, false)
	f(3, 4, 5, false)
	f(3, 2, 5, true)
	f(3, 6, 5, true)
	f(0, 1, 0, true)
}

func TestDifferingHours(t *testing.T) {
	hour := func(h int, requests, sum uint64) tables.RateSum {
		return tables.RateSum{Hour: noon.Add(time.Duration(h) * time.Hour), Requests: requests, Sum: sum}
	}
	got := differingHours(
		[]tables.RateSum{hour(0, 5, 50), hour(1, 6, 60), hour(2, 7, 70), hour(5, 0, 0), hour(6, 1, 1)},
		[]tables.RateSum{hour(0, 5, 50), hour(1, 6, 61), hour(3, 8, 80), hour(2, 7, 70)})
	want := []time.Time{hour(1, 0, 0).Hour, hour(3, 0, 0).Hour, hour(6, 0, 0).Hour}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWorseVerdicts(t *testing.T) {
	if worse(Exact, Unknown) != Unknown || worse(Different, Unknown) != Different || worse(Unknown, Exact) != Unknown || worse(Exact, Exact) != Exact {
		t.Error("the verdicts are out of order")
	}
}
