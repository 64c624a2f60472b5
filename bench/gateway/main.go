// Command gateway measures the gateway side by side with Caddy's weighted reverse
// proxy and with itself without trace events. Each of the upstream, the three
// proxies and the load is a process of its own; rounds are interleaved, so that
// whatever else the machine does falls on all alike.
//
//	go run ./bench/gateway
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// targets of the ratios, as the project promises them.
const (
	targetCaddy   = 1.5  // traced gateway against Caddy
	targetTracing = 0.85 // traced gateway against the same without events
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		err = compare(ctx)
	case "upstream":
		err = serveUpstream(ctx)
	case "gateway":
		err = serveGateway(ctx)
	case "load":
		err = serveLoad(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmark failed:", err)
		os.Exit(1)
	}
}

// roleVariable tells a child of this program what to be.
const roleVariable = "TIDEGATE_BENCH_ROLE"

type options struct {
	caddy    string
	profile  string
	conns    int
	rounds   int
	duration time.Duration
}

// peer is one proxy under test and what it achieved, a number a round.
type peer struct {
	name    string
	process *child
	results []result
}

func compare(ctx context.Context) error {
	var o options
	flag.StringVar(&o.caddy, "caddy", "", "a caddy program; by default bench/gateway/caddy is built, from the root of the repository")
	flag.IntVar(&o.conns, "conns", 64, "connections that send requests")
	flag.IntVar(&o.rounds, "rounds", 5, "measurements of each proxy")
	flag.StringVar(&o.profile, "cpuprofile", "", "a file for the CPU profile of the gateway without trace events")
	flag.DurationVar(&o.duration, "duration", 4*time.Second, "length of a measurement")
	flag.Parse()
	if o.caddy == "" {
		if err := buildCaddy(ctx); err != nil {
			return err
		}
		o.caddy = builtCaddy
	}

	dir, err := os.MkdirTemp("", "tidegate-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	var children []*child
	defer func() {
		for _, c := range slices.Backward(children) {
			c.stop()
		}
	}()
	run := func(role string, args ...string) (*child, error) {
		c, err := startSelf(ctx, role, args...)
		if err == nil {
			children = append(children, c)
		}
		return c, err
	}

	upstream, err := run("upstream")
	if err != nil {
		return err
	}
	second, err := run("upstream")
	if err != nil {
		return err
	}
	traced, err := run("gateway", "-traced", dir, upstream.addr, second.addr)
	if err != nil {
		return err
	}
	plain, err := run("gateway", "-cpuprofile="+o.profile, dir, upstream.addr, second.addr)
	if err != nil {
		return err
	}
	caddy, err := startCaddy(ctx, o.caddy, dir, upstream.addr, second.addr)
	if err != nil {
		return err
	}
	children = append(children, caddy)
	peers := []*peer{
		{name: "gateway, trace events to Kafka", process: traced},
		{name: "gateway, no trace events", process: plain},
		{name: "Caddy, weighted reverse proxy", process: caddy},
		{name: "upstream alone", process: upstream},
	}
	if err := measure(ctx, o, peers); err != nil {
		return err
	}
	report(peers)
	return nil
}

// measure warms every peer up and then takes turns.
func measure(ctx context.Context, o options, peers []*peer) error {
	for round := range o.rounds + 1 {
		for _, p := range peers {
			d := o.duration
			if round == 0 {
				d = time.Second
			}
			before := p.process.cpuTime()
			r, err := runLoad(ctx, p.process.addr, o.conns, d)
			if err != nil {
				return fmt.Errorf("load on %s: %w", p.name, err)
			}
			r.CPU = (p.process.cpuTime() - before) / time.Duration(r.Requests)
			if round > 0 {
				p.results = append(p.results, r)
				fmt.Printf("round %d  %-32s %8.0f requests/s  p50 %6.2f ms  p99 %6.2f ms  %5.1f µs of CPU a request\n",
					round, p.name, r.Rate, r.P50ms, r.P99ms, float64(r.CPU.Nanoseconds())/1000)
			}
		}
	}
	return nil
}

// report prints medians and the ratios of medians.
func report(peers []*peer) {
	fmt.Println()
	median := map[*peer]float64{}
	for _, p := range peers {
		slices.SortFunc(p.results, func(a, b result) int { return cmp.Compare(a.Rate, b.Rate) })
		middle, last := p.results[len(p.results)/2], p.results[len(p.results)-1]
		median[p] = middle.Rate
		fmt.Printf("median   %-32s %8.0f requests/s  (%.0f to %.0f)\n", p.name, middle.Rate, p.results[0].Rate, last.Rate)
	}
	fmt.Println()
	traced, plain, caddy := peers[0], peers[1], peers[2]
	printRatio("traced / untraced", median[traced]/median[plain], targetTracing)
	printRatio("traced / Caddy", median[traced]/median[caddy], targetCaddy)
}

func printRatio(name string, ratio, target float64) {
	verdict := "met"
	if ratio < target {
		verdict = "MISSED"
	}
	fmt.Printf("ratio    %-32s %8.2f  (target %.2f: %s)\n", name, ratio, target, verdict)
}

// child is a process of the benchmark.
type child struct {
	cmd  *exec.Cmd
	addr string
}

// startSelf starts this program in a role and waits for the address that it prints.
func startSelf(ctx context.Context, role string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	c := &child{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("%s did not say where it listens: %w", role, err)
	}
	c.addr = strings.TrimSpace(line)
	return c, nil
}

// cpuTime returns what the process has used so far, in steps of 10 ms; 0 where
// there is no /proc. On a busy machine CPU per request says more than a rate.
func (c *child) cpuTime() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// proc(5): after the name in parentheses, utime and stime are the 12th and 13th, in ticks of 10 ms.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] {
		n, _ := strconv.Atoi(field) // the kernel writes numbers
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = c.cmd.Wait()                          // its exit after a signal tells nothing
}

// runLoad runs one measurement in a process of its own.
func runLoad(ctx context.Context, addr string, conns int, d time.Duration) (result, error) {
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(ctx, self, addr, fmt.Sprint(conns), d.String())
	cmd.Env = append(os.Environ(), roleVariable+"=load")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, err
	}
	var r result
	return r, json.Unmarshal(out, &r)
}
