package gateway

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// A Workers version serves some hundred milliseconds after it is first wanted, or
// never. A deployment waits for its versions, so requests meet one that is
// starting only where there was nothing before it: after a start of the gateway,
// after the first deployment of a script, and while its process is started again.
// Then they wait, because an answer that is late by a start is better than an
// error; not for longer than a start may take, and not in any number, because
// each of them holds a connection. So do those for the preview of a version whose process
// does not run, which the first of them starts.
const (
	startWaitMax = 4096 // requests of one account that wait at once; for how long is Config.StartWait

	// changePause joins changes of backends that come close together, and keeps a
	// runtime that has one all the time from taking a core.
	changePause = 5 * time.Millisecond
)

// watchBackends makes a new table of the snapshot in force whenever a backend has
// become able or unable to serve, until ctx ends.
func (g *Gateway) watchBackends(ctx context.Context) {
	for {
		changed := g.deps.Workers.Changed() // before the states are read, so that no change is missed
		g.refresh()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(changePause):
		}
	}
}

// refresh serves the newest snapshot by what its backends can do now.
func (g *Gateway) refresh() {
	g.routing.Lock()
	defer g.routing.Unlock()
	if g.latest != nil {
		g.serveLocked()
	}
}

// serveLocked puts the newest snapshot in the place of the table in force. It
// returns what the snapshot holds that cannot be served.
func (g *Gateway) serveLocked() (warnings []string) {
	before := g.table.Load()
	t, warnings := compile(g.latest, g.cfg.Domain, g.backends, before)
	g.table.Store(t)
	if before != nil {
		close(before.replaced)
	}
	g.deps.Backends.Release(t.inForce)
	return warnings
}

// picked is the version of a request, or of a call from Worker to Worker.
type picked struct {
	script   *script
	version  *version
	decision string
	rule     int    // number of the affinity rule whose key decided; 0 for none
	forward  string // the key that goes on to the version; empty for none beyond the client's own
	cookie   string // the key that the client is to have as a cookie; empty for none
}

// choose picks the version of a script that has a deployment. Whatever decided, a key
// that goes on does so: a callee may have something to decide where this script has not.
func (sc *script) choose(f facts, dice uint64) picked {
	choice := deploy.Pick(sc.draw, f.Facts, dice)
	p := picked{script: sc, version: sc.serving[choice.Index], decision: choice.Reason}
	if choice.Reason == schema.DecisionAffinity {
		p.rule = f.Rule
	}
	if f.forward {
		p.forward = f.Key
	}
	if f.made && (f.forward || p.rule != 0) {
		p.cookie = f.Key
	}
	return p
}

// pick chooses the version of a script that has a deployment, and waits while it
// is starting. Every look at a newer table uses the same dice: waiting does not
// change the odds. The error is ctx's, or errStarting.
func (g *Gateway) pick(ctx context.Context, sc *script, f facts) (picked, error) {
	dice := rand.Uint64()
	p := sc.choose(f, dice)
	if p.version.state.Phase != deploy.BackendStarting {
		return p, nil // fast path
	}
	if !g.enterStart(sc) {
		return p, errStarting
	}
	defer g.leaveStart(sc)
	patience := time.NewTimer(g.cfg.StartWait)
	defer patience.Stop()
	key := scriptKey{sc.AccountID, sc.Name}
	for {
		t := g.table.Load()
		sc := t.script(key)
		if sc == nil || len(sc.Splits) == 0 {
			return p, errStarting // it was deleted meanwhile
		}
		p = sc.choose(f, dice)
		if p.version.state.Phase != deploy.BackendStarting {
			return p, nil
		}
		select {
		case <-t.replaced:
		case <-patience.C:
			return p, errStarting
		case <-g.ending.Done():
			return p, errStarting
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
}

// enterStart takes a place for a request that waits for a start, if the account has one left.
func (g *Gateway) enterStart(sc *script) bool {
	if !g.starts.enter(sc.AccountID) {
		return false
	}
	g.metrics.startWaiting.Add(1)
	return true
}

func (g *Gateway) leaveStart(sc *script) {
	g.metrics.startWaiting.Add(-1)
	g.starts.leave(sc.AccountID)
}

// startsFirst reports whether a request for the version waits until its process has started.
func (v *version) startsFirst() bool {
	return v.Worker != nil && (v.state.Phase == deploy.BackendIdle || v.state.Phase == deploy.BackendStarting)
}

// roundTrip asks the version's backend. It gives back the place of enterStart if x has one.
func (g *Gateway) roundTrip(out *http.Request, x *exchange) (*http.Response, error) {
	if x.starts {
		defer g.leaveStart(x.script)
	}
	return x.backend.RoundTrip(out)
}

// notStarted answers a request whose version did not start in time. It is an
// event, and a failure: the version had its share of the traffic and did not
// serve it.
func (g *Gateway) notStarted(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	if r.Context().Err() != nil {
		x.outcome, x.abort = schema.OutcomeCanceled, true
		return
	}
	x.outcome, x.errorKind, x.status = schema.OutcomeInternalError, schema.ErrorKindConnect, http.StatusServiceUnavailable
	w.Header()["Retry-After"] = []string{"1"}
	g.show(w.Header(), x)
	hurryBody(w)
	answer(w, x.status, "The service behind this gateway is starting. Try again in a moment.")
	g.blame(x, err)
}
