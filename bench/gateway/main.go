// Command gateway measures the gateway side by side with nginx, HAProxy and Caddy, and with
// itself without trace events. Each of the upstreams, the proxies and the load is a
// process of its own; rounds are interleaved, so that whatever else the machine does falls on
// all alike. nginx, HAProxy and h2load are taken from PATH, and left out by name where they are not
// there.
//
//	go run ./bench/gateway
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// targets of the ratios, as the project promises them.
const (
	targetNginx   = 1.0  // traced gateway against nginx with a JSON access log
	targetCaddy   = 2.5  // traced gateway against Caddy
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
	case "broker":
		err = serveBroker(ctx, os.Args[1])
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
	before   string
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
	flag.StringVar(&o.before, "before", "", "another build of this program: its gateways take turns with those of this one and nginx, and nothing else is measured")
	flag.StringVar(&o.profile, "cpuprofile", "", "a file for the CPU profile of the gateway with trace events")
	flag.DurationVar(&o.duration, "duration", 4*time.Second, "length of a measurement")
	flag.Parse()
	if o.caddy == "" && o.before == "" {
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
	if o.before != "" {
		return compareBuilds(ctx, o, dir)
	}
	all, err := startAll(ctx, o, dir)
	defer all.stop()
	if err != nil {
		return err
	}
	if err := measure(ctx, o, all.peers(), all.neighbours); err != nil {
		return err
	}
	report(all)
	return measureMore(ctx, o, all)
}

// measureMore looks at what a rate at full load does not tell.
func measureMore(ctx context.Context, o options, all *everybody) error {
	fmt.Println()
	if all.nginx == nil {
		fmt.Println("left out: p99 at half of the load, 1 MiB bodies, HTTP/2, idle connections: there is no nginx in PATH")
		return nil
	}
	pair := []*peer{all.traced, all.nginx}
	if err := latencies(ctx, o, all.traced.rate(), all.traced, all.nginx); err != nil {
		return err
	}
	if err := largeBodies(ctx, o, pair); err != nil {
		return err
	}
	if h2load, err := exec.LookPath("h2load"); err != nil {
		fmt.Println("left out: HTTP/2: there is no h2load in PATH (Debian: nghttp2-client)")
	} else if err := overHTTP2(ctx, o, h2load, pair, []string{all.traced.process.addr, all.nginxHTTP2}); err != nil {
		return err
	}
	return idleMemory(ctx, pair)
}

// measure warms every peer up and then takes turns. What neighbours spend in a turn is the work
// that its peer made for them.
func measure(ctx context.Context, o options, peers []*peer, neighbours []*child) error {
	peers = slices.Clone(peers)
	for round := range o.rounds + 1 {
		slices.Reverse(peers) // whoever comes after somebody heavy is not always the same
		for _, p := range peers {
			d := o.duration
			if round == 0 {
				d = time.Second
			}
			before, others := p.process.cpuTime(), cpuOf(neighbours, p.process)
			r, err := runLoad(ctx, p.process.addr, loadOptions{Conns: o.conns, Duration: d})
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			r.CPU = (p.process.cpuTime() - before) / time.Duration(r.Requests)
			r.Others = (cpuOf(neighbours, p.process) - others + r.LoadCPU) / time.Duration(r.Requests)
			if round > 0 {
				p.results = append(p.results, r)
				fmt.Printf("round %d  %-32s %8.0f requests/s  p50 %6.2f ms  p99 %6.2f ms  %5.1f µs of CPU a request, %5.1f of the others\n",
					round, p.name, r.Rate, r.P50ms, r.P99ms, micros(r.CPU), micros(r.Others))
			}
		}
	}
	return nil
}

// cpuOf returns what processes have used so far, less one of them.
func cpuOf(list []*child, less *child) (sum time.Duration) {
	for _, c := range list {
		if c != less {
			sum += c.cpuTime()
		}
	}
	return sum
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// rate returns the median of the peer's rates.
func (p *peer) rate() float64 {
	var list []float64
	for _, r := range p.results {
		list = append(list, r.Rate)
	}
	return middle(list)
}

// cpu returns the median of what a request cost the peer, in microseconds.
func (p *peer) cpu() float64 {
	var list []float64
	for _, r := range p.results {
		list = append(list, micros(r.CPU))
	}
	return middle(list)
}

// others is cpu of everybody else who had to do with the request.
func (p *peer) others() float64 {
	var list []float64
	for _, r := range p.results {
		list = append(list, micros(r.Others))
	}
	return middle(list)
}

func printMedians(peers []*peer) {
	fmt.Println()
	for _, p := range peers {
		fmt.Printf("median   %-32s %8.0f requests/s  %5.1f µs of CPU a request, %5.1f of the others\n", p.name, p.rate(), p.cpu(), p.others())
	}
	fmt.Println()
}

// report prints medians and the ratios of medians.
func report(all *everybody) {
	printMedians(all.peers())
	traced := all.traced.rate()
	if all.nginx != nil {
		printRatio("traced / nginx", traced/all.nginx.rate(), targetNginx)
		fmt.Printf("ratio    %-32s %8.2f\n", "1,000 scripts / nginx", all.many.rate()/all.nginx.rate())
	}
	if all.haproxy != nil {
		fmt.Printf("ratio    %-32s %8.2f\n", "traced / HAProxy", traced/all.haproxy.rate())
	}
	printRatio("traced / Caddy", traced/all.caddy.rate(), targetCaddy)
	printRatio("traced / untraced", traced/all.plain.rate(), targetTracing)
}

func printRatio(name string, ratio, target float64) {
	verdict := "met"
	if ratio < target {
		verdict = "MISSED"
	}
	fmt.Printf("ratio    %-32s %8.2f  (target %.2f: %s)\n", name, ratio, target, verdict)
}

// printLimit is printRatio for what must not be more.
func printLimit(name string, ratio, limit float64) {
	verdict := "met"
	if ratio > limit {
		verdict = "MISSED"
	}
	fmt.Printf("ratio    %-32s %8.2f  (limit %.2f: %s)\n", name, ratio, limit, verdict)
}
