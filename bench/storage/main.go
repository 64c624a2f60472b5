// Command storage measures what an event takes: as JSON, compressed in Kafka, and in
// each table and column of ClickHouse. Events go the whole way, through the real
// producer, broker, ingest and engine. Then the rows are stored again with other
// codecs, types and orderings, beside each other.
//
//	go run ./bench/storage -events 1000000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"tidegate/internal/clickhouse"
	"tidegate/internal/embedded"
	"tidegate/pipeline/ingest"
	"tidegate/pipeline/stream"
	"tidegate/schema"
	"tidegate/test/events"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "engine-child" {
		os.Exit(embedded.RunEngineChild(os.Args[2:]))
	}
	mix := events.Mix{}
	partitions := flag.Int("partitions", 4, "partitions of the topic")
	flag.IntVar(&mix.Events, "events", 200_000, "events")
	flag.IntVar(&mix.Scripts, "scripts", 40, "scripts that they are of, two versions each")
	flag.DurationVar(&mix.Length, "length", 20*time.Minute, "time that they spread over: with fewer events a second and script, a row of a rollup stands for fewer of them")
	flag.Parse()
	mix.Begin = time.Now().Add(-mix.Length)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, mix, *partitions); err != nil {
		fmt.Fprintln(os.Stderr, "bench/storage:", err)
		os.Exit(1) //nolint:gocritic // run has released everything
	}
}

func run(ctx context.Context, mix events.Mix, partitions int) (err error) {
	dir, err := os.MkdirTemp("", "tidegate-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	broker, err := embedded.StartBroker(ctx, embedded.BrokerConfig{Addr: "127.0.0.1:0", DataDir: filepath.Join(dir, "kafka")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	engine, err := embedded.StartEngine(ctx, embedded.EngineConfig{Addr: "127.0.0.1:0", DataDir: filepath.Join(dir, "clickhouse"), MemoryLimitBytes: 4 << 30})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	config := stream.Config{Brokers: []string{broker.Addr()}, Topic: schema.Topic}
	if err := stream.EnsureTopic(ctx, config, partitions, 1, 0); err != nil {
		return err
	}
	size, err := produce(ctx, config, filepath.Join(dir, "spool"), mix)
	if err != nil {
		return err
	}
	inKafka, err := folderBytes(filepath.Join(dir, "kafka"))
	if err != nil {
		return err
	}
	fmt.Printf("%d events of %d scripts over %s. Bytes an event: %.0f as JSON, %.1f in Kafka (batches in zstd, one replica)\n",
		mix.Events, mix.Scripts, mix.Length, perEvent(size, mix), perEvent(inKafka, mix))
	db, err := clickhouse.Open(clickhouse.DefaultConfig("http://" + engine.Addr()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := store(ctx, db, config, mix); err != nil {
		return err
	}
	m := measurement{server: "http://" + engine.Addr(), mix: mix}
	return m.report(ctx)
}

func perEvent(bytes int64, mix events.Mix) float64 { return float64(bytes) / float64(mix.Events) }

// produce writes the events as a gateway does, and returns how many bytes of JSON they were.
func produce(ctx context.Context, config stream.Config, spool string, mix events.Mix) (size int64, err error) {
	p, err := stream.NewProducer(stream.ProducerConfig{Config: config, Schema: schema.EventSchemaVersion, SpoolDir: spool, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-done)
	}()
	dice := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- the same events in each run
	for i := range mix.Events {
		text := mix.Append(nil, dice, i) // the producer keeps it
		size += int64(len(text))
		p.Emit(events.Account, text)
		for i%1000 == 0 && p.Stats().QueueEvents > 5000 {
			time.Sleep(time.Millisecond)
		}
	}
	return size, until(ctx, func() (bool, error) {
		s := p.Stats()
		for reason, n := range s.Dropped {
			if n > 0 {
				return false, fmt.Errorf("produce: %d events were dropped: %s", n, reason)
			}
		}
		return int(s.EventsOut) == mix.Events, nil // #nosec G115 -- a number of events
	})
}

// store lets ingest move the events, and returns when each table has all of them.
func store(ctx context.Context, db *clickhouse.DB, config stream.Config, mix events.Mix) (err error) {
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	in, err := ingest.New(ingest.DefaultConfig(config.Topic), db, quiet)
	if err != nil {
		return err
	}
	group := stream.NewGroup(stream.GroupConfig{Config: config, GroupID: "storage", Logger: quiet})
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- group.Run(running, in.HandlePartition) }()
	defer func() {
		stop()
		if ended := <-done; !errors.Is(ended, context.Canceled) {
			err = errors.Join(err, ended)
		}
	}()
	return until(ctx, func() (bool, error) {
		c, err := db.Counts(ctx)
		n := int64(mix.Events)
		return c.Events == n && c.Seconds == n && c.Minutes == n && c.Hours == n, err
	})
}

func until(ctx context.Context, done func() (bool, error)) error {
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func folderBytes(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
