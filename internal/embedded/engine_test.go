package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func running(pid int) bool { return syscall.Kill(pid, 0) == nil }

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

func TestEngineComesBackWithItsDataOnTheSameAddress(t *testing.T) {
	e := startEngine(t, t.TempDir())
	addr := e.Addr()
	mustAsk(t, e, "CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
	mustAsk(t, e, "CREATE DATABASE d")
	mustAsk(t, e, "CREATE TABLE d.t (a Int32) ENGINE = MergeTree ORDER BY a")
	for round := range 4 {
		mustAsk(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d)", round))
		mustAsk(t, e, fmt.Sprintf("INSERT INTO d.t VALUES (%d)", round))
		pid := e.Pid()
		kill(t, pid)
		eventually(t, "the parent has noticed", func() bool { return e.Pid() != pid })
		// A client that comes while there is no child waits for the next one.
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/", strings.NewReader("SELECT (SELECT count() FROM t), (SELECT count() FROM d.t)"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		equal(t, "rows", line, fmt.Sprintf("%d\t%[1]d\n", round+1))
		equal(t, "restarts", e.Restarts(), round+1)
	}
	equal(t, "address", e.Addr(), addr)
}

func TestEngineCloseFinishesQueriesInHand(t *testing.T) {
	dir := t.TempDir()
	e := startEngine(t, dir)
	pid := e.Pid()
	mustAsk(t, e, "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
	answered := make(chan error, 1)
	go func() {
		a, err := tryAsk(t.Context(), e, http.MethodPost, strings.NewReader("INSERT INTO t SELECT number + sleepEachRow(0.1) FROM numbers(10) SETTINGS max_block_size = 1"), nil)
		if err == nil && a.status != http.StatusOK {
			err = errors.New(a.body)
		}
		answered <- err
	}()
	eventually(t, "the query runs", func() bool {
		return mustAsk(t, e, "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%'") == "2"
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the query in hand: %v", err)
	}
	equal(t, "the child lives", running(pid), false)
	equal(t, "restarts", e.Restarts(), 0)
	if err := e.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	equal(t, "rows", mustAsk(t, startEngine(t, dir), "SELECT count() FROM t"), "10")
}

func TestEngineThatCannotStartSaysWhy(t *testing.T) {
	f := func(want string, cfg EngineConfig) {
		t.Helper()
		cfg.Addr, cfg.DataDir, cfg.Logger = "127.0.0.1:0", t.TempDir(), testLog(t)
		e, err := StartEngine(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
		if e != nil {
			t.Error("an engine beside an error")
		}
	}
	broken := filepath.Join(t.TempDir(), libraryName)
	if err := os.WriteFile(broken, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	f("make deps", EngineConfig{Library: broken})
	f("make deps", EngineConfig{Library: broken + "x"})
	f("no such file", EngineConfig{Command: []string{"/no/such/program"}})
	f("exit status 0", EngineConfig{Command: []string{"/bin/true"}})
	e, err := StartEngine(t.Context(), EngineConfig{Addr: "0.0.0.0:0", DataDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v and %v, want a refusal of the address", e, err)
	}
}

func TestEngineStopsStartingWhenAskedTo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := StartEngine(ctx, EngineConfig{Addr: "127.0.0.1:0", DataDir: t.TempDir(), Logger: testLog(t)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestDataDirectoryIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	unlock, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan error)
	go func() {
		unlock, err := Lock(t.Context(), dir)
		if err == nil {
			err = unlock()
		}
		taken <- err
	}()
	select {
	case err := <-taken:
		t.Fatalf("taken twice: %v", err)
	default:
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
}

// runEngineParent starts an engine and waits to be killed.
func runEngineParent(args []string) int {
	e, err := StartEngine(context.Background(), EngineConfig{Addr: "127.0.0.1:0", DataDir: args[0]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(e.Pid())
	select {}
}

func TestEngineDiesWithItsParent(t *testing.T) {
	dir := t.TempDir()
	parent := exec.CommandContext(t.Context(), os.Args[0], "engine-parent", dir)
	parent.Stderr = t.Output()
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the child lives", running(child), true)
	kill(t, parent.Process.Pid)
	_ = parent.Wait() // reports the kill
	equal(t, "the directory can be used", mustAsk(t, startEngine(t, dir), "SELECT 1"), "1")
	eventually(t, "the child is gone", func() bool { return !running(child) })
}

func TestSlowReadsDoNotHoldUpInserts(t *testing.T) {
	e := startEngine(t, t.TempDir())
	mustAsk(t, e, "CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reads sync.WaitGroup
	slow := func(n int) {
		const query = "SELECT sum(sleepEachRow(0.1)) FROM numbers(1e13) SETTINGS max_block_size = 1"
		for range n {
			reads.Go(func() {
				if a, err := tryAsk(ctx, e, http.MethodPost, strings.NewReader(query), nil); err == nil {
					t.Errorf("a query that takes days has ended: %s", a.body)
				}
			})
		}
	}
	slow(readSlots - 1)
	eventually(t, "all slots for reads but one are taken", func() bool {
		return mustAsk(t, e, "SELECT count() FROM system.processes WHERE query LIKE '%1e13%'") == strconv.Itoa(readSlots)
	})
	slow(5)
	for i := range 20 {
		equal(t, "insert", mustAsk(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d)", i)), "")
	}
	cancel()
	reads.Wait()
	// The clients are gone, so their queries are, too, and their slots are free.
	eventually(t, "the queries are cancelled", func() bool {
		return mustAsk(t, e, "SELECT count() FROM system.processes WHERE query LIKE '%1e13%'") == "1"
	})
	equal(t, "rows", mustAsk(t, e, "SELECT count() FROM t"), "20")
}

// Whatever was asked ran on one thread: ClickHouse wants a gigabyte of free memory for each, and that is the engine's bound.
func TestQuestionsRunOnSeveralThreads(t *testing.T) {
	e := startEngine(t, t.TempDir())
	plan := mustAsk(t, e, "EXPLAIN PIPELINE SELECT sum(number) FROM numbers_mt(100000000) SETTINGS max_threads = 2")
	if !strings.Contains(plan, "× 2") {
		t.Errorf("two threads are allowed, and this is the pipeline:\n%s", plan)
	}
}

const dedupTables = `
CREATE TABLE events (at DateTime, part UInt8, off UInt64, name String) ENGINE = MergeTree PARTITION BY toDate(at) ORDER BY off SETTINGS non_replicated_deduplication_window = 1000;
CREATE TABLE sums (minute DateTime, n AggregateFunction(count), last SimpleAggregateFunction(max, UInt64)) ENGINE = AggregatingMergeTree ORDER BY minute SETTINGS non_replicated_deduplication_window = 1000;
CREATE MATERIALIZED VIEW sums_view TO sums AS SELECT toStartOfMinute(at) AS minute, countState() AS n, max(off) AS last FROM events GROUP BY minute`

// The exactly-once protocol of ingest rests on this: a block that is inserted again with its token is dropped
// in the table and in its views, whatever was killed in between.
func TestRepeatedBlocksCountOnceThroughKills(t *testing.T) {
	e := startEngine(t, t.TempDir())
	for statement := range strings.SplitSeq(dedupTables, ";") {
		mustAsk(t, e, statement)
	}
	const blocks, rowsPerBlock = 60, 1000
	answers := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		n := 0
		for range answers {
			// Somewhere in the next insert, and not so often that the restarts are throttled for long.
			if n++; n%17 == 0 {
				time.Sleep(rand.N(20 * time.Millisecond))
				_ = syscall.Kill(e.Pid(), syscall.SIGKILL) // it may have just been replaced
			}
		}
	})
	conn := openClient(t, e, func(o *clickhouse.Options) {
		o.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
		o.MaxOpenConns = 4
	})
	insert := func(block int) error {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplication_token":                         fmt.Sprintf("events-0-%d", block),
			"deduplicate_blocks_in_dependent_materialized_views": 1,
		}))
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO events")
		if err != nil {
			return err
		}
		for i := range rowsPerBlock {
			off := uint64(block*rowsPerBlock + i)
			at := time.Date(2026, 1, 1, 23, 55, 0, 0, time.UTC).Add(time.Duration(off) * 10 * time.Millisecond) // two days
			if err := batch.Append(at, uint8(0), off, "x"); err != nil {
				return err
			}
		}
		return batch.Send()
	}
	// Four writers; each block until it is answered, and then once more.
	var writers sync.WaitGroup
	for writer := range 4 {
		writers.Go(func() {
			for block := writer; block < blocks; block += 4 {
				for answered := 0; answered < 2; {
					err := insert(block)
					if err == nil {
						answered++
						answers <- struct{}{}
					} else if exception := (*clickhouse.Exception)(nil); errors.As(err, &exception) || t.Context().Err() != nil {
						t.Errorf("insert: %v", err)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	close(answers)
	killer.Wait()
	t.Logf("%d restarts", e.Restarts())
	if e.Restarts() == 0 {
		t.Error("nothing was killed")
	}
	conn = openClient(t, e, nil)
	var rows, distinct, counted, last uint64
	err := errors.New("")
	eventually(t, "the engine answers", func() bool {
		err = conn.QueryRow(t.Context(), "SELECT count(), uniqExact(off) FROM events").Scan(&rows, &distinct)
		return err == nil
	})
	if err := conn.QueryRow(t.Context(), "SELECT countMerge(n), max(last) FROM sums").Scan(&counted, &last); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", rows, blocks*rowsPerBlock)
	equal(t, "distinct rows", distinct, blocks*rowsPerBlock)
	equal(t, "rows counted by the view", counted, blocks*rowsPerBlock)
	equal(t, "last offset", last, blocks*rowsPerBlock-1)
}

// A platform that was started right after its predecessor had been killed ended with "address already in use": the
// engine's child, which had inherited the socket, was still dying. The soak found it on a busy machine.
func TestEngineWaitsForTheSocketOfADyingChild(t *testing.T) {
	dir := t.TempDir()
	socket, err := listenLoopback(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := socket.Addr().String()
	if _, err := listenAfterPredecessor(t.Context(), addr, dir); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a stranger's address: %v", err)
	}
	unlock, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := listenAfterPredecessor(short, addr, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the address of a child that does not end: %v", err)
	}
	released := make(chan error)
	go func() { released <- errors.Join(socket.Close(), unlock()) }()
	ln, err := listenAfterPredecessor(t.Context(), addr, dir)
	if err := errors.Join(err, <-released); err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
}
