package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

const testAccount = "00000000000000000000000000000001"

// bundles is a control plane in memory. away makes it fail.
type bundles struct {
	mu      sync.Mutex
	away    bool
	fetched int
	bundles map[string]deploy.Bundle
	modules map[string][]byte
}

func (b *bundles) Bundle(_ context.Context, _, versionID string) (deploy.Bundle, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fetched++
	if b.away {
		return deploy.Bundle{}, errors.New("the control plane is away")
	}
	bundle, ok := b.bundles[versionID]
	if !ok {
		return deploy.Bundle{}, errs.New(errs.NotFound, 0, "no version %s", versionID)
	}
	return bundle, nil
}

func (b *bundles) Module(_ context.Context, _, hash string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return nil, errors.New("the control plane is away")
	}
	return b.modules[hash], nil
}

// event is something that a process told: an invocation, or its end.
type event struct {
	versionID string
	process   deploy.Process // of an end
	inv       *schema.Invocation
	outcome   string
}

// rig is a Backends with its control plane, and all that it told.
type rig struct {
	*Backends
	t      testing.TB
	source *bundles
	dir    string
	events chan event
	rev    int64
}

// newRig starts Backends with limits that a test can wait for.
func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), events: make(chan event, 100_000),
		source: &bundles{bundles: map[string]deploy.Bundle{}, modules: map[string][]byte{}}}
	r.Backends = r.open(change)
	t.Cleanup(func() { r.Close() })
	return r
}

func (r *rig) open(change func(*Config)) *Backends {
	r.t.Helper()
	cfg := DefaultConfig()
	cfg.Workers = &WorkerConfig{DataDir: r.dir, StopGrace: 2 * time.Second}
	cfg.Bundles = r.source
	cfg.Invocations = func(id string, inv schema.Invocation) { r.events <- event{versionID: id, inv: &inv} }
	cfg.Ended = func(p deploy.Process, outcome string) {
		r.events <- event{versionID: p.VersionID, process: p, outcome: outcome}
	}
	if change != nil {
		change(&cfg)
	}
	log := slog.New(slog.NewTextHandler(lastWords(r.t), &slog.HandlerOptions{Level: slog.LevelWarn}))
	if os.Getenv("TIDEGATE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	b, err := New(cfg, log)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// lastWords returns a log whose end is shown if the test fails.
func lastWords(t testing.TB) io.Writer {
	var mu sync.Mutex
	var text []byte
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if t.Failed() && len(text) > 0 {
			t.Logf("it logged last:\n%s", text)
		}
	})
	return writerFunc(func(line []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		text = append(text, line...)
		text = text[max(0, len(text)-8<<10):]
		return len(line), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// add stores a version. Its main module is code.
func (r *rig) add(id, code string, change func(*deploy.Bundle)) {
	b := deploy.Bundle{
		AccountID: testAccount, Script: "shop", VersionID: id, Tag: "v1", CreatedOn: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Worker: deploy.Worker{
			MainModule: "index.js", CompatibilityDate: "2026-01-01",
			Modules: []deploy.Module{{Name: "index.js", ContentType: deploy.ModuleTypeESM}},
			Exports: deploy.Exports{Handlers: []string{"fetch"}},
		},
	}
	if change != nil {
		change(&b)
	}
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	for i := range b.Worker.Modules {
		m := &b.Worker.Modules[i]
		content := []byte(code)
		if m.Name != b.Worker.MainModule && m.Name != b.Worker.BodyPart {
			content = []byte(m.SHA256) // a test writes the content there
		}
		m.SHA256, m.Bytes = hashOf(content), int64(len(content))
		r.source.modules[m.SHA256] = content
	}
	r.source.bundles[id] = b
}

// snapshot names every version that was added; those of deployed have equal shares.
func (r *rig) snapshot(deployed ...string) *deploy.Snapshot {
	r.rev++
	s := deploy.SnapshotScript{AccountID: testAccount, Subdomain: "dev", Name: "shop"}
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	for id, b := range r.source.bundles {
		s.Versions = append(s.Versions, deploy.SnapshotVersion{ID: id, Worker: &deploy.SnapshotWorker{
			Exports: b.Worker.Exports, Objects: b.Worker.DurableObjects,
		}})
	}
	for _, id := range deployed {
		s.Splits = append(s.Splits, deploy.Split{VersionID: id, Percentage: deploy.Full / deploy.Percentage(len(deployed))})
	}
	return &deploy.Snapshot{Revision: r.rev, Scripts: []deploy.SnapshotScript{s}}
}

// worker is what the gateway knows a Worker's backend by.
type worker interface {
	http.RoundTripper
	State() deploy.BackendState
}

// deploy puts versions into the deployment and waits until they serve or have failed.
func (r *rig) deploy(ids ...string) map[string]worker {
	r.t.Helper()
	out := map[string]worker{}
	for id, rt := range r.Update(r.snapshot(ids...)) {
		out[id] = rt.(worker)
	}
	for _, id := range ids {
		r.waitState(out[id], func(s deploy.BackendState) bool { return s.Phase != deploy.BackendStarting })
	}
	return out
}

func (r *rig) waitState(w worker, ok func(deploy.BackendState) bool) {
	r.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok(w.State()) {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("the state is still %+v", w.State())
		}
	}
}

// next returns the next event that ok takes, and drops those before it.
func (r *rig) next(ok func(event) bool) event {
	r.t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case e := <-r.events:
			if ok(e) {
				return e
			}
		case <-deadline:
			r.t.Fatal("what was waited for did not come")
		}
	}
}

