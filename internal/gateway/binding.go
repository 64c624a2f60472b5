package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"tidegate/internal/deploy"
)

// Bounds of calls from Worker to Worker. A Worker may call itself through another
// one, and each call waits for the one below it.
const (
	bindingCallsMax = 1000 // of one account at once
	// rpcSessionsMax is for an account, too. A session is no call: each process has one
	// for each of its bindings that it has called by RPC, and keeps it.
	rpcSessionsMax = 4000
	// bindingDepthMax is Cloudflare's limit of invocations that one request may
	// cause through service bindings. A chain is known as long as its Workers pass
	// the headers on; bindingCallsMax ends the others.
	bindingDepthMax = 32
)

// Reasons why a call from Worker to Worker is refused.
const (
	bindingTooMany       = "too_many"
	bindingTooDeep       = "too_deep"
	bindingUnknownCaller = "unknown_caller"
	bindingBadTarget     = "bad_target"
	bindingUnknownScript = "unknown_script"
	bindingNoEntrypoint  = "no_entrypoint"
	bindingNotStarted    = "not_started"
	bindingDialFailed    = "dial_failed"
)

var bindingReasons = []string{
	bindingTooMany, bindingTooDeep, bindingUnknownCaller, bindingBadTarget, bindingUnknownScript,
	bindingNoEntrypoint, bindingNotStarted, bindingDialFailed,
}

// namedEntrypoints is a backend that has entry points besides the default one.
type namedEntrypoints interface {
	// Entrypoint returns the way to one of them; that there is none may show at the request.
	Entrypoint(name string) http.RoundTripper
	// DialRPC opens a session of Workers RPC with one, "" being the default one. The
	// protocol's own bytes follow.
	DialRPC(ctx context.Context, entrypoint string) (net.Conn, error)
}

// BindingHandler returns the handler of calls through service bindings, for a
// socket that only the runtime reaches. A call is a request of its own: the
// callee's version is picked by its own split, override and key, and the call is an
// event, except for RPC, of which the runtime tells.
func (g *Gateway) BindingHandler() http.Handler { return http.HandlerFunc(g.serveBinding) }

func (g *Gateway) serveBinding(w http.ResponseWriter, r *http.Request) {
	received := time.Now()
	g.metrics.bindingCalls.Add(1)
	defer g.metrics.bindingCalls.Add(-1)
	caller, call, ok := g.callerOf(r)
	if !ok {
		g.refuseCall(w, bindingUnknownCaller, http.StatusForbidden, "This call comes from no Worker of this gateway.")
		return
	}
	under := &g.calls
	if r.Method == http.MethodConnect {
		under = &g.rpcSessions
	}
	if !under.enter(caller.AccountID) {
		w.Header()["Retry-After"] = []string{"1"}
		g.refuseCall(w, bindingTooMany, http.StatusServiceUnavailable, "Too many calls between Workers of this account are under way.")
		return
	}
	defer under.leave(caller.AccountID)
	if g.passed(r.Header[headerLoop]) > bindingDepthMax {
		g.refuseCall(w, bindingTooDeep, http.StatusServiceUnavailable, fmt.Sprintf("This request has caused %d calls between Workers, one below the other.", bindingDepthMax))
		return
	}
	sc := g.table.Load().script(scriptKey{caller.AccountID, call.Script})
	if sc == nil || len(sc.Splits) == 0 {
		g.refuseCall(w, bindingUnknownScript, http.StatusNotFound, "The script "+call.Script+" of this service binding does not exist or has no deployment.")
		return
	}
	target, _ := rawTarget(r) // an RPC session has none
	choice, late := g.pick(r.Context(), sc, callFacts(ask(r), sc, target, callerClient(r).ip))
	if r.Method == http.MethodConnect {
		g.openRPC(w, r, choice, call.Entrypoint, late)
		return
	}
	g.callWorker(w, r, caller, choice, call.Entrypoint, late, received)
}

// accountLimit bounds what is under way for each account, so that a Worker that
// calls itself for ever takes nothing from another account's. Its methods may be
// called concurrently.
type accountLimit struct {
	max int

	mu       sync.Mutex
	underWay map[string]int
}

// enter reports false, and counts nothing, at the limit.
func (l *accountLimit) enter(account string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.underWay[account] >= l.max {
		return false
	}
	if l.underWay == nil {
		l.underWay = map[string]int{}
	}
	l.underWay[account]++
	return true
}

func (l *accountLimit) leave(account string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.underWay[account]--; l.underWay[account] == 0 {
		delete(l.underWay, account)
	}
}

