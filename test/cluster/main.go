// Command cluster runs many of each part of Tidegate on hosts of their own, breaks the
// network and the processes between them under load, upgrades everything from an earlier
// release, and counts at the end. test/cluster/run.sh installs what it needs and starts it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"tidegate/test/cluster/network"
)

// runTimeout ends a run that hangs.
const runTimeout = 25 * time.Minute

// startTimeout is generous, as scenarioTimeout is.
const startTimeout = 4 * time.Minute

// config is where run.sh put things.
type config struct {
	bin      string // folder of the binaries under test
	previous string // folder of those of an earlier release
	jars     string // folder of Kafka's jars
	postgres string // folder of PostgreSQL's programs
	dir      string // empty folder for data and logs; others may enter it
	prefix   string // of the names of namespaces
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == engineCommand {
		if err := serveEngine(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "engine:", err)
			os.Exit(1)
		}
		return
	}
	var cfg config
	flag.StringVar(&cfg.bin, "bin", "bin", "folder of the binaries under test")
	flag.StringVar(&cfg.previous, "previous", "", "folder of the binaries of an earlier release")
	flag.StringVar(&cfg.jars, "jars", "", "folder of Kafka's jars")
	flag.StringVar(&cfg.postgres, "postgres", "", "folder of PostgreSQL's programs")
	flag.StringVar(&cfg.dir, "dir", "", "empty folder for data and logs")
	flag.StringVar(&cfg.prefix, "prefix", "", "of the names of network namespaces, 10 characters at most")
	only := flag.String("run", "", "regular expression: play only scenarios whose title matches")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	if err := run(ctx, cfg, *only); err != nil {
		fmt.Fprintln(os.Stderr, "test-cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg config, only string) (err error) {
	if cfg.dir, err = filepath.Abs(cfg.dir); err != nil {
		return err
	}
	if cfg.bin, err = filepath.Abs(cfg.bin); err != nil {
		return err
	}
	if cfg.previous, err = filepath.Abs(cfg.previous); err != nil {
		return err
	}
	n, err := network.New(cfg.prefix)
	if err != nil {
		return err
	}
	c := &cluster{config: cfg, net: n}
	defer func() { err = errors.Join(err, c.close()) }()
	began := time.Now()
	if err := c.start(ctx); err != nil {
		return err
	}
	fmt.Printf("   everything runs after %.0f s\n", time.Since(began).Seconds())
	r := report{}
	if err := r.play(ctx, c, only); err != nil {
		return err
	}
	fmt.Printf("\n%s\nThe whole run took %s.\n", &r, time.Since(began).Round(time.Second))
	return r.failed()
}
