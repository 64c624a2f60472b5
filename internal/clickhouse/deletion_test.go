package clickhouse

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

const deletionOther = "00000000000000000000000000000002"

// recorded stores events of two accounts with two scripts each, ten seconds apart from
// noon on, each at an offset of its own, and a record of each account that is no event.
func recorded(t *testing.T, db *DB, events int) {
	t.Helper()
	var rows []row
	for i := range events {
		for _, accountID := range []string{account, deletionOther} {
			for _, script := range []string{"shop", "it's"} {
				r := served(time.Duration(i) * 10 * time.Second)
				r.account, r.script = accountID, script
				rows = append(rows, r)
			}
		}
	}
	b := blockOf(rows...)
	for i := range rows {
		b.KafkaPartition[i], b.KafkaOffset[i] = int32(i%3), int64(i)
	}
	if err := db.InsertEvents(t.Context(), "recorded", b); err != nil {
		t.Fatal(err)
	}
	n := int64(len(rows))
	err := db.InsertQuarantine(t.Context(), "recorded", &tables.Quarantine{
		KafkaPartition: []int32{0, 0, 0}, KafkaOffset: []int64{n, n + 1, n + 2}, KafkaTime: []time.Time{noon, noon, noon},
		AccountID: []string{account, account, deletionOther}, Reason: []string{"undecodable", "undecodable", "undecodable"}, Detail: []string{"", "", ""},
		Value: []string{`{"ScriptName":"shop"`, `{"ScriptName":"it's"`, `{"ScriptName":"shop"`}, ValueBytes: []uint64{20, 20, 20},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// settled is a look at which every row that is there was inserted long ago.
func settled(now time.Time) tables.Look {
	return tables.Look{Now: now, Settled: time.Now().Add(time.Minute)}
}

// removed waits until nothing is being removed from a table.
func removed(t *testing.T, db *DB, table, id string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		m, err := db.Removing(t.Context(), table, id)
		if err != nil || m.Failure != "" || time.Now().After(deadline) {
			t.Fatalf("delete from %s: %+v, error %v", table, m, err)
		}
		if !m.Running {
			return
		}
	}
}

// remove deletes as the worker does, and returns how many rows each table lost.
func remove(t *testing.T, db *DB, what schema.Tombstone, now time.Time) (lost map[string]int64, kept map[string]int64) {
	t.Helper()
	lost, kept = map[string]int64{}, map[string]int64{}
	at := settled(now)
	for _, table := range db.DeletionTables() {
		found, err := db.CountDeletion(t.Context(), table, what, at)
		if err != nil || found.Ready != found.Left {
			t.Fatalf("%s has %+v, error %v", table, found, err)
		}
		lost[table] = found.Left
		if found.Left == 0 {
			continue
		}
		if strings.HasPrefix(table, "trace_events") {
			for range 2 { // the second finds them noted
				if err := db.NoteDeleted(t.Context(), table, what, at); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := db.DeleteRows(t.Context(), table, "d1", what, at); err != nil {
			t.Fatal(err)
		}
		removed(t, db, table, "d1")
		if found, err = db.CountDeletion(t.Context(), table, what, at); err != nil || found.Left != 0 {
			t.Fatalf("%s has %+v, error %v", table, found, err)
		}
		kept[table] = found.Kept
	}
	return lost, kept
}

// remaining is what each table has of each script.
func remaining(t *testing.T, db *DB) string {
	t.Helper()
	var lines []string
	for _, ask := range []string{
		"SELECT 'events', account_id, script_name, toInt64(count()) FROM trace_events GROUP BY 1, 2, 3",
		"SELECT '1s', account_id, script_name, toInt64(sum(requests)) FROM version_rates_1s GROUP BY 1, 2, 3",
		"SELECT 'drawn', account_id, script_name, toInt64(sum(requests)) FROM assigned_rates_1s GROUP BY 1, 2, 3",
		"SELECT '1m', account_id, script_name, toInt64(sum(requests)) FROM version_rates_1m GROUP BY 1, 2, 3",
		"SELECT '1h', account_id, script_name, toInt64(sum(requests)) FROM version_rates_1h GROUP BY 1, 2, 3",
		"SELECT 'quarantine', account_id, reason, toInt64(count()) FROM trace_events_quarantine GROUP BY 1, 2, 3",
	} {
		rows, err := db.conn.Query(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var table, accountID, script string
			var n int64
			if err := rows.Scan(&table, &accountID, &script, &n); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("%s %s/%s %d", table, strings.TrimLeft(accountID, "0"), script, n))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func expect(lines ...string) string {
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestDeletionOfAScriptLeavesTheOthers(t *testing.T) {
	db := migrated(t)
	recorded(t, db, 10)
	what := schema.Tombstone{AccountID: account, Script: "it's", Before: noon.Add(time.Hour)}
	lost, kept := remove(t, db, what, noon.Add(time.Hour))
	if got := fmt.Sprint(lost, kept); got != "map[assigned_rates_1s:10 trace_events:10 trace_events_quarantine:1 version_rates_1h:1 version_rates_1m:2 version_rates_1s:10] map[assigned_rates_1s:0 trace_events:0 trace_events_quarantine:0 version_rates_1h:0 version_rates_1m:0 version_rates_1s:0]" {
		t.Errorf("lost and kept are %s", got)
	}
	a := strings.TrimLeft(account, "0")
	want := expect("events "+a+"/shop 10", "1s "+a+"/shop 10", "drawn "+a+"/shop 10", "1m "+a+"/shop 10", "1h "+a+"/shop 10", "quarantine "+a+"/undecodable 1",
		"events 2/shop 10", "1s 2/shop 10", "drawn 2/shop 10", "1m 2/shop 10", "1h 2/shop 10", "events 2/it's 10", "1s 2/it's 10", "drawn 2/it's 10", "1m 2/it's 10", "1h 2/it's 10",
		"quarantine 2/undecodable 1", "quarantine /deleted 11")
	if got := remaining(t, db); got != want {
		t.Errorf("what remains is\n%s\nwant\n%s", got, want)
	}
	// Whoever compares with Kafka's offsets misses none.
	for partition, offsets := range map[int]int64{0: 43, 1: 40, 2: 40} {
		r, err := db.ArchiveRange(t.Context(), tables.ArchiveQuery{Partition: partition, Begin: 0, End: offsets, From: noon, To: noon.Add(time.Hour)})
		want := map[int]int64{0: 14 + 3, 1: 13, 2: 13}[partition]
		if err != nil || r.Held != want {
			t.Errorf("partition %d holds %+v, error %v, want %d", partition, r, err, want)
		}
	}
	// A second run finds nothing.
	if lost, _ := remove(t, db, what, noon.Add(time.Hour)); lost["trace_events"] != 0 || lost["version_rates_1h"] != 0 || lost["trace_events_quarantine"] != 0 {
		t.Errorf("the second run found %v", lost)
	}
	// What it leaves is gone from the parts, too, and not only hidden.
	var hidden uint64
	if err := db.conn.QueryRow(t.Context(), "SELECT sum(rows) FROM system.parts WHERE database = currentDatabase() AND table = 'trace_events' AND active").Scan(&hidden); err != nil || hidden != 30 {
		t.Errorf("the parts hold %d rows, error %v, want 30", hidden, err)
	}
}

func TestDeletionOfAnAccountUpToATime(t *testing.T) {
	db := migrated(t)
	recorded(t, db, 10) // up to 90 s after noon
	before := noon.Add(45 * time.Second)
	what := schema.Tombstone{AccountID: account, Before: before}
	lost, kept := remove(t, db, what, before.Add(time.Minute))
	if got := fmt.Sprint(lost, kept); got != "map[assigned_rates_1s:10 trace_events:10 trace_events_quarantine:2 version_rates_1h:0 version_rates_1m:0 version_rates_1s:10] map[assigned_rates_1s:0 trace_events:0 trace_events_quarantine:0 version_rates_1s:0]" {
		t.Errorf("lost and kept are %s", got)
	}
	for table, want := range map[string]int64{"version_rates_1m": 2, "version_rates_1h": 2} {
		if found, err := db.CountDeletion(t.Context(), table, what, settled(before.Add(time.Minute))); err != nil || found != (tables.Doomed{Kept: want}) {
			t.Errorf("%s has %+v, error %v, want %d kept", table, found, err, want)
		}
	}
	a := strings.TrimLeft(account, "0")
	want := expect("events "+a+"/shop 5", "events "+a+"/it's 5", "1s "+a+"/shop 5", "drawn "+a+"/shop 5", "1s "+a+"/it's 5", "drawn "+a+"/it's 5",
		"1m "+a+"/shop 10", "1m "+a+"/it's 10", "1h "+a+"/shop 10", "1h "+a+"/it's 10",
		"events 2/shop 10", "1s 2/shop 10", "drawn 2/shop 10", "1m 2/shop 10", "1h 2/shop 10", "events 2/it's 10", "1s 2/it's 10", "drawn 2/it's 10", "1m 2/it's 10", "1h 2/it's 10",
		"quarantine 2/undecodable 1", "quarantine /deleted 12")
	if got := remaining(t, db); got != want {
		t.Errorf("what remains is\n%s\nwant\n%s", got, want)
	}
}

// The bucket in which the time lies goes with the rest where nothing came after it, and
// stays where nobody knows any more, or not yet.
func TestDeletionOfTheLastBucket(t *testing.T) {
	db := migrated(t)
	recorded(t, db, 10)
	what := schema.Tombstone{AccountID: account, Script: "shop", Before: noon.Add(95 * time.Second)}
	end := noon.Add(time.Hour)
	f := func(now, settled time.Time, want tables.Doomed) {
		t.Helper()
		got, err := db.CountDeletion(t.Context(), "version_rates_1h", what, tables.Look{Now: now, Settled: settled})
		if err != nil || got != want {
			t.Errorf("at %s, settled until %s, there are %+v, error %v, want %+v", now, settled, got, err, want)
		}
	}
	f(what.Before, what.Before, tables.Doomed{Kept: 1})
	f(end.Add(time.Minute), end.Add(-time.Millisecond), tables.Doomed{Kept: 1})
	f(end.Add(time.Minute), end, tables.Doomed{Left: 1, Ready: 1, Due: 1})
	f(what.Before.Add(borderKnown+time.Minute), what.Before.Add(borderKnown), tables.Doomed{Kept: 1})
}

// An event that stays comes after it was looked for, and before the rates are removed.
func TestDeletionLeavesTheCountsOfAnEventThatComesMeanwhile(t *testing.T) {
	db := migrated(t)
	recorded(t, db, 10)
	what := schema.Tombstone{AccountID: account, Script: "shop", Before: noon.Add(95 * time.Second)}
	at := tables.Look{Now: what.Before.Add(time.Minute), Settled: what.Before}
	for _, table := range []string{"version_rates_1s", "version_rates_1m", "version_rates_1h"} {
		if _, err := db.CountDeletion(t.Context(), table, what, at); err != nil {
			t.Fatal(err)
		}
		if err := db.DeleteRows(t.Context(), table, "d1", what, at); err != nil {
			t.Fatal(err)
		}
		removed(t, db, table, "d1")
	}
	later := served(100 * time.Second)
	later.script = "shop"
	if err := db.InsertEvents(t.Context(), "later", blockOf(later)); err != nil {
		t.Fatal(err)
	}
	remove(t, db, what, noon.Add(time.Hour))
	if got, want := scalar(t, db, "SELECT toString(sum(requests)) FROM version_rates_1h WHERE account_id = '"+account+"' AND script_name = 'shop'"), "11"; got != want {
		t.Errorf("the hour counts %s requests, want %s", got, want)
	}
	if got, want := scalar(t, db, "SELECT toString(sum(requests)) FROM version_rates_1m WHERE account_id = '"+account+"' AND script_name = 'shop'"), "5"; got != want {
		t.Errorf("the minutes count %s requests, want %s", got, want)
	}
}

// A block that ingest built with an older list lands after the offsets were noted, and
// before the rows are removed.
func TestDeletionLosesNoOffsetOfABlockThatComesMeanwhile(t *testing.T) {
	db := migrated(t)
	server, err := db.ServerTime(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	block := func(token string, offset int64, proven time.Time) {
		t.Helper()
		b := blockOf(served(0), served(time.Second))
		q := &tables.Quarantine{ProvenAt: proven, KafkaPartition: []int32{0}, KafkaOffset: []int64{offset + 2}, KafkaTime: []time.Time{noon}, AccountID: []string{account},
			Reason: []string{"undecodable"}, Detail: []string{""}, Value: []string{"{"}, ValueBytes: []uint64{1}}
		b.ProvenAt = proven
		for i := range b.KafkaOffset {
			b.KafkaPartition[i], b.KafkaOffset[i] = 0, offset+int64(i)
		}
		if err := errors.Join(db.InsertEvents(t.Context(), token, b), db.InsertQuarantine(t.Context(), token, q)); err != nil {
			t.Fatal(err)
		}
	}
	what := schema.Tombstone{AccountID: account, Before: noon.Add(time.Hour)}
	noted := []string{"trace_events_quarantine", "trace_events"}
	pass := func(at tables.Look, want tables.Doomed, meanwhile func()) {
		t.Helper()
		for _, table := range noted {
			if err := db.NoteDeleted(t.Context(), table, what, at); err != nil {
				t.Fatal(err)
			}
		}
		meanwhile()
		for _, table := range noted {
			if err := db.DeleteRows(t.Context(), table, "d1", what, at); err != nil {
				t.Fatal(err)
			}
			removed(t, db, table, "d1")
		}
		if got, err := db.CountDeletion(t.Context(), "trace_events", what, at); err != nil || got != want {
			t.Errorf("there are %+v, error %v, want %+v", got, err, want)
		}
		if s, err := db.Stored(t.Context(), 0, 0, 100); err != nil || s.Rows != 6 {
			t.Errorf("of six offsets %d are known, error %v", s.Rows, err)
		}
	}
	block("before", 0, server.Add(-15*time.Second))
	pass(tables.Look{Now: server, Settled: server.Add(-10 * time.Second)}, tables.Doomed{Left: 2}, func() { block("meanwhile", 10, server) })
	pass(settled(server), tables.Doomed{}, func() {})
	if got := scalar(t, db, "SELECT toString(countIf(reason = 'deleted')) FROM trace_events_quarantine"); got != "6" {
		t.Errorf("%s offsets are noted, want 6", got)
	}
}

// One note is of so few offsets that it is over before its inserted_at is too old.
func TestDeletionNotesOffsetsInChunks(t *testing.T) {
	db := migrated(t)
	offsets := []int64{0, noteOffsets - 1, noteOffsets, 5*noteOffsets + 7}
	b := blockOf(served(0), served(0), served(0), served(0))
	for i, offset := range offsets {
		b.KafkaPartition[i], b.KafkaOffset[i] = 0, offset
	}
	if err := db.InsertEvents(t.Context(), "b", b); err != nil {
		t.Fatal(err)
	}
	chunks, err := db.deletionChunks(t.Context(), "trace_events", "time", "1")
	day := uint16(noon.Unix() / 86400) // #nosec G115 -- days since 1970
	want := []chunk{{0, day, 0, noteOffsets - 1}, {0, day, noteOffsets, noteOffsets}, {0, day, offsets[3], offsets[3]}}
	if err != nil || !slices.Equal(chunks, want) {
		t.Errorf("the chunks are %+v, error %v, want %+v", chunks, err, want)
	}
	if err := db.NoteDeleted(t.Context(), "trace_events", schema.Tombstone{AccountID: account, Before: noon.Add(time.Hour)}, settled(noon)); err != nil {
		t.Fatal(err)
	}
	if got, want := scalar(t, db, "SELECT toString(arraySort(groupArray(kafka_offset))) FROM trace_events_quarantine"), strings.ReplaceAll(fmt.Sprint(offsets), " ", ","); got != want {
		t.Errorf("noted are %s, want %s", got, want)
	}
}

func TestTombstones(t *testing.T) {
	db := migrated(t)
	early := schema.Tombstone{AccountID: account, Script: "it's", Before: noon}
	late := schema.Tombstone{AccountID: account, Script: "it's", Before: noon.Add(time.Second)}
	all := schema.Tombstone{AccountID: deletionOther, Before: noon.Add(time.Millisecond)}
	for _, one := range []schema.Tombstone{late, early, all, late} {
		if err := db.AddTombstone(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	list, err := db.Tombstones(t.Context())
	slices.SortFunc(list, func(a, b schema.Tombstone) int { return strings.Compare(a.AccountID, b.AccountID) })
	slices.SortFunc(list, func(a, b schema.Tombstone) int { return strings.Compare(b.Script, a.Script) })
	if err != nil || !slices.Equal(list, []schema.Tombstone{late, all}) {
		t.Errorf("%+v, error %v", list, err)
	}
}

func TestHoldsDeleted(t *testing.T) {
	db := migrated(t)
	recorded(t, db, 10)
	what := schema.Tombstone{AccountID: account, Script: "it's", Before: noon.Add(time.Hour)}
	f := func(begin, end int64, want bool) {
		t.Helper()
		if got, err := db.HoldsDeleted(t.Context(), what, 1, begin, end); err != nil || got != want {
			t.Errorf("offsets from %d to %d: %v, error %v, want %v", begin, end, got, err, want)
		}
	}
	f(1, 2, true) // the script's own in partition 1 are 1, 13, 25 and 37
	f(2, 13, false)
	f(2, 14, true)
	remove(t, db, what, noon.Add(time.Hour))
	f(1, 2, true)
	f(2, 13, false)
}

func TestDeletionOnACluster(t *testing.T) {
	got := layout{"tidegate", "prod"}.deletion("trace_events", "7", "account_id = 'a'")
	if want := "ALTER TABLE trace_events_local ON CLUSTER `prod` DELETE WHERE account_id = 'a' AND 'deletion 7' != ''"; got != want {
		t.Errorf("the statement is %s, want %s", got, want)
	}
}