func (r *rig) nextInvocation() *schema.Invocation {
	r.t.Helper()
	return r.next(func(e event) bool { return e.inv != nil }).inv
}

func (r *rig) nextEnd(versionID string) string {
	r.t.Helper()
	return r.next(func(e event) bool { return e.inv == nil && e.versionID == versionID }).outcome
}

// get sends a request as the gateway does, and returns status and body.
func get(t testing.TB, rt http.RoundTripper, path string) (int, string, error) {
	t.Helper()
	req := httptest.NewRequestWithContext(context.Background(), "GET", path, nil)
	req.Host = "shop.dev.localhost"
	req.Header.Set("Cf-Ray", "8f00000000000001")
	req.Header.Set("X-Forwarded-Proto", "https")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func mustGet(t testing.TB, rt http.RoundTripper, path string) string {
	t.Helper()
	status, body, err := get(t, rt, path)
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET %s: %d %q, %v", path, status, body, err)
	}
	return body
}

const (
	v1 = "11111111-1111-4111-8111-111111111111"
	v2 = "22222222-2222-4222-8222-222222222222"
)

// What a Worker has begun is not done twice, though GETs to origins may be: its response
// broke before the first byte of it was on the way, and the connection was a kept one.
func TestWorkersRunOnceForEachRequest(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `let runs = 0;
	export default { async fetch(request, env, ctx) {
		if (!request.url.endsWith("/break")) return new Response(String(runs));
		runs++;
		const { readable, writable } = new FixedLengthStream(10);
		ctx.waitUntil(writable.abort(new Error("broken")).catch(() => {}));
		return new Response(readable);
	} }`, nil)
	w := r.deploy(v1)[v1]
	mustGet(t, w, "/")
	if status, body, err := get(t, w, "/break"); err == nil {
		t.Fatalf("got %d %q", status, body)
	} else if !errors.Is(err, errUnanswered) {
		t.Fatalf("it broke in another way: %v", err)
	}
	if runs := mustGet(t, w, "/"); runs != "1" {
		t.Errorf("the Worker ran %s times", runs)
	}
}

func TestWorkerServesAndTells(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `export default { async fetch(request, env, ctx) {
		console.log("hello", {a: 1});
		console.warn(undefined);
		ctx.waitUntil(Promise.reject(new TypeError("late")));
		return new Response(request.url + " " + request.headers.get("x-forwarded-proto") + " " + JSON.stringify(request.cf) + " " + JSON.stringify(env), {status: 201});
	} }`, func(b *deploy.Bundle) {
		b.Worker.Bindings = []deploy.Binding{
			{Name: "J", Type: deploy.BindingJSON, JSON: []byte(`{"x":[1,"é\"\\"]}`)},
			{Name: "S", Type: deploy.BindingSecretText, Text: "line\nzwei \"€\" \\ \x01"},
			{Name: "V", Type: deploy.BindingVersionMetadata},
		}
	})
	w := r.deploy(v1)[v1]
	status, body, err := get(t, w, "/a?b=c")
	want := `https://shop.dev.localhost/a?b=c https undefined {"J":{"x":[1,"é\"\\"]},"S":"line\nzwei \"€\" \\ \u0001",` +
		`"V":{"id":"11111111-1111-4111-8111-111111111111","tag":"v1","timestamp":"2026-11-01T00:00:00Z"}}`
	if err != nil || status != 201 || body != want {
		t.Fatalf("got %d %s, %v\nwant 201 %s", status, body, err, want)
	}
	inv := r.nextInvocation()
	if inv.RayID != "8f00000000000001" || inv.EventType != "fetch" || inv.Outcome != "ok" || inv.ExecutionModel != "stateless" || inv.TimestampMs == 0 {
		t.Errorf("invocation %+v", inv)
	}
	if got, want := string(inv.Event), `{"RayID":"","Request":{"URL":"https://shop.dev.localhost/a?b=c","Method":"GET"},"Response":{"Status":201}}`; got != want {
		t.Errorf("event %s, want %s", got, want)
	}
	if len(inv.Logs) != 2 || fmt.Sprintf("%s %s", inv.Logs[0].Level, inv.Logs[0].Message) != `log ["hello" {"a":1}]` || inv.Logs[1].Level != "warn" {
		t.Errorf("logs %+v", inv.Logs)
	}
	if len(inv.Exceptions) != 1 || inv.Exceptions[0].Name != "TypeError" || inv.Exceptions[0].Message != "late" {
		t.Errorf("exceptions %+v", inv.Exceptions)
	}
}

