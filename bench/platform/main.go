// Command platform measures the embedded platform at a steady rate: how soon a
// request is visible in version_rates_1s, and how much memory all of it holds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/test/platform"
	"tidegate/test/proc"
)

// The limits of the design: docs/benchmarks.md.
const (
	freshnessLimit = time.Second
	residentLimit  = 1500 << 20 // bytes
)

func main() {
	rate := flag.Int("rate", 2000, "requests a second")
	length := flag.Duration("length", 40*time.Second, "how long the load runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rate, *length); err != nil {
		fmt.Fprintln(os.Stderr, "bench/platform:", err)
		os.Exit(1) //nolint:gocritic // run has released everything
	}
}

func run(ctx context.Context, rate int, length time.Duration) (err error) {
	p, stop, err := platform.StartTemporary(ctx, platform.Options{Binary: filepath.Join("bin", "tidegate")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer origin.Close()
	const probes = 4
	scripts := []string{"load"}
	for i := range probes {
		scripts = append(scripts, fmt.Sprintf("probe-%d", i))
	}
	for _, script := range scripts {
		if err := p.ServeOrigin(ctx, script, origin.URL); err != nil {
			return err
		}
	}

	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var work sync.WaitGroup
	var answered atomic.Int64
	const clients = 32
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients + probes}}
	for range clients {
		work.Go(func() { sendSteadily(ctx, p, client, time.Second*clients/time.Duration(rate), &answered) })
	}
	ages := make([][]time.Duration, probes)
	for i := range probes {
		work.Go(func() { ages[i] = probe(ctx, p, client, scripts[i+1]) })
	}
	var peak int64
	work.Go(func() { peak = watchResident(ctx, p.Process().Pid()) })
	began := time.Now()
	work.Wait()

	all := slices.Sorted(slices.Values(slices.Concat(ages...)))
	if len(all) == 0 {
		return errors.New("no probe became visible")
	}
	p50, p99 := all[len(all)/2], all[len(all)*99/100]
	fmt.Printf("rate       %.0f requests/s answered for %.0f s (asked for %d)\n", float64(answered.Load())/time.Since(began).Seconds(), time.Since(began).Seconds(), rate)
	fmt.Printf("freshness  response sent to visible in version_rates_1s: p50 %d ms, p99 %d ms, max %d ms of %d probes; p99/limit %.2f\n",
		p50.Milliseconds(), p99.Milliseconds(), all[len(all)-1].Milliseconds(), len(all), float64(p99)/float64(freshnessLimit))
	fmt.Printf("resident   peak %d MiB in all processes; peak/limit %.2f\n", peak>>20, float64(peak)/residentLimit)
	return nil
}

func sendSteadily(ctx context.Context, p *platform.Platform, client *http.Client, every time.Duration, answered *atomic.Int64) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if status, _, err := p.Visit(context.WithoutCancel(ctx), client, "load", nil); err == nil && status == http.StatusOK {
			answered.Add(1)
		}
	}
}

// probe sends one request at a time to a script of its own and waits until the
// rollup counts it.
func probe(ctx context.Context, p *platform.Platform, client *http.Client, script string) []time.Duration {
	statement := "SELECT sum(requests) FROM version_rates_1s WHERE script_name = '" + script + "'"
	count := func() (int64, error) { return p.Count(ctx, statement) }
	var ages []time.Duration
	var before int64
	if platform.Poll(ctx, func() (bool, error) { n, err := count(); before = n; return n > 0, err }) != nil {
		return nil
	}
	for ctx.Err() == nil {
		if _, _, err := p.Visit(context.WithoutCancel(ctx), client, script, nil); err != nil {
			return ages // its event would be taken for the next probe's
		}
		sent := time.Now()
		unseen := platform.Poll(ctx, func() (bool, error) { n, err := count(); return n > before, err })
		// A probe that was never seen is as old as the wait: leaving it out would
		// hide a stall.
		if age := time.Since(sent); unseen == nil || age > freshnessLimit {
			ages = append(ages, age)
		}
		before++
	}
	return ages
}

// watchResident returns the largest sum of resident memory of a process and its
// descendants, in bytes. Shared pages count once for each process.
func watchResident(ctx context.Context, pid int) int64 {
	var peak int64
	for {
		var sum int64
		for _, one := range proc.Tree(pid) {
			sum += proc.Resident(one)
		}
		peak = max(peak, sum)
		select {
		case <-ctx.Done():
			return peak
		case <-time.After(500 * time.Millisecond):
		}
	}
}
