package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const (
	// A process that served for stableAfter is replaced at once. One that ends sooner,
	// or cannot start, waits restartDelay, doubled each time, up to restartDelayMax.
	stableAfter     = 10 * time.Second
	restartDelay    = 250 * time.Millisecond
	restartDelayMax = 30 * time.Second
	// deathNotice is how long a request that broke waits to learn why its process
	// ended: the connection's end is seen before the process's.
	deathNotice = 250 * time.Millisecond
	// lastGrace is for a process whose requests took all of the grace.
	lastGrace = 500 * time.Millisecond
)

// version is one Workers version: the http.RoundTripper of its default entry point,
// and the goroutine that keeps its process. Its methods may be called concurrently.
type version struct {
	deploy.Caller
	set *workers

	current  atomic.Pointer[instance] // that serves; nil while none does
	lastUsed atomic.Int64             // nanoseconds, Unix

	mu            sync.Mutex
	state         deploy.BackendState
	startingSince time.Time                       // the last start
	waiting       chan struct{}                   // closed and replaced when the state changes
	kept          bool                            // the goroutine runs
	wanted        bool                            // a deployment names it
	gone          bool                            // the snapshot does not
	objects       []deploy.DurableObjectNamespace // that it implements, as the snapshot says
	poked         chan struct{}                   // holds one signal at most: wanted has changed
	// warmUntil is when it may stop after it left the deployment.
	warmUntil time.Time
	// retryAt is when the next request may start it, after a start that failed.
	retryAt time.Time
	delay   time.Duration // the last pause before a start; only the goroutine writes it
}

func newVersion(set *workers, c deploy.Caller) *version {
	return &version{
		Caller: c, set: set, waiting: make(chan struct{}), poked: make(chan struct{}, 1),
		state: deploy.BackendState{Phase: deploy.BackendIdle},
	}
}

// State tells whether a request would be served now.
func (v *version) State() deploy.BackendState {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state
}

// startingFor returns how long the version has been starting, 0 if it is not.
func (v *version) startingFor() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.Phase != deploy.BackendStarting {
		return 0
	}
	return time.Since(v.startingSince)
}

// want says whether a deployment names the version, and what it implements.
func (v *version) want(wanted bool, objects []deploy.DurableObjectNamespace) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone, v.objects = false, objects
	v.setWantedLocked(wanted)
	if wanted && !v.kept {
		v.keepLocked()
	}
}

// letGo says that the snapshot no longer names the version. It reports whether the
// version still runs.
func (v *version) letGo() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = true
	v.setWantedLocked(false)
	return v.kept
}

func (v *version) setWantedLocked(wanted bool) {
	if v.wanted && !wanted {
		v.warmUntil = time.Now().Add(v.set.cfg.WarmFor)
	}
	if v.wanted != wanted {
		v.wanted = wanted
		v.poke()
	}
}

// poke has the goroutine look at what has changed.
func (v *version) poke() {
	select {
	case v.poked <- struct{}{}:
	default:
	}
}

// keepLocked starts the goroutine. Once the set is closed none may start.
func (v *version) keepLocked() {
	if len(v.objects) > 0 && v.set.objects == nil {
		v.setStateLocked(deploy.BackendState{Phase: deploy.BackendFailed, Error: errNoObjects})
		return
	}
	if !v.set.goUnlessClosed(v.keep) {
		return
	}
	v.kept = true
	v.setStateLocked(deploy.BackendState{Phase: deploy.BackendStarting})
}

func (v *version) setStateLocked(s deploy.BackendState) {
	if v.state == s {
		return
	}
	if s.Phase == deploy.BackendStarting {
		v.startingSince = time.Now()
	}
	v.state = s
	close(v.waiting)
	v.waiting = make(chan struct{})
	v.set.signal()
}

// keep starts the process, and starts it again when it ends, for as long as somebody
// wants it.
func (v *version) keep() {
	for {
		in, err := v.set.start(v)
		if err != nil {
			if !v.pause(err.Error()) {
				return
			}
			continue
		}
		if !v.serve(in) {
			return
		}
	}
}

