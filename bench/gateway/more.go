package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Targets of what is not a rate at full load.
const (
	targetTail  = 1.3 // p99 of the traced gateway against nginx's, at half of the gateway's rate
	idleConns   = 10_000
	largeConns  = 8
	http2Conns  = 8
	http2Stream = 8 // on each of them
)

// latencies compares p99 at half of what the gateway can do, where a proxy in production
// works. The two take turns.
func latencies(ctx context.Context, o options, rate float64, gateway, other *peer) error {
	pair := []*peer{gateway, other}
	p99 := make([][]float64, len(pair))
	for range o.rounds {
		for i, p := range pair {
			r, err := runLoad(ctx, p.process.addr, loadOptions{Conns: o.conns, Duration: o.duration, Rate: rate / 2})
			if err != nil {
				return err
			}
			p99[i] = append(p99[i], r.P99ms)
			fmt.Printf("at half  %-32s %8.0f requests/s  p50 %6.2f ms  p99 %6.2f ms\n", p.name, r.Rate, r.P50ms, r.P99ms)
		}
	}
	a, b := middle(p99[0]), middle(p99[1])
	fmt.Printf("median   p99 at %.0f requests/s: %.2f ms, %s %.2f ms\n", rate/2, a, other.name, b)
	printLimit("p99 at half of the load", a/b, targetTail)
	return nil
}

func middle(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// largeBodies compares downloads of 1 MiB.
func largeBodies(ctx context.Context, o options, pair []*peer) error {
	rates, cpu := make([][]float64, len(pair)), make([][]float64, len(pair))
	for range o.rounds {
		for i, p := range pair {
			before := p.process.cpuTime()
			r, err := runLoad(ctx, p.process.addr, loadOptions{Conns: largeConns, Duration: o.duration, Large: true})
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], r.Rate)
			cpu[i] = append(cpu[i], float64((p.process.cpuTime()-before).Microseconds())/float64(r.Requests))
		}
	}
	told("1 MiB bodies", pair, rates, cpu)
	return nil
}

// told prints medians of several proxies and the first one's ratios to the others.
func told(what string, pair []*peer, rates, cpu [][]float64) {
	for i, p := range pair {
		fmt.Printf("median   %-32s %8.0f requests/s  %5.1f µs of CPU a request  %s\n", p.name, middle(rates[i]), middle(cpu[i]), what)
	}
	for i, p := range pair[1:] {
		fmt.Printf("ratio    %-32s %8.2f  (of CPU a request %.2f)\n", what+" / "+p.name, middle(rates[0])/middle(rates[i+1]), middle(cpu[0])/middle(cpu[i+1]))
	}
}

var h2Rate = regexp.MustCompile(`finished in .*?, ([0-9.]+) req/s`)
var h2Done = regexp.MustCompile(`requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded`)

// overHTTP2 compares HTTP/2 without TLS, with h2load as the client.
func overHTTP2(ctx context.Context, o options, program string, pair []*peer, addrs []string) error {
	rates, cpu := make([][]float64, len(pair)), make([][]float64, len(pair))
	for range o.rounds {
		for i, p := range pair {
			before := p.process.cpuTime()
			out, err := exec.CommandContext(ctx, program, "-D", strconv.Itoa(max(1, int(o.duration/time.Second))), "-c", strconv.Itoa(http2Conns), "-m", strconv.Itoa(http2Stream),
				"-H", ":authority: "+host, "http://"+addrs[i]+"/api/items/12345?view=full").CombinedOutput()
			if err != nil {
				return fmt.Errorf("h2load on %s: %w: %s", p.name, err, out)
			}
			rate, done := h2Rate.FindSubmatch(out), h2Done.FindSubmatch(out)
			if rate == nil || done == nil || string(done[1]) != string(done[2]) {
				return fmt.Errorf("h2load on %s: not all requests succeeded: %s", p.name, out)
			}
			n, _ := strconv.ParseFloat(string(rate[1]), 64) // digits, as matched
			requests, _ := strconv.ParseFloat(string(done[1]), 64)
			rates[i] = append(rates[i], n)
			cpu[i] = append(cpu[i], float64((p.process.cpuTime()-before).Microseconds())/requests)
		}
	}
	told("HTTP/2", pair, rates, cpu)
	return nil
}

// idleMemory compares what a connection costs that waits for its next request.
func idleMemory(ctx context.Context, pair []*peer) error {
	var each []float64
	for _, p := range pair {
		before := p.process.resident()
		holder, err := startSelf(ctx, "load", p.process.addr, fmt.Sprintf(`{"conns":%d,"idle":true}`, idleConns))
		if err != nil {
			return err
		}
		time.Sleep(5 * time.Second) // whatever is only for the start of a connection is given back
		n := float64(p.process.resident()-before) / idleConns / 1024
		holder.stop()
		each = append(each, n)
		fmt.Printf("idle     %-32s %8.1f KiB a connection, of %d that have had one request each\n", p.name, n, idleConns)
	}
	for i, p := range pair[1:] {
		fmt.Printf("ratio    %-32s %8.2f\n", "idle connections / "+p.name, each[0]/each[i+1])
	}
	return nil
}
