package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// longRounds is how many rounds these tests make if it is set: the default is for
// every day.
const longRounds = "TIDEGATE_LONG"

// ledger has objects that write down whatever happens to them, each write with the
// life that made it, which is one instance of the class in one process.
const ledger = `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
	constructor(ctx, env) {
		super(ctx, env);
		this.life = crypto.randomUUID();
		this.seq = 0;
		ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS log (n INTEGER PRIMARY KEY, kind TEXT, token TEXT, version TEXT, life TEXT, seq INTEGER, at INTEGER)");
	}
	write(kind, token, at) {
		const version = this.env.V.id;
		const n = this.ctx.storage.sql.exec("INSERT INTO log (kind, token, version, life, seq, at) VALUES (?, ?, ?, ?, ?, ?) RETURNING n",
			kind, token, version, this.life, ++this.seq, at).one().n;
		return { n, version, token };
	}
	add(token) { return this.write("add", token, Date.now()); }
	async slow(token, ms) { await scheduler.wait(ms); return this.add(token); }
	async arm(token, ms) {
		const at = Date.now() + ms;
		await this.ctx.storage.setAlarm(at);
		return this.write("arm", token, at);
	}
	block(token, ms) {
		this.ctx.blockConcurrencyWhile(() => scheduler.wait(ms));
		return this.add(token);
	}
	alarm() { this.write("ring", "", Date.now()); }
	log() { return this.ctx.storage.sql.exec("SELECT * FROM log ORDER BY n").toArray(); }
	fetch(request) {
		const { searchParams } = new URL(request.url);
		if (!request.headers.has("upgrade")) return Response.json(this.add(searchParams.get("token")));
		const [client, server] = Object.values(new WebSocketPair());
		this.ctx.acceptWebSocket(server);
		return new Response(null, { status: 101, webSocket: client });
	}
	async webSocketMessage(socket, text) {
		const { kind, token, ms } = JSON.parse(text);
		socket.send(JSON.stringify(await this[kind](token, ms)));
	}
}
export default { async fetch(request, env) {
	const { pathname, searchParams } = new URL(request.url);
	const stub = env.COUNTER.getByName(searchParams.get("name"));
	const method = pathname.slice(1);
	try {
		if (method === "fetch") return await stub.fetch(request);
		return Response.json(await stub[method](searchParams.get("token"), Number(searchParams.get("ms"))));
	} catch (e) { return new Response(e.message, { status: 500 }) }
} }`

// entry is one write of an object, or the answer that it was made.
type entry struct {
	N                          int
	Kind, Token, Version, Life string
	Seq                        int
	At                         int64
}

// chaos is a rig under load, and what its objects have acknowledged.
type chaos struct {
	*rig
	objects  int
	tolerant atomic.Bool // calls may fail, because something was killed
	tokens   atomic.Int64
	made     int // versions
	// acknowledged is told of each answer, if it is set.
	acknowledged func(name string, e entry)

	gate     sync.RWMutex // of what follows
	pair     [2]string    // the versions of the deployment
	backends [2]worker    // theirs

	mu    sync.Mutex
	acked map[string]map[string]entry // by object and token
}

// seeded returns a source of chance, and tells its seed.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TIDEGATE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func rounds(t *testing.T, short int) int {
	text := os.Getenv(longRounds)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newChaos(t *testing.T, objects int) *chaos {
	t.Helper()
	c := chaosOn(t, t.TempDir())
	c.objects = objects
	c.ramp(0)
	for _, w := range c.backends {
		c.waitState(w, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendReady })
	}
	return c
}

// chaosOn has two versions, of which none is deployed yet, and a folder that others
// may have had before.
func chaosOn(t *testing.T, dir string) *chaos {
	t.Helper()
	r := &rig{t: t, dir: dir, events: make(chan event, 1_000_000),
		source: &bundles{bundles: map[string]deploy.Bundle{}, modules: map[string][]byte{}}}
	r.Backends = r.open(here)
	t.Cleanup(func() { r.Close() })
	c := &chaos{rig: r, objects: 40, acked: map[string]map[string]entry{}}
	c.next()
	c.next()
	return c
}

// here has objects, and no patience with versions that are over.
func here(cfg *Config) {
	cfg.Workers.DurableObjects = true
	cfg.Workers.IdleStop, cfg.Workers.WarmFor = time.Second, time.Second
}

