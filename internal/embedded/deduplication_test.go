package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The engine was killed between the record of a block and the block's part. When the block came again it was
// taken for a repeat and dropped: one rollup was short of five events for ever, while the raw rows and the other
// rollups had them.
func TestBlockWithoutItsPartIsTakenAgain(t *testing.T) {
	dir := t.TempDir()
	e := startEngine(t, dir)
	mustAsk(t, e, "CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
	insert := func(e *Engine, block int) {
		t.Helper()
		mustAsk(t, e, fmt.Sprintf("INSERT INTO t SETTINGS async_insert = 0, insert_deduplication_token = 'block-%d' VALUES (%[1]d)", block))
	}
	insert(e, 1)
	insert(e, 2)
	path := mustAsk(t, e, "SELECT data_paths[1] FROM system.tables WHERE name = 't' AND database = currentDatabase()")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	// As a kill between the two leaves it: the record is the last one, and the part is not there.
	if err := os.RemoveAll(filepath.Join(path, "all_2_2_0")); err != nil {
		t.Fatal(err)
	}
	e = startEngine(t, dir)
	equal(t, "rows without the part", mustAsk(t, e, "SELECT groupArray(a) FROM t"), "[1]")
	insert(e, 1)
	insert(e, 2)
	insert(e, 2)
	equal(t, "rows after the repeats", mustAsk(t, e, "SELECT arraySort(groupArray(a)) FROM t"), "[1,2]")

	// What was merged into a larger part is stored.
	mustAsk(t, e, "OPTIMIZE TABLE t FINAL")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = startEngine(t, dir)
	insert(e, 1)
	insert(e, 2)
	equal(t, "rows after a merge", mustAsk(t, e, "SELECT arraySort(groupArray(a)) FROM t"), "[1,2]")
}

// A part that is not whole is set aside by an engine that may merge its neighbours before it is closed again.
func TestBlockOfAPartThatIsNotWholeIsTakenAgain(t *testing.T) {
	dir := t.TempDir()
	e := startEngine(t, dir)
	mustAsk(t, e, "CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100, max_bytes_to_merge_at_max_space_in_pool = 1")
	insert := func(e *Engine, block int) {
		t.Helper()
		mustAsk(t, e, fmt.Sprintf("INSERT INTO t SETTINGS async_insert = 0, insert_deduplication_token = 'block-%d' VALUES (%[1]d)", block))
	}
	path := mustAsk(t, e, "SELECT data_paths[1] FROM system.tables WHERE name = 't' AND database = currentDatabase()")
	for block := range 3 {
		insert(e, block+1)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(path, "all_2_2_0", "data.bin"), 0); err != nil {
		t.Fatal(err)
	}
	e = startEngine(t, dir)
	equal(t, "rows without the part", mustAsk(t, e, "SELECT arraySort(groupArray(a)) FROM t"), "[1,3]")
	for block := range 3 {
		insert(e, block+1)
	}
	equal(t, "rows after the repeats", mustAsk(t, e, "SELECT arraySort(groupArray(a)) FROM t"), "[1,2,3]")
	aside, err := filepath.Glob(filepath.Join(path, "detached", "forgotten-*_"+asidePrefix+"all_2_2_0"))
	if err != nil || len(aside) != 1 {
		t.Errorf("the part lies aside as %v, %v", aside, err)
	}
}

// An engine that must refuse to attach a table, because too much of it is not whole, would never start again.
func TestAnyNumberOfPartsMayBeSetAside(t *testing.T) {
	e := startEngine(t, t.TempDir())
	equal(t, "bounds", mustAsk(t, e, "SELECT sum(toUInt64(value) >= 1000000000), min(changed) FROM system.merge_tree_settings WHERE name LIKE 'max_suspicious_broken_parts%'"), "2\t1")
}

func TestRepairOfDeduplicationLogs(t *testing.T) {
	f := func(name string, parts []string, logs map[int]string, want map[int]string) {
		t.Helper()
		dir := t.TempDir()
		table := filepath.Join(dir, "store", "abc", "abcdef")
		folder := filepath.Join(table, "deduplication_logs")
		for _, part := range append(parts, "deduplication_logs", "detached") {
			if err := os.MkdirAll(filepath.Join(table, part), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for number, text := range logs {
			if err := os.WriteFile(logName(folder, number), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // a second repair finds nothing to do
			if err := repairDeduplication(dir, testLog(t)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for number := range logs {
			got, err := os.ReadFile(logName(folder, number))
			if err != nil {
				t.Fatal(err)
			}
			equal(t, fmt.Sprintf("%s: log %d", name, number), string(got), want[number])
		}
	}
	same := func(name string, parts []string, logs map[int]string) {
		t.Helper()
		f(name, parts, logs, logs)
	}
	same("no table has a log", nil, nil)
	same("empty", nil, map[int]string{1: ""})
	same("stored", []string{"20261125_1_1_0"}, map[int]string{1: "1\t20261125_1_1_0\tb1\n"})
	same("merged", []string{"20261125_1_7_2"}, map[int]string{1: "1\t20261125_3_3_0\tb1\n"})
	same("mutated", []string{"20261125_3_3_0_9"}, map[int]string{1: "1\t20261125_3_3_0\tb1\n"})
	const three = "1\t20261125_2_2_0\tb2\n1\t20261125_3_3_0\tb3\n1\t20261125_4_4_0\tb4\n"
	f("set aside, and its neighbours merged", []string{"20261125_2_4_1", "detached/broken-on-start_20261125_3_3_0"},
		map[int]string{1: three}, map[int]string{1: three + "2\t20261125_3_3_0\tb3\n"})
	f("set aside beside one of its name", []string{"20261125_2_4_1", "detached/broken-on-start_20261125_3_3_0_try1"},
		map[int]string{1: three}, map[int]string{1: three + "2\t20261125_3_3_0\tb3\n"})
	same("another merge was set aside", []string{"20261125_2_4_1", "detached/broken-on-start_20261125_3_4_1"}, map[int]string{1: three})
	same("set aside before, and the number came again", []string{"20261125_2_2_0", "20261125_3_3_0", "20261125_4_4_0", "detached/broken-on-start_20261125_3_3_0"}, map[int]string{1: three})
	same("set aside before, and forgotten then", []string{"20261125_2_4_1", "detached/forgotten-1_broken-on-start_20261125_3_3_0"}, map[int]string{1: three})
	same("forgotten before", nil, map[int]string{1: "1\t20261125_3_3_0\tb1\n2\t20261125_3_3_0\tb1\n"})
	f("an earlier part is not there", []string{"20261125_4_4_0"},
		map[int]string{1: "1\t20261125_3_3_0\tb1\n", 2: "1\t20261125_4_4_0\tb2\n"},
		map[int]string{1: "1\t20261125_3_3_0\tb1\n", 2: "1\t20261125_4_4_0\tb2\n2\t20261125_3_3_0\tb1\n"})
	same("the number is another block's", []string{"20261125_3_3_0"}, map[int]string{1: "1\t20261125_3_3_0\tb1\n2\t20261125_3_3_0\tb1\n1\t20261125_3_3_0\tb2\n"})
	f("not stored", []string{"20261125_1_1_0", "tmp_insert_20261125_2_2_0"},
		map[int]string{1: "1\t20261125_1_1_0\tb1\n1\t20261125_2_2_0\tb2\n"},
		map[int]string{1: "1\t20261125_1_1_0\tb1\n1\t20261125_2_2_0\tb2\n2\t20261125_2_2_0\tb2\n"})
	f("another day's part of that number", []string{"20261124_2_2_0"},
		map[int]string{1: "1\t20261125_2_2_0\tb2\n"}, map[int]string{1: "1\t20261125_2_2_0\tb2\n2\t20261125_2_2_0\tb2\n"})
	f("cut short", []string{"20261125_1_1_0"},
		map[int]string{1: "1\t20261125_1_1_0\tb1\n1\t20261125_2"}, map[int]string{1: "1\t20261125_1_1_0\tb1\n"})
	f("the full log is followed by an empty one", nil,
		map[int]string{9: "1\t20261125_1_1_0\tb1\n", 10: "1\t20261125_2_2_0\tb2\n", 11: ""},
		map[int]string{9: "1\t20261125_1_1_0\tb1\n", 10: "1\t20261125_2_2_0\tb2\n2\t20261125_1_1_0\tb1\n2\t20261125_2_2_0\tb2\n", 11: ""})
}

// A file whose number is written in another way was opened under the engine's own name for
// it, which was not there: nothing started any more.
func TestFilesOfOtherNamesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	const text = "1\t20261125_1_1_0\tb1\n"
	logs, partition := filepath.Join(dir, "store", "abc", "abcdef", "deduplication_logs"), filepath.Join(dir, "partitions", "events-0")
	for _, name := range []string{
		filepath.Join(logs, "deduplication_log_01.txt"), filepath.Join(logs, "1"), filepath.Join(logs, "deduplication_log_2.txt.txt"),
		filepath.Join(partition, "007"+segmentSuffix), filepath.Join(partition, "+7"+segmentSuffix),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := repairDeduplication(dir, testLog(t)); err != nil {
		t.Error(err)
	}
	if windows, err := readSequences(partition, "events", 0); err != nil || len(windows) > 0 {
		t.Errorf("%d windows, %v", len(windows), err)
	}
}

// A log that is not what this program was built for must stop the start, not be guessed at.
func TestRepairRefusesWhatItDoesNotUnderstand(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "store", "abc", "abcdef", "deduplication_logs")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(logName(folder, 1), []byte("1\tpart\tb1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := repairDeduplication(dir, testLog(t))
	if err == nil || !strings.Contains(err.Error(), `"part" does not name a part`) {
		t.Errorf("got %v", err)
	}
}

// TestInsertsAreOnceWhateverIsKilled offers each block until it is answered, while the engine is killed again and
// again: each must count once in the table and in what a view feeds.
func TestInsertsAreOnceWhateverIsKilled(t *testing.T) {
	e := startEngine(t, t.TempDir())
	const once = " ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 10000"
	mustAsk(t, e, "CREATE TABLE t (a Int64)"+once)
	const views = 4
	for v := range views {
		mustAsk(t, e, fmt.Sprintf("CREATE TABLE t%d (a Int64)%s", v, once))
		mustAsk(t, e, fmt.Sprintf("CREATE MATERIALIZED VIEW v%d TO t%[1]d AS SELECT a FROM t", v))
	}
	finish := startWriters(t, e, 6, "")
	const rounds = 8
	for round := range rounds {
		// A kill in the middle of inserts: after so many of them, not after a time.
		before := mustCount(t, e, "t")
		eventually(t, "the writers go on", func() bool { return mustCount(t, e, "t") > before+int64(10+3*round) })
		pid := e.Pid()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another engine runs", func() bool { now := e.Pid(); return now != 0 && now != pid })
	}
	want := finish()
	equal(t, "rows of the table", mustCount(t, e, "t"), want)
	for v := range views {
		equal(t, fmt.Sprintf("rows of view %d", v), mustCount(t, e, fmt.Sprintf("t%d", v)), want)
	}
}

func logName(folder string, number int) string {
	return filepath.Join(folder, fmt.Sprintf("deduplication_log_%d.txt", number))
}

// startWriters has writers insert blocks of a row into the table t, each block until it is answered. A row is a number
// and what more says of other columns. finish ends them, and returns how many blocks were answered.
func startWriters(t *testing.T, e *Engine, writers int, more string) (finish func() int64) {
	stop, written := make(chan struct{}), make(chan int64, writers)
	const insert = "INSERT INTO t SETTINGS async_insert = 0, deduplicate_blocks_in_dependent_materialized_views = 1, insert_deduplication_token = '%d-%d' VALUES (%[2]d%[3]s)"
	for w := range writers {
		go func() {
			n := int64(0)
			defer func() { written <- n }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				block := fmt.Sprintf(insert, w, n, more)
				for {
					a, err := tryAsk(t.Context(), e, "POST", strings.NewReader(block), nil)
					if err == nil && a.status == 200 {
						break
					}
					if t.Context().Err() != nil {
						return // the test has failed: do not load the machine for ever
					}
				}
				n++
			}
		}()
	}
	return func() (blocks int64) {
		close(stop)
		for range writers {
			blocks += <-written
		}
		return blocks
	}
}

// mustCount returns the rows of a table; it asks again while the engine is away.
func mustCount(t *testing.T, e *Engine, table string) (rows int64) {
	t.Helper()
	eventually(t, "the engine counts", func() bool {
		a, err := tryAsk(t.Context(), e, "POST", strings.NewReader("SELECT count() FROM "+table), nil)
		if err == nil && a.status == 200 {
			_, err = fmt.Sscan(a.body, &rows)
		}
		return err == nil && a.status == 200
	})
	return rows
}