// What a client sends under the names of our own headers reaches no Worker.
func TestClientCannotForgeOurHeaders(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `export default { fetch(r) { return Response.json([r.url, r.cf ?? null, [...r.headers.keys()].filter((n) => n.startsWith("tidegate"))]) } }`, nil)
	w := r.deploy(v1)[v1]
	req := request(t, "GET", "/", "")
	req.Header.Set(protoHeader, "https")
	req.Header.Set(cfHeader, `{"country":"XX"}`)
	req.Header.Set(deploy.BindingHeader, "nonce=1&script=a&entrypoint=")
	resp, err := w.RoundTrip(req)
	if got, want := readAll(t, resp, err), `["http://shop.example.com/",null,[]]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestThrowIsAnException(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `export default { fetch() { throw new RangeError("boom") } }`, nil)
	w := r.deploy(v1)[v1]
	if status, _, err := get(t, w, "/"); status != 500 || err != nil {
		t.Fatalf("got %d, %v", status, err)
	}
	inv := r.nextInvocation()
	if inv.Outcome != "exception" || len(inv.Exceptions) != 1 || inv.Exceptions[0].Message != "boom" || !strings.Contains(inv.Exceptions[0].Stack, "index.js:1") {
		t.Errorf("invocation %+v", inv)
	}
}

// emptyWasm is the smallest module: magic number and version.
const emptyWasm = "\x00asm\x01\x00\x00\x00"

func TestModulesAndParts(t *testing.T) {
	r := newRig(t, nil)
	name := "data/quo\"te \\ é\n.txt"
	r.add(v1, `import text from `+jsString("./"+name)+`; import data from "./d.bin"; import wasm from "./m.wasm"; import cjs from "./c.cjs";
		export default { fetch(_, env) { return Response.json([text, new Uint8Array(data).length, wasm instanceof WebAssembly.Module, cjs.x,
			env.T, env.D.byteLength]) } }`, func(b *deploy.Bundle) {
		b.Worker.Modules = append(b.Worker.Modules,
			deploy.Module{Name: name, ContentType: deploy.ModuleTypeText, SHA256: "some text"},
			deploy.Module{Name: "d.bin", ContentType: deploy.ModuleTypeData, SHA256: "\x00\xff\xfe"},
			deploy.Module{Name: "m.wasm", ContentType: deploy.ModuleTypeWasm, SHA256: emptyWasm},
			deploy.Module{Name: "c.cjs", ContentType: deploy.ModuleTypeCommonJS, SHA256: "module.exports = {x: 7}"},
			deploy.Module{Name: "index.js.map", ContentType: deploy.ModuleTypeSourceMap, SHA256: "{}"})
		b.Worker.Bindings = []deploy.Binding{
			{Name: "D", Type: deploy.BindingDataBlob, Part: "d.bin"},
			{Name: "T", Type: deploy.BindingTextBlob, Part: name},
		}
	})
	w := r.deploy(v1)[v1]
	if s := w.State(); s.Phase != deploy.BackendReady {
		t.Fatalf("state %+v", s)
	}
	if got, want := mustGet(t, w, "/"), `["some text",3,true,7,"some text",3]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestServiceWorkerSyntax(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `addEventListener("fetch", (e) => e.respondWith(new Response("classic " + GREETING + (W instanceof WebAssembly.Module))))`, func(b *deploy.Bundle) {
		b.Worker.MainModule, b.Worker.BodyPart = "", "script"
		b.Worker.Modules = []deploy.Module{
			{Name: "script", ContentType: deploy.ModuleTypeCommonJS},
			{Name: "m.wasm", ContentType: deploy.ModuleTypeWasm, SHA256: emptyWasm},
		}
		b.Worker.Bindings = []deploy.Binding{
			{Name: "GREETING", Type: deploy.BindingPlainText, Text: "hi"},
			{Name: "W", Type: deploy.BindingWasmModule, Part: "m.wasm"},
		}
	})
	if got := mustGet(t, r.deploy(v1)[v1], "/"); got != "classic hitrue" {
		t.Errorf("got %q", got)
	}
}

// The cache is there and empty, as on a workers.dev host.
func TestCacheMisses(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `export default { async fetch(request) {
		const key = "http://x/";
		await caches.default.put(key, new Response("kept", {headers: {"cache-control": "max-age=60"}}));
		const named = await caches.open("mine");
		return Response.json([await caches.default.match(key) ?? null, await caches.default.delete(key), await named.match(key) ?? null]);
	} }`, nil)
	if got, want := mustGet(t, r.deploy(v1)[v1], "/"), `[null,false,null]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
