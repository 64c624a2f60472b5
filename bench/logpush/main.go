// Command logpush measures the delivery of Logpush jobs: from a Kafka topic to gzip
// NDJSON files, beside the limit, which is gzip of the already formatted bytes from
// memory, on the same cores, with the same library at the same level. The broker,
// the deliveries and the limit are processes of their own, and rounds take turns.
//
//	go run ./bench/logpush
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/test/events"
	"tidegate/test/topic"
)

// Figures to compare with, as the project promises them.
const (
	// otherRate is Redpanda Connect's for the same task on two cores, events/s.
	otherRate   = 62_000
	targetOther = 8.0
	targetOne   = 0.6 // one job over the limit
	targetMany  = 0.5 // fifty jobs over their limit together
)

// publishedFields are those of the documented example job.
var publishedFields = []string{"Event", "EventTimestampMs", "Outcome", "Logs", "ScriptName", "ScriptVersion"}

type options struct {
	events, manyEvents, partitions, rounds int
	kafka, profile                         string
}

func main() {
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
	flag.IntVar(&o.events, "events", 1_000_000, "events of the topic for one job")
	flag.IntVar(&o.manyEvents, "many-events", 100_000, "events of the topic for many jobs")
	flag.IntVar(&o.partitions, "partitions", 6, "partitions of each topic")
	flag.IntVar(&o.rounds, "rounds", 3, "measurements of each kind")
	flag.StringVar(&o.kafka, "kafka", "", "host:port of a broker, instead of the embedded one")
	flag.StringVar(&o.profile, "cpuprofile", "", "a file for the CPU profile of the first delivery of one job")
	flag.Parse()

	dir, err := os.MkdirTemp("", "tidegate-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	brokers := []string{o.kafka}
	if o.kafka == "" {
		broker, err := topic.StartBroker(ctx, filepath.Join(dir, "broker"))
		if err != nil {
			return err
		}
		defer broker.Stop()
		brokers = []string{broker.Addr}
	}
	one := task{Brokers: brokers, Topic: "one", Dir: dir, Events: o.events, Jobs: []logjob.Job{oneJob()}}
	many := task{Brokers: brokers, Topic: "many", Dir: dir, Events: o.manyEvents, Jobs: manyJobs(50)}
	for _, t := range []*task{&one, &many} {
		if err := topic.Fill(ctx, stream.Config{Brokers: t.Brokers, Topic: t.Topic}, t.Dir, t.Events, o.partitions, topic.LongAgo); err != nil {
			return err
		}
	}
	one.Profile = o.profile
	if err := report(ctx, o, "one job", one, targetOne); err != nil {
		return err
	}
	if err := report(ctx, o, "50 jobs", many, targetMany); err != nil {
		return err
	}
	return memory(ctx, many)
}

// report measures deliveries and their limit in turn.
func report(ctx context.Context, o options, name string, t task, target float64) error {
	var ratios, rates, cpu []float64
	for round := range o.rounds {
		limit, err := t.child(ctx, "limit", round)
		if err != nil {
			return err
		}
		got, err := t.child(ctx, "deliver", round)
		if err != nil {
			return err
		}
		t.Profile = ""
		fmt.Printf("%s, round %d: %.0f events/s through all jobs, %.0f MB/s formatted, gzip 1:%.1f, CPU %.2f µs an event, %d fetches; limit %.0f MB/s\n",
			name, round+1, float64(got.Records)/got.Seconds, float64(got.Bytes)/got.Seconds/1e6, float64(got.Bytes)/float64(got.GzipBytes),
			got.CPUSeconds/float64(got.Records)*1e6, got.Fetches, float64(limit.Bytes)/limit.Seconds/1e6)
		cpu = append(cpu, limit.CPUSeconds/float64(limit.Bytes)/(got.CPUSeconds/float64(got.Bytes)))
		ratios = append(ratios, float64(got.Bytes)/got.Seconds/(float64(limit.Bytes)/limit.Seconds))
		rates = append(rates, float64(t.Events)/got.Seconds)
	}
	fmt.Printf("%s: %.0f events/s of the topic (median)\n", name, median(rates))
	if len(t.Jobs) == 1 {
		verdict(name+" / Redpanda Connect's 62,000 events/s", median(rates)/otherRate, targetOther)
	}
	verdict(name+" / limit", median(ratios), target)
	verdict(name+" / limit, in processor time of the process", median(cpu), target)
	return nil
}

// memory shows what 200 jobs hold, twenty of them with a destination that hangs.
func memory(ctx context.Context, t task) error {
	t.Jobs = manyJobs(200)
	t.Hanging = 20
	got, err := t.child(ctx, "deliver", 0)
	if err != nil {
		return err
	}
	fmt.Printf("200 jobs, 20 of them with a destination that hangs: %.0f MiB resident at most, heap %.0f MiB at most, of which may be %d MiB of events; %.0f events/s through the others, %d fetches\n",
		float64(got.Resident)/(1<<20), float64(got.Heap)/(1<<20), memoryBytes>>20, float64(got.Records)/got.Seconds, got.Fetches)
	return nil
}

func verdict(what string, got, want float64) {
	word := "met"
	if got < want {
		word = "missed"
	}
	fmt.Printf("%-60s %6.2f (target %.2f, %s)\n", what, got, want, word)
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

func oneJob() logjob.Job {
	return logjob.Job{ID: 1, AccountID: events.Account, Enabled: true, Revision: 1, OutputOptions: &logjob.OutputOptions{FieldNames: publishedFields}}
}

// manyJobs have different fields and filters, each of which lets a part through.
func manyJobs(n int) (jobs []logjob.Job) {
	all := append(slices.Clone(publishedFields), "EventType", "Exceptions", "WallTimeMs", "Entrypoint")
	filters := []string{
		``,
		`{"where":{"key":"Outcome","operator":"eq","value":"ok"}}`,
		`{"where":{"key":"ScriptName","operator":"startsWith","value":"shop"}}`,
		`{"where":{"or":[{"key":"Outcome","operator":"eq","value":"exception"},{"key":"WallTimeMs","operator":"gt","value":50}]}}`,
		`{"where":{"and":[{"key":"EventType","operator":"eq","value":"fetch"},{"key":"WallTimeMs","operator":"leq","value":90}]}}`,
	}
	for i := range n {
		j := oneJob()
		j.ID = int64(i + 1)
		j.Filter = filters[i%len(filters)]
		fields := slices.Concat(all[i%len(all):], all[:i%len(all)])[:4+i%4]
		if !slices.Contains(fields, "Event") {
			fields = append(fields, "Event")
		}
		j.OutputOptions = &logjob.OutputOptions{FieldNames: fields}
		jobs = append(jobs, j)
	}
	return jobs
}

// destination of a job in a round.
func destination(dir string, job logjob.Job, hangs bool) string {
	if hangs {
		return fmt.Sprintf("hang://%d", job.ID)
	}
	return "file://" + strings.TrimSuffix(dir, "/") + fmt.Sprintf("/out/%d", job.ID)
}
