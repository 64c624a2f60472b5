// Serve runs a Kafka cluster until it gets SIGTERM or SIGINT, and writes how to
// reach it to a file once it serves.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"tidegate/test/real/kafka"
)

func main() {
	var cfg kafka.Config
	flag.StringVar(&cfg.Jars, "jars", "", "folder of Kafka's jars")
	flag.StringVar(&cfg.Dir, "dir", "", "empty folder for data, logs and certificates")
	flag.IntVar(&cfg.Brokers, "brokers", 1, "how many")
	flag.IntVar(&cfg.Port, "port", 0, "port of the first broker in clear text; 0 picks one")
	access := flag.String("access", "", "file to write, as JSON, how the cluster is reached")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, cfg, *access); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, cfg kafka.Config, access string) error {
	cluster, err := kafka.Start(ctx, cfg)
	if err != nil {
		return err
	}
	text, err := json.Marshal(cluster.Access())
	if err == nil {
		err = os.WriteFile(access, text, 0o600)
	}
	if err != nil {
		return errors.Join(err, cluster.Close())
	}
	<-ctx.Done()
	return cluster.Close()
}
