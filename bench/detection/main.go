// Command detection measures how soon a bad release is out of traffic, on the embedded
// platform with its real gateway, broker, engine and controller: from its first failed
// response to the last request that it gets.
//
//	go run ./bench/detection
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/detection"
	"tidegate/test/platform"
)

// scenarios have the limits of docs/benchmarks.md.
var scenarios = []struct {
	detection.Scenario
	limit time.Duration // of the median
}{
	{detection.Scenario{
		Name: "half fails, 0 % before", Rate: 500, Share: percent(10), New: 0.5,
		Policy: map[string]any{"enabled": true}, Patience: time.Minute,
	}, 2 * time.Second},
	{detection.Scenario{
		Name: "5 % fails, 0.5 % before", Rate: 500, Share: percent(10), Baseline: 0.005, New: 0.05,
		Policy: map[string]any{"enabled": true}, Patience: 2 * time.Minute,
	}, 15 * time.Second},
}

func percent(n int64) deploy.Percentage { return deploy.Full * deploy.Percentage(n) / 100 }

func main() {
	runs := flag.Int("runs", 20, "how often each release is made")
	binary := flag.String("binary", filepath.Join("bin", "tidegate"), "the program to measure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *binary, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "bench/detection:", err)
		os.Exit(1) //nolint:gocritic // run has released everything
	}
}

func run(ctx context.Context, binary string, runs int) (err error) {
	p, stop, err := platform.StartTemporary(ctx, platform.Options{Binary: binary})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for i, s := range scenarios {
		var after []time.Duration
		var requests []int
		for n := range runs {
			r, err := detection.Run(ctx, p, fmt.Sprintf("release-%d-%d", i, n), s.Scenario)
			if err != nil {
				return fmt.Errorf("%s, run %d: %w", s.Name, n+1, err)
			}
			if !r.RolledBack {
				return fmt.Errorf("%s, run %d: not rolled back in %v, after %d requests with %d failures", s.Name, n+1, s.Patience, r.Requests, r.Failures)
			}
			after, requests = append(after, r.After), append(requests, r.Requests)
		}
		slices.Sort(after)
		slices.Sort(requests)
		met := "met"
		if after[len(after)/2] > s.limit {
			met = "missed"
		}
		fmt.Printf("%-26s out of traffic after %.2f s (median of %d; %.2f to %.2f), %d requests of the new version (median); %.2f of the limit of %v, %s\n",
			s.Name, after[len(after)/2].Seconds(), runs, after[0].Seconds(), after[len(after)-1].Seconds(), requests[len(requests)/2],
			after[len(after)/2].Seconds()/s.limit.Seconds(), s.limit, met)
	}
	return nil
}
