package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tidegate/test/load"
	"tidegate/test/platform"
	"tidegate/test/proc"
)

const (
	body = "ok"
	// conns is how many clients there are: enough that none waits for another.
	conns = 64
	// pollPause is between two questions how many are counted. Its half is in each age.
	pollPause = 10 * time.Millisecond
	// warmUp is the part of a measurement that does not count: connections, and the
	// table's first row of the script.
	warmUp = 2 * time.Second
	// visibleDeadline for the last events.
	visibleDeadline = time.Minute
)

// origin answers and keeps when.
type origin struct {
	mu   sync.Mutex
	sent []time.Time
}

func (o *origin) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	o.mu.Lock()
	o.sent = append(o.sent, time.Now())
	o.mu.Unlock()
	_, _ = w.Write([]byte(body)) // the client sees it
}

// measure sends requests at a rate to a script of their own.
func measure(ctx context.Context, p *platform.Platform, rate int, length time.Duration) (r result, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return r, err
	}
	o := &origin{}
	server := &http.Server{Handler: o, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // until it is closed
	defer func() {
		err = errors.Join(err, server.Close())
		serving.Wait()
	}()
	script := fmt.Sprintf("rate-%d", rate)
	if err := p.ServeOrigin(ctx, script, "http://"+listener.Addr().String()); err != nil {
		return r, err
	}

	watching, stop := context.WithCancel(ctx)
	defer stop()
	w := &watch{origin: o, statement: "SELECT sum(requests) FROM version_rates_1s WHERE script_name = '" + script + "'"}
	watched := make(chan error, 1)
	go func() { watched <- w.run(watching, p) }()

	used := processorTime(p.Process().Pid())
	host := p.Host(script)
	target := load.Target{Network: "tcp", Addr: strings.TrimPrefix(p.Gateway, "http://"), Request: "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n", BodyBytes: len(body)}
	begun := time.Now()
	got, err := load.RunPaced(ctx, target, min(conns, rate), warmUp+length, float64(rate))
	if err != nil {
		return r, err
	}
	ended := time.Now()
	used = processorTime(p.Process().Pid()) - used
	waiting, cancel := context.WithTimeout(ctx, visibleDeadline)
	defer cancel()
	if err := platform.Poll(waiting, func() (bool, error) { return w.all(), nil }); err != nil {
		return r, fmt.Errorf("at %d requests a second %d of %d became visible: %w", rate, w.count(), got.Requests, err)
	}
	leftover := time.Since(ended)
	stop()
	if err := <-watched; err != nil {
		return r, err
	}
	ages := w.since(begun.Add(warmUp))
	if len(ages) == 0 {
		return r, errors.New("no request came after the warm-up")
	}
	slices.Sort(ages)
	return result{
		rate: rate, answered: got.Rate, seen: len(ages), p50: ages[len(ages)/2], p99: ages[len(ages)*99/100], longest: ages[len(ages)-1],
		leftover: leftover, cpu: used / time.Duration(got.Requests),
	}, nil
}

// watch asks how many requests are counted, and gives each its age then.
type watch struct {
	origin    *origin
	statement string

	mu   sync.Mutex
	ages []time.Duration // of the first ones that were sent
}

func (w *watch) run(ctx context.Context, p *platform.Platform) error {
	for {
		visible, err := p.Count(ctx, w.statement)
		now := time.Now()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		w.origin.mu.Lock()
		sent := w.origin.sent
		w.origin.mu.Unlock()
		w.mu.Lock()
		for len(w.ages) < min(int(visible), len(sent)) {
			w.ages = append(w.ages, now.Sub(sent[len(w.ages)]))
		}
		w.mu.Unlock()
		time.Sleep(pollPause)
	}
}

func (w *watch) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ages)
}

func (w *watch) all() bool {
	w.origin.mu.Lock()
	sent := len(w.origin.sent)
	w.origin.mu.Unlock()
	return w.count() == sent
}

// since returns the ages of what was sent at a time or later.
func (w *watch) since(t time.Time) []time.Duration {
	first, _ := slices.BinarySearchFunc(w.origin.sent, t, time.Time.Compare)
	return slices.Clone(w.ages[min(first, len(w.ages)):])
}

// processorTime is what a process and its descendants have used so far, those that have
// ended not counted.
func processorTime(pid int) (used time.Duration) {
	for _, one := range proc.Tree(pid) {
		if of, err := proc.CPU(one); err == nil { // else it has ended
			used += of
		}
	}
	return used
}
