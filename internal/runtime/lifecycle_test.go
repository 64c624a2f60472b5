package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

const echo = `export default { async fetch(request) { return new Response("%s") } }`

// hold answers the path /hold when another request has asked for /go.
const hold = `let go; const gone = new Promise((r) => go = r);
export default { async fetch(request) {
	const {pathname} = new URL(request.url);
	if (pathname === "/loop") for (;;);
	if (pathname === "/buffers") { const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1)); }
	if (pathname === "/objects") { const a = []; for (;;) a.push({x: Math.random(), y: [1, 2, 3]}); }
	if (pathname === "/logs") for (let i = 0; i < 1000; i++) { console.log("x".repeat(100_000)); console.error("y".repeat(1000)); }
	if (pathname === "/stream") return new Response(new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode("begin")); } }));
	return new Response("held");
} }`

func pidOf(t testing.TB, w worker) int {
	t.Helper()
	in := w.(*version).current.Load()
	if in == nil {
		t.Fatal("no process serves")
	}
	return in.proc.pid
}

func outcomeOf(err error) string {
	e, ok := errors.AsType[interface {
		error
		Outcome() string
	}](err)
	if !ok {
		return ""
	}
	return e.Outcome()
}

// steady sends requests to w until the returned function is called, which fails the
// test if one of them failed.
func steady(t *testing.T, w worker) func() {
	stop := make(chan struct{})
	var task sync.WaitGroup
	var failed error
	var served int
	task.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if status, _, err := get(t, w, "/"); err != nil || status != http.StatusOK {
				failed = fmt.Errorf("request %d: %d, %w", served, status, err)
				return
			}
			served++
		}
	})
	return func() {
		t.Helper()
		close(stop)
		task.Wait()
		if failed != nil || served == 0 {
			t.Errorf("the other version served %d requests, then %v", served, failed)
		}
	}
}

// Whatever one version does to its process, its own request tells, the process is
// replaced, and the other version notices nothing.
func TestKilledProcess(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Workers.MemoryBytes = 512 << 20
	})
	const v3 = "33333333-3333-4333-8333-333333333333"
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	r.add(v2, hold, nil)
	r.add(v3, hold, func(b *deploy.Bundle) { b.Worker.Limits.CPUMs = 10 })
	w := r.deploy(v1, v2, v3)
	f := func(v2, outcome string, end func(pid int) error) {
		t.Helper()
		other := steady(t, w[v1])
		defer other()
		pid, proc := pidOf(t, w[v2]), w[v2].(*version).current.Load().proc
		before, cpuErr := cpuOf(pid)
		err := end(pid)
		<-proc.done
		used := proc.cmd.ProcessState.UserTime() + proc.cmd.ProcessState.SystemTime() - before
		if outcome == schema.OutcomeExceededCPU && outcomeOf(err) == schema.OutcomeExceededWallTime && cpuErr == nil && used < cpuLimitMin {
			outcome = schema.OutcomeExceededWallTime // the machine had next to no processor for it
		}
		e, ok := errors.AsType[interface {
			error
			ErrorKind() string
		}](err)
		if !ok || e.ErrorKind() != schema.ErrorKindReset || outcomeOf(err) != outcome {
			t.Errorf("got %v with outcome %q, want a reset with %q", err, outcomeOf(err), outcome)
		}
		if got := r.nextEnd(v2); got != outcome {
			t.Errorf("the process ended with %q, want %q", got, outcome)
		}
		r.waitState(w[v2], func(s deploy.BackendState) bool { return s.Phase == deploy.BackendReady })
		if got := mustGet(t, w[v2], "/"); got != "held" || pidOf(t, w[v2]) == pid {
			t.Errorf("got %q from process %d, after %d", got, pidOf(t, w[v2]), pid)
		}
	}
	request := func(id, path string) func(int) error {
		return func(int) error {
			_, _, err := get(t, w[id], path)
			return err
		}
	}
	f(v3, schema.OutcomeExceededCPU, request(v3, "/loop"))
	f(v2, schema.OutcomeExceededMemory, request(v2, "/buffers"))
	f(v2, schema.OutcomeExceededMemory, request(v2, "/objects"))
	f(v2, schema.OutcomeInternalError, func(pid int) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.RequestURI, req.Host = "/stream", "shop.example.com"
		resp, err := w[v2].RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 5)
		if _, err := resp.Body.Read(buf); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_, err = resp.Body.Read(buf)
		return err
	})
}

