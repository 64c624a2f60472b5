// Package runtime is the way from the gateway to the versions: one
// http.RoundTripper per version, opened when a snapshot names the version and
// closed when no snapshot does any more.
//
// A backend takes the request as the gateway wants it sent: RequestURI holds the
// raw target ("/path?query") and Host the Host header; where to connect is the
// backend's own knowledge, so URL is not read. Errors carry their kind through
// a method ErrorKind() string, with one of the Kind constants.
package runtime

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

// Config is how backends are reached. All durations must be positive, unless they say otherwise.
type Config struct {
	DialTimeout           time.Duration // name look-up, TCP and TLS, each
	ResponseHeaderTimeout time.Duration // from the request's last byte to the response's header
	BetweenBytesTimeout   time.Duration // how long the next piece of a response's body may take while it is read; 0 is no bound
	ContinueTimeout       time.Duration // how long a 100 Continue is waited for before the body is sent anyway
	IdleTimeout           time.Duration // an unused connection is closed after it
	IdleConnsMax          int           // unused connections kept per endpoint; more are closed
	// UnackedTimeout is how long the TCP of an HTTP/2 origin may acknowledge nothing of what it was sent, or
	// have no room for it, before the connection is given up with all of its streams. It is in whole
	// milliseconds, and held on Linux. Pings of HTTP/2 would do so elsewhere; servers of gRPC end connections on which they
	// come more often than every 5 minutes.
	UnackedTimeout time.Duration
	// Ejection is how long an endpoint is out after it has failed several requests in a row;
	// twice as long when it fails again soon, up to EjectionMax. Up to half of it is taken
	// off by chance.
	Ejection, EjectionMax time.Duration
	// OriginHost sends the origin's own name as Host. Without it the backend sees
	// the name that the client asked for, as behind Cloudflare.
	OriginHost bool
	// TLS is the base of the TLS configuration for https origins; nil trusts the
	// system's roots.
	TLS *tls.Config
	// Origins is where they may be.
	Origins OriginAddresses

	// Workers is how versions that are Workers run; nil answers for them with an error.
	Workers *WorkerConfig
	Bundles Bundles // where their code comes from
	// Invocations is given what has ended in a Worker's process, soon after; it may be
	// called concurrently and must not wait. nil ignores it.
	Invocations func(versionID string, inv schema.Invocation)
	// Ended is told when a process that served has ended and its last invocations were
	// given to Invocations: outcome is what became of what it still had in hand, or ""
	// if it finished that. Requests that were sent to it are those whose
	// deploy.RequestWatcher was told of it last. It may be called concurrently. nil
	// ignores it.
	Ended func(p deploy.Process, outcome string)

	patrol   *patrol        // of the connections of all versions; New sets it
	metrics  *originMetrics // of origins; New sets it, and Workers have none
	failover bool           // of the backend that this is for: there is another endpoint
}

// DefaultConfig returns the limits of a gateway in front of HTTP services.
func DefaultConfig() Config {
	return Config{
		DialTimeout:           5 * time.Second,
		ResponseHeaderTimeout: time.Minute,      // nginx's default too
		ContinueTimeout:       time.Second,      // as net/http
		IdleTimeout:           50 * time.Second, // below the 60 s after which common servers and balancers hang up
		IdleConnsMax:          1024,
		UnackedTimeout:        20 * time.Second, // a dead connection takes every stream with it: nobody waits a minute
		Ejection:              time.Second,
		EjectionMax:           time.Minute,
	}
}

// Validate names the first setting that cannot work.
func (c *Config) Validate() error {
	for name, d := range map[string]time.Duration{
		"dial timeout": c.DialTimeout, "response header timeout": c.ResponseHeaderTimeout,
		"continue timeout": c.ContinueTimeout, "idle timeout": c.IdleTimeout,
		"unacknowledged timeout": c.UnackedTimeout,
		"ejection":               c.Ejection, "longest ejection": c.EjectionMax,
	} {
		if d <= 0 {
			return fmt.Errorf("backends: %s is %s: it must be positive", name, d)
		}
	}
	if c.IdleConnsMax < 0 {
		return fmt.Errorf("backends: idle connections per endpoint is %d: it must not be negative", c.IdleConnsMax)
	}
	if c.Workers != nil && c.Bundles == nil {
		return errors.New("backends: Workers can run, but there is no place that their code comes from")
	}
	return nil
}

// Backends holds one backend per version. Its methods may be called concurrently.
type Backends struct {
	cfg     Config
	log     *slog.Logger
	workers *workers // nil if none run here

	upstreams upstreamDeps  // but for checkSlots
	changed   chan struct{} // holds a signal when the state of a backend has changed

	mu   sync.Mutex
	open map[string]*backend // by version id
	left []*backend          // that the last snapshot does not name, until Release

	checkSlots map[string]chan struct{} // by account of the last snapshot
}