// serve gives requests to in until it ends. It reports whether another is wanted.
func (v *version) serve(in *instance) bool {
	began := time.Now()
	v.lastUsed.Store(began.UnixNano())
	v.current.Store(in)
	v.mu.Lock()
	v.setStateLocked(deploy.BackendState{Phase: deploy.BackendReady})
	v.mu.Unlock()
	// A fraction of the shortest time that a stop waits for; not shorter than a
	// second would notice.
	tick := time.NewTicker(max(min(v.set.cfg.IdleStop, v.set.cfg.WarmFor, 10*time.Second)/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-in.proc.done:
			v.current.Store(nil)
			if !v.again(in, time.Since(began)) {
				return false
			}
			v.set.metrics.restarts.Add(context.Background(), 1)
			return true
		case <-v.set.running.Done():
			v.current.Store(nil)
			v.mu.Lock()
			v.idleLocked()
			v.mu.Unlock()
			v.finish(in, v.set.cfg.StopGrace)
			return false
		case <-v.poked:
			if v.outgrown(in) {
				return v.giveUp(in)
			}
		case <-tick.C:
			if v.stopIdle(in) {
				v.finish(in, v.set.cfg.StopGrace)
				return false
			}
		}
	}
}

// again decides what follows the end of a process that nobody asked to end.
func (v *version) again(in *instance, lived time.Duration) bool {
	outcome := in.proc.outcome()
	v.set.log.Warn("a Worker's process ended", "script", v.Script, "version_id", v.VersionID,
		"outcome", outcome, "error", in.proc.err, "lived", lived.String())
	v.set.metrics.kills.Add(context.Background(), 1, metric.WithAttributes(attribute.String("outcome", outcome)))
	// Not here: reading its last invocations must not hold back the next process.
	v.set.tasks.Go(func() { in.close(outcome) })
	switch {
	case lived >= stableAfter:
		v.delay = 0
	case v.delay == 0: // once is chance
		v.delay = restartDelay
	default:
		return v.pause(fmt.Sprintf("its process ended (%s) after %s", outcome, lived.Round(time.Millisecond)))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.wanted {
		v.idleLocked()
		return false
	}
	v.setStateLocked(deploy.BackendState{Phase: deploy.BackendStarting})
	return true
}

// pause waits before the next start. It reports whether there is to be one: of a
// version that no deployment names, the next request makes it.
func (v *version) pause(reason string) bool {
	v.delay = min(max(2*v.delay, restartDelay), restartDelayMax)
	v.mu.Lock()
	v.retryAt = time.Now().Add(v.delay)
	v.setStateLocked(deploy.BackendState{Phase: deploy.BackendFailed, Error: reason})
	v.mu.Unlock()
	v.set.log.Warn("a Worker cannot serve", "script", v.Script, "version_id", v.VersionID, "error", reason, "next_start_in", v.delay.String())
	timer := time.NewTimer(v.delay)
	defer timer.Stop()
	for {
		v.mu.Lock()
		if !v.wanted || v.set.running.Err() != nil {
			v.kept = false
			gone := v.gone
			v.mu.Unlock()
			if gone {
				v.set.forget(v)
			}
			return false
		}
		v.mu.Unlock()
		select {
		case <-timer.C:
			return true
		case <-v.poked:
		case <-v.set.running.Done():
		}
	}
}

// ownObjects lists the namespaces whose storage its process is to have.
func (v *version) ownObjects() []deploy.DurableObjectNamespace {
	v.mu.Lock()
	implemented := v.objects
	v.mu.Unlock()
	return v.set.homes.owned(v.Caller, implemented)
}

// outgrown reports whether the process has the storage of other Durable Objects than
// it should. Of what it should not have any more the objects leave it first.
func (v *version) outgrown(in *instance) bool {
	own := v.ownObjects()
	if slices.Equal(in.objects, own) {
		return false
	}
	return !slices.ContainsFunc(in.objects, func(n deploy.DurableObjectNamespace) bool {
		return !slices.Contains(own, n) && v.set.homes.leaving(v.VersionID, n.ID)
	})
}

// giveUp ends a process that has the storage of other Durable Objects than it should.
// It reports whether another is wanted.
func (v *version) giveUp(in *instance) (again bool) {
	v.current.Store(nil)
	v.mu.Lock()
	if again = v.wanted; again {
		v.setStateLocked(deploy.BackendState{Phase: deploy.BackendStarting})
	} else {
		v.idleLocked()
	}
	v.mu.Unlock()
	v.finish(in, v.set.cfg.StopGrace)
	return again
}

// stopIdle takes in from the requests if it may stop.
func (v *version) stopIdle(in *instance) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	crowded := v.set.places.crowded()
	if v.wanted || in.busy.Load() > 0 || !crowded && v.set.homes.needs(v.VersionID) {
		return false
	}
	now := time.Now()
	idle := now.Sub(time.Unix(0, v.lastUsed.Load())) >= v.set.cfg.IdleStop && !now.Before(v.warmUntil)
	if !idle && !crowded {
		return false
	}
	v.current.Store(nil)
	v.idleLocked()
	return true
}

