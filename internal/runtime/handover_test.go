package runtime

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// Versions follow each other under load: no request fails, and in the object's own
// record no version comes back after the next one has begun.
func TestObjectsChangeHandsUnderLoad(t *testing.T) {
	r := newObjects(t, v1, v2, v3)
	traffic := startTraffic(t, r.deploy(v1)[v1])
	order := []string{v1, v2, v3, v1, v2}
	for i, id := range order[1:] {
		all := r.Update(r.snapshot(id))
		next := all[id].(worker)
		if s := next.State(); s.Phase != deploy.BackendIdle {
			t.Errorf("a version that takes over is %+v", s)
		}
		traffic.serve(next)
		if i == 1 { // the next deployment comes while requests wait for this one
			until(t, "a request that waits", func() bool { return next.(*version).awaited.Load() > 0 })
			continue
		}
		r.waitState(next, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendReady })
		mustGet(t, next, "/add")
	}
	traffic.stop()
	var seen []string
	last := 0
	for _, c := range logOf(t, traffic.serving()) {
		if c.N != last+1 {
			t.Fatalf("write %d came after %d", c.N, last)
		}
		last = c.N
		if len(seen) == 0 || seen[len(seen)-1] != c.Version {
			seen = append(seen, c.Version)
		}
	}
	if !slices.Equal(seen, order) {
		t.Errorf("the object was run by %v, want %v", seen, order)
	}
}

// Deployments that follow each other faster than versions can change hands: every
// request is served by the version that was deployed when it came, and none starves.
func TestObjectsChangeHandsQuickly(t *testing.T) {
	r := newObjects(t, v1, v2, v3)
	traffic := startTraffic(t, r.deploy(v1)[v1])
	for i := range 30 {
		id := []string{v2, v1, v3}[i%3]
		next := r.Update(r.snapshot(id))[id].(worker)
		traffic.serve(next)
		until(t, "a request", func() bool {
			return next.(*version).awaited.Load() > 0 || next.State().Phase == deploy.BackendReady
		})
	}
	r.waitState(traffic.serving(), func(s deploy.BackendState) bool { return s.Phase == deploy.BackendReady })
	traffic.stop()
	last := 0
	for _, c := range logOf(t, traffic.serving()) {
		if c.N != last+1 {
			t.Fatalf("write %d came after %d", c.N, last)
		}
		last = c.N
	}
}

// traffic are requests to the version that the gateway's table names, each of which
// must be answered by that version.
type traffic struct {
	mu      sync.Mutex
	current worker
	stopped chan struct{}
	tasks   sync.WaitGroup
}

func startTraffic(t *testing.T, first worker) *traffic {
	mustGet(t, first, "/add")
	f := &traffic{current: first, stopped: make(chan struct{})}
	for range 8 {
		f.tasks.Go(func() {
			for {
				select {
				case <-f.stopped:
					return
				default:
				}
				w := f.serving()
				status, body, err := get(t, w, "/add")
				var c counted
				if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), &c) != nil || c.Version != w.(*version).VersionID {
					t.Errorf("version %s answered %d %q, %v", w.(*version).VersionID, status, body, err)
					return
				}
			}
		})
	}
	return f
}

func (f *traffic) serve(w worker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = w
}

func (f *traffic) serving() worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

func (f *traffic) stop() {
	close(f.stopped)
	f.tasks.Wait()
}

