// Command dashboard plays the dashboard in a real browser against the built platform: it
// starts "tidegate up", fills it with scripts, traffic, a rollback, a ramp and Logpush jobs,
// and runs the Playwright tests of this folder. Arguments after "--" go to Playwright.
//
//	go run ./test/dashboard
//	go run ./test/dashboard -screenshots
//	go run ./test/dashboard -speed
//	go run ./test/dashboard -serve
//	go run ./test/dashboard -- tests/story.spec.ts
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"tidegate/test/idp"
	"tidegate/test/platform"
)

// fillDeadline is generous: a browser and the platform share two busy cores in CI.
const fillDeadline = 5 * time.Minute

// pictureTraffic is how long traffic goes on before pictures are taken, so that lines in
// charts of five minutes have some length.
const pictureTraffic = 3 * time.Minute

// people sign in at the identity provider; login.spec.ts knows them.
var people = []idp.User{
	{ID: "ada", Name: "Ada Lovelace", Email: "ada@example.com", EmailVerified: true, Groups: []string{"platform-team"}},
	{ID: "nobody", Name: "Nobody Special", Email: "nobody@example.com", EmailVerified: true},
}

func main() {
	screenshots := flag.Bool("screenshots", false, "make docs/screenshots instead of testing")
	speed := flag.Bool("speed", false, "measure how fast charts are instead of testing")
	serve := flag.Bool("serve", false, "run nothing: print where the dashboard is and wait for SIGINT")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *screenshots, *speed, *serve, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard: FAILED:", err)
		os.Exit(1) //nolint:gocritic // run has released everything
	}
}

func run(ctx context.Context, screenshots, speed, serve bool, arguments []string) (err error) {
	dir, err := os.MkdirTemp("", "tidegate-dashboard-")
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
	provider, err := idp.Start(people...)
	if err != nil {
		return err
	}
	defer provider.Close()
	p, err := platform.Start(ctx, platform.Options{
		Binary: filepath.Join("bin", "tidegate"), DataDir: filepath.Join(dir, "data"),
		Args: []string{
			"--logpush-interval", "1s",
			"--oidc-issuer", provider.Issuer, "--oidc-client-id", idp.PublicID, "--oidc-name", "Example", "--oidc-role", "platform-team=admin@*",
		},
		Output: logFile,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	provider.ComeBackTo(p.Ready.API + "/login")

	w := newWorld(p)
	defer w.close()
	filling, cancel := context.WithTimeout(ctx, fillDeadline)
	defer cancel()
	if err := w.fill(filling); err != nil {
		return fmt.Errorf("fill the platform: %w", err)
	}
	if speed {
		if err := w.lookBusy(filling); err != nil {
			return fmt.Errorf("make a busy script: %w", err)
		}
	}
	if serve {
		fmt.Printf("Dashboard: %s\nToken: %s\nLog: %s\n", p.Ready.API, p.Token, logPath)
		<-ctx.Done()
		return nil
	}
	if screenshots {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pictureTraffic):
		}
	}
	return play(ctx, w, screenshots, speed, arguments)
}

// play runs Playwright. What the tests need to know comes by environment.
func play(ctx context.Context, w *world, screenshots, speed bool, arguments []string) error {
	tests := []string{"playwright", "test"}
	switch {
	case screenshots:
		tests = append(tests, "--grep", "@screenshots")
	case speed:
		tests = append(tests, "--grep", "@speed")
	default:
		tests = append(append(tests, "--grep-invert", "@screenshots|@speed"), arguments...)
	}
	cmd := exec.CommandContext(ctx, "npx", tests...)
	cmd.Dir = filepath.Join("test", "dashboard")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), w.environment()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}
