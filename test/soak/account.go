package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"tidegate/schema"
	"tidegate/test/platform"
)

const (
	// lostWindow is how long before a kill of the whole platform a response may have been given whose event is lost: the
	// producer's linger, 50 ms, the batch that was on its way to Kafka, and how late a client that shares the machine
	// looks at its clock.
	lostWindow = 2 * time.Second
	// settleTimeout is how long after the load its last event may take: the gateway waits for a runtime's half of an
	// event for a minute, and a job for its interval.
	settleTimeout = 2 * time.Minute
)

// accounts says what became of every request.
type accounts struct {
	Requests  int            `json:"requests"`
	Answered  int            `json:"answered"` // with a Cf-Ray
	ByStatus  map[string]int `json:"by_status"`
	Cut       int            `json:"without_response"`
	Untraced  int            `json:"responses_without_a_ray"`
	Injected  int            `json:"injected_events"`
	Events    int            `json:"events_in_kafka"`
	Rows      int            `json:"rows_in_clickhouse"`
	Lost      int            `json:"lost_at_kills"`
	OldestMs  int64          `json:"oldest_lost_before_its_kill_ms"`
	Missing   int            `json:"missing_beside_kills"`
	Dropped   int            `json:"dropped_and_counted"`
	Others    int            `json:"events_of_requests_without_response"`
	Repeated  int            `json:"events_written_twice"`
	Repeats   int            `json:"repeats_counted_as_possible"`
	Delivered int            `json:"events_delivered_by_the_job"`
	Different int            `json:"rays_that_kafka_and_clickhouse_count_differently"`
	// Examples are of what is missing beside kills, examplesMax at most: which ones are within the count of those that
	// were dropped nobody can say.
	Examples []string `json:"examples_of_missing_events,omitempty"`
}

const examplesMax = 200

func (a *accounts) miss(example string) {
	if a.Missing++; len(a.Examples) < examplesMax {
		a.Examples = append(a.Examples, example)
	}
}

// account waits until everything has arrived, or can no longer be on its way, and then compares.
func (w *world) account(ctx context.Context, r *report) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var last error
	err := platform.Poll(ctx, func() (bool, error) {
		a, err := w.compare(ctx)
		if err != nil {
			if ctx.Err() == nil { // else the time is over, and what was read last counts
				last = err
			}
			return false, nil
		}
		r.Accounts, last = a, nil
		if a.Missing <= a.Dropped && a.Different == 0 && a.Delivered == a.Events {
			return true, nil
		}
		pause(ctx, 2*time.Second) // each look reads the whole topic
		return false, nil
	})
	if last != nil {
		r.broke("the events could not be read: %v", last)
	} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		r.broke("the accounting was broken off: %v", err)
	}
}

