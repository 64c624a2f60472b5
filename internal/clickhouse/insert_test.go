package clickhouse

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

func TestRepeatedBlockCountsOnce(t *testing.T) {
	db := migrated(t)
	rows := repeat(1000, served(0))
	for range 3 {
		insert(t, db, "topic-0-0-1000", rows...)
	}
	wantCounts(t, db, 1000)
	insert(t, db, "topic-0-1000-2000", rows...) // the same rows under another name are other events
	wantCounts(t, db, 2000)
}

// A block over midnight makes a part in each of two days, and each part is
// remembered by itself.
func TestRepeatedBlockOverSeveralDaysCountsOnce(t *testing.T) {
	db := migrated(t)
	var rows []row
	for day := range 5 {
		rows = append(rows, repeat(3, served(-time.Duration(day)*24*time.Hour))...)
	}
	insert(t, db, "days", rows...)
	insert(t, db, "days", rows...)
	wantCounts(t, db, 15)
}

// One wrong clock is bounded where rows are made, but a backlog of months is
// legitimate and must not be refused for ever.
func TestBlockOfMoreDaysThanTheServersDefaultLimit(t *testing.T) {
	db := open(t)
	db.cfg.Retention = Retention{}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rows []row
	for day := range 101 {
		rows = append(rows, served(-time.Duration(day)*24*time.Hour))
	}
	insert(t, db, "many", rows...)
	wantCounts(t, db, 101)
}

