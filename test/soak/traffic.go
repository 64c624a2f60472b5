package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// asked is one request and what its client got.
type asked struct {
	ray    string // "" if no response came
	script string
	status int
	done   time.Time
}

// client sends requests at its part of the rate until ctx ends. It never waits for a fault to end: what is not
// answered is counted, and the next request follows.
func (w *world) client(ctx context.Context, number int, dice *rand.Rand) {
	every := time.Second * clients / time.Duration(w.o.rate)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		script := worker
		if dice.IntN(2) == 0 {
			script = origin
		}
		// A request that was sent is waited for, also at the end: its event is to be accounted for.
		a := w.ask(context.WithoutCancel(ctx), script, number, dice.IntN(50), dice.IntN(4) == 0)
		w.mu.Lock()
		w.asked = append(w.asked, a)
		w.mu.Unlock()
	}
}

func (w *world) ask(ctx context.Context, script string, client, n int, keyed bool) (a asked) {
	a.script = script
	defer func() { a.done = time.Now() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/?n=%d", w.gateway, n), nil)
	if err != nil {
		return a
	}
	req.Host = script + ".dev.localhost"
	if keyed {
		req.Header.Set("Cloudflare-Workers-Version-Key", fmt.Sprintf("client-%d-%d", client, n))
	}
	res, err := w.http.Do(req)
	if err != nil {
		return a
	}
	defer func() { _ = res.Body.Close() }()
	a.status, a.ray = res.StatusCode, res.Header.Get("Cf-Ray")
	_, _ = io.Copy(io.Discard, res.Body) // cut short or not: the head has come, so there is an event
	return a
}

// receiver is the destination of the jobs. It fails when it is told to, and remembers each ray that it took.
type receiver struct {
	server *httptest.Server

	mu      sync.Mutex
	failing bool
	taken   map[string]int // batches taken, by job
	refused int
	rays    map[string]bool // of the job "steady"
}

func newReceiver() *receiver {
	r := &receiver{taken: map[string]int{}, rays: map[string]bool{}}
	r.server = httptest.NewServer(r)
	return r
}

func (r *receiver) url(job string) string { return r.server.URL + "/" + job }

func (r *receiver) fail(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = on
}

func (r *receiver) ServeHTTP(res http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	failing := r.failing
	r.mu.Unlock()
	if failing {
		r.mu.Lock()
		r.refused++
		r.mu.Unlock()
		http.Error(res, "told to fail", http.StatusServiceUnavailable)
		return
	}
	rays, err := raysOf(req)
	if err != nil { // a batch that was cut off by a kill comes again
		http.Error(res, err.Error(), http.StatusServiceUnavailable)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	job := req.URL.Path[1:]
	r.taken[job]++
	if job == "steady" {
		for _, ray := range rays {
			r.rays[ray] = true
		}
	}
}

func raysOf(req *http.Request) (rays []string, err error) {
	var text io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		if text, err = gzip.NewReader(req.Body); err != nil {
			return nil, err
		}
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var e struct{ Gateway struct{ RayID string } }
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Gateway.RayID != "" {
			rays = append(rays, e.Gateway.RayID)
		}
	}
	return rays, lines.Err()
}

func (r *receiver) has(ray string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rays[ray]
}
