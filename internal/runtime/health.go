package runtime

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const (
	// failuresInARow of an endpoint's requests eject it; Envoy's default too.
	failuresInARow = 5
	// probePatience is how long an endpoint waits for a request that can be repeated
	// elsewhere before it is tried with one that cannot.
	probePatience = 5 * time.Second
)

// endpointState is what requests have shown of an endpoint: a circuit breaker.
type endpointState int

const (
	stateIn       endpointState = iota // it takes requests
	stateEjected                       // it gets none for a time
	stateHalfOpen                      // it gets one; which decides
)

func (s endpointState) String() string { return [...]string{"in", "ejected", "half_open"}[s] }

// health is what is known of an endpoint. The plain fields are under upstream.mu.
type health struct {
	failures atomic.Int32 // in a row
	probing  atomic.Bool  // a probe is under way
	since    atomic.Int64 // of stateHalfOpen, in Unix nanoseconds

	state     endpointState
	lastError string        // kind of the failure that ejected it
	outFor    time.Duration // of the last ejection; 0 if there was none lately
	backSince time.Time     // when that was over
	timer     *time.Timer   // ends an ejection; nil before the first one

	down  bool   // the monitor says so
	cause string // why
}

// mayProbe takes the right to probe, if it is free.
func (h *health) mayProbe(repeatable bool) bool {
	if !repeatable && time.Since(time.Unix(0, h.since.Load())) < probePatience {
		return false
	}
	return !h.probing.Load() && h.probing.CompareAndSwap(false, true)
}

// blame returns the kind of an error that is the endpoint's fault, or "". A response with a
// status of 500 or more is none: it is the service's word, and a better endpoint would
// most often say the same. Neither is one that breaks HTTP, for which the request may
// be the cause, nor the leaving of a client.
func blame(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return ""
	}
	switch e.Kind {
	case schema.ErrorKindConnect, schema.ErrorKindDNS, schema.ErrorKindTLS, schema.ErrorKindTimeout, schema.ErrorKindReset:
		return e.Kind
	}
	return ""
}

// learn takes what a request has shown: the kind of its failure, or "" and whether
// it was answered.
func (u *upstream) learn(p pick, kind string, answered bool) {
	switch {
	case kind != "":
		if n := p.failures.Add(1); p.probe || n >= failuresInARow {
			u.eject(p, kind)
		}
	case answered:
		if p.failures.Load() != 0 { // or every answer would write to what all processors read
			p.failures.Store(0)
		}
		if p.trial {
			u.readmit(p.endpoint)
		}
	}
	if p.probe {
		p.probing.Store(false) // of a client that left, too: the next request finds out
	}
}

// eject takes an endpoint out for a while: twice as long each time, unless it was in
// for longer than it was out.
func (u *upstream) eject(p pick, kind string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e, now := p.endpoint, time.Now()
	if u.closed || e.state == stateEjected || e.state == stateHalfOpen && !p.probe {
		return
	}
	if e.state == stateIn && now.Sub(e.backSince) > e.outFor {
		e.outFor = 0
	}
	e.outFor = min(max(2*e.outFor, u.cfg.Ejection), u.cfg.EjectionMax)
	e.state, e.lastError = stateEjected, kind
	// Jitter, or all gateways would be back at once.
	after := e.outFor/2 + rand.N(e.outFor/2+1)
	if e.timer == nil {
		e.timer = time.AfterFunc(after, func() { u.halfOpen(e) })
	} else {
		e.timer.Reset(after)
	}
	u.metrics.ejected(kind)
	u.rebuildLocked()
	if !p.probe {
		u.log.Warn("endpoint is out", "version_id", u.versionID, "endpoint", e.URL, "error_kind", kind, "for", after)
	}
}

// halfOpen ends an ejection: the next request is sent to the endpoint.
func (u *upstream) halfOpen(e *endpoint) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || e.state != stateEjected {
		return
	}
	e.state = stateHalfOpen
	e.since.Store(time.Now().UnixNano())
	u.rebuildLocked()
}

// readmit lets an endpoint in that has answered.
func (u *upstream) readmit(e *endpoint) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || e.state == stateIn {
		return
	}
	e.state, e.backSince = stateIn, time.Now()
	e.timer.Stop()
	u.rebuildLocked()
	u.log.Info("endpoint is back", "version_id", u.versionID, "endpoint", e.URL)
}

// monitored takes the verdict of the monitor; cause is empty for a good one.
func (u *upstream) monitored(e *endpoint, cause string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || e.down == (cause != "") {
		return
	}
	e.down, e.cause = cause != "", cause
	u.rebuildLocked()
	if e.down {
		u.log.Warn("endpoint is down, says its monitor", "version_id", u.versionID, "endpoint", e.URL, "cause", cause)
	} else {
		u.log.Info("endpoint is up, says its monitor", "version_id", u.versionID, "endpoint", e.URL)
	}
}

// rebuildLocked puts what is known in force.
func (u *upstream) rebuildLocked() {
	u.pool.Store(newPool(u.endpoints))
	state := deploy.BackendState{Phase: deploy.BackendReady, Error: u.describeLocked()}
	if before := u.state.Swap(&state); before != nil && *before != state {
		u.changed()
	}
}

// describeLocked says which endpoints are out, and why. It is empty if none is.
func (u *upstream) describeLocked() string {
	var out []string
	for _, e := range u.endpoints {
		switch {
		case e.down:
			out = append(out, fmt.Sprintf("%s (monitor: %s)", e.URL, e.cause))
		case e.state != stateIn:
			out = append(out, fmt.Sprintf("%s (%s)", e.URL, e.lastError))
		}
	}
	if len(out) == 0 {
		return ""
	}
	slices.Sort(out)
	return fmt.Sprintf("%d of %d endpoints are out: %s", len(out), len(u.endpoints), strings.Join(out, ", "))
}

// count adds the endpoints to what those of other versions are.
func (u *upstream) count(n *endpointCount) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.endpoints {
		n.inHand += e.busy.Load()
		if e.down {
			n.by[stateDown]++
		} else {
			n.by[e.state.String()]++
		}
	}
}
