// Command soak runs a whole platform for a while under real traffic, while deployments and jobs change and what it
// stands on fails, and then accounts for every request. It exits 0 only if nothing was lost beyond what the design
// says a kill may cost, nothing was counted twice, and nothing grew. docs/operations/soak.md tells how to
// read its report.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"
)

type options struct {
	duration time.Duration
	seed     uint64
	rate     int // requests a second
	binary   string
	out      string // folder of the report and of the platform's log
	faults   *regexp.Regexp
}

func main() {
	o := options{}
	flag.DurationVar(&o.duration, "duration", 10*time.Minute, "how long traffic runs")
	flag.Uint64Var(&o.seed, "seed", 0, "of the dice for faults and changes; 0 takes one from the clock")
	flag.IntVar(&o.rate, "rate", 200, "requests a second")
	flag.StringVar(&o.binary, "binary", filepath.Join("bin", "soak", "tidegate"), "the platform, built by ./test/soak/wrongclock if its clock is to be set")
	flag.StringVar(&o.out, "out", filepath.Join("bin", "soak"), "folder of the report and the logs")
	only := flag.String("faults", "", "a regular expression: only the faults whose name it matches")
	flag.Parse()
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) // #nosec G115 -- after 1970
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var r *report
	var err error
	if o.faults, err = regexp.Compile(*only); err == nil {
		r, err = run(ctx, o)
	}
	if r != nil {
		err = errors.Join(err, r.write(o.out))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1) //nolint:gocritic // run has released everything
	}
	if !r.Passed {
		os.Exit(1)
	}
}

// run returns a report also if something broke; an error is about the soak itself.
func run(ctx context.Context, o options) (_ *report, err error) {
	if o.duration < time.Minute {
		return nil, fmt.Errorf("-duration %s is too short: each of the five phases needs 12 s, so it must be 1m at least", o.duration)
	}
	fmt.Printf("seed %d, %s at %d requests/s; SEED=%d repeats the order of faults and changes\n", o.seed, o.duration, o.rate, o.seed)
	if err := os.MkdirAll(o.out, 0o755); err != nil { // #nosec G301 -- build output
		return nil, err
	}
	w, err := newWorld(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	r := &report{Seed: o.seed, Began: time.Now().UTC(), Duration: o.duration.String(), Rate: o.rate, Unavailable: w.disk.unavailable}
	if err := w.prepare(ctx); err != nil {
		return r, fmt.Errorf("prepare the platform: %w", err)
	}

	phases := newPhases(time.Now(), o.duration)
	running, stopAll := context.WithDeadline(ctx, phases.end)
	defer stopAll()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { w.client(running, i, rand.New(rand.NewPCG(o.seed, 1000+uint64(i)))) }) // #nosec G115 G404 -- a small number; repeatable dice
	}
	all.Go(func() { w.change(running, rand.New(rand.NewPCG(o.seed, 1))) })     // #nosec G404
	all.Go(func() { w.changeJobs(running, rand.New(rand.NewPCG(o.seed, 2))) }) // #nosec G404
	all.Go(func() { w.sample(running) })                                       // until the end of the load
	all.Go(func() { w.profiles(running, phases) })
	faultErr := w.breakThings(running, phases, rand.New(rand.NewPCG(o.seed, 3))) // #nosec G404
	if faultErr != nil {
		stopAll() // what follows would tell nothing
	}
	all.Wait()
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	if faultErr != nil {
		r.broke("a fault could not be ended: %v", faultErr)
	}

	r.Growth = growth(w.samples, phases)
	w.account(ctx, r)
	w.verify(ctx, r)
	began := time.Now()
	if err := w.stop(); err != nil {
		r.broke("the platform did not stop in order: %v", err)
	}
	r.StoppedIn = time.Since(began).Round(time.Millisecond).String()
	r.finish(w)
	return r, nil
}

// phases are fifths of the run. The whole process is killed in the first, so that one process lives through all
// others; the second and the last have the same load and no faults, and are compared; everything else breaks
// between them.
type phases struct{ start, calm, faults, last, end time.Time }

func newPhases(start time.Time, d time.Duration) phases {
	return phases{start, start.Add(d / 5), start.Add(2 * d / 5), start.Add(4 * d / 5), start.Add(d)}
}