// backend is the way to one origin version; origin tells whether it is still the right one.
type backend struct {
	versionID string
	origin    *deploy.Origin
	http.RoundTripper
	// serve says whether a deployment names the version. If not, no connection is kept
	// and nobody asks its endpoints how they are; it serves all the same.
	serve func(deployed bool)
	close func() // the end of serve(true); requests in flight go on

	wanted   bool // a deployment of the last snapshot names the version
	deployed bool // as serve was told last
}

func (be *backend) tell(deployed bool) {
	if be.deployed != deployed {
		be.deployed = deployed
		be.serve(deployed)
	}
}

// New returns an empty set of backends.
func New(cfg Config, log *slog.Logger) (*Backends, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.patrol = new(patrol)
	b := &Backends{cfg: cfg, log: log, open: map[string]*backend{}, changed: make(chan struct{}, 1)}
	b.upstreams = upstreamDeps{log: log, metrics: new(originMetrics), changed: b.signal}
	if err := b.upstreams.metrics.register(b.countEndpoints); err != nil {
		return nil, err
	}
	b.cfg.metrics = b.upstreams.metrics
	if cfg.Workers != nil {
		var err error
		if b.workers, err = newWorkers(cfg, log); err != nil {
			return nil, errors.Join(err, b.upstreams.metrics.observed.Unregister())
		}
		b.changed = b.workers.changed
	}
	return b, nil
}

// Update returns the backend of every version in the snapshot, by version id.
// Known ones are kept with their connections; those that the snapshot no longer
// names, or deploys, stay as they are until Release. Nothing connects to an origin
// before the first request, except a monitor that it has.
//
// The backend of an origin with several endpoints, or one that is watched or bounded,
// also has State() deploy.BackendState. The backend of a Worker has that, and
// Entrypoint(name string) http.RoundTripper and DialRPC(ctx, entrypoint) (net.Conn,
// error). Those that a deployment names are started now, the others by their first
// request.
func (b *Backends) Update(s *deploy.Snapshot) map[string]http.RoundTripper {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]http.RoundTripper)
	keep := make(map[string]*backend)
	slots := make(map[string]chan struct{})
	for i := range s.Scripts {
		account := s.Scripts[i].AccountID
		if slots[account] = cmp.Or(slots[account], b.checkSlots[account]); slots[account] == nil {
			slots[account] = make(chan struct{}, checksAtOnce)
		}
		for j := range s.Scripts[i].Versions {
			v := &s.Scripts[i].Versions[j]
			if v.Origin == nil {
				if b.workers == nil {
					all[v.ID] = unusable{errors.New("this router runs no Workers")}
				}
				continue
			}
			be := b.knownLocked(v.ID, v.Origin)
			if be == nil {
				be = b.newBackend(v.ID, v.Origin, slots[account])
			}
			if be.wanted = deployed(&s.Scripts[i], v.ID); be.wanted {
				be.tell(true)
			}
			all[v.ID], keep[v.ID] = be.RoundTripper, be
		}
	}
	b.replaceLocked(keep)
	b.checkSlots = slots
	if b.workers != nil {
		b.workers.update(s, all)
	}
	return all
}