// next makes a version, which is to follow the newest one. Old ones are forgotten.
func (c *chaos) next() {
	c.made++
	c.add(chaosVersion(c.made), ledger, withCounter)
	c.source.mu.Lock()
	delete(c.source.bundles, chaosVersion(c.made-4))
	c.source.mu.Unlock()
	c.gate.Lock()
	defer c.gate.Unlock()
	c.pair = [2]string{c.pair[1], chaosVersion(c.made)}
}

func chaosVersion(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }

// ramp gives the newest version a share, in percent. It does not wait.
func (c *chaos) ramp(share int) { c.rampTo(share, c.snapshot()) }

func (c *chaos) rampTo(share int, s *deploy.Snapshot) {
	s.Scripts[0].Splits = []deploy.Split{
		{VersionID: c.pair[0], Percentage: deploy.Percentage(100-share) * deploy.Full / 100},
		{VersionID: c.pair[1], Percentage: deploy.Percentage(share) * deploy.Full / 100},
	}
	s.Scripts[0].ObjectsDelayMS = 300_000
	all := c.Update(s)
	c.gate.Lock()
	defer c.gate.Unlock()
	c.backends = [2]worker{all[c.pair[0]].(worker), all[c.pair[1]].(worker)}
}

// backend returns the way to one of the two versions.
func (c *chaos) backend(i int) worker {
	c.gate.RLock()
	defer c.gate.RUnlock()
	return c.backends[i]
}

func (c *chaos) token() string { return strconv.FormatInt(c.tokens.Add(1), 10) }

func (c *chaos) ack(name string, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acknowledged != nil {
		c.acknowledged(name, e)
	}
	if c.acked[name] == nil {
		c.acked[name] = map[string]entry{}
	}
	c.acked[name][e.Token] = e
}

// call asks an object to write, by any version.
func (c *chaos) call(t *testing.T, rng *rand.Rand, name string) {
	method := []string{"add", "fetch", "arm", "slow"}[min(rng.IntN(15)/4, 3)]
	c.callVia(t, c.backend(rng.IntN(2)), method, name, rng.IntN(150))
}

func (c *chaos) callVia(t *testing.T, w worker, method, name string, ms int) {
	query := url.Values{"name": {name}, "token": {c.token()}, "ms": {strconv.Itoa(ms)}}
	tolerant := c.tolerant.Load()
	status, body, err := get(t, w, "/"+method+"?"+query.Encode())
	if err == nil && status == http.StatusOK {
		var e entry
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s of object %s: %q", method, name, body)
			return
		}
		c.ack(name, e)
		return
	}
	if !tolerant && !c.tolerant.Load() {
		t.Errorf("%s of object %s: %d %q, %v", method, name, status, body, err)
	}
}

// callFirst calls every object by the first version until the returned function is
// called.
func (c *chaos) callFirst(t *testing.T, rng *rand.Rand) (stop func()) {
	via := c.backend(0)
	rng = rand.New(rand.NewPCG(rng.Uint64(), 0))
	ctx, cancel := context.WithCancel(t.Context())
	var task sync.WaitGroup
	task.Go(func() {
		for ctx.Err() == nil {
			c.callVia(t, via, "add", strconv.Itoa(rng.IntN(c.objects)), 0)
		}
	})
	return func() {
		cancel()
		task.Wait()
	}
}

// load calls objects until the returned function is called.
func (c *chaos) load(t *testing.T, rng *rand.Rand, callers, sockets int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	for range callers {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		tasks.Go(func() {
			for ctx.Err() == nil {
				c.call(t, own, strconv.Itoa(own.IntN(c.objects)))
			}
		})
	}
	for range sockets {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		tasks.Go(func() {
			for ctx.Err() == nil {
				c.talk(ctx, t, own, strconv.Itoa(own.IntN(c.objects)), "add", "arm")
			}
		})
	}
	return func() {
		cancel()
		tasks.Wait()
	}
}

