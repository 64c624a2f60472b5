package runtime

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const (
	// idleMemory is the size of a process whose Worker does nothing: about 50 MiB,
	// and room for its threads.
	idleMemory    = 64 << 20
	defaultMemory = 1 << 30
	memoryMin     = 128 << 20
	// memoryInterval: a loop that fills buffers takes about 200 MiB in it.
	memoryInterval = 100 * time.Millisecond
	// cpuLimitMin is the shortest silence that tells a busy Worker from a busy machine.
	cpuLimitMin  = time.Second
	pingInterval = time.Second
	// pingsAtStart follow each other, so that meter knows soon what one costs.
	pingsAtStart = 3
	// busyShare is what a silent process must have computed, in parts of the limit, to
	// be called busy. One that has not is kept from its processor, or waits for
	// something; it gets hungFactor times as long.
	busyShare  = 2
	hungFactor = 4
)

// heapFor is what V8 may use of a process's memory. At the bound it ends the
// process, which counts as exceeded memory too; buffers lie outside of it.
func heapFor(memory int64) int64 { return memory / 4 }

// cpuLimit is what a version asks for, within what the operator allows.
func cpuLimit(operators time.Duration, l deploy.Limits) time.Duration {
	limit := operators
	if l.CPUMs > 0 {
		limit = min(limit, time.Duration(min(l.CPUMs, 1<<40))*time.Millisecond)
	}
	return max(limit, min(cpuLimitMin, operators))
}

// watchMemory kills a process that grows by more than limit, until it has ended.
func watchMemory(p *process, limit int64) {
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		used, err := memoryOf(p.pid)
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		// Any other error is a process that is ending.
		if err == nil && used > idleMemory+limit {
			p.kill(schema.OutcomeExceededMemory)
			return
		}
	}
}

// watchLoop kills a process whose event loop does not turn, until it has ended. Our
// own Worker shares the loop with the user's, so that its answer shows that it turns.
func watchLoop(p *process, router string, cfg Config, m *meter, limit time.Duration) {
	cfg.ResponseHeaderTimeout = hungFactor * limit
	t := newWorkerHTTP1(cfg, router, new(atomic.Int64), unexplained)
	defer t.close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-p.done
		cancel()
	}()
	for n := 1; ; n++ {
		outcome := silence(ctx, p, t, m, limit)
		if ctx.Err() != nil {
			return
		}
		if outcome != "" {
			p.kill(outcome)
			return
		}
		if n < pingsAtStart {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(pingInterval, limit/4)):
		}
	}
}

// silence asks the process until it answers, and returns "", or the outcome to kill
// it with.
func silence(ctx context.Context, p *process, t *http1, m *meter, limit time.Duration) string {
	before, cpuErr := cpuOf(p.pid)
	began := time.Now()
	answered := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(answered)
		for ctx.Err() == nil && m.ping(func() error { return ping(ctx, t) }) != nil {
			select { // a connection that broke: it may be ending, or out of files
			case <-ctx.Done():
			case <-time.After(min(pingInterval, limit/4)):
			}
		}
	}()
	defer func() { cancel(); <-answered }()
	for {
		select {
		case <-answered:
			return ""
		case <-time.After(limit / 4):
		}
		since := time.Since(began)
		if since < limit {
			continue
		}
		now, err := cpuOf(p.pid)
		if cpuErr != nil || err != nil || now-before >= limit/busyShare {
			return schema.OutcomeExceededCPU
		}
		if since >= hungFactor*limit {
			return schema.OutcomeExceededWallTime
		}
	}
}

// ping asks our own Worker for a sign of life.
func ping(ctx context.Context, t *http1) error {
	resp, err := t.RoundTrip(internalRequest(ctx, "/"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// internalRequest is a request to our own Worker.
func internalRequest(ctx context.Context, target string) *http.Request {
	req := &http.Request{Method: http.MethodGet, URL: &url.URL{}, Host: "router", RequestURI: target, Header: http.Header{}}
	return req.WithContext(ctx)
}
