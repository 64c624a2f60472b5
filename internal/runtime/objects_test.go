package runtime

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

const (
	v3          = "33333333-3333-4333-8333-333333333333"
	counterID   = "0123456789abcdef0123456789abcdef"
	otherID     = "fedcba9876543210fedcba9876543210"
	counterName = "Counter"
)

// counter has objects that count in SQLite. Every answer is the version that ran
// the object, the count, and what the alarm did.
const counter = `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
	constructor(ctx, env) {
		super(ctx, env);
		ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS log (n INTEGER PRIMARY KEY, version TEXT)");
	}
	add() {
		const n = this.ctx.storage.sql.exec("INSERT INTO log (version) VALUES (?) RETURNING n", this.env.V.id).one().n;
		return { version: this.env.V.id, n, id: this.ctx.id.toString(), name: this.ctx.id.name };
	}
	async hold(ms) { await scheduler.wait(Number(ms)); return this.add(); }
	log() { return this.ctx.storage.sql.exec("SELECT n, version FROM log ORDER BY n").toArray(); }
	async later(ms) { await this.ctx.storage.setAlarm(Date.now() + Number(ms ?? 20)); return {}; }
	async alarm() { this.add(); }
	async fetch(request) {
		const { pathname } = new URL(request.url);
		if (pathname === "/socket") {
			const [client, server] = Object.values(new WebSocketPair());
			this.ctx.acceptWebSocket(server);
			return new Response(null, { status: 101, webSocket: client });
		}
		return Response.json(this.add());
	}
	webSocketMessage(socket) { const { version, n } = this.add(); socket.send(JSON.stringify({ version, n })); }
}
export default { async fetch(request, env) {
	try { return await this.answer(request, env) } catch (e) { return new Response(e.message, { status: 500 }) }
}, async answer(request, env) {
	const { pathname, searchParams } = new URL(request.url);
	const stub = env.COUNTER.get(env.COUNTER.idFromName(searchParams.get("name") ?? "one"));
	const method = pathname.slice(1);
	if (["add", "log", "later", "hold"].includes(method)) return Response.json(await stub[method](searchParams.get("ms")));
	return stub.fetch(request);
} }`

func withCounter(b *deploy.Bundle) {
	b.Worker.DurableObjects = []deploy.DurableObjectNamespace{{ID: counterID, Class: counterName, SQLite: true}}
	b.Worker.Bindings = []deploy.Binding{
		{Name: "COUNTER", Type: deploy.BindingDurableObject, ClassName: counterName, NamespaceID: counterID},
		{Name: "V", Type: deploy.BindingVersionMetadata},
	}
	b.Worker.Exports.Named = []deploy.NamedExport{{Name: counterName, Kind: deploy.ExportDurableObject}}
}

func withObjectsHere(c *Config) { c.Workers.DurableObjects = true }

// newObjects is a rig with versions of the counter.
func newObjects(t *testing.T, ids ...string) *rig {
	t.Helper()
	r := newRig(t, withObjectsHere)
	for _, id := range ids {
		r.add(id, counter, withCounter)
	}
	return r
}

// counted is one answer of the counter.
type counted struct {
	Version  string
	N        int
	ID, Name string // of the object
}

