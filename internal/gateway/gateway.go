// Package gateway takes requests in, picks the version that serves each, passes
// them on, and emits one trace event for every request that reached a script.
//
// The road of a request: ServeHTTP -> table.match -> deploy.Pick -> forward ->
// record. Nothing on it waits for Kafka, SQL or the control plane.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"tidegate/internal/deploy"
)

// Config is what an operator may set. The zero value lacks a Domain, a
// SnapshotTimeout and a StartWait.
type Config struct {
	// Domain is the name below which scripts are reached: <script>.<subdomain>.<domain>.
	Domain string
	// SnapshotFile keeps the last good snapshot, so that the gateway starts while
	// the control plane is away. Empty keeps none.
	SnapshotFile string
	// SnapshotTimeout bounds one call of Snapshots.Snapshot. It must leave room for
	// the time that the source waits for something newer.
	SnapshotTimeout time.Duration
	// TrustedProxies are the peers whose X-Forwarded-For, -Proto and -Host, or in
	// their absence Forwarded, are believed, and whose other words on the client are
	// passed on. X-Forwarded-For is extended.
	// From anybody else these headers are replaced or removed.
	TrustedProxies []netip.Prefix
	// LoopID names this installation in CDN-Loop (RFC 8586). All its gateways share
	// it; two installations, one behind the other, must not. Empty means Domain.
	LoopID string
	// RouterID names this gateway in what it reports of versions. Needed with Reports.
	RouterID string
	// StartWait bounds how long a request waits for a version that is starting,
	// where no other deployment can serve it.
	StartWait time.Duration
	// BodyTimeout bounds the wait for the next piece of a request's body, until its
	// version has begun to answer; from then on the two agree on their pace. Zero waits
	// for ever.
	BodyTimeout time.Duration
	// SendTimeout bounds how long a client may take nothing of its response. Zero waits
	// for ever.
	SendTimeout time.Duration
	// ShowVersion adds Tidegate-Version, Tidegate-Decision and, where a rule gave the
	// key, Tidegate-Affinity-Rule to every response.
	ShowVersion bool
	// EventHeaders are the request headers that an event records. The values of
	// those that may hold a secret are redacted, and a Referer loses its query.
	EventHeaders []string
}

// DefaultConfig records no more of a request than its kind.
func DefaultConfig() Config {
	return Config{
		Domain:          "localhost",
		SnapshotTimeout: 45 * time.Second, // the control plane waits 30 s
		StartWait:       10 * time.Second, // the runtime's own limit for a start
		BodyTimeout:     time.Minute,      // these two are nginx's
		SendTimeout:     time.Minute,
		EventHeaders:    []string{"content-type", "referer", "user-agent"},
	}
}

// Validate names the first setting that cannot work.
func (c *Config) Validate() error {
	if d := strings.ToLower(c.Domain); d == "" || strings.HasPrefix(d, ".") || strings.HasSuffix(d, ".") || strings.ContainsAny(d, ":/* ") {
		return fmt.Errorf("gateway: domain is %q: it must be a plain host name such as example.com", c.Domain)
	}
	if c.SnapshotTimeout <= 0 {
		return fmt.Errorf("gateway: snapshot timeout is %s: it must be positive", c.SnapshotTimeout)
	}
	if c.StartWait <= 0 {
		return fmt.Errorf("gateway: start wait is %s: it must be positive", c.StartWait)
	}
	if c.BodyTimeout < 0 || c.SendTimeout < 0 {
		return fmt.Errorf("gateway: body timeout is %s and send timeout %s: neither may be negative", c.BodyTimeout, c.SendTimeout)
	}
	if !validLoopID(c.LoopID) {
		return fmt.Errorf("gateway: loop id is %q: it must be a host name or one word, such as edge.example.com", c.LoopID)
	}
	return nil
}

// Snapshots is where snapshots come from: the store in the same process, or the
// control plane's API.
type Snapshots interface {
	// Snapshot blocks until there is a snapshot newer than the revision after, some
	// time has passed, or ctx ends. Then it returns, in this order: that snapshot,
	// the one at hand or nil, an error. The gateway only reads what it is given.
	Snapshot(ctx context.Context, after int64) (*deploy.Snapshot, error)
}

// Emitter takes trace events. It never blocks, may be called concurrently, and
// keeps nothing of value. Without logpush no Logpush job is to get the event.
type Emitter interface {
	Emit(account string, value []byte, logpush bool)
}

