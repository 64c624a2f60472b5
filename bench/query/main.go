// Command query measures the query API over a history that it makes: rollups worth
// a billion events, and fifty million raw ones, in the embedded engine. Calls go
// through the API's handler, with a token, as those of a dashboard do.
//
//	go run ./bench/query
//
// The history takes minutes to make; -dir keeps it for the next run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"tidegate/internal/clickhouse"
	"tidegate/internal/embedded"
	"tidegate/internal/store"
)

type options struct {
	dir                    string
	events, raw            int64
	scripts, each, viewers int
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "engine-child" {
		os.Exit(embedded.RunEngineChild(os.Args[2:]))
	}
	var o options
	flag.StringVar(&o.dir, "dir", "", "a folder that keeps the history between runs; empty: a temporary one")
	flag.Int64Var(&o.events, "events", 1_000_000_000, "events that the rollups count")
	flag.Int64Var(&o.raw, "raw", 50_000_000, "raw events")
	flag.IntVar(&o.scripts, "scripts", 10, "scripts, of two versions each; the first has half of the traffic")
	flag.IntVar(&o.each, "calls", 200, "calls of each kind that are measured")
	flag.IntVar(&o.viewers, "viewers", 4, "callers at once, in the second half; the API works on four questions of an account at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench/query:", err)
		os.Exit(1) //nolint:gocritic // run has released everything
	}
}

func run(ctx context.Context, o options) (err error) {
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tidegate-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	control, err := store.Open(ctx, filepath.Join(dir, "control.db"), store.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	h := history{options: o, store: control}
	// The engine has what it has under `tidegate up` when it is measured, and more
	// while the history is made, which takes blocks that no ingest would make.
	if err := withEngine(ctx, dir, fillMemory, func(engine *embedded.Engine, db *clickhouse.DB) error {
		began := time.Now()
		made, err := h.make(ctx, engine.Addr())
		if made {
			fmt.Printf("history    made in %.0f s\n", time.Since(began).Seconds())
		}
		return err
	}); err != nil {
		return err
	}
	return withEngine(ctx, dir, 0, func(engine *embedded.Engine, db *clickhouse.DB) error {
		h.engine = engine.Addr()
		if err := h.describe(ctx); err != nil {
			return err
		}
		return h.measure(ctx, db, engine.Pid())
	})
}

const fillMemory = 8 << 30

// withEngine runs do beside an engine with its tables. memory 0 is the default's.
func withEngine(ctx context.Context, dir string, memory int64, do func(engine *embedded.Engine, db *clickhouse.DB) error) (err error) {
	engine, err := embedded.StartEngine(ctx, embedded.EngineConfig{
		Addr: "127.0.0.1:0", DataDir: filepath.Join(dir, "clickhouse"), MemoryLimitBytes: memory,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	config := clickhouse.DefaultConfig("http://" + engine.Addr())
	config.Retention = clickhouse.Retention{} // nothing is to vanish while it is measured
	db, err := clickhouse.Open(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	return do(engine, db)
}
