package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/test/platform"
)

// One slow request and one destination that hangs once used up the time of a stop
// together: 10 s passed, and the stop was reported as failed.
func TestStopWithASlowRequestAndAHungDestination(t *testing.T) {
	release := make(chan struct{})
	var slow, hung atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Tidegate-Batch-Id") == "" {
			return // the test upload
		}
		hung.Add(1)
		<-release
	}))
	t.Cleanup(receiver.Close)
	p := start(t, platform.Options{Args: []string{"--logpush-interval", "1s"}})
	serve(t, p, "shop", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Slow") != "" {
			slow.Add(1)
			<-release
		}
		okHandler(w, r)
	})
	t.Cleanup(func() { close(release) }) // before the servers are closed, which wait for their handlers
	err := p.API(t.Context(), http.MethodPost, "/accounts/{account}/logpush/jobs", map[string]any{
		"name": "hangs", "dataset": "workers_trace_events", "enabled": true, "destination_conf": receiver.URL,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { _, _, _ = p.Visit(ctx, http.DefaultClient, "shop", http.Header{"X-Slow": {"1"}}) }() // cut off by the stop
	traffic := startLoad(t, p, "shop", 50)
	eventually(t, 30*time.Second, "a request and an upload hang", func() (bool, error) { return slow.Load() > 0 && hung.Load() > 0, nil })
	if err := p.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	traffic.stop()
}
