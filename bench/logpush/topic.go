package main

import (
	"bufio"
	"context"
	"encoding/json"
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
)

// roleVariable tells a child of this program what to be.
const roleVariable = "TIDEGATE_BENCH_ROLE"

const account = "00000000000000000000000000000001"

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
		text := appendEvent(nil, dice, i) // the producer keeps it
		size += len(text)
		p.Emit(account, text)
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

// appendEvent appends an event of about 640 bytes.
func appendEvent(b []byte, dice *rand.Rand, i int) []byte {
	at := int64(1_790_000_000_000) + int64(i)/2
	script := []string{"shop", "shop-cart", "search", "login"}[dice.IntN(4)]
	version := []string{"0f0a6a3c-6c1c-4f1f-9c77-b6b2f6d6c0a1", "5b1c9a52-2d44-4e0d-8c8e-0e6f6f0fbb52"}[dice.IntN(2)]
	outcome, status := schema.OutcomeOK, 200
	switch dice.IntN(50) {
	case 0:
		outcome, status = schema.OutcomeException, 500
	case 1, 2:
		status = 404
	}
	ray := fmt.Sprintf("%016x", dice.Uint64())
	event, err := json.Marshal(schema.FetchEvent{
		RayID: ray,
		Request: schema.FetchRequest{
			URL: fmt.Sprintf("https://%s.example.com/items/%d?session=%08x", script, dice.IntN(100_000), dice.Uint32()), Method: "GET",
			Headers: map[string]string{"user-agent": fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) Chrome/%d.0.0.0", 100+dice.IntN(40))},
		},
		Response: &schema.FetchResponse{Status: status},
	})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	upstream := float64(dice.IntN(9000)) / 100
	e := schema.TraceEvent{
		Event: event, EventTimestampMs: at, EventType: "fetch", Outcome: outcome, ScriptName: script, ScriptTags: []string{"team:web"},
		ScriptVersion: schema.ScriptVersion{ID: version, Tag: "v12", Message: "deploy"},
		Logs:          []schema.Log{{Level: "log", Message: []json.RawMessage{json.RawMessage(fmt.Sprintf(`"cart of customer %d has %d items"`, dice.IntN(1_000_000), dice.IntN(20)))}, TimestampMs: at}},
		WallTimeMs:    new(int64(upstream) + 1),
		Gateway:       schema.Gateway{Decision: schema.DecisionSplit, RayID: ray, UpstreamMs: &upstream},
	}
	return e.AppendJSON(b)
}
