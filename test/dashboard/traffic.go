package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidegate/test/platform"
)

// visitors send steady traffic to scripts until they are stopped. Answers do not matter to
// them, not even that a script does not exist yet.
type visitors struct {
	p      *platform.Platform
	client http.Client
	done   chan struct{}
	all    sync.WaitGroup
}

func newVisitors(p *platform.Platform) *visitors {
	return &visitors{p: p, client: http.Client{Timeout: 10 * time.Second}, done: make(chan struct{})}
}

// visit sends about rate requests a second to a script. One that takes long holds up the
// next, so that a slow machine gets less.
func (v *visitors) visit(script string, rate int) {
	v.all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-v.done:
				return
			case <-tick.C:
			}
			v.once(script, n)
		}
	})
}

func (v *visitors) once(script string, n int) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, fmt.Sprintf("%s/items/%d", v.p.Gateway, n%50), nil)
	if err != nil {
		panic(err) // the address is the platform's own
	}
	req.Host = v.p.Host(script)
	answer, err := v.client.Do(req)
	if err != nil {
		return // the platform stops, or has no room: the browser's tests see what that makes of it
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
}

func (v *visitors) close() {
	close(v.done)
	v.all.Wait()
}

// collector is a Logpush destination. It counts the lines of each path and tells its counts
// at /lines/PATH. Below /picky it refuses records of exceptions, as an index does whose mapping
// they do not fit.
type collector struct {
	server *httptest.Server
	mu     sync.Mutex
	lines  map[string]int
}

func newCollector() *collector {
	c := &collector{lines: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/lines/", c.tell)
	mux.HandleFunc("/", c.take)
	c.server = httptest.NewServer(mux)
	return c
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	body, err := unzipped(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/picky/") && strings.Contains(body, `"Outcome":"exception"`) {
		http.Error(w, "mapper_parsing_exception: failed to parse field [Exceptions]", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines[r.URL.Path] += strings.Count(body, "\n")
}

func (c *collector) tell(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(w, strconv.Itoa(c.lines[strings.TrimPrefix(r.URL.Path, "/lines")]))
}

func unzipped(r *http.Request) (string, error) {
	reader, err := gzip.NewReader(r.Body)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(reader)
	return string(body), err
}