func (w *world) compare(ctx context.Context) (a accounts, err error) {
	p := w.platform()
	inKafka, err := kafkaRays(ctx, p.Kafka)
	if err != nil {
		return a, err
	}
	inTable, err := tableRays(ctx, p)
	if err != nil {
		return a, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a.ByStatus, a.Injected = map[string]int{}, len(w.injected)
	a.Dropped, a.Repeats = int(total(w.samples, dropped)), int(total(w.samples, repeatsPossible))
	known, injected := make(map[string]bool, len(w.asked)), make(map[string]bool, len(w.injected))
	for _, ray := range w.injected {
		known[ray], injected[ray] = true, true
		if inKafka[ray] == 0 {
			a.miss("an injected event, " + ray)
		}
	}
	for _, q := range w.asked {
		a.Requests++
		switch {
		case q.status == 0:
			a.Cut++
			continue
		case q.ray == "":
			a.Untraced++
			continue
		}
		a.Answered++
		a.ByStatus[strconv.Itoa(q.status)]++
		known[q.ray] = true
		if inKafka[q.ray] > 0 {
			continue
		}
		if age, ok := w.beforeKill(q.done); ok {
			a.Lost++
			a.OldestMs = max(a.OldestMs, age.Milliseconds())
			continue
		}
		a.miss(fmt.Sprintf("%s of %s, answered %d at %s", q.ray, q.script, q.status, q.done.UTC().Format("15:04:05.000")))
	}
	for ray, n := range inKafka {
		a.Events++
		if !injected[ray] { // whose writer may send one twice; the gateway does not
			a.Repeated += n - 1
		}
		if !known[ray] {
			a.Others++
		}
		if w.receiver.has(ray) {
			a.Delivered++
		}
		if inTable[ray] != n {
			a.Different++
		}
	}
	for ray, n := range inTable {
		a.Rows += n
		if inKafka[ray] == 0 {
			a.Different++
		}
	}
	return a, nil
}

// beforeKill reports whether a response came so shortly before a kill of the whole platform that its event may be
// lost, and how shortly.
func (w *world) beforeKill(done time.Time) (age time.Duration, ok bool) {
	for _, k := range w.kills {
		// A response that was on its way in a socket is read after the kill.
		if age := k.at.Sub(done); age <= lostWindow && age > -time.Second {
			return max(0, age), true
		}
	}
	return 0, false
}

// kafkaRays reads the whole topic and counts the records of each ray.
func kafkaRays(ctx context.Context, broker string) (map[string]int, error) {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections() // or it looks for the broker until the run ends
	client := &kafka.Client{Addr: kafka.TCP(broker), Transport: transport}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{schema.Topic}})
	if err != nil {
		return nil, fmt.Errorf("ask for the partitions of %s: %w", schema.Topic, err)
	}
	rays := map[string]int{}
	for _, t := range meta.Topics {
		for _, partition := range t.Partitions {
			if err := partitionRays(ctx, broker, partition.ID, rays); err != nil {
				return nil, fmt.Errorf("read partition %d of %s: %w", partition.ID, schema.Topic, err)
			}
		}
	}
	return rays, nil
}

func partitionRays(ctx context.Context, broker string, partition int, rays map[string]int) error {
	conn, err := kafka.DialLeader(ctx, "tcp", broker, schema.Topic, partition)
	if err != nil {
		return err
	}
	first, end, err := conn.ReadOffsets()
	if err = errors.Join(err, conn.Close()); err != nil || first == end {
		return err
	}
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{broker}, Topic: schema.Topic, Partition: partition, MaxBytes: 8 << 20})
	defer reader.Close() //nolint:errcheck // it commits nothing
	if err := reader.SetOffset(first); err != nil {
		return err
	}
	for {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			return err
		}
		var e schema.TraceEvent
		if err := schema.DecodeEvent(m.Value, &e); err != nil {
			return err
		}
		rays[e.Gateway.RayID]++
		if m.Offset >= end-1 {
			return nil
		}
	}
}

// tableRays counts the rows of each ray.
func tableRays(ctx context.Context, p *platform.Platform) (map[string]int, error) {
	text, err := p.Query(ctx, "SELECT ray_id, count() FROM trace_events GROUP BY ray_id FORMAT TabSeparated")
	if err != nil {
		return nil, err
	}
	rays := map[string]int{}
	for line := range strings.Lines(text) {
		ray, count, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if rays[ray], err = strconv.Atoi(count); err != nil {
			return nil, fmt.Errorf("read the rays of trace_events: %w", err)
		}
	}
	return rays, nil
}

// verify runs the verifier that operators have.
func (w *world) verify(ctx context.Context, r *report) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var text strings.Builder
	cmd := exec.CommandContext(ctx, w.o.binary, "verify", "--data-dir", filepath.Join(w.disk.dir, "data")) // #nosec G204 -- the platform
	cmd.Stdout, cmd.Stderr = io.Writer(&text), io.Writer(&text)
	err := cmd.Run()
	r.Verify = text.String()
	if err != nil {
		r.broke("tidegate verify: %v", err)
	}
}
