package clickhouse

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/internal/clickhouse/clickhousetest"
	"tidegate/internal/embedded"
	tables "tidegate/schema/clickhouse"
)

// externalServer names a ClickHouse to run the suite on instead of the embedded
// engine, as http://[user:password@]host:port.
const externalServer = "TIDEGATE_TEST_CLICKHOUSE"

// engine is started by the first test that needs it and serves all of them; each
// has a database of its own.
var engine struct {
	once  sync.Once
	addr  string
	err   error
	close func() error
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine-child" {
		os.Exit(embedded.RunEngineChild(os.Args[2:]))
	}
	code := m.Run()
	if engine.close != nil {
		if err := engine.close(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the engine:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func serverAddr(t testing.TB) string {
	t.Helper()
	engine.once.Do(func() {
		if engine.addr = os.Getenv(externalServer); engine.addr != "" {
			return
		}
		dir, err := os.MkdirTemp("", "tidegate-clickhouse-")
		if err != nil {
			engine.err = err
			return
		}
		e, err := embedded.StartEngine(context.Background(), embedded.EngineConfig{
			Addr: "127.0.0.1:0", DataDir: dir,
			Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		if err != nil {
			engine.err = err
			return
		}
		engine.addr = "http://" + e.Addr()
		engine.close = func() error {
			err := e.Close()
			if removed := os.RemoveAll(dir); err == nil {
				err = removed
			}
			return err
		}
	})
	if engine.err != nil {
		t.Fatal(engine.err)
	}
	return engine.addr
}

var (
	databases atomic.Int64
	made      clickhousetest.Tables
)

// open returns a DB on an empty database that goes with the test.
func open(t testing.TB) *DB {
	t.Helper()
	cfg := DefaultConfig(serverAddr(t))
	cfg.Database = fmt.Sprintf("test_%d_%d", time.Now().UnixNano(), databases.Add(1))
	db := openWith(t, cfg)
	t.Cleanup(func() {
		if err := db.root.Exec(context.Background(), "DROP DATABASE IF EXISTS "+cfg.Database+" SYNC"); err != nil {
			t.Error(err)
		}
	})
	return db
}

func openWith(t testing.TB, cfg Config) *DB {
	t.Helper()
	db, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// migrated is open with the tables made, as migrations make them.
func migrated(t testing.TB) *DB {
	t.Helper()
	db := open(t)
	if err := made.Make(t.Context(), serverAddr(t), db.cfg.Database, func() error { return db.Migrate(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	return db
}

// row is what the tests vary of an event.
type row struct {
	account, script, version string
	at                       time.Time
	outcome, decision        string
	status                   uint16
	wall, cpu                *int64
	sampledOut               uint64
	callerScript             string
	callerVersion            string
	eventType                string // "" is fetch
}

const (
	account = "00000000000000000000000000000001"
	script  = "shop"
	v1      = "11111111-1111-4111-8111-111111111111"
	v2      = "22222222-2222-4222-8222-222222222222"
)

// noon is a fixed time well inside every table's retention.
var noon = time.Now().UTC().Add(-24 * time.Hour).Truncate(24 * time.Hour).Add(12 * time.Hour)

// served is a plain event of v1 at noon plus d.
func served(d time.Duration) row {
	return row{account: account, script: script, version: v1, at: noon.Add(d), outcome: "ok", decision: "split", status: 200, wall: new(int64(10))}
}

func blockOf(rows ...row) *tables.Events {
	b := &tables.Events{}
	for i, r := range rows {
		b.AccountID = append(b.AccountID, r.account)
		b.ScriptName = append(b.ScriptName, r.script)
		b.Time = append(b.Time, r.at)
		b.SkewMs = append(b.SkewMs, 0)
		b.VersionID = append(b.VersionID, r.version)
		b.VersionTag = append(b.VersionTag, "tag")
		b.VersionMessage = append(b.VersionMessage, "message")
		b.EventType = append(b.EventType, cmp.Or(r.eventType, "fetch"))
		b.Outcome = append(b.Outcome, r.outcome)
		b.Status = append(b.Status, r.status)
		b.WallMs = append(b.WallMs, tables.MaybeOf(r.wall))
		b.CPUMs = append(b.CPUMs, tables.MaybeOf(r.cpu))
		b.UpstreamMs = append(b.UpstreamMs, tables.Maybe[float64]{})
		b.Decision = append(b.Decision, r.decision)
		b.AffinityRule = append(b.AffinityRule, 0)
		b.CallerScript = append(b.CallerScript, r.callerScript)
		b.CallerVersionID = append(b.CallerVersionID, r.callerVersion)
		b.SampledOut = append(b.SampledOut, r.sampledOut)
		b.RayID = append(b.RayID, fmt.Appendf(nil, "%016x", i))
		b.ErrorKind = append(b.ErrorKind, "")
		b.Method = append(b.Method, "GET")
		b.URL = append(b.URL, []byte("http://shop.dev.localhost/"))
		b.Entrypoint = append(b.Entrypoint, "")
		b.DispatchNamespace = append(b.DispatchNamespace, "")
		b.ScriptTags = append(b.ScriptTags, []byte("[]"))
		b.Event = append(b.Event, []byte("{}"))
		b.Exceptions = append(b.Exceptions, []byte("[]"))
		b.Logs = append(b.Logs, []byte("[]"))
		b.Logpush = append(b.Logpush, tables.LogpushYes)
		b.KafkaPartition = append(b.KafkaPartition, 0)
		b.KafkaOffset = append(b.KafkaOffset, int64(i))
	}
	return b
}

func repeat(n int, r row) []row {
	rows := make([]row, n)
	for i := range rows {
		rows[i] = r
	}
	return rows
}

func insert(t testing.TB, db *DB, token string, rows ...row) {
	t.Helper()
	if err := db.InsertEvents(t.Context(), token, blockOf(rows...)); err != nil {
		t.Fatal(err)
	}
}

// wantCounts fails unless every table holds n events.
func wantCounts(t testing.TB, db *DB, n int64) {
	t.Helper()
	got, err := db.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (Counts{Events: n, Seconds: n, Minutes: n, Hours: n, Quarantined: got.Quarantined}); got != want {
		t.Fatalf("counts are %+v, want %d in each table", got, n)
	}
}

// scalar runs a query that answers one value, as text.
func scalar(t testing.TB, db *DB, query string) string {
	t.Helper()
	var s string
	if err := db.conn.QueryRow(ch.Context(t.Context()), "SELECT toString(("+query+"))").Scan(&s); err != nil {
		t.Fatalf("%s: %v", strings.TrimSpace(query), err)
	}
	return s
}
