// Command workers measures Worker versions on the built platform: a request through
// the gateway beside the same workerd called directly, and how soon a new deployment
// answers while requests come.
//
//	go run ./bench/workers
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"tidegate/test/load"
	"tidegate/test/platform"
)

// targets, as the project promises them: docs/benchmarks.md.
const (
	targetRate     = 0.6             // through the gateway against direct, requests/s
	overheadLimit  = 0.5             // ms, p50 against p50 on one connection
	freshnessLimit = 1 * time.Second // POST of a deployment to its first answer, p99
)

const script = "bench"

// source answers with the version's id, so that answers of two versions can be told
// apart and have one length.
const source = `export default {
  fetch(request, env) { return new Response(env.VERSION.id); },
};
`

// loadVariable makes a child of this program the load, a process of its own.
const loadVariable = "TIDEGATE_BENCH_LOAD"

type options struct {
	conns, rounds, flips, rate int
	duration                   time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := compare
	if os.Getenv(loadVariable) != "" {
		run = sendLoad
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench/workers:", err)
		os.Exit(1) //nolint:gocritic // run has released everything
	}
}

func compare(ctx context.Context) (err error) {
	var o options
	flag.IntVar(&o.conns, "conns", 32, "connections that send requests")
	flag.IntVar(&o.rounds, "rounds", 5, "measurements of each way")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "length of a measurement")
	flag.IntVar(&o.flips, "flips", 200, "deployments whose first answer is timed")
	flag.IntVar(&o.rate, "rate", 1000, "requests a second meanwhile")
	flag.Parse()
	// What a router machine runs; events go to Kafka, and who reads them is elsewhere.
	p, stop, err := platform.StartTemporary(ctx, platform.Options{Binary: filepath.Join("bin", "tidegate"), Args: []string{"--roles", "api,gateway"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	one, err := p.DeployWorker(ctx, script, platform.JavaScript("one", source))
	if err != nil {
		return err
	}
	if err := untilAnswered(ctx, p, one); err != nil {
		return err
	}
	if err := compareWays(ctx, o, p); err != nil {
		return err
	}
	return timeDeployments(ctx, o, p, one)
}

// way is one of the two ways to the same process.
type way struct {
	name    string
	target  load.Target
	results []load.Result // with all connections
	single  []load.Result // with one
}

// compareWays takes turns, so that whatever else the machine does falls on both alike.
func compareWays(ctx context.Context, o options, p *platform.Platform) error {
	socket, err := workerSocket(p.DataDir)
	if err != nil {
		return err
	}
	const versionIDBytes = 36
	request := "GET /api/items/12345?view=full HTTP/1.1\r\nHost: " + p.Host(script) + "\r\nAccept: application/json\r\n\r\n"
	ways := []*way{
		{name: "gateway and workerd", target: load.Target{Network: "tcp", Addr: p.Gateway[len("http://"):], Request: request, BodyBytes: versionIDBytes}},
		{name: "workerd directly", target: load.Target{Network: "unix", Addr: socket, Request: request, BodyBytes: versionIDBytes}},
	}
	for round := range o.rounds + 1 {
		for _, w := range ways {
			many, err := runLoad(ctx, w.target, o.conns, o.duration)
			if err != nil {
				return fmt.Errorf("load on %s: %w", w.name, err)
			}
			one, err := runLoad(ctx, w.target, 1, o.duration/3)
			if err != nil {
				return fmt.Errorf("load on %s: %w", w.name, err)
			}
			if round == 0 {
				continue // warm-up
			}
			w.results, w.single = append(w.results, many), append(w.single, one)
			fmt.Printf("round %d  %-20s %8.0f requests/s over %d connections, p99 %6.2f ms; over one p50 %6.3f ms\n",
				round, w.name, many.Rate, o.conns, many.P99ms, one.P50ms)
		}
	}
	through, direct := ways[0], ways[1]
	rate := func(r load.Result) float64 { return r.Rate }
	p50 := func(r load.Result) float64 { return r.P50ms }
	ratio := median(through.results, rate) / median(direct.results, rate)
	overhead := median(through.single, p50) - median(direct.single, p50)
	fmt.Printf("\nratio    gateway and workerd / workerd directly %.2f (target %.2f: %s)\n", ratio, targetRate, verdict(ratio >= targetRate))
	fmt.Printf("overhead p50 of the gateway %.3f ms; overhead/limit %.2f: %s\n\n", overhead, overhead/overheadLimit, verdict(overhead < overheadLimit))
	return nil
}

func median(results []load.Result, of func(load.Result) float64) float64 {
	values := make([]float64, len(results))
	for i, r := range results {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

// workerSocket finds where the one running version takes requests for its default
// export.
func workerSocket(dataDir string) (string, error) {
	var found []string
	err := filepath.WalkDir(dataDir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSocket != 0 && filepath.Base(path) == "u0" {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("the sockets of Workers below %s are %v; there must be one", dataDir, found)
	}
	return found[0], nil
}

// runLoad runs one measurement in a process of its own.
func runLoad(ctx context.Context, t load.Target, conns int, d time.Duration) (load.Result, error) {
	self, err := os.Executable()
	if err != nil {
		return load.Result{}, err
	}
	cmd := exec.CommandContext(ctx, self, t.Network, t.Addr, t.Request, strconv.Itoa(t.BodyBytes), strconv.Itoa(conns), d.String())
	cmd.Env = append(os.Environ(), loadVariable+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return load.Result{}, err
	}
	var r load.Result
	return r, json.Unmarshal(out, &r)
}

// sendLoad is the child: its arguments are those of runLoad.
func sendLoad(ctx context.Context) error {
	args := os.Args[1:]
	length, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	conns, err := strconv.Atoi(args[4])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[5])
	if err != nil {
		return err
	}
	r, err := load.Run(ctx, load.Target{Network: args[0], Addr: args[1], Request: args[2], BodyBytes: length}, conns, d)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
