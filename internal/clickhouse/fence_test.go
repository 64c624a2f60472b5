package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/internal/errs"
	tables "tidegate/schema/clickhouse"
)

// A reader slept between its plan and its insert for so long that the tables had
// forgotten the block, which another reader had stored meanwhile.
func TestBlockThatWasProvenTooLongAgoIsRefused(t *testing.T) {
	db := migrated(t)
	f := func(name string, age time.Duration, want bool) {
		t.Helper()
		sampled := blockOf(standsFor(4, served(0)))
		plain := blockOf(served(0))
		quarantined := &tables.Quarantine{KafkaPartition: []int32{0}, KafkaOffset: []int64{0}, KafkaTime: []time.Time{noon}, AccountID: []string{""},
			Reason: []string{"schema"}, Detail: []string{""}, Value: []string{""}, ValueBytes: []uint64{0}}
		sampled.ProvenAt = db.Now().Add(-age)
		plain.ProvenAt, quarantined.ProvenAt = sampled.ProvenAt, sampled.ProvenAt
		for what, err := range map[string]error{
			"events that stand for others": db.InsertEvents(t.Context(), name+" sampled", sampled),
			"events":                       db.InsertEvents(t.Context(), name+" plain", plain),
			"quarantine":                   db.InsertQuarantine(t.Context(), name, quarantined),
		} {
			if (err == nil) != want {
				t.Errorf("%s, proven %s ago: %v", what, age, err)
			}
			if err != nil && (errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "too late")) {
				t.Errorf("%s, proven %s ago: the error does not say what it is: %v", what, age, err)
			}
		}
	}
	f("now", 0, true)
	f("soon", 25*time.Second, true)
	f("late", 40*time.Second, false)
	f("never", 3*time.Hour, false)
	f("ahead", -10*time.Second, false)
	if got, err := db.Counts(t.Context()); err != nil || got != (Counts{Events: 4, SampledOut: 6, Seconds: 10, Minutes: 10, Hours: 10, Quarantined: 2}) {
		t.Errorf("counts are %+v, %v", got, err)
	}
}

// The proof's time is also the row's.
func TestProofIsStoredAsTheTimeOfTheInsert(t *testing.T) {
	db := migrated(t)
	b := blockOf(served(0), served(0))
	b.ProvenAt = db.Now().Add(-3 * time.Second).Truncate(time.Millisecond)
	if err := db.InsertEvents(t.Context(), "one", b); err != nil {
		t.Fatal(err)
	}
	if got, want := scalar(t, db, "SELECT groupUniqArray(toUnixTimestamp64Milli(inserted_at)) FROM trace_events"), fmt.Sprintf("[%d]", b.ProvenAt.UnixMilli()); got != want {
		t.Errorf("inserted_at is %s, want %s", got, want)
	}
}

// Clocks of two machines may differ by any amount: the first refusal tells by how much.
func TestClockThatDiffersFromTheServers(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		db := migrated(t)
		db.behind.Store(int64(off)) // as if this machine's clock were that far from what it is
		b := blockOf(served(0))
		b.ProvenAt = db.Now()
		if err := db.InsertEvents(t.Context(), "one", b); err == nil {
			t.Fatalf("a block from a clock that is %s off was taken", off)
		}
		b.ProvenAt = db.Now()
		if err := db.InsertEvents(t.Context(), "one", b); err != nil {
			t.Fatalf("with the server's time: %v", err)
		}
		wantCounts(t, db, 1)
	}
}

func TestStored(t *testing.T) {
	db := migrated(t)
	ctx := t.Context()
	b := blockOf(repeat(6, served(0))...) // offsets 0 to 5 of partition 0
	b.SkewMs[5] = -7
	if err := db.InsertEvents(ctx, "events", b); err != nil {
		t.Fatal(err)
	}
	other := blockOf(repeat(20, served(0))...)
	for i := range other.KafkaPartition {
		other.KafkaPartition[i] = 1
	}
	if err := db.InsertEvents(ctx, "another partition", other); err != nil {
		t.Fatal(err)
	}
	if err := db.InsertQuarantine(ctx, "q", &tables.Quarantine{
		KafkaPartition: []int32{0, 0}, KafkaOffset: []int64{6, 9}, KafkaTime: []time.Time{noon, noon.Add(time.Millisecond)}, AccountID: []string{"", ""},
		Reason: []string{"schema", "schema"}, Detail: []string{"", ""}, Value: []string{"", ""}, ValueBytes: []uint64{0, 0},
	}); err != nil {
		t.Fatal(err)
	}
	f := func(begin, end int64, want tables.Stored) {
		t.Helper()
		got, err := db.Stored(ctx, 0, begin, end)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("from %d to %d: %+v, %v, want %+v", begin, end, got, err, want)
		}
	}
	event := tables.StoredRecord{Event: true, RayID: fmt.Sprintf("%016x", 5), TimeMs: noon.UnixMilli() - 7}
	f(0, 100, tables.Stored{Rows: 8, Last: 9, Records: []tables.StoredRecord{{TimeMs: noon.UnixMilli() + 1}}})
	f(3, 6, tables.Stored{Rows: 3, Last: 5, Records: []tables.StoredRecord{event}})
	f(7, 9, tables.Stored{})
	f(10, 11, tables.Stored{})
}

func TestStoredOfAServerThatIsAway(t *testing.T) {
	db := openWith(t, DefaultConfig("http://127.0.0.1:1"))
	if _, err := db.Stored(t.Context(), 0, 0, 1); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("error is %v, want one of kind unavailable", err)
	}
	b := blockOf(served(0))
	b.ProvenAt = time.Now()
	if err := db.InsertEvents(t.Context(), "one", b); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("error is %v, want one of kind unavailable", err)
	}
}

// Tables from before get the bound and the longer memory, and go on taking blocks of
// ingests from before, which do not say when they were proven.
func TestTablesFromBeforeAreFenced(t *testing.T) {
	db := migrated(t)
	for _, table := range remembering {
		if err := db.conn.Exec(t.Context(), "ALTER TABLE "+table+" MODIFY SETTING non_replicated_deduplication_window = 10000"); err != nil {
			t.Fatal(err)
		}
	}
	insert(t, db, "before", served(0))
	if err := db.apply(context.WithoutCancel(t.Context()), layout{database: db.cfg.Database}, 12, "012_inserted_in_time.sql"); err != nil {
		t.Fatal(err)
	}
	insert(t, db, "before", served(0))
	insert(t, db, "after", served(0))
	wantCounts(t, db, 2)
	for _, table := range remembering {
		if got := scalar(t, db, "SELECT extract(engine_full, 'deduplication_window = ([0-9]+)') FROM system.tables WHERE database = currentDatabase() AND name = '"+table+"'"); got != fmt.Sprint(tables.RememberedBlocks) {
			t.Errorf("%s remembers %s blocks", table, got)
		}
	}
}