func count(t *testing.T, w worker, path string) counted {
	t.Helper()
	var c counted
	if err := json.Unmarshal([]byte(mustGet(t, w, path)), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// logOf is what the object has written down, in order.
func logOf(t *testing.T, w worker) []counted {
	t.Helper()
	var list []counted
	if err := json.Unmarshal([]byte(mustGet(t, w, "/log")), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// until asks until ok, and fails the test if that takes too long.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !poll(time.Minute, ok) { // longer than what fails is left alone
		t.Fatal("did not come: " + what)
	}
}

func TestObjectsKeepTheirData(t *testing.T) {
	r := newObjects(t, v1)
	w := r.deploy(v1)[v1]
	for i, path := range []string{"/fetch", "/add", "/fetch"} {
		if got := count(t, w, path); got.Version != v1 || got.N != i+1 || got.Name != "one" || !objectPattern.MatchString(got.ID) {
			t.Errorf("%s counted %+v", path, got)
		}
	}
	object := r.next(func(e event) bool { return e.inv != nil && e.inv.ExecutionModel == "durableObject" }).inv
	if object.Entrypoint != counterName || object.DurableObjectID == "" || object.Outcome != "ok" {
		t.Errorf("invocation %+v", object)
	}
	mustGet(t, w, "/later")
	until(t, "the alarm", func() bool { return len(logOf(t, w)) == 4 })
	alarm := r.next(func(e event) bool { return e.inv != nil && e.inv.EventType == "alarm" }).inv
	if alarm.ExecutionModel != "durableObject" || alarm.Outcome != "ok" {
		t.Errorf("invocation %+v", alarm)
	}
	dir, err := os.Stat(filepath.Join(r.dir, "objects"))
	if err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("the storage has mode %v, error %v", dir.Mode(), err)
	}

	// A new router on the same disk.
	r.Close()
	r.Backends = r.open(withObjectsHere)
	w = r.deploy(v1)[v1]
	if got := count(t, w, "/add"); got.Version != v1 || got.N != 5 {
		t.Errorf("after a restart it counted %+v", got)
	}
}

// A socket that its object may sleep behind.
func TestObjectsTakeWebSockets(t *testing.T) {
	r := newObjects(t, v1)
	w := r.deploy(v1)[v1]
	req := request(t, http.MethodGet, "/socket", "")
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	resp, err := w.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	defer resp.Body.Close()
	ws := resp.Body.(io.ReadWriteCloser)
	if _, err := ws.Write([]byte{0x81, 0x82, 0, 0, 0, 0, 'h', 'i'}); err != nil {
		t.Fatal(err)
	}
	want := `{"version":"` + v1 + `","n":1}`
	frame := make([]byte, 2+len(want))
	if _, err := io.ReadFull(ws, frame); err != nil || string(frame[2:]) != want {
		t.Errorf("got %q, %v", frame, err)
	}
	inv := r.next(func(e event) bool { return e.inv != nil && e.inv.EventType == "hibernatable_web_socket" }).inv
	if inv.Outcome != "ok" || inv.DurableObjectID == "" {
		t.Errorf("invocation %+v", inv)
	}
}

// A class without SQLite has key-value storage; a plain class may be one of objects.
func TestObjectsWithKeyValueStorage(t *testing.T) {
	r := newRig(t, withObjectsHere)
	r.add(v1, `export class Counter {
		constructor(state) { this.storage = state.storage; }
		async fetch() {
			let sql = "sql";
			try { this.storage.sql.exec("SELECT 1") } catch { sql = "no sql" }
			const n = ((await this.storage.get("n")) ?? 0) + 1;
			await this.storage.put("n", n);
			return new Response(n + " " + sql);
		}
	}
	export default { fetch: (request, env) => env.COUNTER.get(env.COUNTER.idFromName("one")).fetch(request) }`, func(b *deploy.Bundle) {
		withCounter(b)
		b.Worker.DurableObjects[0].SQLite = false
	})
	w := r.deploy(v1)[v1]
	for _, want := range []string{"1 no sql", "2 no sql"} {
		if got := mustGet(t, w, "/"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What was acknowledged is there after the process was killed, in the middle of
// writes.
func TestKilledObjectsKeepWhatTheyAcknowledged(t *testing.T) {
	r := newObjects(t, v1)
	w := r.deploy(v1)[v1]
	for range 3 {
		var mu sync.Mutex
		var acknowledged []int
		var writers sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			writers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					_, body, err := get(t, w, "/add")
					var c counted
					if err != nil || json.Unmarshal([]byte(body), &c) != nil || c.N == 0 {
						continue // it died with this one in hand
					}
					mu.Lock()
					acknowledged = append(acknowledged, c.N)
					mu.Unlock()
				}
			})
		}
		many := func(n int) func() bool {
			return func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) >= n }
		}
		until(t, "writes", many(50))
		pid := pidOf(t, w)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, "writes after the kill", func() bool {
			in := w.(*version).current.Load()
			return in != nil && in.proc.pid != pid && many(100)()
		})
		close(stop)
		writers.Wait()
		there := map[int]bool{}
		for _, c := range logOf(t, w) {
			there[c.N] = true
		}
		for _, n := range acknowledged {
			if !there[n] {
				t.Errorf("write %d was acknowledged and is not there", n)
			}
		}
	}
}

