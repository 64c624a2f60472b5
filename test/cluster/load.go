package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// clients of each router, who share its rate.
const clients = 3

// load is what clients do, and every answer that they got.
type load struct {
	host string
	list []*target
	run  sync.WaitGroup
	end  context.CancelFunc
	ctx  context.Context

	mu     sync.Mutex
	rays   map[string]int // answers by ray: each is another one
	failed []error        // requests without an answer that a version gave
}

// target is a router, or the balancer.
type target struct {
	name, url string
	client    *http.Client
	// pause is held for writing while nobody may ask, by whoever takes the target away.
	pause sync.RWMutex
}

func newLoad(host string) *load {
	l := &load{host: host, rays: map[string]int{}}
	l.ctx, l.end = context.WithCancel(context.Background())
	return l
}

func (l *load) at(name, url string) {
	l.list = append(l.list, &target{name: name, url: url, client: &http.Client{
		Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clients + 1},
	}})
}

// target finds one by its name.
func (l *load) target(name string) *target {
	return l.list[slices.IndexFunc(l.list, func(t *target) bool { return t.name == name })]
}

// start lets clients ask each target, until stop.
func (l *load) start() {
	for _, t := range l.list {
		for range clients {
			l.run.Go(func() {
				every := time.NewTicker(time.Second * clients / rate)
				defer every.Stop()
				for {
					select {
					case <-l.ctx.Done():
						return
					case <-every.C:
					}
					t.pause.RLock()
					_, err := l.visit(context.Background(), t)
					t.pause.RUnlock()
					if err != nil {
						l.mu.Lock()
						l.failed = append(l.failed, fmt.Errorf("%s through %s: %w", time.Now().UTC().Format("15:04:05.000"), t.name, err))
						l.mu.Unlock()
					}
				}
			})
		}
	}
}

// stop ends the load and waits for the answers of what is under way.
func (l *load) stop() {
	l.end()
	l.run.Wait()
}

// visit asks once and records the answer, which is an error unless a version gave it.
func (l *load) visit(ctx context.Context, t *target) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = l.host
	res, err := t.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.Header.Get(versionHeader) == "" {
		return "", fmt.Errorf("status %d, and no version: %.200q", res.StatusCode, b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rays[res.Header.Get("Cf-Ray")]++
	return string(b), nil
}

// total is how many answers there are.
func (l *load) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rays)
}

// answers is a copy of all answers so far, by ray.
func (l *load) answers() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.rays)
}

// failures returns how many requests failed so far, and those after the first n.
func (l *load) failures(n int) (total int, since []error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed), slices.Clone(l.failed[n:])
}

// dial opens a connection and closes it.
func dial(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}
