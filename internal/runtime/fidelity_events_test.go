package runtime

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// told calls an object in all ways in which it can be invoked.
const told = `import { DurableObject, RpcTarget } from "cloudflare:workers";
class Target extends RpcTarget { next() { console.log("target"); return 1; } }
export class Counter extends DurableObject {
	constructor(ctx, env) {
		super(ctx, env);
		if (ctx.id.name === "/broken") throw new Error("no start");
	}
	ok(x) { console.log("ok", x); return x; }
	get prop() { console.info("prop"); return "value"; }
	fail() { console.warn("about to"); throw Object.assign(new RangeError("failed"), { code: 1 }); }
	target() { return new Target(); }
	call(f) { return f(2); }
	background() { this.ctx.waitUntil(Promise.reject(new TypeError("late"))); return "now"; }
	next() { return this.env.COUNTER.getByName("/next").ok("from another"); }
	abort() { this.ctx.abort(new Error("aborted")); }
	async alarm() {
		console.log("alarm");
		await this.ctx.storage.put("rang", true);
	}
	async later() { await this.ctx.storage.setAlarm(Date.now() + 30); return "set"; }
	mark() {}
	async rang() { return (await this.ctx.storage.get("rang")) ?? "not yet"; }
	async closed() { return (await this.ctx.storage.get("closed")) ?? "not yet"; }
	fetch(request) {
		const { pathname } = new URL(request.url);
		console.log("fetch", pathname);
		if (pathname === "/fetch-fails") throw new TypeError("failed");
		if (pathname !== "/socket") return new Response("body", { status: pathname === "/teapot" ? 418 : 200, headers: { "x-a": "b" } });
		const [client, server] = Object.values(new WebSocketPair());
		this.ctx.acceptWebSocket(server);
		return new Response(null, { status: 101, webSocket: client });
	}
	webSocketMessage(socket, message) { console.log("message", message); socket.send("got it"); }
	async webSocketClose(socket, code) { console.log("close", code); await this.ctx.storage.put("closed", true); socket.close(code); }
}
const ways = {
	"/ok": (stub) => stub.ok("x"),
	"/prop": (stub) => stub.prop,
	"/fail": (stub) => stub.fail(),
	"/missing": (stub) => stub.missing(),
	"/target": (stub) => stub.target().next(),
	"/call": (stub) => stub.call((x) => { console.log("called back"); return x; }),
	"/background": (stub) => stub.background(),
	"/next-to": (stub) => stub.next(),
	"/abort": (stub) => stub.abort(),
	"/broken": (stub) => stub.ok("y"),
	"/later": (stub) => stub.later(),
	"/fetch": async (stub, request) => (await stub.fetch(request)).text(),
	"/teapot": async (stub) => (await stub.fetch("http://x/teapot", { method: "POST", body: "b" })).text(),
	"/fetch-fails": async (stub) => (await stub.fetch("http://x/fetch-fails")).text(),
	"/socket": async (stub) => {
		const { webSocket } = await stub.fetch("http://x/socket", { headers: { upgrade: "websocket" } });
		webSocket.accept();
		const heard = (type) => new Promise((done) => webSocket.addEventListener(type, done, { once: true }));
		const answer = heard("message");
		webSocket.send("hello");
		await answer;
		const closed = heard("close");
		webSocket.close(4000, "done");
		await closed;
		return "closed";
	},
};
export default { async fetch(request, env) {
	const { pathname, searchParams } = new URL(request.url);
	const stub = env.COUNTER.getByName(searchParams.get("name") ?? pathname);
	try {
		const answer = await (ways[pathname] ? ways[pathname](stub, request) : stub[pathname.slice(1)]());
		return new Response(String(answer));
	} catch (e) { return new Response("threw " + e.message); }
} }`

var toldPaths = []string{"/ok", "/prop", "/fail", "/missing", "/target", "/call", "/background", "/next-to", "/abort", "/broken",
	"/fetch", "/teapot", "/fetch-fails", "/later", "/socket"}

var linesOfStack = regexp.MustCompile(`:\d+:\d+`)

// brief is what is compared of an invocation.
func brief(inv *schema.Invocation) string {
	event, logs := string(inv.Event), inv.Logs
	if inv.EventType == "alarm" {
		// A time; and the runtime loses the logs of some alarms.
		event, logs = "", nil
	}
	s := fmt.Sprintf("%s %s %s %s %s object=%t", inv.EventType, inv.Entrypoint, inv.ExecutionModel, inv.Outcome, event, inv.DurableObjectID != "")
	for _, l := range logs {
		s += fmt.Sprintf("\n\t%s %s", l.Level, l.Message)
	}
	for _, e := range inv.Exceptions {
		s += fmt.Sprintf("\n\t%s %s %s", e.Name, e.Message, linesOfStack.ReplaceAllString(e.Stack, ""))
	}
	return s
}

