// Package load sends HTTP requests as fast as the answers come, for benchmarks. It
// costs little itself: requests are ready-made bytes, and of an answer only the
// status and the length are read.
package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Target is what to send to whom.
type Target struct {
	Network, Addr string // of net.Dial
	Request       string // as it goes over the wire
	// InTurn are further requests: each connection sends all of them and Request in turn, each from another one on.
	InTurn []string
	// BodyBytes is the length of the one right answer: a proxy that answers by
	// itself is fast.
	BodyBytes int
}

// Result of one measurement.
type Result struct {
	Requests int     `json:"requests"`
	Rate     float64 `json:"rate"` // requests/s
	P50ms    float64 `json:"p50_ms"`
	P99ms    float64 `json:"p99_ms"`
}

// Run sends requests over conns connections for d. Every connection sends its next
// request when the last one is answered. The first wrong answer is an error.
func Run(ctx context.Context, t Target, conns int, d time.Duration) (Result, error) {
	return t.run(ctx, conns, d, 0)
}

// RunPaced is Run at a rate of requests a second, all connections together. A request that
// could not be sent in time, because the one before it was not answered, has waited
// since then: a slow answer counts for all that it held up.
func RunPaced(ctx context.Context, t Target, conns int, d time.Duration, rate float64) (Result, error) {
	return t.run(ctx, conns, d, time.Duration(float64(conns)/rate*float64(time.Second)))
}

func (t Target) run(ctx context.Context, conns int, d, every time.Duration) (Result, error) {
	latencies := make([][]time.Duration, conns)
	failures := make([]error, conns)
	started := time.Now()
	deadline := started.Add(d)
	var all sync.WaitGroup
	for i := range conns {
		offset := every * time.Duration(i) / time.Duration(conns) // not all at once
		all.Go(func() { latencies[i], failures[i] = t.loop(ctx, i, started.Add(offset), deadline, every) })
	}
	all.Wait()
	elapsed := time.Since(started)
	if err := errors.Join(failures...); err != nil {
		return Result{}, err
	}
	sorted := slices.Concat(latencies...)
	slices.Sort(sorted)
	n := len(sorted)
	if n == 0 {
		return Result{}, errors.New("not one request was answered")
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Result{Requests: n, Rate: float64(n) / elapsed.Seconds(), P50ms: ms(sorted[n/2]), P99ms: ms(sorted[n*99/100])}, nil
}

// loop sends a request, the nth first, when the last one is answered and, if every is not 0,
// the next one is due.
func (t Target) loop(ctx context.Context, n int, due, deadline time.Time, every time.Duration) ([]time.Duration, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, t.Network, t.Addr)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing is in flight
	r := bufio.NewReader(c)
	latencies := make([]time.Duration, 0, 1<<16)
	for now := time.Now(); now.Before(deadline) && ctx.Err() == nil; {
		if every > 0 {
			if wait := due.Sub(now); wait > 0 {
				time.Sleep(wait)
				now = time.Now() // a late timer is not the server's fault
			} else {
				now = due
			}
			due = due.Add(every)
		}
		request := t.Request
		if i := n % (len(t.InTurn) + 1); i > 0 {
			request = t.InTurn[i-1]
		}
		n++
		if _, err := io.WriteString(c, request); err != nil {
			return nil, err
		}
		if err := t.readResponse(r); err != nil {
			return nil, err
		}
		then := time.Now()
		latencies = append(latencies, then.Sub(now))
		now = then
	}
	return latencies, nil
}

func (t Target) readResponse(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read the response: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("the response began with %q", line)
		}
		if len(line) == 0 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
	if length != t.BodyBytes {
		return fmt.Errorf("the response has %d bytes, the right answer %d", length, t.BodyBytes)
	}
	_, err := r.Discard(length)
	return err
}
