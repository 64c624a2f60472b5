package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const (
	// checksAtOnce bounds the checks that a gateway has under way of one account's versions.
	// Endpoints that say nothing keep theirs for its time-out: they must not hold up anybody
	// else's.
	checksAtOnce = 64
	// firstCheckWithin the first check of an endpoint begins: soon, for a deployment
	// waits for nobody's health, and not all at one moment.
	firstCheckWithin = time.Second
	checkBodyMax     = 64 << 10 // bytes of an answer that are read
	checkUserAgent   = "Tidegate-Monitor/1.0"
)

// monitor is how an upstream asks its endpoints whether they are well. Its verdicts decide
// who is picked inside the version, and nothing else.
type monitor struct {
	deploy.Monitor
	interval, timeout time.Duration
	codes             deploy.StatusCodes
}

func newMonitor(m *deploy.Monitor) (*monitor, error) {
	codes, err := deploy.ParseStatusCodes(m.ExpectedCodes)
	if err != nil {
		return nil, err
	}
	return &monitor{
		Monitor: *m, codes: codes,
		interval: time.Duration(m.Interval) * time.Second, timeout: time.Duration(m.Timeout) * time.Second,
	}, nil
}

// endpointMonitor checks one endpoint. It belongs to one goroutine.
type endpointMonitor struct {
	*monitor
	transport      transport // keeps no connection, so that each check finds out whether one can be had
	host           string
	passed, failed int // in a row
}

func newEndpointMonitor(m *monitor, cfg Config, endpoint string) (*endpointMonitor, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	cfg.failover = true // refused is an answer
	t, err := newTransport(cfg, endpoint)
	if err != nil {
		return nil, err
	}
	t.close()
	return &endpointMonitor{monitor: m, transport: t, host: u.Host}, nil
}

// watch checks e until ctx ends.
func (u *upstream) watch(ctx context.Context, e *endpoint, c *endpointMonitor) {
	timer := time.NewTimer(rand.N(min(c.interval, firstCheckWithin)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		cause := c.check(ctx, u.checkSlots, u.metrics)
		if ctx.Err() != nil {
			return
		}
		c.judge(u, e, cause)
		timer.Reset(c.interval - c.interval/10 + rand.N(c.interval/5)) // gateways that started together drift apart
	}
}

// judge counts a check, and tells u when enough of them agree.
func (c *endpointMonitor) judge(u *upstream, e *endpoint, cause string) {
	u.metrics.checked(cause == "")
	if cause == "" {
		c.passed, c.failed = c.passed+1, 0
		if c.passed >= c.ConsecutiveUp {
			u.monitored(e, "")
		}
		return
	}
	c.passed, c.failed = 0, c.failed+1
	if c.failed >= c.ConsecutiveDown {
		u.monitored(e, cause)
	}
}

// check asks once, and again after a time-out, each time with one of the slots, for which it
// waits. It returns what is wrong, or "".
func (c *endpointMonitor) check(ctx context.Context, slots chan struct{}, metrics *originMetrics) (cause string) {
	for range c.Retries + 1 {
		select {
		case slots <- struct{}{}:
		default:
			metrics.checkWaits()
			select {
			case <-ctx.Done():
				return schema.ErrorKindOther // of no check
			case slots <- struct{}{}:
			}
		}
		cause = c.try(ctx)
		<-slots
		if cause != schema.ErrorKindTimeout {
			break
		}
	}
	return cause
}

func (c *endpointMonitor) try(ctx context.Context) (cause string) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req := (&http.Request{Method: c.Method, RequestURI: c.Path, Host: c.host, Header: http.Header{"User-Agent": {checkUserAgent}}}).WithContext(ctx)
	maps.Copy(req.Header, c.Header)
	if host := req.Header["Host"]; len(host) > 0 {
		req.Host = host[0]
		delete(req.Header, "Host")
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return causeOf(err)
	}
	defer resp.Body.Close()
	if !c.codes.Contains(resp.StatusCode) {
		return fmt.Sprintf("status %d", resp.StatusCode)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, checkBodyMax); err != nil && !errors.Is(err, io.EOF) {
		return causeOf(err)
	}
	return ""
}

func causeOf(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return schema.ErrorKindTimeout
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return schema.ErrorKindOther
}

// startMonitor begins to check every endpoint. It is called from one goroutine at a
// time, as stopMonitor is.
func (u *upstream) startMonitor() {
	if u.monitor == nil || u.stopChecks != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	u.stopChecks = stop
	for _, e := range u.endpoints {
		c, err := newEndpointMonitor(u.monitor, u.cfg, e.URL)
		if err != nil {
			u.log.Warn("endpoint cannot be checked", "version_id", u.versionID, "endpoint", e.URL, "error", err)
			continue
		}
		u.checks.Go(func() { u.watch(ctx, e, c) })
	}
}

// stopMonitor ends what startMonitor began, and returns when no check is under way.
// What the monitor said is forgotten: nobody would take it back.
func (u *upstream) stopMonitor() {
	if u.stopChecks == nil {
		return
	}
	u.stopChecks()
	u.checks.Wait()
	u.stopChecks = nil
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.endpoints {
		e.down, e.cause = false, ""
	}
	u.rebuildLocked()
}