// A process that was killed between two requests costs none: the next one waits for
// its successor.
func TestDeathBetweenRequests(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	w := r.deploy(v1)[v1]
	mustGet(t, w, "/")
	if err := syscall.Kill(pidOf(t, w), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.nextEnd(v1)
	if got := mustGet(t, w, "/"); got != "v1" {
		t.Errorf("got %q", got)
	}
}

func TestHundredMegabytesOfLogs(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	r.add(v2, hold, nil)
	w := r.deploy(v1, v2)
	other := steady(t, w[v1])
	mustGet(t, w[v2], "/logs")
	other()
	inv := r.next(func(e event) bool { return e.inv != nil && e.versionID == v2 }).inv
	if !inv.Truncated || len(inv.Logs) == 0 || !strings.HasSuffix(string(inv.Logs[len(inv.Logs)-1].Message[0]), logTruncated+`"`) {
		t.Errorf("truncated %v, %d logs", inv.Truncated, len(inv.Logs))
	}
	if got := mustGet(t, w[v2], "/"); got != "held" {
		t.Errorf("got %q", got)
	}
}

func TestHungAndBrokenStart(t *testing.T) {
	// Many times what the others need, also on a busy machine.
	r := newRig(t, func(c *Config) { c.Workers.StartTimeout = 10 * time.Second })
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	w := r.deploy(v1)
	other := steady(t, w[v1])
	defer other()
	r.add(v2, `for (;;);`, nil)
	const v3 = "33333333-3333-4333-8333-333333333333"
	r.add(v3, `throw new Error("no")`, nil)
	w = r.deploy(v1, v2, v3)
	f := func(id, want string) {
		t.Helper()
		if s := w[id].State(); s.Phase != deploy.BackendFailed || !strings.Contains(s.Error, want) {
			t.Errorf("state %+v, want an error with %q", s, want)
		}
		_, _, err := get(t, w[id], "/")
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != schema.ErrorKindConnect || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v", err)
		}
	}
	f(v2, "it does not listen after 10s")
	f(v3, "Uncaught Error: no")
}

func TestVersionWithoutDeploymentStartsAndStops(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.IdleStop = 50 * time.Millisecond; c.Workers.WarmFor = 50 * time.Millisecond })
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	w := r.Update(r.snapshot())[v1].(worker)
	if s := w.State(); s.Phase != deploy.BackendIdle {
		t.Fatalf("state %+v", s)
	}
	for range 2 {
		if got := mustGet(t, w, "/"); got != "v1" {
			t.Errorf("got %q", got)
		}
		if got := r.nextEnd(v1); got != "" {
			t.Errorf("the process ended with %q", got)
		}
		r.waitState(w, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendIdle })
	}
}

// Requests in hand finish when a version leaves, its events arrive, and the disk
// forgets it.
func TestVersionLeaves(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.IdleStop = time.Millisecond; c.Workers.WarmFor = time.Millisecond })
	r.add(v1, `export default { async fetch(request) { await request.text(); return new Response("v1") } }`, nil)
	w := r.deploy(v1)[v1]
	body, send := io.Pipe()
	req := request(t, http.MethodPost, "/", "")
	req.Body, req.ContentLength = body, -1
	done := make(chan error, 1)
	go func() {
		resp, err := w.RoundTrip(req)
		if err == nil {
			var text []byte
			text, err = io.ReadAll(resp.Body)
			if err = errors.Join(err, resp.Body.Close()); err == nil && string(text) != "v1" {
				err = fmt.Errorf("got %q", text)
			}
		}
		done <- err
	}()
	in := w.(*version).current.Load()
	r.waitState(w, func(deploy.BackendState) bool { return in.busy.Load() > 0 })
	r.Update(&deploy.Snapshot{Revision: 99})
	_, _ = io.WriteString(send, "the end")
	_ = send.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if inv := r.nextInvocation(); inv.Outcome != "ok" {
		t.Errorf("invocation %+v", inv)
	}
	r.nextEnd(v1)
	r.waitState(w, func(deploy.BackendState) bool {
		left, err := filepath.Glob(filepath.Join(r.dir, "*", "*"))
		return err == nil && len(left) == 0
	})
}

func TestRollbackFindsItWarm(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.IdleStop = time.Millisecond })
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	r.add(v2, fmt.Sprintf(echo, "v2"), nil)
	w := r.deploy(v1)
	pid := pidOf(t, w[v1])
	r.deploy(v2)
	if w = r.deploy(v1); pidOf(t, w[v1]) != pid {
		t.Errorf("process %d serves, not %d", pidOf(t, w[v1]), pid)
	}
}

