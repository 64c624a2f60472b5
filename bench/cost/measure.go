package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"tidegate/schema"
	"tidegate/test/load"
	"tidegate/test/platform"
	"tidegate/test/proc"
)

// Parts of the platform, each a process or a kind of them.
const (
	partGateway = "gateway"
	partKafka   = "broker"
	partIngest  = "ingest"
	partEngine  = "engine"
	partLogpush = "Logpush"
	partControl = "control plane"
	partBench   = "load, origin"
)

var parts = []string{partGateway, partKafka, partIngest, partEngine, partLogpush, partControl, partBench}

// cost of a million requests: seconds of processor time by part, and bytes.
type cost struct {
	rate       float64 // requests/s at which it was measured
	cpu        map[string]float64
	kafka      float64 // of batches as Kafka stores them
	clickhouse float64 // of active parts, all tables
	network    float64 // over loopback: every hop between the parts, and load and receiver
	delivered  float64
	note       string
}

// lagMax is how far ingest may be behind when a load ends for the rate to count as sustained: two seconds of it, which
// is more than a block and less than what grows in a measurement.
const lagMax = 2 * time.Second

// sustained searches, by halving, between 0 and the rate of clients that wait for nothing, for the highest at which every
// request is answered in time and ingest keeps up. Logpush is waited for at the end of each step.
func (st *stage) sustained(ctx context.Context, d time.Duration, steps int) (rate float64, err error) {
	flat, err := load.Run(ctx, st.target(), conns, d)
	if err != nil {
		return 0, err
	}
	if _, err := st.drain(ctx); err != nil {
		return 0, err
	}
	low, high := 0.0, flat.Rate
	for range steps {
		try := (low + high) / 2
		if low == 0 {
			try = high * 0.8
		}
		kept, err := st.keepsUp(ctx, d, try)
		if err != nil {
			return 0, err
		}
		if kept {
			low = try
		} else {
			high = try
		}
	}
	if low == 0 {
		return 0, fmt.Errorf("not even %.0f requests/s could be sustained", high)
	}
	return low, nil
}

func (st *stage) keepsUp(ctx context.Context, d time.Duration, rate float64) (bool, error) {
	result, err := load.RunPaced(ctx, st.target(), conns, d, rate)
	if err != nil {
		return false, err
	}
	lag, err := st.drain(ctx)
	return lag <= rate*lagMax.Seconds() && result.Rate > 0.98*rate, err
}

// drain returns how many events were not stored when it was called, once all are.
func (st *stage) drain(ctx context.Context) (lag float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	first := true
	err = platform.Poll(ctx, func() (bool, error) {
		stored, err := st.platform.Count(ctx, "SELECT count() FROM trace_events")
		if err != nil {
			return false, err
		}
		records, err := platform.TopicRecords(ctx, st.broker.Addr, schema.Topic)
		if err != nil {
			return false, err
		}
		queued, err := st.metric(ctx, "tidegate_stream_queue_events", "tidegate_gateway_requests_in_flight")
		if err != nil {
			return false, err
		}
		behind := float64(records-stored) + queued
		if first {
			lag, first = behind, false
		}
		return behind == 0, nil
	})
	return lag, err
}

// cost measures a paced load from its first request until its last event is stored.
func (st *stage) cost(ctx context.Context, d time.Duration, rate float64) (c cost, err error) {
	before, err := st.look(ctx)
	if err != nil {
		return c, err
	}
	result, err := load.RunPaced(ctx, st.target(), conns, d, rate)
	if err != nil {
		return c, err
	}
	if _, err := st.drain(ctx); err != nil {
		return c, err
	}
	after, err := st.look(ctx)
	if err != nil {
		return c, err
	}
	per := 1e6 / float64(result.Requests)
	c = cost{rate: result.Rate, cpu: map[string]float64{}, kafka: (after.kafka - before.kafka) * per, network: (after.network - before.network) * per, delivered: (after.delivered - before.delivered) * per}
	for _, part := range parts {
		c.cpu[part] = (after.cpu[part] - before.cpu[part]) * per
	}
	// Parts are merged whenever the engine likes, so the whole table is divided by all of its rows.
	rows, err := st.platform.Count(ctx, "SELECT count() FROM trace_events")
	if err != nil {
		return c, err
	}
	bytes, err := st.platform.Count(ctx, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()")
	if err != nil {
		return c, err
	}
	c.clickhouse = float64(bytes) / float64(rows) * 1e6
	c.note = fmt.Sprintf("p50 %.2f ms, p99 %.2f ms of %d requests", result.P50ms, result.P99ms, result.Requests)
	return c, nil
}

// figures are what grows while there is load.
type figures struct {
	cpu                       map[string]float64 // seconds
	kafka, network, delivered float64            // bytes
}

func (st *stage) look(ctx context.Context) (f figures, err error) {
	engine, err := proc.Descendant(st.platform.Process().Pid(), "engine-child")
	if err != nil {
		return f, err
	}
	f.cpu = map[string]float64{}
	for part, pid := range map[string]int{
		partGateway: st.router.Pid(), partKafka: st.broker.Pid(), partIngest: st.ingest.Pid(), partEngine: engine,
		partLogpush: st.logpush.Pid(), partControl: st.platform.Process().Pid(), partBench: os.Getpid(),
	} {
		used, err := proc.CPU(pid)
		if err != nil {
			return f, fmt.Errorf("processor time of the %s, which may have ended: %w", part, err)
		}
		f.cpu[part] = used.Seconds()
	}
	if f.network, err = loopbackBytes(); err != nil {
		return f, err
	}
	f.delivered = float64(st.delivered.Load())
	f.kafka, err = st.metric(ctx, "tidegate_stream_bytes_out_total")
	return f, err
}

// metric is the sum of the router's series of some names.
func (st *stage) metric(ctx context.Context, names ...string) (sum float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+st.ops+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		for _, name := range names {
			rest, ok := strings.CutPrefix(lines.Text(), name)
			if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
				continue
			}
			value, err := strconv.ParseFloat(rest[strings.LastIndex(rest, " ")+1:], 64)
			if err != nil {
				return 0, err
			}
			sum += value
		}
	}
	return sum, lines.Err()
}

func loopbackBytes() (float64, error) {
	text, err := os.ReadFile("/sys/class/net/lo/statistics/rx_bytes")
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
}