// idleLocked is the end of the goroutine's work; the next request starts another.
func (v *version) idleLocked() {
	v.kept, v.delay = false, 0
	v.setStateLocked(deploy.BackendState{Phase: deploy.BackendIdle})
	if v.gone {
		v.set.tasks.Go(func() { v.set.forget(v) }) // which locks the set before a version
	}
}

// finish stops a process that takes no more requests.
func (v *version) finish(in *instance, grace time.Duration) {
	deadline := time.Now().Add(grace)
	if v.set.running.Err() != nil && v.set.stopBy.Before(deadline) {
		deadline = v.set.stopBy
	}
	v.set.homes.recallFrom(in, deadline)
	in.drain(time.Until(deadline))
	in.proc.stop(max(time.Until(deadline), lastGrace))
	in.close(in.proc.outcome())
}

// acquire returns the process that serves, starting it if need be, and counts the
// caller as busy in it.
func (v *version) acquire(ctx context.Context) (*instance, error) {
	if in := v.take(ctx); in != nil {
		return in, nil
	}
	timer := time.NewTimer(v.set.cfg.StartWait)
	defer timer.Stop()
	for {
		v.mu.Lock()
		if !v.kept && time.Now().After(v.retryAt) {
			v.keepLocked()
		}
		state, waiting := v.state, v.waiting
		v.mu.Unlock()
		switch state.Phase {
		case deploy.BackendReady:
			if in := v.take(ctx); in != nil {
				return in, nil
			}
		case deploy.BackendFailed:
			return nil, v.notServed(schema.ErrorKindConnect, errors.New(state.Error))
		case deploy.BackendIdle: // nothing was started
			return nil, v.notServed(schema.ErrorKindConnect, errors.New("this router is stopping"))
		}
		select {
		case <-waiting:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, v.notServed(schema.ErrorKindTimeout, fmt.Errorf("it does not serve after %s", v.set.cfg.StartWait))
		}
	}
}

// take counts the caller before it looks again: whoever stops a process takes it
// away first, and then waits for those that count. Whoever watches the request is told
// before that look too: that the process has ended is told after it.
func (v *version) take(ctx context.Context) *instance {
	in := v.current.Load()
	if in == nil {
		return nil
	}
	in.busy.Add(1)
	deploy.RequestSentTo(ctx, in.name())
	if v.current.Load() != in || in.proc.isDone() {
		in.busy.Add(-1)
		return nil
	}
	v.lastUsed.Store(time.Now().UnixNano())
	return in
}

func (v *version) notServed(kind string, err error) error {
	return &Error{kind, "start version " + v.VersionID, err}
}

// RoundTrip sends req to the default entry point, as http1.RoundTrip does. It waits,
// within bounds, for a process that is starting. If the process ended with the
// request in hand, the error also has a method Outcome() string.
func (v *version) RoundTrip(req *http.Request) (*http.Response, error) {
	return v.roundTrip(req, "")
}

func (v *version) roundTrip(req *http.Request, entrypoint string) (*http.Response, error) {
	for first := true; ; first = false {
		in, err := v.acquire(req.Context())
		if err != nil {
			closeBody(req)
			return nil, err
		}
		t := in.entrypoints[entrypoint]
		if t == nil {
			in.busy.Add(-1)
			closeBody(req)
			return nil, v.noEntrypoint(entrypoint)
		}
		ray := req.Header.Get("Cf-Ray")
		in.meter.begin(ray)
		resp, err := t.RoundTrip(req)
		in.meter.failed(req.Context(), ray, err)
		in.busy.Add(-1)
		if first && err != nil && !hasBody(req) && unsent(err) && in.proc.endsWithin(deathNotice) {
			continue // it died between two requests: the next process can have this one
		}
		return resp, err
	}
}

func (v *version) noEntrypoint(name string) error {
	return &Error{schema.ErrorKindProtocol, "call version " + v.VersionID, fmt.Errorf("it exports no entry point %q that can be called", name)}
}

// unsent reports whether err says that there was no connection to send a request on.
func unsent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == schema.ErrorKindConnect
}
