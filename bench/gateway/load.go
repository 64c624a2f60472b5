package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// result of one measurement.
type result struct {
	Requests int           `json:"requests"`
	Rate     float64       `json:"rate"` // requests/s
	P50ms    float64       `json:"p50_ms"`
	P99ms    float64       `json:"p99_ms"`
	CPU      time.Duration `json:"-"` // of the proxy, per request
}

// request is what a browser would send for an API call, less its cookies.
const request = "GET /api/items/12345?view=full HTTP/1.1\r\nHost: " + host + "\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\r\nAccept: application/json\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nReferer: http://" + host + "/items?page=2\r\n\r\n"

// serveLoad sends requests over args[1] connections to args[0] for args[2] and
// prints the result. Every connection sends its next request when the last one is
// answered.
func serveLoad(ctx context.Context, args []string) error {
	conns, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	latencies := make([][]time.Duration, conns)
	failures := make([]error, conns)
	started := time.Now()
	deadline := started.Add(d)
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() { latencies[i], failures[i] = loadConn(ctx, args[0], deadline) })
	}
	all.Wait()
	elapsed := time.Since(started)
	if err := errors.Join(failures...); err != nil {
		return err
	}
	sorted := slices.Concat(latencies...)
	slices.Sort(sorted)
	n := len(sorted)
	if n == 0 {
		return errors.New("not one request was answered")
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return json.NewEncoder(os.Stdout).Encode(result{
		Requests: n, Rate: float64(n) / elapsed.Seconds(), P50ms: ms(sorted[n/2]), P99ms: ms(sorted[n*99/100]),
	})
}

func loadConn(ctx context.Context, addr string, deadline time.Time) ([]time.Duration, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing is in flight
	r := bufio.NewReader(c)
	latencies := make([]time.Duration, 0, 1<<16)
	for now := time.Now(); now.Before(deadline); {
		if _, err := io.WriteString(c, request); err != nil {
			return nil, err
		}
		if err := readResponse(r); err != nil {
			return nil, err
		}
		then := time.Now()
		latencies = append(latencies, then.Sub(now))
		now = then
	}
	return latencies, nil
}

// readResponse reads the upstream's answer, and takes no other for one: a proxy
// that answers by itself is fast.
func readResponse(r *bufio.Reader) error {
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
	if length != len(upstreamBody) {
		return fmt.Errorf("the response has %d bytes, the upstream's %d", length, len(upstreamBody))
	}
	_, err := r.Discard(length)
	return err
}
