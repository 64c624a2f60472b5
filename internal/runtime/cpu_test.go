package runtime

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// burner computes, waits, or waits for its request's body, as the query says.
const burner = `
function burn(n) {
	let x = 1;
	for (let i = 0; i < n; i++) x = (x * 31 + i) % 1000003;
	return x;
}
export default {
	async fetch(request, env, ctx) {
		const q = new URL(request.url).searchParams;
		const n = Number(q.get("burn"));
		if (q.has("hidden")) {
			const inner = ctx["exp" + "orts"].default.fetch("http://inner/?wait=100");
			ctx.waitUntil(inner);
		}
		if (q.has("late")) {
			ctx.waitUntil(scheduler.wait(20).then(() => console.log(burn(n))));
			return new Response("early");
		}
		await scheduler.wait(Number(q.get("wait")));
		if (q.has("body")) await request.text();
		if (q.has("echo")) return new Response(request.body);
		if (q.has("socket")) {
			const [client, server] = Object.values(new WebSocketPair());
			server.accept();
			return new Response(null, { status: 101, webSocket: client });
		}
		return new Response(String(burn(n)));
	},
	scheduled(controller) { console.log(burn(Number(controller.cron.split(" ")[0]) * 1_000_000)); },
};`

// needsClock skips a test where the kernel tells no thread's CPU time.
func needsClock(t *testing.T) {
	t.Helper()
	c, err := openThreadClock(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
}

// quiet waits until a request would be alone in the process.
func quiet(t *testing.T, w worker) {
	t.Helper()
	v := w.(*version)
	until(t, "a quiet process", func() bool {
		in := v.current.Load()
		if in == nil {
			return false
		}
		_, idle := in.meter.idle()
		if idle = idle && in.meter.pingCost.Load() > 0; idle {
			_, idle = in.meter.clock.read()
		}
		return idle
	})
}

// cpuTime has do make one invocation, until it has a CPU time: a health check
// that wakes the thread as it begins costs a sample.
func cpuTime(t *testing.T, r *rig, w worker, do func()) int64 {
	t.Helper()
	for range 50 {
		quiet(t, w)
		do()
		if inv := r.nextInvocation(); inv.CPUTimeMs != nil {
			return *inv.CPUTimeMs
		}
	}
	t.Fatal("no invocation had a CPU time")
	return 0
}

func newBurner(t *testing.T, change func(*deploy.Bundle)) (*rig, worker) {
	t.Helper()
	needsClock(t)
	r := newRig(t, nil)
	r.add(v1, burner, change)
	return r, r.deploy(v1)[v1]
}

func TestCPUTime(t *testing.T) {
	r, w := newBurner(t, nil)
	f := func(path string) int64 {
		t.Helper()
		return cpuTime(t, r, w, func() { mustGet(t, w, path) })
	}
	f("/?burn=10000000") // until it is compiled
	// Each is far from the others: a busy machine changes CPU times too.
	once, fourTimes := f("/?burn=10000000"), f("/?burn=40000000")
	if once < 5 || fourTimes < 2*once || fourTimes > 10*once {
		t.Errorf("computing took %d ms, and four times as much %d ms", once, fourTimes)
	}
	if waited := f("/?wait=200"); waited > fourTimes/4 {
		t.Errorf("waiting took %d ms; computing took %d ms", waited, fourTimes)
	}
	if late := f("/?late&burn=40000000"); late < fourTimes/4 || late > 4*fourTimes {
		t.Errorf("computing after the response took %d ms, before it %d ms", late, fourTimes)
	}
}

func TestCPUTimeOfASchedule(t *testing.T) {
	r, w := newBurner(t, nil)
	f := func(cron string) int64 {
		t.Helper()
		return cpuTime(t, r, w, func() {
			if outcome, err := r.Scheduled(t.Context(), v1, cron, time.UnixMilli(1_795_000_000_000)); err != nil || outcome != schema.OutcomeOK {
				t.Fatal(outcome, err)
			}
		})
	}
	f("9 * * * *")
	if little, much := f("0 * * * *"), f("40 * * * *"); much < 10 || little > much/4 {
		t.Errorf("nothing took %d ms, computing %d ms", little, much)
	}
}

// The end of what a process was asked for is waited for by name, schedules included; one
// that fails is told too.
func TestStopDoesNotWaitForSchedulesThatFailed(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	w := r.deploy(v1)[v1]
	outcome, err := r.Scheduled(t.Context(), v1, "* * * * *", time.UnixMilli(1_795_000_000_000))
	if err == nil && outcome == schema.OutcomeOK {
		t.Errorf("a Worker without the handler ran it: %s, %v", outcome, err)
	}
	until(t, "the end of the run", func() bool { return w.(*version).current.Load().untold.len() == 0 })
}

// held is a request whose handler waits for the rest of its body.
type held struct {
	send *io.PipeWriter
	done chan error
}

// holdOpen sends a request that ends with ctx or with finish. It returns when the
// request's head was sent.
func holdOpen(ctx context.Context, t *testing.T, w worker, path, ray string) *held {
	t.Helper()
	body, send := io.Pipe()
	h := &held{send: send, done: make(chan error, 1)}
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, body)
	req.Host, req.ContentLength = "shop.dev.localhost", -1
	req.Header.Set("Cf-Ray", ray)
	go func() {
		resp, err := w.RoundTrip(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		h.done <- err
	}()
	if _, err := send.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	return h
}

// finish sends the end of the body, and returns the error of the exchange.
func (h *held) finish() error {
	_ = h.send.Close() // it never fails
	return <-h.done
}

func TestNoCPUTimeBesideAnotherInvocation(t *testing.T) {
	r, w := newBurner(t, nil)
	absent := func(what string, ray string) {
		t.Helper()
		inv := r.next(func(e event) bool { return e.inv != nil && e.inv.RayID == ray }).inv
		if inv.CPUTimeMs != nil {
			t.Errorf("%s has %d ms", what, *inv.CPUTimeMs)
		}
	}
	const firstRay, streamRay = "8f000000000000aa", "8f000000000000ab"
	for range 5 {
		quiet(t, w)
		first := holdOpen(t.Context(), t, w, "/?body&burn=1000000", firstRay)
		mustGet(t, w, "/?burn=1000000")
		absent("the second request", "8f00000000000001")
		if err := first.finish(); err != nil {
			t.Error(err)
		}
		absent("the first request", firstRay)

		quiet(t, w)
		stream := holdOpen(t.Context(), t, w, "/?echo", streamRay)
		mustGet(t, w, "/?burn=1000000")
		absent("a request beside a response", "8f00000000000001")
		if err := stream.finish(); err != nil {
			t.Error(err)
		}
	}
	// A response that is still there when its invocation was told.
	quiet(t, w)
	unread, err := w.RoundTrip(request(t, "GET", "/", ""))
	if err != nil {
		t.Fatal(err)
	}
	r.nextInvocation()
	until(t, "the thread's rest", func() bool {
		_, ok := w.(*version).current.Load().meter.clock.read()
		return ok
	})
	mustGet(t, w, "/?burn=1000000")
	absent("a request beside an unread response", "8f00000000000001")
	if err := unread.Body.Close(); err != nil {
		t.Error(err)
	}

	quiet(t, w)
	req := request(t, "GET", "/?socket", "")
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Cf-Ray": {"8f000000000000bb"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	resp, err := w.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	mustGet(t, w, "/?burn=1000000")
	absent("a request beside a WebSocket", "8f00000000000001")
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	absent("a WebSocket beside a request", "8f000000000000bb")
	cpuTime(t, r, w, func() { mustGet(t, w, "/") }) // and now alone again
}

// never says that what do makes has no CPU time, although the process is quiet.
func never(t *testing.T, r *rig, w worker, do func()) {
	t.Helper()
	for range 5 {
		until(t, "the process's rest", func() bool {
			in := w.(*version).current.Load()
			return in.busy.Load() == 0 && in.untold.len() == 0
		})
		do()
		if inv := r.nextInvocation(); inv.CPUTimeMs != nil {
			t.Errorf("%s has %d ms", inv.EventType, *inv.CPUTimeMs)
		}
	}
}

func TestNoCPUTimeAfterAnRPCSession(t *testing.T) {
	r, w := newBurner(t, nil)
	cpuTime(t, r, w, func() { mustGet(t, w, "/") })
	c, err := w.(*version).DialRPC(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, empty := w.(*version).current.Load().untold.empty(); empty {
		t.Error("a process with an open session counts as empty")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	never(t, r, w, func() { mustGet(t, w, "/") })
}

func TestNoCPUTimeOfAWorkerThatCallsItself(t *testing.T) {
	r, w := newBurner(t, func(b *deploy.Bundle) { b.Worker.CompatibilityFlags = []string{"enable_ctx_exports"} })
	cpuTime(t, r, w, func() { mustGet(t, w, "/") })
	mustGet(t, w, "/?hidden")
	r.nextInvocation()
	r.nextInvocation()
	never(t, r, w, func() { mustGet(t, w, "/") })
}

func TestNoCPUTimeWithDurableObjects(t *testing.T) {
	needsClock(t)
	r := newObjects(t, v1)
	w := r.deploy(v1)[v1]
	never(t, r, w, func() { mustGet(t, w, "/a") })
}

// A client that leaves leaves its invocation behind.
func TestNoCPUTimeBesideWhatAClientLeft(t *testing.T) {
	r, w := newBurner(t, nil)
	quiet(t, w)
	ctx, leave := context.WithCancel(t.Context())
	left := holdOpen(ctx, t, w, "/?body", "8f000000000000cc")
	mustGet(t, w, "/") // by then it has arrived
	r.nextInvocation()
	leave()
	if err := left.finish(); err == nil {
		t.Error("a request without a client was answered")
	}
	if n := w.(*version).current.Load().untold.len(); n != 0 {
		t.Fatalf("%d requests are waited for", n)
	}
	mustGet(t, w, "/")
	for range 2 { // that, and what was left, in whatever order
		if inv := r.nextInvocation(); inv.RayID != "8f00000000000001" && inv.CPUTimeMs != nil {
			t.Errorf("what was left has %d ms", *inv.CPUTimeMs)
		}
	}
	cpuTime(t, r, w, func() { mustGet(t, w, "/") })
}

// The next process has a clock of its own.
func TestCPUTimeAfterAKill(t *testing.T) {
	r, w := newBurner(t, nil)
	quiet(t, w)
	killed := w.(*version).current.Load()
	request := holdOpen(t.Context(), t, w, "/?body", "8f000000000000dd")
	if err := syscall.Kill(killed.proc.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := request.finish(); err == nil {
		t.Error("a killed process answered")
	}
	if e := r.next(func(event) bool { return true }); e.inv != nil || e.outcome != schema.OutcomeInternalError {
		t.Errorf("a killed process told %+v", e)
	}
	if used, ok := killed.meter.used(); ok {
		t.Errorf("it used %s", used)
	}
	cpuTime(t, r, w, func() { mustGet(t, w, "/") })
}

func TestAttributable(t *testing.T) {
	f := func(want bool, kind, text string, worker deploy.Worker) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "m")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		worker.Modules = []deploy.Module{{Name: "m", SHA256: "x", ContentType: kind}}
		if got, err := attributable(&worker, map[string]string{"x": path}); err != nil || got != want {
			t.Errorf("%s %q: got %t, %v", kind, text, got, err)
		}
	}
	f(true, deploy.ModuleTypeESM, `export default {}`, deploy.Worker{})
	f(false, deploy.ModuleTypeESM, `import { exports as e } from "cloudflare:workers"`, deploy.Worker{})
	f(true, deploy.ModuleTypeSourceMap, `exports`, deploy.Worker{})
	f(false, deploy.ModuleTypeESM, ``, deploy.Worker{Bindings: []deploy.Binding{{Type: deploy.BindingDurableObject}}})
	f(false, deploy.ModuleTypeESM, ``, deploy.Worker{DurableObjects: []deploy.DurableObjectNamespace{{}}})
	worker := deploy.Worker{Modules: []deploy.Module{{Name: "m", SHA256: "x"}}}
	if _, err := attributable(&worker, map[string]string{"x": "/nowhere/m"}); err == nil {
		t.Error("a module that cannot be read passed")
	}
}

func TestPingCost(t *testing.T) {
	m := &meter{}
	f := func(cost, want time.Duration) {
		t.Helper()
		m.learn(cost)
		if got := time.Duration(m.pingCost.Load()); got != want {
			t.Errorf("after %s: %s, want %s", cost, got, want)
		}
	}
	f(time.Second, 0) // it compiled
	f(800, 800)
	f(1600, 900)
	f(100, 800)
}
