package e2e

import (
	"context"
	"errors"
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

// A busy loop, a WebSocket and work under waitUntil that never ends each have a grace
// of their own, one after the other: 13 s passed.
func TestStopWithWorkersThatHang(t *testing.T) {
	const source = `export default { fetch(request, env, ctx) {
		switch (new URL(request.url).pathname) {
			case "/loop": for (;;);
			case "/after": ctx.waitUntil(new Promise(() => setInterval(() => {}, 1000))); return new Response("after");
			case "/socket": {
				const [client, server] = Object.values(new WebSocketPair());
				server.accept();
				return new Response(null, { status: 101, webSocket: client });
			}
		}
		return new Response("ok");
	} }`
	p := start(t, platform.Options{})
	for _, script := range []string{"loops", "waits"} {
		if _, err := p.DeployWorker(t.Context(), script, platform.JavaScript("v1", source)); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, script+" serves", func() (bool, error) {
			status, err := askWorker(t, p, script, "/", nil)
			return status == http.StatusOK, err
		})
	}
	upgrade := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	for path, want := range map[string]int{"/after": http.StatusOK, "/socket": http.StatusSwitchingProtocols} {
		if status, err := askWorker(t, p, "waits", path, upgrade); err != nil || status != want {
			t.Fatalf("%s: %d, %v", path, status, err)
		}
	}
	looping := make(chan struct{})
	go func() {
		defer close(looping)
		_, _ = askWorker(t, p, "loops", "/loop", nil) // cut off by the stop
	}()
	eventually(t, 10*time.Second, "the loop has begun", func() (bool, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, _, err := p.Visit(ctx, http.DefaultClient, "loops", nil)
		return errors.Is(err, context.DeadlineExceeded), nil
	})
	if err := p.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	<-looping
}

// askWorker returns the status of an answer, whose connection is closed when the test
// has ended.
func askWorker(t *testing.T, p *platform.Platform, script, path string, header http.Header) (int, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, p.Ready.Gateway+path, nil)
	if err != nil {
		return 0, err
	}
	req.Host, req.Header = p.Host(script), header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.StatusCode, nil
}