func TestStorageGoesWhenTheSnapshotSaysSo(t *testing.T) {
	r := newObjects(t, v1)
	r.add(v2, fmt.Sprintf(echo, "plain"), nil)
	w := r.deploy(v1)
	mustGet(t, w[v1], "/add")
	there := func(id string) bool {
		_, err := os.Stat(filepath.Join(r.dir, "objects", v1, id))
		return err == nil
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "objects", v1, otherID), 0o700); err != nil {
		t.Fatal(err)
	}
	// That nothing names it any more takes nothing away, whatever is swept.
	r.Update(&deploy.Snapshot{Revision: 100})
	if got := r.nextEnd(v1); got != "" {
		t.Errorf("it ended with %q", got)
	}
	r.workers.sweep()
	r.workers.tasks.Wait()
	if !there(counterID) {
		t.Fatal("the storage is gone")
	}
	w = r.deploy(v1)
	if got := count(t, w[v1], "/add").N; got != 2 {
		t.Fatalf("counted %d", got)
	}

	// While a process has it open it stays; then it goes, and nothing else does.
	s := r.snapshot(v1)
	s.DeletedDurableObjects = []string{counterID, "../" + otherID}
	r.Update(s)
	if got := count(t, w[v1], "/add").N; got != 3 || !there(counterID) {
		t.Fatalf("counted %d", got)
	}
	s = r.snapshot(v2)
	s.DeletedDurableObjects = []string{counterID}
	all := r.Update(s)
	if got := mustGet(t, all[v2], "/"); got != "plain" {
		t.Errorf("got %q", got)
	}
	locked := func() bool {
		_, err := os.Stat(filepath.Join(r.dir, "objects", counterID+".lock"))
		return err == nil
	}
	until(t, "the removal", func() bool { return !there(counterID) && !locked() })
	if _, body, err := get(t, all[v1], "/add"); err != nil || !strings.Contains(body, "does not exist any more") {
		t.Errorf("the version before, which the gateway may still ask, answered %q, %v", body, err)
	}
	if !there(otherID) {
		t.Error("what was not named is gone")
	}

	// A script that is deleted while its objects run.
	w = r.deploy(v1)
	until(t, "a process that has the storage", func() bool {
		_, body, err := get(t, w[v1], "/add")
		return err == nil && strings.Contains(body, v1)
	})
	if !there(counterID) {
		t.Fatal("there is no storage")
	}
	r.Update(&deploy.Snapshot{Revision: 200, DeletedDurableObjects: []string{counterID}})
	until(t, "the removal", func() bool { return !there(counterID) && !locked() })
}

// An alarm that was set before the process was killed wakes its object in the next
// one, without any request.
func TestAlarmsOutliveTheirProcess(t *testing.T) {
	r := newObjects(t, v1)
	w := r.deploy(v1)[v1]
	mustGet(t, w, "/later?ms=1000")
	pid := pidOf(t, w)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the next process", func() bool {
		in := w.(*version).current.Load()
		return in != nil && in.proc.pid != pid
	})
	alarm := r.next(func(e event) bool { return e.inv != nil && e.inv.EventType == "alarm" }).inv
	if alarm.Outcome != "ok" {
		t.Errorf("invocation %+v", alarm)
	}
}

func TestObjectsAreRefusedWithoutTheFlag(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, counter, withCounter)
	w := r.deploy(v1)[v1]
	if s := w.State(); s.Phase != deploy.BackendFailed || !strings.Contains(s.Error, "--durable-objects") {
		t.Errorf("state %+v", s)
	}
	if _, _, err := get(t, w, "/add"); err == nil || !strings.Contains(err.Error(), "--durable-objects") {
		t.Errorf("it answered with %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "objects")); err == nil {
		t.Error("there is a folder for their storage")
	}
}