// Release keeps no more connections to versions that no deployment names, neither of the
// last snapshot nor one in force, asks their endpoints no more how they are, and closes what
// the last snapshot does not name, except versions in force. Requests that hold a backend go
// on. Workers are not its business: they stop when nobody has asked them for a while.
func (b *Backends) Release(inForce func(versionID string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, be := range b.open {
		if !be.wanted && be.deployed && !inForce(id) {
			be.tell(false)
		}
	}
	b.left = slices.DeleteFunc(b.left, func(be *backend) bool {
		if inForce(be.versionID) && b.open[be.versionID] == nil {
			return false
		}
		be.close()
		return true
	})
}

// signal tells of a change; a signal that nobody has taken yet stands for it.
func (b *Backends) signal() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func (b *Backends) countEndpoints(n *endpointCount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	count := func(be *backend) {
		if u, ok := be.RoundTripper.(*upstream); ok {
			u.count(n)
		}
	}
	for _, be := range b.open {
		count(be)
	}
	for _, be := range b.left {
		count(be)
	}
}

// Changed holds a signal when the state of a Worker, or of an origin's endpoints, has
// changed since it was read; one signal may stand for many changes.
func (b *Backends) Changed() <-chan struct{} { return b.changed }

// Scheduled runs the scheduled handler of a Worker and returns its outcome, which
// also comes as an invocation. errs.NotFound if the snapshot has no such Worker.
func (b *Backends) Scheduled(ctx context.Context, versionID, cron string, at time.Time) (string, error) {
	var v *version
	if b.workers != nil {
		v = b.workers.version(versionID)
	}
	if v == nil {
		return "", errs.New(errs.NotFound, 0, "No Worker has the version %s here.", versionID)
	}
	return v.scheduled(ctx, cron, at)
}

// Caller returns who calls through a service binding, by the nonce that
// deploy.ParseBinding read; false if no process has it.
func (b *Backends) Caller(nonce string) (deploy.Caller, bool) {
	if b.workers == nil {
		return deploy.Caller{}, false
	}
	b.workers.mu.Lock()
	defer b.workers.mu.Unlock()
	c, ok := b.workers.callers[nonce]
	return c, ok
}

// Close closes every backend. Requests to origins go on; Workers finish what they
// have in hand, within their grace, and Close returns when their processes have ended.
func (b *Backends) Close() {
	if b.workers == nil {
		b.CloseBy(time.Time{})
		return
	}
	b.CloseBy(time.Now().Add(b.workers.cfg.StopGrace))
}

// CloseBy is Close for a caller with less time: what Workers have in hand at the
// deadline is lost. It returns within a second of it.
func (b *Backends) CloseBy(deadline time.Time) {
	b.mu.Lock()
	b.replaceLocked(map[string]*backend{})
	b.mu.Unlock()
	b.Release(func(string) bool { return false })
	if err := b.upstreams.metrics.observed.Unregister(); err != nil {
		b.log.Warn("metrics of endpoints were not unregistered", "error", err)
	}
	if b.workers != nil {
		b.workers.close(deadline)
	}
}

func deployed(sc *deploy.SnapshotScript, versionID string) bool {
	return slices.ContainsFunc(sc.Splits, func(s deploy.Split) bool { return s.VersionID == versionID })
}

// knownLocked returns the backend that a version has, or had until Release, or nil.
func (b *Backends) knownLocked(versionID string, o *deploy.Origin) *backend {
	if be := b.open[versionID]; be != nil && be.origin.Equal(o) {
		return be
	}
	for _, be := range b.left {
		if be.versionID == versionID && be.origin.Equal(o) {
			return be
		}
	}
	return nil
}

func (b *Backends) replaceLocked(keep map[string]*backend) {
	b.left = slices.DeleteFunc(b.left, func(be *backend) bool { return keep[be.versionID] == be })
	for id, be := range b.open {
		if keep[id] != be {
			be.wanted = false
			b.left = append(b.left, be)
		}
	}
	b.open = keep
}

// newBackend opens the backend of an origin. An origin that cannot be one costs
// its own version 502 answers, not every other script its updates.
func (b *Backends) newBackend(versionID string, o *deploy.Origin, checkSlots chan struct{}) *backend {
	cfg := b.cfg.of(o)
	never := func(err error) *backend {
		b.log.Warn("version cannot be served", "version_id", versionID, "error", err)
		return &backend{versionID: versionID, origin: o, RoundTripper: unusable{err}, serve: func(bool) {}, close: func() {}}
	}
	var transports []transport
	for _, e := range o.All() {
		t, err := newTransport(cfg, e.URL)
		if err != nil {
			return never(err)
		}
		transports = append(transports, t)
	}
	if len(transports) == 1 && o.Monitor == nil && o.MaxRequests == 0 {
		t := transports[0] // fast path: there is nothing to choose, to know or to bound
		return &backend{versionID: versionID, origin: o, RoundTripper: t, serve: keepWhile(t), close: t.close}
	}
	deps := b.upstreams
	deps.checkSlots = checkSlots
	u, err := newUpstream(versionID, o, transports, cfg, deps)
	if err != nil {
		return never(err)
	}
	return &backend{versionID: versionID, origin: o, RoundTripper: u, serve: u.serve, close: u.close}
}

// of returns the configuration with an origin's own time-outs.
func (c Config) of(o *deploy.Origin) Config {
	c.failover = len(o.Endpoints) > 1
	if t := o.Timeouts; t != nil {
		c.DialTimeout = cmp.Or(time.Duration(t.ConnectMS)*time.Millisecond, c.DialTimeout)
		c.ResponseHeaderTimeout = cmp.Or(time.Duration(t.FirstByteMS)*time.Millisecond, c.ResponseHeaderTimeout)
		c.BetweenBytesTimeout = cmp.Or(time.Duration(t.BetweenBytesMS)*time.Millisecond, c.BetweenBytesTimeout)
		c.IdleTimeout = cmp.Or(time.Duration(t.IdleMS)*time.Millisecond, c.IdleTimeout)
	}
	return c
}

// unusable answers for an origin that can never be reached.
type unusable struct{ err error }

func (u unusable) RoundTrip(req *http.Request) (*http.Response, error) {
	closeBody(req)
	return nil, &Error{schema.ErrorKindConnect, "connect", u.err}
}

// hostPort returns the address to dial.
func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "h2c":
		port = "http"
	default:
		port = u.Scheme // net.Dial knows the services "http" and "https"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// pathPrefix returns what precedes every request's target.
func pathPrefix(u *url.URL) string { return strings.TrimRight(u.EscapedPath(), "/") }

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // the request has failed already
	}
}
