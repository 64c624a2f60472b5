// Command ingest measures the way from a Kafka topic into ClickHouse beside its
// limit: the same blocks inserted from memory, without Kafka and without decoding,
// into the raw table and all three rollups, as many at once. Broker, engine and
// reader are processes of their own; each measurement has an engine on an empty folder.
//
//	go run ./bench/ingest
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"tidegate/internal/embedded"
	"tidegate/pipeline/stream"
	"tidegate/test/topic"
)

// target is the share of the limit that ingest has to reach.
const target = 0.6

// Events of the topic are of an hour ago, so many a millisecond: a busy platform's backlog.
const eventsPerMs = 20

type options struct {
	events, partitions, rounds int
	profile                    string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "engine-child" {
		os.Exit(embedded.RunEngineChild(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch role := os.Getenv(topic.RoleVariable); role {
	case "":
		err = compare(ctx)
	case topic.RoleBroker:
		err = topic.Serve(ctx, os.Args[1])
	default:
		var t task
		if err = json.Unmarshal([]byte(os.Args[1]), &t); err == nil {
			err = t.run(ctx, role)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmark failed:", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context) error {
	var o options
	flag.IntVar(&o.events, "events", 400_000, "events of the topic")
	flag.IntVar(&o.partitions, "partitions", 4, "partitions of the topic")
	flag.IntVar(&o.rounds, "rounds", 3, "measurements of each kind")
	flag.StringVar(&o.profile, "cpuprofile", "", "a file for the CPU profile of the last ingest")
	flag.Parse()

	dir, err := os.MkdirTemp("", "tidegate-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	broker, err := topic.StartBroker(ctx, filepath.Join(dir, "broker"))
	if err != nil {
		return err
	}
	defer broker.Stop()
	t := task{Brokers: []string{broker.Addr}, Topic: "events", Dir: dir, Events: o.events, Partitions: o.partitions}
	clock := topic.Steady(time.Now().Add(-time.Hour).UnixMilli(), eventsPerMs)
	if err := topic.Fill(ctx, stream.Config{Brokers: t.Brokers, Topic: t.Topic}, dir, o.events, o.partitions, clock); err != nil {
		return err
	}
	var byClock, byCPU []float64
	for round := range o.rounds {
		limit, err := t.child(ctx, roleLimit)
		if err != nil {
			return err
		}
		limit.print(fmt.Sprintf("round %d, limit", round+1))
		if round == o.rounds-1 {
			t.Profile = o.profile
		}
		got, err := t.child(ctx, roleIngest)
		if err != nil {
			return err
		}
		got.print(fmt.Sprintf("round %d, ingest", round+1))
		byClock = append(byClock, limit.Seconds/got.Seconds)
		byCPU = append(byCPU, (limit.CPUSeconds+limit.EngineCPUSeconds)/(got.CPUSeconds+got.EngineCPUSeconds))
	}
	verdict("ingest / limit, events a second (median)", median(byClock))
	verdict("ingest / limit, by processor time of reader and engine", median(byCPU))
	return nil
}

func (r result) print(what string) {
	perEvent := func(seconds float64) float64 { return seconds / float64(r.Rows) * 1e6 }
	fmt.Printf("%-17s %7.0f events/s in %d blocks; CPU an event %.2f µs: reader %.2f, engine %.2f\n",
		what, float64(r.Rows)/r.Seconds, r.Blocks, perEvent(r.CPUSeconds+r.EngineCPUSeconds), perEvent(r.CPUSeconds), perEvent(r.EngineCPUSeconds))
}

// child runs the task in a process of its own, on an engine of its own.
func (t task) child(ctx context.Context, role string) (r result, err error) {
	dir, err := os.MkdirTemp(t.Dir, role)
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	engine, err := embedded.StartEngine(ctx, embedded.EngineConfig{Addr: "127.0.0.1:0", DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	t.ClickHouse, t.EnginePid, t.Group = "http://"+engine.Addr(), engine.Pid(), filepath.Base(dir)
	return r, t.spawn(ctx, role, &r)
}

func verdict(what string, got float64) {
	word := "met"
	if got < target {
		word = "missed"
	}
	fmt.Printf("%-60s %6.2f (target %.2f, %s)\n", what, got, target, word)
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