// talk sends messages to an object until its socket ends: a move ends it.
func (c *chaos) talk(ctx context.Context, t *testing.T, rng *rand.Rand, name string, kinds ...string) {
	req := request(t, http.MethodGet, "/fetch?name="+name, "")
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	resp, err := c.backend(rng.IntN(2)).RoundTrip(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	ws, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		return
	}
	// Nothing else ends a read of a socket whose process hangs.
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })()
	in := bufio.NewReader(ws)
	for range 200 {
		text := fmt.Sprintf(`{"kind":%q,"token":%q,"ms":%d}`, kinds[rng.IntN(len(kinds))], c.token(), rng.IntN(150))
		if err := writeFrame(ws, text); err != nil {
			return
		}
		answer, err := readFrame(in)
		if err != nil {
			return
		}
		var e entry
		if json.Unmarshal(answer, &e) != nil {
			return // it is a close frame's code
		}
		c.ack(name, e)
	}
}

// writeFrame sends a short text; its mask is zero.
func writeFrame(w io.Writer, text string) error {
	_, err := w.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...))
	return err
}

func readFrame(r *bufio.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if head[0] != 0x81 || head[1] > 125 {
		return nil, fmt.Errorf("the frame begins with %x", head)
	}
	payload := make([]byte, head[1])
	_, err := io.ReadFull(r, payload)
	return payload, err
}

// kill ends the process of a version, if it has one.
func (c *chaos) kill(t *testing.T, i int) {
	in := c.backend(i).(*version).current.Load()
	if in == nil {
		return
	}
	if err := syscall.Kill(in.proc.pid, syscall.SIGKILL); err != nil && !in.proc.isDone() {
		t.Logf("kill: %v", err)
	}
}

// logs waits until every alarm has rung, and returns what the objects wrote.
func (c *chaos) logs(t *testing.T) map[string][]entry {
	t.Helper()
	all := map[string][]entry{}
	for i := range c.objects {
		name := strconv.Itoa(i)
		all[name] = c.rung(t, name)
	}
	return all
}

// rung waits until an object's alarm has rung, if it set one, and returns what it wrote.
func (c *chaos) rung(t *testing.T, name string) (list []entry) {
	t.Helper()
	var problem string
	ok := poll(20*time.Second, func() bool {
		status, body, err := get(t, c.backend(0), "/log?name="+name)
		list = nil
		if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), &list) != nil {
			problem = fmt.Sprintf("its log: %d %q, %v", status, body, err)
			return false
		}
		problem = "its last alarm did not ring"
		return !awaits(list)
	})
	if !ok {
		t.Errorf("object %s: %s; it wrote last %+v", name, problem, list[max(0, len(list)-5):])
	}
	return list
}

// quiet waits until every alarm has rung: none may be lost, and hidden by a later one.
func (c *chaos) quiet(t *testing.T) {
	t.Helper()
	c.logs(t)
}

func poll(d time.Duration, ok func() bool) bool {
	deadline := time.After(d)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// awaits reports whether an alarm was set after the last that rang, or for later.
func awaits(list []entry) bool {
	var at int64
	for _, e := range list {
		switch {
		case e.Kind == "arm":
			at = e.At
		case e.Kind == "ring" && e.At >= at:
			at = 0
		}
	}
	return at != 0
}

// check holds the logs against what was acknowledged. No object may have changed its
// version more often than changes, unless that is negative.
func (c *chaos) check(t *testing.T, changes int) {
	t.Helper()
	writes, moves := 0, 0
	for name, list := range c.logs(t) {
		there := map[string]entry{}
		ended := map[string]bool{} // lives
		changed := 0
		for i, e := range list {
			if e.N != i+1 {
				t.Errorf("object %s: write %d came after %d others", name, e.N, i)
			}
			if _, twice := there[e.Token]; twice && e.Token != "" {
				t.Errorf("object %s: %+v was there before", name, e)
			}
			there[e.Token] = e
			if i == 0 {
				continue
			}
			before := list[i-1]
			if before.Version != e.Version {
				changed++
			}
			switch {
			case before.Life != e.Life:
				ended[before.Life] = true
			case e.Seq <= before.Seq:
				t.Errorf("object %s: %+v came after %+v", name, e, before)
			}
			if ended[e.Life] {
				t.Errorf("object %s: %+v is of a life that had ended: two wrote at once", name, e)
			}
		}
		if changes >= 0 && changed > changes {
			t.Errorf("object %s changed its version %d times", name, changed)
		}
		for token, e := range c.acked[name] {
			if got, ok := there[token]; !ok || got.N != e.N || got.Version != e.Version {
				t.Errorf("object %s acknowledged %+v, its log has %+v", name, e, got)
			}
		}
		writes, moves = writes+len(c.acked[name]), moves+changed
	}
	t.Logf("%d acknowledged writes, %d moves", writes, moves)
	if writes == 0 {
		t.Error("nothing was acknowledged")
	}
}

// pass is a while in which the load goes on.
func pass(rng *rand.Rand, most time.Duration) {
	<-time.After(time.Duration(rng.Int64N(int64(most))))
}

// Deployments that follow each other faster than the moves end lose nothing, and no
// call fails.
func TestFastDeploymentsFailNoCall(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 40)
	for range rounds(t, 10) {
		stop := c.load(t, rng, 4, 4)
		for range 1 + rng.IntN(8) {
			c.ramp(rng.IntN(101))
			pass(rng, 100*time.Millisecond)
		}
		stop()
		c.quiet(t)
		if rng.IntN(3) == 0 {
			c.next()
		}
	}
	c.check(t, -1)
}

