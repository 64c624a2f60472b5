package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tidegate/internal/embedded"
	"tidegate/pipeline/stream"
	"tidegate/schema"
	"tidegate/test/events"
)

// roleVariable tells a child of this program what to be.
const roleVariable = "TIDEGATE_BENCH_ROLE"

// broker is the embedded Kafka in a process of its own.
type broker struct {
	cmd  *exec.Cmd
	addr string
}

func startBroker(ctx context.Context, dir string) (*broker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, filepath.Join(dir, "broker"))
	cmd.Env = append(os.Environ(), roleVariable+"=broker")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	b := &broker{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.stop()
		return nil, fmt.Errorf("the broker did not say where it listens: %w", err)
	}
	b.addr = strings.TrimSpace(line)
	return b, nil
}

func (b *broker) stop() {
	_ = b.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = b.cmd.Wait()                          // its exit after a signal tells nothing
}

func serveBroker(ctx context.Context, dir string) error {
	b, err := embedded.StartBroker(ctx, embedded.BrokerConfig{Addr: "127.0.0.1:0", DataDir: dir})
	if err != nil {
		return err
	}
	fmt.Println(b.Addr())
	<-ctx.Done()
	return b.Close()
}

// fill makes the topic and writes the events to it as gateways do.
func (t *task) fill(ctx context.Context, partitions int) (err error) {
	config := stream.Config{Brokers: t.Brokers, Topic: t.Topic}
	if err := stream.EnsureTopic(ctx, config, partitions, 1, 0); err != nil {
		return err
	}
	p, err := stream.NewProducer(stream.ProducerConfig{Config: config, Schema: schema.EventSchemaVersion, SpoolDir: filepath.Join(t.Dir, t.Topic), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-done)
	}()
	dice := rand.New(rand.NewPCG(1, 2)) // the same events in each run
	size := 0
	for i := range t.Events {
		text := events.AppendSmall(nil, dice, i) // the producer keeps it
		size += len(text)
		p.Emit(events.Account, text)
		for i%1000 == 0 && p.Stats().QueueEvents > 5000 {
			time.Sleep(time.Millisecond)
		}
	}
	for ctx.Err() == nil {
		s := p.Stats()
		for reason, n := range s.Dropped {
			if n > 0 {
				return fmt.Errorf("fill the topic: %d events were dropped: %s", n, reason)
			}
		}
		if int(s.EventsOut) == t.Events { // #nosec G115 -- a number of events
			fmt.Printf("topic %q: %d events of %d bytes on average, %d partitions\n", t.Topic, t.Events, size/t.Events, partitions)
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ctx.Err()
}