// The lock outlives the router and this package's own order: a second router on the
// same disk cannot open the storage before the process of the first has ended.
func TestOneProcessHasTheStorage(t *testing.T) {
	r := newObjects(t, v1, v2)
	w := r.deploy(v1)
	if got := count(t, w[v1], "/add").N; got != 1 {
		t.Fatalf("counted %d", got)
	}
	f, err := r.workers.objects.tryLock(counterID)
	if f != nil || err != nil {
		t.Fatalf("the lock was to be had beside the process, error %v", err)
	}
	pid := pidOf(t, w[v1])
	all := r.Update(r.snapshot(v2))
	next := all[v2].(worker)
	if got := count(t, next, "/add"); got != (counted{v2, 2}) {
		t.Errorf("the next version counted %+v", got)
	}
	if syscall.Kill(pid, 0) == nil {
		t.Error("the process of the version before still runs")
	}
	if got := r.nextEnd(v1); got != "" {
		t.Errorf("it ended with %q", got)
	}
	// It is started by a deployment only.
	_, _, err = get(t, all[v1], "/add")
	if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Error(), "only one version of them runs at a time") {
		t.Errorf("the version before answered with %v", err)
	}
}

func TestImmediateUpdateEndsWhatIsInHand(t *testing.T) {
	r := newRig(t, func(c *Config) {
		withObjectsHere(c)
		c.Workers.StopGrace, c.Workers.StartWait = time.Hour, time.Hour // a deferred update would wait for the request
	})
	const slow = `export { Counter } from "./counter.js"; import rest from "./counter.js";
		export default { fetch(request, env) {
			if (new URL(request.url).pathname !== "/hold") return rest.fetch(request, env);
			return new Response(new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode("begin")); } }));
		} }`
	r.add(v1, slow, func(b *deploy.Bundle) {
		withCounter(b)
		b.Worker.Modules = append(b.Worker.Modules, deploy.Module{Name: "counter.js", ContentType: deploy.ModuleTypeESM, SHA256: counter})
	})
	r.add(v2, counter, withCounter)
	w := r.deploy(v1)[v1]
	resp, err := w.RoundTrip(request(t, http.MethodGet, "/hold", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s := r.snapshot(v2)
	s.Scripts[0].ObjectsDelayMS = 0
	if got := count(t, r.Update(s)[v2].(worker), "/add"); got != (counted{v2, 1}) {
		t.Errorf("counted %+v", got)
	}
}

func TestFailedTakeOverIsReported(t *testing.T) {
	r := newObjects(t, v1)
	r.add(v2, `throw new Error("no start")`, withCounter)
	w := r.deploy(v1)
	mustGet(t, w[v1], "/add")
	next := r.Update(r.snapshot(v2))[v2].(worker)
	r.waitState(next, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendFailed })
	if s := next.State(); !strings.Contains(s.Error, "no start") {
		t.Errorf("state %+v", s)
	}
	if _, _, err := get(t, next, "/add"); err == nil || !strings.Contains(err.Error(), "no start") {
		t.Errorf("it answered with %v", err)
	}
	// The way back finds the data.
	back := r.Update(r.snapshot(v1))[v1].(worker)
	if got := count(t, back, "/add"); got != (counted{v1, 2}) {
		t.Errorf("after the rollback it counted %+v", got)
	}
}

func TestTurnsComeInOrder(t *testing.T) {
	var q turns
	var over []int
	wanted := 0
	ask := func(i int) *turn { return q.ask(func() { wanted++ }, func() { over = append(over, i) }) }
	come := func(m *turn) bool {
		select {
		case <-m.come:
			return true
		default:
			return false
		}
	}
	if q.taken() {
		t.Error("taken from the start")
	}
	a, b, c, d := ask(1), ask(2), ask(3), ask(4)
	b.end() // gave up
	if !come(a) || come(c) || come(d) {
		t.Error("somebody came before their turn")
	}
	a.end()
	a.end()
	if !come(c) || come(d) {
		t.Error("the second one in the queue did not come next")
	}
	c.end()
	if !come(d) || !q.taken() {
		t.Error("the last one did not come")
	}
	d.end()
	(*turn)(nil).end()
	if wanted != 3 || q.contended() {
		t.Errorf("the first one was told %d times that others wait", wanted)
	}
	if q.taken() || !slices.Equal(over, []int{1, 3, 4}) {
		t.Errorf("over were %v", over)
	}
}