// Processes die in the middle of moves.
func TestKilledVersionsLoseNothing(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 40)
	c.tolerant.Store(true)
	for range rounds(t, 10) {
		stop := c.load(t, rng, 4, 4)
		c.ramp(rng.IntN(101))
		pass(rng, 300*time.Millisecond)
		c.kill(t, rng.IntN(2))
		pass(rng, 500*time.Millisecond)
		stop()
		c.quiet(t)
		c.next() // one whose processes died often is not started again at once
	}
	c.check(t, -1)
}

// The alarm of an object is read when it moves. One that a message set right after
// that was deleted with it, and never rang.
func TestAlarmsThatMessagesSetDuringMovesRing(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 8)
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	for i := range c.objects {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		tasks.Go(func() {
			for ctx.Err() == nil {
				c.talk(ctx, t, own, strconv.Itoa(i), "arm")
				c.rung(t, strconv.Itoa(i))
			}
		})
	}
	for range rounds(t, 3) {
		for _, share := range []int{100, 0} {
			c.ramp(share)
			pass(rng, 500*time.Millisecond)
		}
	}
	cancel()
	tasks.Wait()
	c.check(t, -1)
}

// A move that was cut short had noted an alarm. What the object has set since counts:
// to be paid, the note made the alarm ring before its time, and then never.
func TestNotedAlarmsDoNotReplaceLaterOnes(t *testing.T) {
	c := newChaos(t, 1)
	c.callVia(t, c.backend(0), "arm", "0", 1500)
	n, name := c.only(t)
	if err := n.owe(&object{objectName: name}, time.Now().Add(-time.Hour).UnixMilli()); err != nil {
		t.Fatal(err)
	}
	pass := &tidying{namespace: n}
	if pass.payAll(); pass.missed > 0 {
		t.Fatalf("an alarm was not paid: %v", pass.failed)
	}
	for _, list := range c.logs(t) {
		if len(list) != 2 {
			t.Errorf("it wrote %+v", list)
		}
	}
}

// only returns the one object that was called.
func (c *chaos) only(t *testing.T) (*namespace, objectName) {
	t.Helper()
	n := c.workers.homes.namespaces[counterID]
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.objects {
		return n, o.objectName
	}
	t.Fatal("nobody may call an object")
	return nil, objectName{}
}

// An object that does not answer in time stays, and can be called as before, also when
// it has slept since.
func TestObjectsThatDoNotAnswerStay(t *testing.T) {
	if os.Getenv(longRounds) == "" {
		t.Skip("it takes half a minute; " + longRounds + " is not set")
	}
	c := newChaos(t, 1)
	c.callVia(t, c.backend(0), "block", "0", 13_000)
	n, name := c.only(t)
	o, err := n.take(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	err = n.move(t.Context(), o, c.pair[1])
	n.giveBack(o)
	if err == nil {
		t.Error("it moved")
	}
	c.callVia(t, c.backend(1), "add", "0", 0)
	<-time.After(13 * time.Second) // the runtime lets it sleep after ten
	c.callVia(t, c.backend(1), "add", "0", 0)
	c.check(t, 0)
}
