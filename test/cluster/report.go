package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// scenario breaks something and tells what it saw. It leaves healing to whoever plays it.
type scenario struct {
	title string
	done  string // what is done, for the report
	play  func(ctx context.Context, c *cluster) (seen string, err error)
}

// scenarioTimeout is generous: two busy cores run some twenty processes.
const scenarioTimeout = 6 * time.Minute

// report is what became of each scenario.
type report struct {
	rows []row
	errs []error
}

type row struct{ title, done, seen string }

// play plays the scenarios one after the other. One that fails is no reason not to play
// the next: the cluster is healed in between.
func (r *report) play(ctx context.Context, c *cluster, only string) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	for _, s := range scenarios {
		if !chosen.MatchString(s.title) {
			continue
		}
		fmt.Printf("\n== %s (%s)\n   %s\n", s.title, time.Now().UTC().Format("15:04:05Z"), s.done)
		began := time.Now()
		seen, err := playOne(ctx, c, s)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			seen = "FAILED: " + err.Error()
			r.errs = append(r.errs, fmt.Errorf("%s: %w", s.title, err))
		}
		fmt.Printf("   %s (%.0f s)\n", seen, time.Since(began).Seconds())
		r.rows = append(r.rows, row{s.title, s.done, seen})
	}
	return nil
}

func playOne(ctx context.Context, c *cluster, s scenario) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, scenarioTimeout)
	defer cancel()
	before, _ := c.load.failures(0)
	seen, err := s.play(ctx, c)
	err = errors.Join(err, c.heal(ctx))
	// Whatever is broken, clients do not notice.
	if _, failed := c.load.failures(before); len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("%d requests of clients failed, the first ones: %w", len(failed), errors.Join(failed[:min(3, len(failed))]...)))
	}
	return seen, err
}

func (r *report) failed() error { return errors.Join(r.errs...) }

// String is the report as a table.
func (r *report) String() string {
	var b strings.Builder
	b.WriteString("| Scenario | What was done | What was seen |\n|---|---|---|\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", row.title, row.done, strings.ReplaceAll(row.seen, "\n", "; "))
	}
	return b.String()
}