// toldBy goes all ways and returns what is told of them, sorted. What this test asks
// besides is left out; after the last of that nothing else is to come.
func toldBy(t *testing.T, rt http.RoundTripper, next func() *schema.Invocation) []string {
	t.Helper()
	for _, path := range toldPaths {
		mustGet(t, rt, path)
	}
	until(t, "the alarm", func() bool { return mustGet(t, rt, "/rang?name=/later") == "true" })
	until(t, "the close", func() bool { return mustGet(t, rt, "/closed?name=/socket") == "true" })
	mustGet(t, rt, "/mark")
	var list []string
	for marks := 0; marks < 2; {
		s := brief(next())
		switch {
		case strings.Contains(s, "mark"):
			marks++ // of the caller, and of the object
		case !strings.Contains(s, "rang") && !strings.Contains(s, "closed"):
			list = append(list, s)
		}
	}
	slices.Sort(list)
	return list
}

// toldNatively starts workerd with the Worker and our tail Worker alone.
func toldNatively(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	ln, err := net.Listen("unix", filepath.Join(dir, "sink"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan schema.Invocation, 1000)
	handler := &sink{deliver: func(_ string, inv schema.Invocation) { all <- inv }, log: slog.New(slog.DiscardHandler),
		dropped: func(n int, reason string) { t.Errorf("%d dropped: %s", n, reason) }}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: callerPatience}
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(ln) }()

	w := &capnpWriter{}
	w.line(`using Workerd = import "/workerd/workerd.capnp";`)
	w.line(`const config :Workerd.Config = (services = [(name = "user", worker = (modules = [(name = "index.js", esModule = %s)],`, quote(told))
	w.line(`  compatibilityDate = %s, bindings = [(name = "COUNTER", durableObjectNamespace = "Counter")], tails = ["router"],`, quote(routerDate))
	w.line(`  durableObjectNamespaces = [(className = "Counter", uniqueKey = %s, enableSql = true)], durableObjectStorage = (localDisk = "disk"))),`, quote(counterID))
	w.line(`  (name = "disk", disk = (path = %s, writable = true)),`, quote(dir))
	w.line(`  (name = "router", worker = (modules = [(name = "router", esModule = %s)], compatibilityDate = %s, bindings = [(name = "SINK", service = "sink")])),`, quote(routerModule), quote(routerDate))
	w.line(`  (name = "sink", external = (address = %s, http = ()))],`, quote("unix:"+filepath.Join(dir, "sink")))
	socket := filepath.Join(dir, "u")
	w.line(`  sockets = [(name = "user", address = %s, http = (forwardedProtoHeader = %s), service = "user")]);`, quote("unix:"+socket), quote(protoHeader))
	rt, _ := startBare(t, dir, w.String(), socket)
	return toldBy(t, rt, func() *schema.Invocation { return within(t, all) })
}

func within(t *testing.T, all chan schema.Invocation) *schema.Invocation {
	t.Helper()
	select {
	case inv := <-all:
		return &inv
	case <-time.After(time.Minute):
		t.Fatal("an invocation was not told")
		return nil
	}
}

// What is told of objects is what would be told without proxies: one invocation for
// each of the user's code, under the name of its class, with its logs and exceptions.
func TestObjectsAreToldLikeNativeOnes(t *testing.T) {
	want := toldNatively(t)
	if len(want) < 2*len(toldPaths) {
		t.Fatalf("only %d were told: %s", len(want), strings.Join(want, "\n"))
	}
	for place, second := range map[string]int{"own process": 0, "other process": 100} {
		t.Run(place, func(t *testing.T) {
			r := newRig(t, withObjectsHere)
			for _, id := range []string{v1, v2} {
				r.add(id, told, func(b *deploy.Bundle) {
					withCounter(b)
					b.Worker.Bindings = b.Worker.Bindings[:1]
				})
			}
			_, all := r.split(100-second, second)
			got := toldBy(t, all[v1], r.nextInvocation)
			left := slices.Clone(got)
			for _, w := range want {
				if i := slices.Index(left, w); i >= 0 {
					left = slices.Delete(left, i, i+1)
				} else {
					t.Errorf("not told: %s", w)
				}
			}
			for _, s := range left {
				t.Errorf("told besides: %s", s)
			}
		})
	}
}
