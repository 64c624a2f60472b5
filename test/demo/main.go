// Command demo plays the story of docs/design.md on real traffic: it starts the
// built platform on embedded defaults in a temporary folder, drives it through
// its API and its gateway, prints what happened, and exits 0 only if every step
// held.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"tidegate/test/platform"
)

// storyDeadline is generous: on two busy cores the story takes about a minute.
const storyDeadline = 8 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo: FAILED:", err)
		os.Exit(1) //nolint:gocritic // run has released everything
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, storyDeadline)
	defer cancel()
	dir, err := os.MkdirTemp("", "tidegate-demo-")
	if err != nil {
		return err
	}
	logPath := filepath.Join(dir, "tidegate.log")
	logFile, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer func() {
		_ = logFile.Close()
		if err != nil {
			err = fmt.Errorf("%w\nThe platform's log and data are kept in %s", err, dir)
			return
		}
		err = os.RemoveAll(dir)
	}()

	s := &story{out: out, dir: dir}
	defer s.close()
	started := time.Now()
	s.platform, err = platform.Start(ctx, platform.Options{
		Binary:  filepath.Join("bin", "tidegate"),
		DataDir: filepath.Join(dir, "data"),
		Args:    []string{"--logpush-interval", "1s"},
		Output:  logFile,
	})
	if err != nil {
		return errors.Join(err, tail(logPath))
	}
	defer func() { err = errors.Join(err, s.platform.Stop()) }()
	s.say("Tidegate is up after %.1f s: API %s, gateway %s, Kafka %s, ClickHouse %s",
		time.Since(started).Seconds(), s.platform.Ready.API, s.platform.Gateway, s.platform.Kafka, s.platform.ClickHouse)

	for i, step := range s.steps() {
		s.say("\n%d. %s", i+1, step.title)
		if err := step.play(ctx); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, step.title, err)
		}
	}
	s.say("\nEvery step held, in %.0f s.", time.Since(started).Seconds())
	return nil
}

// tail returns the end of the platform's log as an error, for a start that failed.
func tail(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const keep = 4000
	if len(b) > keep {
		b = b[len(b)-keep:]
	}
	return fmt.Errorf("the end of its log:\n%s", b)
}
