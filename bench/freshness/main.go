// Command freshness measures how soon a request counts: from the moment at which its
// response is sent until version_rates_1s has it, at several rates, on the embedded
// platform with its real gateway, broker and engine.
//
// The clock of a request starts where the origin hands out its response, a little before
// the gateway sends it on, and stops when an answer of ClickHouse that counts it has been
// read. Which request is which is not asked: the nth is as old as it takes until n are
// counted. So figures are rather too high than too low.
//
//	go run ./bench/freshness
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tidegate/test/platform"
)

const (
	// limit of p99 at limitRate requests a second: docs/benchmarks.md.
	limit     = 700 * time.Millisecond
	limitRate = 5_000
	// Rates above the listed ones are tried in these steps.
	firstStep, stepFactor = 8_000, 1.25
	// A rate is sustained when this share of it was answered, and at its end what was
	// not visible yet became so within this time.
	answeredShare = 0.95
	leftoverMax   = 2 * time.Second
)

func main() {
	rates := flag.String("rates", "100,5000", "requests a second, separated by commas")
	length := flag.Duration("length", 20*time.Second, "how long each rate lasts")
	highest := flag.Bool("highest", true, "look for the highest rate that is sustained, too")
	binary := flag.String("binary", filepath.Join("bin", "tidegate"), "the program to measure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *binary, *rates, *length, *highest); err != nil {
		fmt.Fprintln(os.Stderr, "bench/freshness:", err)
		os.Exit(1) //nolint:gocritic // run has released everything
	}
}

func run(ctx context.Context, binary, rates string, length time.Duration, highest bool) (err error) {
	p, stop, err := platform.StartTemporary(ctx, platform.Options{Binary: binary})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	for text := range strings.SplitSeq(rates, ",") {
		rate, err := strconv.Atoi(text)
		if err != nil || rate < 1 {
			return fmt.Errorf("-rates: %q is no number of requests a second", text)
		}
		r, err := measure(ctx, p, rate, length)
		if err != nil {
			return err
		}
		r.print("")
	}
	if !highest {
		return nil
	}
	var best result
	for rate := float64(firstStep); ; rate *= stepFactor {
		r, err := measure(ctx, p, int(rate), length)
		if err != nil {
			return err
		}
		if !r.sustained() {
			r.print("not sustained")
			break
		}
		r.print("sustained")
		best = r
	}
	if best.rate == 0 {
		return fmt.Errorf("%d requests a second are not sustained: try a machine that does less beside it", firstStep)
	}
	best.print("the highest sustained")
	return nil
}

// result of one rate.
type result struct {
	rate     int     // asked for
	answered float64 // requests a second
	seen     int
	p50, p99 time.Duration
	longest  time.Duration
	leftover time.Duration // from the last request until all were visible
	cpu      time.Duration // of the platform, a request
}

func (r *result) sustained() bool {
	return r.answered >= answeredShare*float64(r.rate) && r.leftover <= leftoverMax
}

func (r *result) print(remark string) {
	if r.rate == limitRate {
		remark = "met"
		if r.p99 >= limit {
			remark = "missed"
		}
		remark = fmt.Sprintf("p99/limit %.2f, %s", float64(r.p99)/float64(limit), remark)
	}
	fmt.Printf("%6d/s asked, %8.0f/s answered; response sent to visible in version_rates_1s: p50 %4d ms, p99 %4d ms, max %4d ms of %d; CPU of the platform %.0f µs a request; %s\n",
		r.rate, r.answered, r.p50.Milliseconds(), r.p99.Milliseconds(), r.longest.Milliseconds(), r.seen, float64(r.cpu.Nanoseconds())/1e3, remark)
}