// A server that dies in the middle of an insert has the rows in some tables and
// not in others. The repeat must fill in what is missing and nothing else.
func TestRepeatCompletesAHalfDoneInsert(t *testing.T) {
	for _, broken := range []string{"version_rates_1s", "version_rates_1m", "version_rates_1h"} {
		t.Run(broken, func(t *testing.T) {
			db := migrated(t)
			exec := func(statement string) {
				t.Helper()
				if err := db.conn.Exec(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			insert(t, db, "earlier", repeat(10, served(0))...)
			exec("ALTER TABLE " + broken + " ADD CONSTRAINT broken CHECK requests = 0")
			rows := blockOf(repeat(100, served(time.Second))...)
			if err := db.InsertEvents(t.Context(), "half", rows); err == nil {
				t.Fatal("the insert succeeded with a table that refuses it")
			}
			exec("ALTER TABLE " + broken + " DROP CONSTRAINT broken")
			for range 2 {
				if err := db.InsertEvents(t.Context(), "half", rows); err != nil {
					t.Fatal(err)
				}
			}
			wantCounts(t, db, 110)
		})
	}
}

// The above leaves it to the engine which tables the first try reached. Here it
// certainly reached trace_events and two of the three.
func TestRepeatReachesAViewThatWasAway(t *testing.T) {
	db := migrated(t)
	rows := repeat(100, served(0))
	if err := db.conn.Exec(t.Context(), "DETACH TABLE version_rates_1m_view"); err != nil {
		t.Fatal(err)
	}
	insert(t, db, "half", rows...)
	if got := scalar(t, db, "SELECT concat(toString((SELECT count() FROM trace_events)), ' ', toString((SELECT sum(requests) FROM version_rates_1m)))"); got != "100 0" {
		t.Fatalf("trace_events and version_rates_1m hold %s, want 100 0", got)
	}
	if err := db.conn.Exec(t.Context(), "ATTACH TABLE version_rates_1m_view"); err != nil {
		t.Fatal(err)
	}
	insert(t, db, "half", rows...)
	wantCounts(t, db, 100)
}

// A reader that lost its partition may still be inserting when the next one
// repeats its block.
func TestTheSameBlockFromTwoReadersAtOnceCountsOnce(t *testing.T) {
	db := migrated(t)
	const rounds, rows = 4, 200
	for round := range rounds {
		b := blockOf(repeat(rows, served(time.Duration(round)*time.Second))...)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := db.InsertEvents(t.Context(), fmt.Sprint("round-", round), b); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	wantCounts(t, db, rounds*rows)
}

// Ingest reckons with what a block takes of the window, and asks the block.
func TestEntriesAreWhatATableRemembers(t *testing.T) {
	db := migrated(t)
	numbers := func() (last []int64) { // of each table's newest part
		for _, table := range []string{"trace_events", rollups[0].Table, rollups[1].Table, rollups[2].Table, assigned.Table} {
			n, err := strconv.ParseInt(scalar(t, db, "SELECT max(max_block_number) FROM system.parts WHERE database = currentDatabase() AND table = '"+table+"'"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			last = append(last, n)
		}
		return last
	}
	insert(t, db, "first", served(0))
	f := func(rows ...row) {
		t.Helper()
		before, most := numbers(), int64(0)
		insert(t, db, fmt.Sprint("block of ", before), rows...)
		for i, n := range numbers() {
			most = max(most, n-before[i])
		}
		if got := blockOf(rows...).Entries(); got != most {
			t.Errorf("%d rows make %d entries, and %d parts of a table", len(rows), got, most)
		}
	}
	f(served(0), served(time.Second))
	f(served(0), standsFor(3, served(time.Second)))
	days := []row{served(0), served(-24 * time.Hour), served(-48 * time.Hour), served(0), served(-72 * time.Hour)}
	f(days...)
	for i := range days { // or else what stands for others is of fewer days
		days[i] = standsFor(3, days[i])
	}
	f(days...)
}

// The window is a promise of layout.go; this checks that the table was given it.
func TestEveryTableRemembersItsBlocks(t *testing.T) {
	db := migrated(t)
	for _, table := range []string{"trace_events", "trace_events_quarantine", "version_rates_1s", "version_rates_1m", "version_rates_1h"} {
		engine := scalar(t, db, "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = '"+table+"'")
		if !strings.Contains(engine, fmt.Sprintf("deduplication_window = %d", tables.RememberedBlocks)) {
			t.Errorf("%s is %s: without the window", table, engine)
		}
	}
	insert(t, db, "first", served(0))
	for i := range 20 {
		insert(t, db, fmt.Sprint("block-", i), served(time.Second))
	}
	insert(t, db, "first", served(0))
	wantCounts(t, db, 21)
}

// On a cluster one replica had a block when its offset was committed, and could be lost with
// it. There is no cluster here, but an engine that takes the settings.
func TestInsertsOnAClusterWaitForMostReplicas(t *testing.T) {
	db := migrated(t)
	if got := fmt.Sprint(db.insertSettings("one")); strings.Contains(got, "quorum") {
		t.Errorf("on a single server the settings are %s", got)
	}
	db.cfg.Cluster = "main" // from here on: the tables are those of a single server
	settings := db.insertSettings("one")
	if settings["insert_quorum"] != "auto" || settings["insert_quorum_parallel"] != 1 || settings["insert_quorum_timeout"] != int64(10_000) || settings["insert_deduplicate"] != 1 {
		t.Errorf("settings are %v", settings)
	}
	for range 2 {
		insert(t, db, "one", served(0), standsFor(3, served(0)))
	}
	if err := db.AddTombstone(t.Context(), schema.Tombstone{AccountID: deletionOther, Before: noon}); err != nil {
		t.Error(err)
	}
	if got := scalar(t, db, "SELECT sum(requests) FROM version_rates_1s"); got != "4" {
		t.Errorf("%s requests are counted, want 4", got)
	}
}

func TestEveryColumnArrives(t *testing.T) {
	db := migrated(t)
	b := &tables.Events{
		AccountID: []string{account}, ScriptName: []string{script}, Time: []time.Time{noon.Add(123 * time.Millisecond)}, SkewMs: []int64{-5},
		VersionID: []string{v1}, VersionTag: []string{"v1"}, VersionMessage: []string{"line\nbreak"}, EventType: []string{"fetch"},
		Outcome: []string{"exception"}, Status: []uint16{502}, WallMs: []tables.Maybe[int64]{tables.Known(int64(17))}, CPUMs: []tables.Maybe[int64]{tables.Known(int64(3))}, UpstreamMs: []tables.Maybe[float64]{tables.Known(12.5)},
		Decision: []string{"affinity"}, AffinityRule: []uint16{2}, CallerScript: []string{"front"}, CallerVersionID: []string{v2}, SampledOut: []uint64{99}, RayID: [][]byte{[]byte("0123456789abcdef")}, ErrorKind: []string{"connect"}, Method: []string{"POST"},
		URL: [][]byte{[]byte("http://shop.dev.localhost/ü?\x00\xff")}, Entrypoint: []string{"Counter"}, DispatchNamespace: []string{"ns"},
		ScriptTags: [][]byte{[]byte(`["a","b"]`)}, Event: [][]byte{[]byte(`{"Request":{"URL":"x"}}`)},
		Exceptions: [][]byte{[]byte(`[{"Name":"Error","Message":"no","TimestampMs":1}]`)}, Logs: [][]byte{[]byte(`[{"Level":"log","Message":["hi",1],"TimestampMs":2}]`)},
		Logpush: []string{tables.LogpushNo}, KafkaPartition: []int32{3}, KafkaOffset: []int64{1 << 40},
	}
	if err := db.InsertEvents(t.Context(), "one", b); err != nil {
		t.Fatal(err)
	}
	for column, want := range map[string]string{
		"account_id": account, "script_name": script, "time": noon.Add(123 * time.Millisecond).Format("2006-01-02 15:04:05.000"),
		"skew_ms": "-5", "version_id": v1, "version_tag": "v1", "version_message": "line\nbreak", "event_type": "fetch",
		"outcome": "exception", "status": "502", "wall_ms": "17", "cpu_ms": "3", "upstream_ms": "12.5", "decision": "affinity", "affinity_rule": "2", "caller_script": "front", "caller_version_id": v2, "sampled_out": "99", "logpush": "no",
		"ray_id": "0123456789abcdef", "error_kind": "connect", "method": "POST", "url": "http://shop.dev.localhost/ü?\x00\xff",
		"entrypoint": "Counter", "dispatch_namespace": "ns", "script_tags": `["a","b"]`, "event": `{"Request":{"URL":"x"}}`,
		"exceptions": string(b.Exceptions[0]), "logs": string(b.Logs[0]), "kafka_partition": "3", "kafka_offset": "1099511627776",
		"inserted_at > now() - 60": "1",
	} {
		if got := scalar(t, db, "SELECT "+column+" FROM trace_events"); got != want {
			t.Errorf("%s is %q, want %q", column, got, want)
		}
	}
	if n := len(b.Columns()); n != 31 {
		t.Errorf("%d columns are sent and 31 are checked here", n)
	}
	if _, err := db.RatesBetween(t.Context(), account, script, noon, noon.Add(time.Second)); err != nil {
		t.Error(err)
	}
}

func TestQuarantineKeepsBytesAsTheyAre(t *testing.T) {
	db := migrated(t)
	q := &tables.Quarantine{
		KafkaPartition: []int32{2}, KafkaOffset: []int64{9}, KafkaTime: []time.Time{noon}, AccountID: []string{""},
		Reason: []string{"undecodable"}, Detail: []string{"why"}, Value: []string{"\x00\xff{"}, ValueBytes: []uint64{70_000},
	}
	for range 2 {
		if err := db.InsertQuarantine(t.Context(), "q", q); err != nil {
			t.Fatal(err)
		}
	}
	if got := scalar(t, db, "SELECT concat(hex(value), ' ', toString(value_bytes), ' ', reason, ' ', toString(kafka_offset)) FROM trace_events_quarantine"); got != "00FF7B 70000 undecodable 9" {
		t.Errorf("quarantine holds %q", got)
	}
}

func TestEmptyBlockIsNoInsert(t *testing.T) {
	db := open(t) // an insert would fail: there are no tables
	if err := db.InsertEvents(t.Context(), "none", &tables.Events{}); err != nil {
		t.Error(err)
	}
	if err := db.InsertQuarantine(t.Context(), "none", &tables.Quarantine{}); err != nil {
		t.Error(err)
	}
}

func TestResetEmptiesEveryColumn(t *testing.T) {
	b := blockOf(served(0), served(0))
	b.Reset(0)
	for _, c := range b.Columns() {
		if got := fmt.Sprint(c.Values); got != "[]" {
			t.Errorf("%s is %s after a reset", c.Name, got)
		}
	}
	if b.Len() != 0 || schema.Topic == "" {
		t.Errorf("length is %d", b.Len())
	}
}
