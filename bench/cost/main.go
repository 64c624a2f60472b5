// Command cost measures one machine with all of the platform on it, each part a process of its own: the highest rate
// of requests at which ingest and Logpush keep up, what a million requests cost each part, and how both grow with the
// number of scripts, jobs and versions. Load, origins and the jobs' receiver share the machine, as a row of their own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"tidegate/test/topic"
)

func main() {
	seconds := flag.Int("seconds", 12, "how long each measurement runs")
	steps := flag.Int("steps", 5, "measurements of the search for the highest rate")
	most := flag.Int("most", 100, "the most scripts, jobs and versions")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if os.Getenv(topic.RoleVariable) == topic.RoleBroker {
		err = topic.Serve(ctx, os.Args[1])
	} else {
		err = run(ctx, time.Duration(*seconds)*time.Second, *steps, *most)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/cost:", err)
		os.Exit(1) //nolint:gocritic // run has ended what it started
	}
}

// setting is how many there are of each. Versions are those of every script's deployment, and each job takes all events.
type setting struct{ scripts, jobs, versions int }

func (s setting) String() string {
	return fmt.Sprintf("%d scripts, %d jobs, %d versions each", s.scripts, s.jobs, s.versions)
}

// row is a setting and what was measured of it.
type row struct {
	setting
	rate float64 // that was sustained; 0 if it was not searched for
	cost cost
}

func run(ctx context.Context, d time.Duration, steps, most int) error {
	base := setting{1, 1, 1}
	settings := []setting{base}
	for n := 10; n <= most; n *= 10 {
		settings = append(settings, setting{n, 1, 1}, setting{1, n, 1}, setting{1, 1, n})
	}
	var rows []row
	rate := 0.0 // at which all settings are compared
	for _, s := range settings {
		r, err := measure(ctx, s, d, steps, rate)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		if s == base {
			rate = r.rate / 4 // what the largest setting keeps up with, too
		}
		rows = append(rows, r)
		printRow(r, rows[0])
	}
	return nil
}

// measure searches for the highest rate if the rate is 0, and then measures the cost at a quarter of it.
func measure(ctx context.Context, s setting, d time.Duration, steps int, rate float64) (r row, err error) {
	st, err := startStage(ctx, s)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	r.setting = s
	if rate == 0 {
		if r.rate, err = st.sustained(ctx, d, steps); err != nil {
			return r, err
		}
		rate = r.rate / 4
	}
	r.cost, err = st.cost(ctx, d, rate)
	return r, err
}

func printRow(r, base row) {
	fmt.Printf("\n%s\n", r.setting)
	if r.rate > 0 {
		fmt.Printf("  sustained        %.0f requests/s with everything on\n", r.rate)
	}
	c, first := &r.cost, &base.cost
	fmt.Printf("  measured at      %.0f requests/s; per million requests, and beside the first setting:\n", c.rate)
	line := func(name, unit string, value, before float64) {
		ratio := "      "
		if before > 0 {
			ratio = fmt.Sprintf("%5.2fx", value/before)
		}
		fmt.Printf("  %-16s %10.1f %-14s %s\n", name, value, unit, ratio)
	}
	var all, allBefore float64
	for _, part := range parts {
		line(part, "CPU s", c.cpu[part], first.cpu[part])
		if part != partBench {
			all, allBefore = all+c.cpu[part], allBefore+first.cpu[part]
		}
	}
	line("platform", "CPU s", all, allBefore)
	line("Kafka", "MB stored", c.kafka/1e6, first.kafka/1e6)
	line("ClickHouse", "MB on disk", c.clickhouse/1e6, first.clickhouse/1e6)
	line("network", "MB over all", c.network/1e6, first.network/1e6)
	line("jobs", "MB delivered", c.delivered/1e6, first.delivered/1e6)
	fmt.Println("  " + strings.TrimSpace(c.note))
}
