package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

// callerPatience is how long servers of these tests wait for a header. The runtime may open a
// connection and be busy with other code for seconds before it writes.
const callerPatience = time.Minute

// joinBindings is what the gateway does at its bindings socket: it finds the caller
// and the callee by the header, and passes on requests and RPC sessions.
func joinBindings(t *testing.T, ln net.Listener, b func() *Backends, callee func() worker) {
	type callable interface {
		Entrypoint(name string) http.RoundTripper
		DialRPC(ctx context.Context, name string) (net.Conn, error)
	}
	find := func(r *http.Request) (callable, deploy.ServiceCall, error) {
		var call deploy.ServiceCall
		var err error
		if r.Method == http.MethodConnect {
			call, err = deploy.ParseRPCHost(r.Host)
		} else {
			call, err = deploy.ParseBinding(r.Header.Get(deploy.BindingHeader))
		}
		if err != nil {
			return nil, call, err
		}
		caller, ok := b().Caller(call.Nonce)
		if !ok || caller != (deploy.Caller{AccountID: testAccount, Script: "shop", VersionID: v1}) || call.Script != "callee" {
			return nil, call, fmt.Errorf("call %+v of caller %+v", call, caller)
		}
		return callee().(callable), call, nil
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target, call, err := find(r)
		if err != nil {
			t.Error(err)
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		if r.Method != http.MethodConnect {
			resp, err := target.Entrypoint(call.Entrypoint).RoundTrip(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
			return
		}
		there, err := target.DialRPC(r.Context(), call.Entrypoint)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer there.Close()
		w.WriteHeader(http.StatusOK)
		here, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		if err := buf.Flush(); err != nil {
			t.Error(err)
			return
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(there, buf)
			_ = there.(interface{ CloseWrite() error }).CloseWrite()
		}()
		_, _ = io.Copy(here, there)
		_ = here.Close()
		<-done
	})
	s := &http.Server{Handler: handler, ReadHeaderTimeout: callerPatience}
	t.Cleanup(func() { _ = s.Close() })
	go func() { _ = s.Serve(ln) }()
}

func TestServiceBindings(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bindings")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(c *Config) { c.Workers.BindingsSocket = socket })
	r.add(v1, `export default { async fetch(request, env) {
		const mine = {headers: {"tidegate-binding": "forged"}};
		return Response.json([await (await env.PLAIN.fetch("http://x/a", mine)).text(), await (await env.ADMIN.fetch("https://y/b")).text(),
			await env.ADMIN.add(1, 2), await env.PLAIN.hello("you")]);
	} }`, func(b *deploy.Bundle) {
		b.Worker.Bindings = []deploy.Binding{
			{Name: "ADMIN", Type: deploy.BindingService, Service: "callee", Entrypoint: "Ädmin"},
			{Name: "PLAIN", Type: deploy.BindingService, Service: "callee"},
		}
	})
	r.add(v2, `import {WorkerEntrypoint} from "cloudflare:workers";
		export default class extends WorkerEntrypoint { fetch(request) { return new Response("default " + request.url) } hello(name) { return "hello " + name } }
		export class Ädmin extends WorkerEntrypoint { fetch(request) { return new Response("admin " + request.url) } add(a, b) { console.log("adding"); return a + b } }`,
		func(b *deploy.Bundle) {
			b.Worker.Exports.Named = []deploy.NamedExport{{Name: "Ädmin", Kind: deploy.ExportEntrypoint, Handlers: []string{"fetch", "add"}}}
		})
	w := r.deploy(v1, v2)
	joinBindings(t, ln, func() *Backends { return r.Backends }, func() worker { return w[v2] })
	if got, want := mustGet(t, w[v1], "/"), `["default http://x/a","admin https://y/b",3,"hello you"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	inv := r.next(func(e event) bool { return e.inv != nil && len(e.inv.Logs) > 0 }).inv
	if inv.EventType != "worker_rpc" || inv.Entrypoint != "Ädmin" || string(inv.Event) != `{"rpcMethod":"add"}` || inv.Logs[0].Level != "log" {
		t.Errorf("invocation %+v, event %s", inv, inv.Event)
	}
}

func TestNoSuchEntrypoint(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	v := r.deploy(v1)[v1].(*version)
	resp, err := v.Entrypoint("Admin").RoundTrip(request(t, "GET", "/", ""))
	wantKind(t, resp, err, schema.ErrorKindProtocol)
	if c, err := v.DialRPC(t.Context(), "Admin"); err == nil {
		t.Error(c.Close(), "there is an RPC session with an entry point that is not exported")
	}
}

// An open RPC session keeps its process, which ends once it is closed.
func TestRPCSessionKeepsTheProcess(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.IdleStop = time.Millisecond; c.Workers.WarmFor = time.Millisecond })
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	v := r.deploy(v1)[v1].(*version)
	c, err := v.DialRPC(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	in := v.current.Load()
	r.Update(r.snapshot())
	if in.busy.Load() != 1 || v.stopIdle(in) {
		t.Errorf("a process with an open session may stop")
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	r.nextEnd(v1)
}

func TestScheduled(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `export default { async scheduled(c) { console.log(c.cron, c.scheduledTime); if (c.cron === "0 0 * * *") throw new Error("no") } }`, nil)
	r.deploy(v1)
	at := time.UnixMilli(1_795_000_000_123)
	f := func(cron, want string) {
		t.Helper()
		outcome, err := r.Scheduled(t.Context(), v1, cron, at)
		if err != nil || outcome != want {
			t.Errorf("got %q, %v; want %q", outcome, err, want)
		}
		inv := r.nextInvocation()
		if inv.EventType != "scheduled" || inv.Outcome != want || inv.RayID != "" || len(inv.Logs) != 1 ||
			string(inv.Event) != fmt.Sprintf(`{"Cron":%q,"ScheduledTimeMs":1795000000123}`, cron) {
			t.Errorf("invocation %+v, event %s", inv, inv.Event)
		}
	}
	f("*/5 * * * *", schema.OutcomeOK)
	f("0 0 * * *", schema.OutcomeException)
	if _, err := r.Scheduled(t.Context(), v2, "* * * * *", at); errs.KindOf(err) != errs.NotFound {
		t.Errorf("got %v", err)
	}
}

// A Worker reaches no address of the machine that it runs on, unless the operator
// says so.
func TestPrivateNetwork(t *testing.T) {
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: callerPatience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "inside") })}
	t.Cleanup(func() { _ = s.Close() })
	go func() { _ = s.Serve(ln) }()
	f := func(allow bool, want string) {
		t.Helper()
		r := newRig(t, func(c *Config) { c.Workers.AllowPrivateNetwork = allow })
		r.add(v1, fmt.Sprintf(`export default { async fetch() {
			try { return new Response(await (await fetch("http://%s/")).text()) } catch (e) { return new Response("refused") } } }`, ln.Addr()), nil)
		if got := mustGet(t, r.deploy(v1)[v1], "/"); got != want {
			t.Errorf("allowed %v: got %q, want %q", allow, got, want)
		}
	}
	f(false, "refused")
	f(true, "inside")
}

// A WebSocket passes, and its process stays while it is open.
func TestWebSocket(t *testing.T) {
	r := newRig(t, nil)
	r.add(v1, `export default { fetch() {
		const [client, server] = Object.values(new WebSocketPair());
		server.accept();
		server.addEventListener("message", (e) => server.send("echo " + e.data));
		return new Response(null, {status: 101, webSocket: client});
	} }`, nil)
	w := r.deploy(v1)[v1]
	req := request(t, "GET", "/", "")
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	resp, err := w.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	defer resp.Body.Close()
	ws := resp.Body.(io.ReadWriteCloser)
	// A text frame of "hi", masked with zeros.
	if _, err := ws.Write([]byte{0x81, 0x82, 0, 0, 0, 0, 'h', 'i'}); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 9)
	if _, err := io.ReadFull(bufio.NewReader(ws), frame); err != nil || string(frame[2:]) != "echo hi" {
		t.Errorf("got %q, %v", frame, err)
	}
	if busy := w.(*version).current.Load().busy.Load(); busy < 1 {
		t.Errorf("%d requests are in hand", busy)
	}
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
}
