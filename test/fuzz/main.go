// Command fuzz runs every fuzz target of the module, each for a while, on a corpus that stays. What fails is left
// in testdata/fuzz, where `go test` runs it from then on. So is what reaches statements that no seed reached,
// as few inputs as there can be (keep.go).
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

type options struct {
	fuzzTime string // of go test -fuzztime
	only     *regexp.Regexp
	jobs     int
	corpus   string // folder of all inputs that were found to reach something new
	bin      string // folder of the compiled tests and of the logs
	list     bool
	keep     bool
	module   bool
}

func main() {
	var o options
	flag.StringVar(&o.fuzzTime, "time", "10m", "how long each target runs, such as 10m, or how often, such as 10000x")
	only := flag.String("run", "", "a regular expression: only the targets whose package/Name it matches")
	flag.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "how many targets run at a time, with one worker each")
	flag.StringVar(&o.corpus, "corpus", ".fuzz", "the folder of the corpora")
	flag.StringVar(&o.bin, "bin", filepath.Join("bin", "fuzz"), "the folder of the compiled tests and of the logs")
	flag.BoolVar(&o.list, "list", false, "only list the targets")
	flag.BoolVar(&o.keep, "keep", true, "keep inputs that reach new statements in testdata/fuzz")
	flag.BoolVar(&o.module, "module-only", false, "show the fuzzer the branches of this module alone, which compiles in seconds: the standard library's parsers are then guessed at blindly")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.only, err = regexp.Compile(*only); err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1) //nolint:gocritic // run has ended what it started
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.corpus, err = filepath.Abs(o.corpus); err != nil {
		return err
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	all, err := targets(".")
	if err != nil {
		return err
	}
	var picked []target
	for _, t := range all {
		if o.only.MatchString(t.String()) {
			picked = append(picked, t)
		}
	}
	if len(picked) == 0 {
		return fmt.Errorf("%q matches none of the %d targets", o.only, len(all))
	}
	if o.list {
		for _, t := range picked {
			fmt.Println(t)
		}
		return nil
	}
	fmt.Printf("%d of %d targets, %s each, %d at a time\n", len(picked), len(all), o.fuzzTime, o.jobs)
	return runAll(ctx, o, picked)
}

// runAll goes on after a target that fails, so that one run finds what there is to find.
func runAll(ctx context.Context, o options, picked []target) error {
	b := newBinaries(o.bin)
	queue := make(chan target)
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for range o.jobs {
		all.Go(func() {
			for t := range queue {
				if err := fuzz(ctx, o, b, t); err != nil {
					mu.Lock()
					failed = append(failed, fmt.Errorf("%s: %w", t, err))
					mu.Unlock()
				}
			}
		})
	}
	for _, t := range picked {
		if ctx.Err() == nil {
			queue <- t
		}
	}
	close(queue)
	all.Wait()
	return errors.Join(append(failed, ctx.Err())...)
}

// fuzz runs one target, and says in one line what became of it.
func fuzz(ctx context.Context, o options, b *binaries, t target) error {
	instrumented := forFuzzing
	if o.module {
		instrumented = forFuzzingAlone
	}
	binary, err := b.of(ctx, t.dir, instrumented)
	if err != nil {
		return err
	}
	corpus := filepath.Join(o.corpus, t.dir)
	if err := os.MkdirAll(filepath.Join(corpus, t.name), 0o700); err != nil {
		return err
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.fuzz=^"+t.name+"$", "-test.fuzztime="+o.fuzzTime, // #nosec G204 -- compiled above
		"-test.fuzzcachedir="+corpus, "-test.parallel=1", "-test.timeout=0")
	cmd.Dir = t.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its worker
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	log := filepath.Join(o.bin, strings.ReplaceAll(t.String(), "/", "_")+".log")
	if errLog := os.WriteFile(log, out.Bytes(), 0o600); errLog != nil {
		return errLog
	}
	if ctx.Err() != nil {
		return nil // runAll says so
	}
	if err != nil {
		fmt.Printf("FAIL  %s, after %s\n%s", t, time.Since(began).Round(time.Second), indent(tail(out.String(), 40)))
		return fmt.Errorf("%w: read %s; the input is in %s", err, log, filepath.Join(t.dir, "testdata", "fuzz", t.name))
	}
	kept := 0
	if o.keep {
		if kept, err = keep(ctx, b, t, filepath.Join(corpus, t.name)); err != nil {
			return fmt.Errorf("keep what reaches something new: %w", err)
		}
	}
	line := fmt.Sprintf("ok    %s: %s", t, lastRate(out.String()))
	if kept > 0 {
		line += fmt.Sprintf("; %d inputs kept in testdata/fuzz", kept)
	}
	fmt.Println(line)
	return nil
}

// lastRate is what the last report of progress says after its time.
func lastRate(out string) string {
	at := strings.LastIndex(out, "execs: ")
	if at < 0 {
		return "no execution was reported"
	}
	line, _, _ := strings.Cut(out[at:], "\n")
	return line
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func indent(text string) string { return "      " + strings.ReplaceAll(text, "\n", "\n      ") + "\n" }