// Backends reach the versions. A backend sends the request's RequestURI, Host,
// header and body to its version; an error whose chain has a method
// ErrorKind() string tells the event's ErrorKind.
type Backends interface {
	// Update returns a backend for each version of the snapshot, by version id. Those of
	// the snapshot before stay as they are.
	Update(s *deploy.Snapshot) map[string]http.RoundTripper
	// Release lets go of backends that the last snapshot does not need, except those of
	// versions that a deployment in force names: a new one may still wait for its own.
	// Requests that hold one of the others go on. inForce is not kept.
	Release(inForce func(versionID string) bool)
}

// Workers is the runtime of Workers versions. Its backends, those of Backends.Update
// among them, may have a method State() deploy.BackendState; one without it is
// always ready. One of a Workers version is also a namedEntrypoints.
type Workers interface {
	// Changed returns a channel that is closed, or gets a value, when the State of
	// a backend has changed after the call.
	Changed() <-chan struct{}
	// Caller returns who calls through a service binding, by the nonce of its process.
	Caller(nonce string) (deploy.Caller, bool)
	// Scheduled runs the scheduled handler of a version and returns its outcome when
	// it has ended. The error says why it could not be called.
	Scheduled(ctx context.Context, versionID, cron string, at time.Time) (outcome string, err error)
}

// Deps are the gateway's neighbours.
type Deps struct {
	Snapshots Snapshots
	Backends  Backends
	Workers   Workers      // nil where only origins are served
	Reports   Reports      // nil tells nobody which versions cannot start
	Claims    Claims       // nil for the only gateway: every schedule is its own
	Emitter   Emitter      // nil emits nothing
	Tail      TailEmitter  // nil shows events to nobody
	Tracer    trace.Tracer // nil makes no spans, at no cost; traceparent travels on either way
	Logger    *slog.Logger
}

// Gateway is the handler of all public traffic. Its methods may be called concurrently.
type Gateway struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	headers []eventHeader
	joins   joins
	tails   tails
	sampler sampler
	loop    []string // the CDN-Loop header of a request that came without one
	metrics metrics

	calls, rpcSessions accountLimit // from Worker to Worker, by the caller's account
	starts             accountLimit // requests that wait for a version which is starting

	// table is replaced as a whole, under routing; nil until there is a snapshot.
	table atomic.Pointer[table]
	sync  syncState

	retired atomic.Bool // see Retire

	routing  sync.Mutex
	latest   *deploy.Snapshot             // that was accepted; under routing
	backends map[string]http.RoundTripper // of its versions; under routing

	// Switched connections outlive their handler's place in http.Server: ending
	// cuts them, upgrades waits for them.
	ending   context.Context
	end      context.CancelFunc
	upgrades sync.WaitGroup

	complain rate.Sometimes // spaces the log lines about failing backends
}

// New returns a gateway that serves the snapshot on disk, if there is a good one.
func New(cfg Config, deps Deps) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Snapshots == nil || deps.Backends == nil || deps.Logger == nil {
		return nil, fmt.Errorf("gateway: Snapshots, Backends and Logger are all needed")
	}
	if deps.Reports != nil && cfg.RouterID == "" {
		return nil, fmt.Errorf("gateway: RouterID is needed to report states of versions")
	}
	cfg.Domain = strings.ToLower(cfg.Domain)
	cfg.LoopID = cmp.Or(cfg.LoopID, cfg.Domain)
	g := &Gateway{
		cfg: cfg, deps: deps, log: deps.Logger,
		headers:  compileEventHeaders(cfg.EventHeaders),
		loop:     []string{cfg.LoopID},
		complain: rate.Sometimes{Interval: time.Second},
	}
	g.calls.max, g.rpcSessions.max, g.starts.max = bindingCallsMax, rpcSessionsMax, startWaitMax
	g.joins.now, g.joins.emit = time.Now, g.emitJoined
	g.ending, g.end = context.WithCancel(context.Background())
	g.sampler.emit = func(account string, value []byte, logpush bool) { g.deps.Emitter.Emit(account, value, logpush) }
	if err := errors.Join(g.metrics.register(g), g.sampler.register()); err != nil {
		return nil, err
	}
	g.loadFile()
	return g, nil
}

// Revision returns the revision that is being served, 0 before the first.
func (g *Gateway) Revision() int64 {
	if t := g.table.Load(); t != nil {
		return t.revision
	}
	return 0
}

// Ready returns nil when requests can be served, whether or not the control
// plane can be reached; Status tells that.
func (g *Gateway) Ready() error {
	if g.table.Load() != nil {
		return nil
	}
	if err := g.Status().SyncError; err != nil {
		return fmt.Errorf("gateway: no snapshot to serve, neither on disk nor from the control plane: %w", err)
	}
	return fmt.Errorf("gateway: no snapshot to serve yet")
}
