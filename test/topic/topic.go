// Package topic fills Kafka topics with trace events as gateways write them, for
// benchmarks, and runs the embedded broker for them in a process of its own.
package topic

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

// RoleVariable tells a child of a benchmark what to be; RoleBroker is Serve's.
const (
	RoleVariable = "TIDEGATE_BENCH_ROLE"
	RoleBroker   = "broker"
)

// Clock tells when the nth event happened, in Unix milliseconds.
type Clock func(n int) int64

// Steady is a clock of so many events a millisecond from start on.
func Steady(start int64, perMs int) Clock {
	return func(n int) int64 { return start + int64(n/perMs) }
}

// LongAgo is the clock of events that are not looked at by their time: two a millisecond.
var LongAgo = Steady(1_790_000_000_000, 2)

// Broker is the embedded Kafka in a process of its own.
type Broker struct {
	Addr string
	cmd  *exec.Cmd
}

// StartBroker runs this program again as a broker on dir. The program calls Serve
// when RoleVariable is RoleBroker.
func StartBroker(ctx context.Context, dir string) (*Broker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, dir)
	cmd.Env = append(os.Environ(), RoleVariable+"="+RoleBroker)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	b := &Broker{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Stop()
		return nil, fmt.Errorf("the broker did not say where it listens: %w", err)
	}
	b.Addr = strings.TrimSpace(line)
	return b, nil
}

// Pid of the process.
func (b *Broker) Pid() int { return b.cmd.Process.Pid }

// Stop ends the process and waits for it.
func (b *Broker) Stop() {
	_ = b.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = b.cmd.Wait()                          // its exit after a signal tells nothing
}

// Serve is the broker's process: it prints its address and runs until ctx ends.
func Serve(ctx context.Context, dir string) error {
	b, err := embedded.StartBroker(ctx, embedded.BrokerConfig{Addr: "127.0.0.1:0", DataDir: dir})
	if err != nil {
		return err
	}
	fmt.Println(b.Addr())
	<-ctx.Done()
	return b.Close()
}

// Dice are those of the events of Fill, the same in each run.
func Dice() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// Fill makes the topic and writes events to it as gateways do, with a spool in dir.
func Fill(ctx context.Context, config stream.Config, dir string, count, partitions int, clock Clock) (err error) {
	if err := stream.EnsureTopic(ctx, config, partitions, 1, 0); err != nil {
		return err
	}
	p, err := stream.NewProducer(stream.ProducerConfig{Config: config, Schema: schema.EventSchemaVersion, SpoolDir: filepath.Join(dir, config.Topic), Logger: slog.New(slog.DiscardHandler)})
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
	dice := Dice()
	var text []byte
	size := 0
	for i := range count {
		text = events.AppendSmall(text[:0], dice, clock(i))
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
		if int(s.EventsOut) == count { // #nosec G115 -- a number of events
			fmt.Printf("topic %q: %d events of %d bytes on average, %d partitions\n", config.Topic, count, size/max(count, 1), partitions)
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ctx.Err()
}
