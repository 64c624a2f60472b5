package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestEngineThatHangsIsReplaced(t *testing.T) {
	var logged lockedBuffer
	e, err := StartEngine(t.Context(), EngineConfig{
		Addr: "127.0.0.1:0", DataDir: t.TempDir(), HangTimeout: 8 * time.Second,
		Logger: slog.New(slog.NewTextHandler(io.MultiWriter(&logged, t.Output()), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	mustAsk(t, e, "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
	mustAsk(t, e, "INSERT INTO t VALUES (1)")
	pid := e.Pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another child runs", func() bool { return e.Restarts() > 0 && e.Pid() != 0 && e.Pid() != pid })
	equal(t, "the child that hung lives", running(pid), false)
	equal(t, "rows", mustAsk(t, e, "SELECT count() FROM t"), "1")
	if !strings.Contains(logged.String(), "embedded clickhouse hung") || !strings.Contains(logged.String(), "no answer for 8s") {
		t.Errorf("the log does not say that it hung: %s", logged.String())
	}
}

func TestEngineThatHangsCanBeClosed(t *testing.T) {
	e := startEngine(t, t.TempDir())
	pid := e.Pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	_ = e.Close() // may report how the child ended
	equal(t, "the child lives", running(pid), false)
}

// Every slot is taken and clients wait for one: that is work, not a hang.
func TestBusyEngineAnswersItsSupervisor(t *testing.T) {
	e := startEngine(t, t.TempDir())
	mustAsk(t, e, "CREATE TABLE t (a UInt8) ENGINE = Null")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	keepBusy := func(n int, query string, body func() io.Reader) {
		for range n {
			busy.Go(func() {
				if a, err := tryAsk(ctx, e, http.MethodPost, body(), nil, "query", query); err == nil && a.status == http.StatusOK {
					t.Errorf("a statement without an end has ended: %s", a.body)
				}
			})
		}
	}
	ends, endless := io.Pipe()
	defer ends.Close()
	keepBusy(readSlots+4, "SELECT sum(sleepEachRow(0.1)) FROM numbers(1e13) SETTINGS max_block_size = 1", func() io.Reader { return http.NoBody })
	keepBusy(insertSlots+4, "INSERT INTO t FORMAT CSV", func() io.Reader {
		return io.MultiReader(strings.NewReader(strings.Repeat("1\n", 300_000)), ends)
	})
	defer endless.Close()
	answered := func() bool { return e.ping(t.Context()) == nil }
	eventually(t, "all slots are taken", func() bool {
		if !answered() {
			t.Fatal("the supervisor was not answered")
		}
		short, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		_, err := tryAsk(short, e, http.MethodPost, strings.NewReader("SELECT 1"), nil)
		return err != nil
	})
	for range 20 {
		equal(t, "answered", answered(), true)
	}
	equal(t, "restarts", e.Restarts(), 0)
	cancel()
	_ = endless.Close()
	busy.Wait()
}

// A query could take off the tag by which the death of its client finds it, and then run for ever.
func TestStatementsCannotHideFromTheirCancellation(t *testing.T) {
	e := startEngine(t, t.TempDir())
	const endless = "SELECT sum(sleepEachRow(0.1)) FROM numbers(1e13) SETTINGS max_block_size = 1"
	count := func(mark string) int {
		n, err := strconv.Atoi(mustAsk(t, e, "SELECT count() FROM system.processes WHERE query LIKE 'SELECT%"+mark+"%' AND query NOT LIKE '%processes%'"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var clients sync.WaitGroup
	run := func(query string) (leave context.CancelFunc) {
		ctx, leave := context.WithCancel(t.Context())
		clients.Go(func() {
			if a, err := tryAsk(ctx, e, http.MethodPost, strings.NewReader(query), nil); err == nil {
				t.Errorf("%s: %s", query, a.body)
			}
		})
		return leave
	}
	stay := run(endless + ", max_threads = 7")
	eventually(t, "the innocent query runs", func() bool { return count("max_threads = 7") == 1 })
	for i, hiding := range []string{", log_comment = DEFAULT", ", `log\\x5fcomment` = DEFAULT", ", profile = 'default'", ", compatibility = '22.1'"} {
		mark := fmt.Sprintf(", max_insert_threads = 10%d", i)
		leave := run(endless + mark + hiding)
		eventually(t, "the query runs"+hiding, func() bool { return count(mark) == 1 })
		leave()
		eventually(t, "the query has ended"+hiding, func() bool { return count(mark) == 0 })
	}
	equal(t, "innocent queries", count("max_threads = 7"), 1)
	stay()
	clients.Wait()
}

func TestChildsErrorsAreLoggedAndKept(t *testing.T) {
	var logged bytes.Buffer
	relay := &logRelay{log: slog.New(slog.NewTextHandler(&logged, nil))}
	if _, err := relay.Write([]byte(`{"level":"ERROR","msg":"engine failed","error":"no disk"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	equal(t, "last error", relay.lastError(), "no disk")
	if _, err := relay.Write([]byte(`{"level":"ERROR","msg":"out of luck"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	equal(t, "last error", relay.lastError(), "out of luck")
	for _, want := range []string{`level=ERROR msg="engine failed" error="no disk"`, `level=ERROR msg="out of luck"`} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log is %q, want it to say %q", logged.String(), want)
		}
	}
}
