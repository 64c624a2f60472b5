package runtime

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// A request whose client leaves at once may never get to the runtime, which then
// tells nothing of it: each stop of such a process took all of its grace.
func TestStopDoesNotWaitForRequestsThatWereTakenBack(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.StopGrace = time.Hour })
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	w := r.deploy(v1)[v1]
	mustGet(t, w, "/")
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		req := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		if resp, err := w.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
			t.Fatal("a request without a client was answered")
		}
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		r.Close()
	}()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		w.(*version).set.spawner.close() // kills the process, so that the test ends
		t.Fatal("Close still waits")
	}
}

// What a Worker calls of its own exports is told of too, and is nothing that came
// from outside: it ended the wait for invocations that were still going on.
func TestStopWaitsBesideCallsOfAWorkersOwnExports(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `export default { async fetch(request, _, ctx) {
		if (request.url.endsWith("/inner")) return new Response("inner");
		ctx.waitUntil(scheduler.wait(300).then(() => console.log("late")));
		for (let i = 0; i < 5; i++) await (await ctx.exports.default.fetch("http://x/inner")).text();
		return new Response("v1");
	} }`, func(b *deploy.Bundle) { b.Worker.CompatibilityFlags = []string{"enable_ctx_exports"} })
	w := r.deploy(v1)[v1]
	const n = 20
	for range n {
		mustGet(t, w, "/")
	}
	r.Close()
	late := 0
	for len(r.events) > 0 {
		if e := <-r.events; e.inv != nil && len(e.inv.Logs) == 1 {
			late++
		}
	}
	if late != n {
		t.Errorf("%d of %d invocations were told", late, n)
	}
}
