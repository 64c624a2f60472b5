package clickhouse

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/errs"
	tables "tidegate/schema/clickhouse"
)

// The verifier works out in Go what the server sums.
func TestOffsetHashIsTheServers(t *testing.T) {
	db := open(t)
	for _, offset := range []int64{0, 1, 65_535, 65_536, 1 << 40, 1<<63 - 1, -1} {
		var got uint64
		if err := db.root.QueryRow(t.Context(), fmt.Sprintf("SELECT intHash64(toInt64(%d))", offset)).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if want := tables.OffsetHash(offset); got != want {
			t.Errorf("the hash of %d is %d, here %d", offset, got, want)
		}
	}
}

func TestOffsetSumsCountBothTablesByPartition(t *testing.T) {
	db := migrated(t)
	insert(t, db, "one", repeat(5, served(0))...) // offsets 0 to 4 of partition 0
	exec := func(statement string) {
		t.Helper()
		if err := db.conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset) VALUES (0, 5), (1, 70000), (1, 70001), (2, 0)")
	sums := func(inserted time.Time, ranges ...tables.OffsetRange) (list []tables.OffsetSum) {
		t.Helper()
		got := map[int]tables.OffsetSum{}
		if err := db.OffsetSums(t.Context(), ranges, inserted, func(s tables.OffsetSum) { got[s.Partition] = s }); err != nil {
			t.Fatal(err)
		}
		for p := range 3 {
			if s, ok := got[p]; ok {
				list = append(list, s)
			}
		}
		return list
	}
	hash := func(offsets ...int64) (sum uint64) {
		for _, o := range offsets {
			sum += tables.OffsetHash(o)
		}
		return sum
	}
	want := []tables.OffsetSum{
		{Partition: 0, Bucket: 0, Rows: 5, Sum: hash(1, 2, 3, 4, 5), OldestMS: noon.UnixMilli()},
		{Partition: 1, Bucket: 1, Rows: 1, Sum: hash(70_000), OldestMS: tables.NoTime},
	}
	if diff := cmp.Diff(want, sums(time.Time{}, tables.OffsetRange{Partition: 0, Begin: 1, End: 100}, tables.OffsetRange{Partition: 1, Begin: 0, End: 70_001})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if list := sums(time.Now().Add(time.Hour), tables.OffsetRange{Partition: 0, Begin: 0, End: 100}); len(list) != 0 {
		t.Errorf("rows that are to come: %+v", list)
	}
	if list := sums(time.Time{}); len(list) != 0 {
		t.Errorf("no ranges: %+v", list)
	}

	rows, err := db.OffsetRows(t.Context(), []tables.OffsetRange{{Partition: 0, Begin: 4, End: 6}, {Partition: 1, Begin: 70_001, End: 70_002}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	wantRows := []tables.OffsetRows{
		{Partition: 0, Offset: 4, Events: 1, Alike: true, TimeMS: noon.UnixMilli(), RayID: fmt.Sprintf("%016x", 4)},
		{Partition: 0, Offset: 5, Quarantined: 1, Alike: true},
		{Partition: 1, Offset: 70_001, Quarantined: 1, Alike: true},
	}
	if diff := cmp.Diff(wantRows, rows); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	exec("INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset, value_bytes) VALUES (0, 5, 9)")
	if rows, err = db.OffsetRows(t.Context(), []tables.OffsetRange{{Partition: 0, Begin: 5, End: 6}}, time.Time{}); err != nil || len(rows) != 1 || rows[0].Alike || rows[0].Quarantined != 2 {
		t.Errorf("two rows of different records are %+v, %v", rows, err)
	}
}

// More ranges than one statement takes are asked for in several.
func TestOffsetRowsOfManyRanges(t *testing.T) {
	db := migrated(t)
	insert(t, db, "one", repeat(3*verifyRanges, served(0))...)
	var ranges []tables.OffsetRange
	for i := range int64(verifyRanges + 50) {
		ranges = append(ranges, tables.OffsetRange{Begin: 2 * i, End: 2*i + 1})
	}
	rows, err := db.OffsetRows(t.Context(), ranges, time.Time{})
	if err != nil || len(rows) != len(ranges) || rows[len(rows)-1].Offset != ranges[len(ranges)-1].Begin {
		t.Errorf("%d rows of %d ranges, %v", len(rows), len(ranges), err)
	}
}

func TestKeptIsWhatTheTablesSay(t *testing.T) {
	db := migrated(t)
	kept, err := db.Kept(t.Context())
	want := tables.Kept{EventDays: 30, QuarantineDays: 30, Rollups: []tables.KeptRollup{
		{Table: "version_rates_1s", Bucket: time.Second, Days: 7}, {Table: "version_rates_1m", Bucket: time.Minute, Days: 180}, {Table: "version_rates_1h", Bucket: time.Hour, Days: 5 * 365},
		{Table: "assigned_rates_1s", Bucket: time.Second, Days: 7}}}
	if diff := cmp.Diff(want, kept); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	empty := open(t)
	if err := empty.root.Exec(t.Context(), "CREATE DATABASE "+empty.cfg.Database); err != nil {
		t.Fatal(err)
	}
	if _, err := empty.Kept(t.Context()); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a database without tables: %v", err)
	}
}

// A cell's hash is the same in the rollup and in the events, whatever the types of its columns are.
func TestRateSumsOfEventsAndRollupsAgree(t *testing.T) {
	db := migrated(t)
	a, b := served(0), served(90*time.Second)
	b.version, b.sampledOut = v2, 6
	c := served(2 * time.Hour)
	insert(t, db, "one", a, a, b, c)
	for _, r := range rateTables {
		rolled, raw, err := db.RateSums(t.Context(), r.Table, noon, noon.Add(3*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rolled, raw); diff != "" || len(raw) != 2 || raw[0].Requests != 9 || raw[1].Requests != 1 {
			t.Errorf("%s: %+v (-rolled +raw)\n%s", r.Table, raw, diff)
		}
		ends := []int64{3} // the last event is not settled
		if cells, err := db.RateCells(t.Context(), r.Table, noon, noon.Add(3*time.Hour), ends, 10); err != nil || len(cells) != 0 {
			t.Errorf("%s: %+v, %v", r.Table, cells, err)
		}
		if err := db.conn.Exec(t.Context(), "TRUNCATE TABLE "+r.Table); err != nil {
			t.Fatal(err)
		}
		// What is not settled may be missing.
		cells, err := db.RateCells(t.Context(), r.Table, noon, noon.Add(3*time.Hour), ends, 10)
		if err != nil || len(cells) != 2 || cells[0].Rows != 2 || cells[0].Settled != 2 || cells[1].Rows != 7 || cells[1].VersionID != v2 {
			t.Fatalf("%s: %+v, %v", r.Table, cells, err)
		}
		keys := []uint64{cells[0].Key, cells[1].Key}
		rows, settled, err := db.CountedCells(t.Context(), r.Table, noon, noon.Add(time.Hour), keys, ends)
		if err != nil || rows[keys[1]] != 7 || settled[keys[0]] != 2 || len(rows) != 2 {
			t.Errorf("%s: %v and %v, %v", r.Table, rows, settled, err)
		}
		if counts, err := db.RolledCells(t.Context(), r.Table, noon, noon.Add(time.Hour), keys); err != nil || len(counts) != 0 {
			t.Errorf("%s: %v, %v", r.Table, counts, err)
		}
	}
	if _, _, err := db.RateSums(t.Context(), "nothing", noon, noon.Add(time.Hour)); err == nil {
		t.Error("a rollup that there is not has sums")
	}
}
