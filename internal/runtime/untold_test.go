package runtime

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// sentTo keeps the process that a request went to last.
type sentTo struct {
	mu sync.Mutex
	deploy.Process
}

func (s *sentTo) SentTo(p deploy.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Process = p
}

// processOf sends a request, and returns the process that it went to.
func processOf(t *testing.T, rt http.RoundTripper, path, ray string) deploy.Process {
	t.Helper()
	s := &sentTo{}
	req := httptest.NewRequestWithContext(deploy.WatchRequest(t.Context(), s), "GET", path, nil)
	req.Header.Set("Cf-Ray", ray)
	resp, err := rt.RoundTrip(req)
	readAll(t, resp, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Process
}

// A version that stopped for being idle, with work under waitUntil, has another
// process as soon as it is asked again. The ends of the two have names.
func TestEndNamesTheProcess(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.IdleStop, c.Workers.StopGrace = time.Millisecond, time.Second })
	r.add(v1, `export default { fetch(request, _, ctx) {
		if (request.url.endsWith("/late")) ctx.waitUntil(scheduler.wait(600_000));
		return new Response("v1");
	} }`, nil)
	w := r.deploy()[v1]
	first := processOf(t, w, "/late", "8f00000000000001")
	r.waitState(w, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendIdle })
	second := processOf(t, w, "/", "8f00000000000002")
	if second == first {
		t.Fatalf("the second request went to %+v, which is stopping", first)
	}
	ended := map[deploy.Process]bool{}
	for !ended[first] || !ended[second] {
		e := r.next(func(e event) bool { return e.inv == nil })
		if e.versionID != v1 || ended[e.process] || e.process != first && e.process != second {
			t.Fatalf("%+v ended, of %+v and %+v", e.process, first, second)
		}
		ended[e.process] = true
	}
}

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
	case <-time.After(time.Minute):
		w.(*version).set.spawner.close() // kills the process, so that the test ends
		t.Fatal("Close still waits")
	}
}

// What a Worker calls of its own exports is told of too, and is nothing that came
// from outside: it ended the wait for invocations that were still going on.
func TestStopWaitsBesideCallsOfAWorkersOwnExports(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.StopGrace = time.Minute })
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

func TestSole(t *testing.T) {
	type step func(*untold) bool
	add := func(ray string) step { return func(u *untold) bool { return u.add(ray, true) } }
	busy := func(ray string) step { return func(u *untold) bool { return u.add(ray, false) } }
	told := func(ray string) step { return func(u *untold) bool { return u.told(ray) } }
	do := func(f func(*untold)) step { return func(u *untold) bool { f(u); return u.sole.Load() } }
	leave := func(ray string) step { return do(func(u *untold) { u.leave(ray) }) }
	remove := func(ray string) step { return do(func(u *untold) { u.remove(ray) }) }
	mix := do((*untold).mix)
	f := func(want string, steps ...step) { // a letter for each step: + if it was alone, or is
		t.Helper()
		u, got := &untold{}, ""
		for _, s := range steps {
			if s(u) {
				got += "+"
			} else {
				got += "-"
			}
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f("++++", add("a"), told("a"), add("a"), told("a"))
	f("+---++", add("a"), add("b"), told("b"), told("a"), add("c"), told("c"))
	f("+---", add("a"), add("a"), told("a"), told("a"))
	f("--++", busy("a"), told("a"), add("b"), told("b"))
	// It was sent with the process busy, and is still there.
	f("--", busy("a"), add("b"))
	f("+-++", add("a"), remove("a"), add("b"), told("b"))
	f("+--", add("a"), add("b"), remove("b"))
	f("+---", add("a"), add("b"), remove("b"), told("a"))
	// What was left may run until it is told.
	f("+----++", add("a"), leave("a"), add("b"), told("b"), told("a"), add("c"), told("c"))
	f("++-++", add("a"), told("a"), leave("a"), add("b"), told("b")) // it was told first
	// What nobody asked for, once, is never forgotten.
	f("+----", add("a"), told("x"), told("a"), add("b"), told("b"))
	f("+----", add("a"), mix, told("a"), add("b"), told("b"))

	u := &untold{}
	for i := range leftMax + 1 {
		ray := fmt.Sprint(i)
		u.add(ray, true)
		u.leave(ray)
	}
	if len(u.left) != 0 || !u.mixed || u.len() != 0 {
		t.Errorf("%d clients that left are remembered, mixed %t, %d are waited for", len(u.left), u.mixed, u.len())
	}

	// What the runtime told may be lost, again and again.
	u = &untold{}
	for i := range 2*untoldMax + 1 {
		u.add(fmt.Sprint(i), true)
	}
	if len(u.rays) != 1 || u.len() != 1 || !u.mixed {
		t.Errorf("%d of %d requests are waited for, mixed %t", len(u.rays), u.len(), u.mixed)
	}
}