// callerOf returns who calls, and what. The runtime says so in a header that it
// sets itself, or in the host of a CONNECT, to which it adds no header.
func (g *Gateway) callerOf(r *http.Request) (deploy.Caller, deploy.ServiceCall, bool) {
	if g.deps.Workers == nil {
		return deploy.Caller{}, deploy.ServiceCall{}, false
	}
	var call deploy.ServiceCall
	var err error
	if values := r.Header[headerBinding]; r.Method == http.MethodConnect {
		call, err = deploy.ParseRPCHost(r.Host)
	} else if len(values) == 1 {
		call, err = deploy.ParseBinding(values[0])
	}
	if err != nil || call.Nonce == "" {
		return deploy.Caller{}, deploy.ServiceCall{}, false
	}
	caller, ok := g.deps.Workers.Caller(call.Nonce)
	if call.Entrypoint == "default" {
		call.Entrypoint = ""
	}
	return caller, call, ok
}

// refuseCall answers a call that reaches no version.
func (g *Gateway) refuseCall(w http.ResponseWriter, reason string, status int, sentence string) {
	g.metrics.bindingRefused[index(bindingReasons, reason)].Add(1)
	answer(w, status, sentence)
}

// callWorker passes a call on and emits its event.
func (g *Gateway) callWorker(w http.ResponseWriter, r *http.Request, caller deploy.Caller, choice picked, entrypoint string, late error, received time.Time) {
	target, ok := rawTarget(r)
	if !ok {
		g.refuseCall(w, bindingBadTarget, http.StatusBadRequest, "The request names no path.")
		return
	}
	backend := choice.version.backend
	if entrypoint != "" {
		named, ok := backend.(namedEntrypoints)
		if !ok {
			g.refuseCall(w, bindingNoEntrypoint, http.StatusNotFound, noEntrypoint(choice, entrypoint))
			return
		}
		backend = named.Entrypoint(entrypoint)
	}
	x := exchange{picked: choice, entrypoint: entrypoint, backend: backend, internal: true, caller: caller, ray: newRay(received), client: callerClient(r), received: received}
	w.Header()["Cf-Ray"] = []string{x.ray}
	g.serve(w, r, target, &x, late)
}

func noEntrypoint(p picked, name string) string {
	return fmt.Sprintf("Version %s of the script %s has no entry point %q.", p.version.ID, p.script.Name, name)
}

// callerClient is the client of a call: whom the calling Worker says, since it had
// it from the gateway and answers for it now.
func callerClient(r *http.Request) client {
	c := client{vouched: true, ip: r.Header.Get("Cf-Connecting-Ip"), scheme: "https", host: r.Host}
	if proto := strings.ToLower(r.Header.Get("X-Forwarded-Proto")); proto == "http" {
		c.scheme = proto
	}
	return c
}

// callHeader returns the header of a call for the callee: the caller's own, with a
// ray of its own, so that the two events are told apart.
func (g *Gateway) callHeader(r *http.Request, x *exchange) http.Header {
	h := make(http.Header, len(r.Header)+2)
	g.passOn(h, r, x)
	delete(h, headerBinding)
	h["Cf-Ray"] = []string{x.ray}
	return h
}

// openRPC joins a caller's RPC session with the picked version's process.
func (g *Gateway) openRPC(w http.ResponseWriter, r *http.Request, choice picked, entrypoint string, late error) {
	if late != nil {
		w.Header()["Retry-After"] = []string{"1"}
		g.refuseCall(w, bindingNotStarted, http.StatusServiceUnavailable, "The script "+choice.script.Name+" is starting.")
		return
	}
	named, ok := choice.version.backend.(namedEntrypoints)
	if !ok {
		g.refuseCall(w, bindingNoEntrypoint, http.StatusNotFound, noEntrypoint(choice, entrypoint))
		return
	}
	callee, err := named.DialRPC(r.Context(), entrypoint)
	if err != nil {
		g.complain.Do(func() {
			g.log.Warn("RPC session not opened", "script", choice.script.Name, "version_id", choice.version.ID, "entrypoint", entrypoint, "error", err)
		})
		g.refuseCall(w, bindingDialFailed, http.StatusBadGateway, "The script "+choice.script.Name+" could not be reached.")
		return
	}
	caller, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = callee.Close() // the caller is gone, or speaks a protocol without tunnels
		g.refuseCall(w, bindingBadTarget, http.StatusBadRequest, "This connection cannot become an RPC session.")
		return
	}
	g.upgrades.Add(1)
	defer g.upgrades.Done()
	if _, err := io.WriteString(caller, "HTTP/1.1 200 OK\r\n\r\n"); err == nil {
		g.metrics.rpcSessions.Add(1)
		ctx, cut := context.WithCancel(g.ending)
		session := &rpcSession{cut: cut}
		var watch sync.WaitGroup
		watch.Go(func() { g.retireWithDeployment(ctx, session, choice.script) })
		joinConns(ctx, caller, io.TeeReader(buffered.Reader, &rpcReader{session: session}),
			tunnel{io.TeeReader(callee, &rpcReader{session: session}), callee})
		cut()
		watch.Wait()
	}
	_ = caller.Close() // one of the two has ended, and so has the session
	_ = callee.Close()
}