// What ended in a process is told, even if that stops right after.
func TestStopLosesNoInvocation(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.StopGrace = time.Minute })
	r.add(v1, `export default { fetch(_, __, ctx) { ctx.waitUntil(scheduler.wait(50).then(() => console.log("late"))); return new Response("v1") } }`, nil)
	w := r.deploy(v1)[v1]
	const n = 200
	for range n {
		mustGet(t, w, "/")
	}
	r.Close()
	told := 0
	for len(r.events) > 0 {
		e := <-r.events
		if e.inv == nil {
			if len(r.events) > 0 {
				t.Error("the end was told before the last invocation")
			}
			break
		}
		told++
		if len(e.inv.Logs) != 1 {
			t.Errorf("invocation %+v", e.inv)
		}
	}
	if told != n {
		t.Errorf("%d of %d invocations were told", told, n)
	}
}

// A request for a router that has stopped is answered, at once.
func TestRequestAfterClose(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.StartWait = time.Hour })
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	r.add(v2, fmt.Sprintf(echo, "v2"), nil)
	w := r.deploy(v1)
	r.Close()
	for _, id := range []string{v1, v2} {
		resp, err := w[id].RoundTrip(request(t, "POST", "/", "body"))
		wantKind(t, resp, err, schema.ErrorKindConnect)
	}
}

// The signal of a change is there when the state is.
func TestChangedTells(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `throw new Error("no")`, nil)
	w := r.Update(r.snapshot(v1))[v1].(worker)
	for w.State().Phase != deploy.BackendFailed {
		select {
		case <-r.Changed():
		case <-time.After(time.Minute):
			t.Fatalf("no signal; the state is %+v", w.State())
		}
	}
}

// A router starts what it has on disk while the control plane is away, unless that
// is damaged.
func TestStartWithoutControlPlane(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	r.deploy(v1)
	r.Close()
	r.source.away = true
	s := r.snapshot(v1)

	r.Backends = r.open(nil)
	w := r.Update(s)[v1].(worker)
	if got := mustGet(t, w, "/"); got != "v1" {
		t.Errorf("got %q", got)
	}
	r.Close()

	module := filepath.Join(r.dir, "modules", r.source.bundles[v1].Worker.Modules[0].SHA256)
	if err := os.WriteFile(module, []byte("export default { fetch() { return new Response('evil') } }"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Backends = r.open(nil)
	w = r.Update(s)[v1].(worker)
	r.waitState(w, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendFailed })
	if s := w.State(); !strings.Contains(s.Error, "the control plane is away") {
		t.Errorf("state %+v", s)
	}
	r.source.mu.Lock()
	r.source.away = false
	r.source.mu.Unlock()
	r.waitState(w, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendReady })
	if got := mustGet(t, w, "/"); got != "v1" {
		t.Errorf("got %q", got)
	}
}

func TestFilesArePrivate(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, fmt.Sprintf(echo, "v1"), func(b *deploy.Bundle) {
		b.Worker.Bindings = []deploy.Binding{{Name: "S", Type: deploy.BindingSecretText, Text: "t0psecret"}}
	})
	r.deploy(v1)
	secrets := 0
	err := filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if path != r.dir && d.Type()&os.ModeSocket == 0 && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %s", path, info.Mode())
		}
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if strings.Contains(string(b), "t0psecret") {
				secrets++
			}
			return err
		}
		return nil
	})
	if err != nil || secrets != 1 { // in the bundle; the configuration is gone
		t.Errorf("%d files hold the secret, %v", secrets, err)
	}
}

func TestLongDataDirectory(t *testing.T) {
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), strings.Repeat("long/", 30)), events: make(chan event, 10),
		source: &bundles{bundles: map[string]deploy.Bundle{}, modules: map[string][]byte{}}}
	r.Backends = r.open(nil)
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	sockets := r.workers.socketDir
	if got := mustGet(t, r.deploy(v1)[v1], "/"); got != "v1" {
		t.Errorf("got %q", got)
	}
	r.Close()
	if _, err := os.Stat(sockets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", sockets, err)
	}
}

func TestNoWorkersHere(t *testing.T) {
	b, err := New(DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	rt := b.Update(&deploy.Snapshot{Scripts: []deploy.SnapshotScript{{Versions: []deploy.SnapshotVersion{{ID: v1, Worker: &deploy.SnapshotWorker{}}}}}})[v1]
	resp, err := rt.RoundTrip(request(t, "GET", "/", ""))
	wantKind(t, resp, err, schema.ErrorKindConnect)
	if _, err := b.Scheduled(context.Background(), v1, "* * * * *", time.Now()); errs.KindOf(err) != errs.NotFound {
		t.Errorf("got %v", err)
	}
}
