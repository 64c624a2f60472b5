package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/logjob"
	"tidegate/test/platform"
)

// collector is an HTTP destination that remembers the rays it was sent, and that
// answers 500 while it is broken.
type collector struct {
	server *httptest.Server
	broken atomic.Bool
	mu     sync.Mutex
	rays   map[string]int
}

func startCollector(t *testing.T) *collector {
	c := &collector{rays: map[string]int{}}
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.broken.Load() {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body, err := io.ReadAll(unzipped)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for line := range bytes.Lines(body) {
			c.rays[string(line)]++
		}
	}))
	t.Cleanup(c.server.Close)
	return c
}

// events is the number of different lines: each holds its ray.
func (c *collector) events() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := int64(0)
	for line := range c.rays {
		if line[0] == '{' && bytes.Contains([]byte(line), []byte(`"Gateway"`)) {
			n++
		}
	}
	return n
}

// TestBrokenDestination makes one job's destination answer 500 for a while.
// Afterwards nothing is missing there, and another job was not delayed.
func TestBrokenDestination(t *testing.T) {
	p := start(t, platform.Options{Args: []string{"--logpush-interval", "1s"}})
	serve(t, p, "shop", okHandler)
	// A job begins at "now": the request that serve waited for must be past by then.
	eventually(t, 30*time.Second, "the first event is stored", func() (bool, error) {
		counts, err := p.Counts(t.Context())
		return counts.Rows > 0, err
	})
	broken, healthy := startCollector(t), startCollector(t)
	brokenJob := createJob(t, p, broken)
	createJob(t, p, healthy)
	broken.broken.Store(true)

	traffic := startLoad(t, p, "shop", 200)
	eventually(t, time.Minute, "the broken job reports its error", func() (bool, error) {
		job := readJob(t, p, brokenJob)
		return job.ErrorMessage != nil && job.LastError != nil, nil
	})
	sofar := traffic.answered.Load()
	eventually(t, time.Minute, "the healthy job is not delayed", func() (bool, error) { return healthy.events() >= sofar, nil })
	if n := broken.events(); n != 0 {
		t.Fatalf("the broken destination accepted %d events", n)
	}
	broken.broken.Store(false)
	traffic.stop()
	want := traffic.answered.Load()
	if traffic.refused.Load() > 0 {
		t.Errorf("%d requests failed: %v", traffic.refused.Load(), traffic.refusal())
	}
	eventually(t, 2*time.Minute, "nothing is missing at the destination that recovered", func() (bool, error) {
		return broken.events() == want && healthy.events() == want, nil
	})
	eventually(t, time.Minute, "the job is healthy again", func() (bool, error) {
		job := readJob(t, p, brokenJob)
		return job.ErrorMessage == nil && job.LastError == nil && job.LastComplete != nil, nil
	})
}

func createJob(t *testing.T, p *platform.Platform, c *collector) int64 {
	t.Helper()
	var job struct{ ID int64 }
	err := p.API(t.Context(), http.MethodPost, "/accounts/{account}/logpush/jobs", map[string]any{
		"name": "collector", "dataset": "workers_trace_events", "enabled": true, "destination_conf": c.server.URL + "/in",
		"output_options": map[string]any{"field_names": []string{"EventTimestampMs", "ScriptName", "Gateway"}},
	}, &job)
	if err != nil {
		t.Fatal(err)
	}
	return job.ID
}

func readJob(t *testing.T, p *platform.Platform, id int64) logjob.Job {
	t.Helper()
	var jobs []logjob.Job
	if err := p.API(t.Context(), http.MethodGet, "/accounts/{account}/logpush/jobs", nil, &jobs); err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs {
		if job.ID == id {
			return job
		}
	}
	t.Fatalf("job %d is not listed", id)
	return logjob.Job{}
}
