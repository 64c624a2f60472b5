package clickhouse

import (
	"fmt"
	"slices"
	"testing"
	"time"

	tables "tidegate/schema/clickhouse"
)

// archived inserts events of a partition at offsets, a second apart by their offset.
func archived(t *testing.T, db *DB, partition int32, accountID string, offsets ...int64) {
	t.Helper()
	rows := make([]row, len(offsets))
	for i, o := range offsets {
		rows[i] = served(time.Duration(o) * time.Second)
		rows[i].account = accountID
	}
	b := blockOf(rows...)
	for i, o := range offsets {
		b.KafkaPartition[i], b.KafkaOffset[i] = partition, o
	}
	if err := db.InsertEvents(t.Context(), fmt.Sprint(partition, accountID, offsets), b); err != nil {
		t.Fatal(err)
	}
}

func TestArchivedEventsComeInPages(t *testing.T) {
	db := migrated(t)
	var offsets []int64
	for o := range int64(2*archivePageRows + 10) {
		offsets = append(offsets, o)
	}
	// In blocks, so that they lie in several parts, and not in order.
	slices.Reverse(offsets)
	for block := range slices.Chunk(offsets, 3000) {
		archived(t, db, 1, account, block...)
	}
	archived(t, db, 2, account, 5)
	archived(t, db, 1, "somebody else", 7)
	q := tables.ArchiveQuery{AccountID: account, Partition: 1, Begin: 3, End: 1 << 40, From: noon, To: noon.Add(2 * archivePageRows * time.Second)}
	var got []int64
	for pages := 0; q.Begin < q.End; pages++ {
		list, next, err := db.ArchivedEvents(t.Context(), q)
		if err != nil || next <= q.Begin || len(list) > archivePageRows || pages > 5 {
			t.Fatalf("page %d: %d events, next %d, error %v", pages, len(list), next, err)
		}
		for _, a := range list {
			got = append(got, a.Offset)
		}
		q.Begin = next
	}
	slices.Reverse(offsets)
	if want := offsets[3 : 2*archivePageRows]; !slices.Equal(got, want) {
		t.Errorf("%d events from %d to %d came, want %d", len(got), got[0], got[len(got)-1], len(want))
	}
}

func TestArchiveRangeTellsWhatIsMissing(t *testing.T) {
	db := migrated(t)
	archived(t, db, 1, account, 10, 11, 12, 13)
	archived(t, db, 1, "somebody else", 14, 15, 18, 19)
	archived(t, db, 1, account, 20, 30)
	if err := db.InsertQuarantine(t.Context(), "q", &tables.Quarantine{
		KafkaPartition: []int32{1}, KafkaOffset: []int64{16}, KafkaTime: []time.Time{noon}, AccountID: []string{""},
		Reason: []string{"undecodable"}, Detail: []string{""}, Value: []string{""}, ValueBytes: []uint64{0},
	}); err != nil {
		t.Fatal(err)
	}
	f := func(what string, begin, end int64, from, to int, want tables.ArchiveRange, missing int64) {
		t.Helper()
		q := tables.ArchiveQuery{Partition: 1, Begin: begin, End: end, From: noon.Add(time.Duration(from) * time.Second)}
		if to > 0 {
			q.To = noon.Add(time.Duration(to) * time.Second)
		}
		got, err := db.ArchiveRange(t.Context(), q)
		if err != nil || got != want || got.Missing() != missing {
			t.Errorf("%s: %+v, missing %d, error %v; want %+v, %d", what, got, got.Missing(), err, want, missing)
		}
	}
	f("all of it, one offset missing inside", -1, 21, 11, 20, tables.ArchiveRange{Begin: 11, End: 20, Held: 8}, 1)
	f("a hole up to where Kafka begins", -1, 25, 11, 22, tables.ArchiveRange{Begin: 11, End: 25, Held: 9}, 5)
	f("without an end", -1, 31, 19, 0, tables.ArchiveRange{Begin: 19, End: 31, Held: 3}, 9)
	f("nothing of the time, in a hole", -1, 31, 22, 28, tables.ArchiveRange{Begin: 21, End: 30}, 9)
	f("nothing of the time, before all", -1, 31, 1, 5, tables.ArchiveRange{Begin: 10, End: 10}, 0)
	f("nothing below Kafka's first", -1, 5, 11, 20, tables.ArchiveRange{Begin: 5, End: 5}, 0)
	f("a hole where it begins", 8, 14, 1, 20, tables.ArchiveRange{Begin: 8, End: 14, Held: 4}, 2)
	f("nothing but a hole", 21, 29, 1, 60, tables.ArchiveRange{Begin: 21, End: 29}, 8)
	f("a hole at the border of the time", -1, 31, 13, 17, tables.ArchiveRange{Begin: 13, End: 18, Held: 4}, 1)
}

func TestOldestEvent(t *testing.T) {
	db := migrated(t)
	if at, ok, err := db.OldestEvent(t.Context(), account); ok || err != nil {
		t.Errorf("of nothing: %s, %v, %v", at, ok, err)
	}
	if at, ok, err := db.OldestArchived(t.Context()); ok || err != nil {
		t.Errorf("of nothing: %s, %v, %v", at, ok, err)
	}
	archived(t, db, 0, account, 3, 2, 9)
	if at, ok, err := db.OldestEvent(t.Context(), account); !ok || err != nil || !at.Equal(noon.Add(2*time.Second)) {
		t.Errorf("%s, %v, %v", at, ok, err)
	}
	archived(t, db, 1, "somebody else", 1)
	if at, ok, err := db.OldestArchived(t.Context()); !ok || err != nil || !at.Equal(noon.Add(time.Second)) {
		t.Errorf("of all accounts: %s, %v, %v", at, ok, err)
	}
}

// Rows from before the migration say nothing of Logpush.
func TestOldRowsAreUnknown(t *testing.T) {
	db := migrated(t)
	columns := slices.DeleteFunc(blockOf(served(0)).Columns(), func(c tables.Column) bool {
		return slices.Contains([]string{"logpush", "affinity_rule", "caller_script", "caller_version_id"}, c.Name)
	})
	if err := db.send(t.Context(), "trace_events", "old", 1, columns); err != nil {
		t.Fatal(err)
	}
	list, _, err := db.ArchivedEvents(t.Context(), tables.ArchiveQuery{AccountID: account, End: 1, From: noon})
	if err != nil || len(list) != 1 || list[0].Logpush != tables.LogpushUnknown {
		t.Errorf("%+v, %v", list, err)
	}
}
