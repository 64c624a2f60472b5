package runtime

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// The retry budget: what has been sent once and may have been acted on is sent again only
// while no more than a fifth of the requests in hand, and a few, are such repeats. A
// service that fails under its load must not get twice the load for it. The fifth is
// Finagle's and Envoy's default; the few let a version with little traffic repeat at all.
const (
	retryShare = 5
	retryFloor = 10
)

// errOverloaded is the failure of a request that no endpoint had room for.
var errOverloaded = errors.New("every endpoint has as many requests in hand as max_requests allows")

// upstream is the way to an origin with several endpoints, or with a monitor or a
// bound. What it knows of endpoints decides only which of them gets a request of this
// version: if all are out the least bad one gets it, so that no share of the traffic
// moves to another version.
type upstream struct {
	versionID   string
	cfg         Config
	log         *slog.Logger
	metrics     *originMetrics
	changed     func() // is called when state has changed; must not block
	endpoints   []*endpoint
	requestsMax int64 // in hand at one endpoint; 0 is no bound
	retries     int
	letsGo      bool

	pool     atomic.Pointer[pool]
	state    atomic.Pointer[deploy.BackendState]
	retrying atomic.Int64 // repeats under way that the budget is for

	monitor    *monitor // nil if nobody asks
	checkSlots chan struct{}
	stopChecks context.CancelFunc // while they run
	checks     sync.WaitGroup

	mu     sync.Mutex // guards what endpoints are, not what they do: no request waits for it while nothing changes
	closed bool
}

func newUpstream(versionID string, o *deploy.Origin, transports []transport, cfg Config, deps upstreamDeps) (*upstream, error) {
	u := &upstream{
		versionID: versionID, cfg: cfg, log: deps.log, metrics: deps.metrics, changed: deps.changed, checkSlots: deps.checkSlots,
		requestsMax: int64(o.MaxRequests), retries: o.RetriesMax(), letsGo: allLetGo(transports),
	}
	if o.Monitor != nil {
		var err error
		if u.monitor, err = newMonitor(o.Monitor); err != nil {
			return nil, err
		}
	}
	for i, e := range o.All() {
		u.endpoints = append(u.endpoints, &endpoint{
			Endpoint: e, transport: transports[i], busy: transports[i].inHand(), weight: weightOf(e), bit: 1 << i,
		})
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rebuildLocked()
	return u, nil
}

// upstreamDeps are what upstreams share.
type upstreamDeps struct {
	log        *slog.Logger
	metrics    *originMetrics
	changed    func()
	checkSlots chan struct{} // of the account; one is held by each check
}

// State tells which endpoints are out. An origin is always ready.
func (u *upstream) State() deploy.BackendState { return *u.state.Load() }

// RoundTrip sends the request to one endpoint. If that fails it goes to another one,
// at most as often as the origin allows and never after a byte of a response: when
// nothing was sent, whatever the request is; else only if repeating does no harm and
// the budget allows it. Each attempt has the time-outs of the origin for itself.
func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	p, ok := u.pick(0, repeatable(req))
	if !ok {
		closeBody(req)
		u.metrics.overloaded()
		return nil, &Error{schema.ErrorKindOverloaded, "choose an endpoint", errOverloaded}
	}
	s := sending{upstream: u, req: req, out: req, left: u.retries}
	if hasBody(req) {
		out := *req
		s.body = &keptBody{ReadCloser: req.Body}
		out.Body = s.body
		s.out = &out
	}
	resp, err := s.send(p)
	if s.body != nil {
		s.body.release()
	}
	return resp, err
}

// sending is one request on its way.
type sending struct {
	*upstream
	req   *http.Request // as it came
	out   *http.Request // as it is sent: with a body that outlives an attempt which did not read it
	body  *keptBody     // nil for a request without one
	tried uint64        // the endpoints that it was sent to
	left  int           // retries
}

func (s *sending) send(p pick) (*http.Response, error) {
	resp, err := s.attempt(p)
	for err != nil && s.left > 0 && s.req.Context().Err() == nil {
		next, budgeted, ok := s.next(err)
		if !ok {
			break
		}
		s.left--
		resp, err = s.attempt(next)
		if budgeted {
			s.retrying.Add(-1)
		}
	}
	return resp, err
}

// attempt sends the request to the endpoint that was picked, which counts it already.
func (s *sending) attempt(p pick) (*http.Response, error) {
	s.tried |= p.bit
	if s.body != nil {
		s.body.begin()
	}
	resp, err := p.transport.roundTrip(s.out)
	if err == nil {
		s.learn(p, "", true)
		return resp, nil
	}
	p.transport.done()
	kind := blame(err)
	if fault, ok := errors.AsType[*Error](err); ok && p.probe && !tooMuchHead(err) {
		kind = fault.Kind // one that holds nothing against an endpoint that is in does not let one in either
	}
	if s.body != nil && s.body.failed.Load() {
		kind = "" // the client's
	}
	s.learn(p, kind, false)
	return nil, err
}

// next picks the endpoint for a repeat after err, if there may be one. budgeted says
// that the repeat counts as one until it has ended.
func (s *sending) next(err error) (p pick, budgeted, ok bool) {
	kind := blame(err)
	switch {
	case kind == "":
		return p, false, false
	case beforeSending(kind) || errors.Is(err, errRefused):
		// The server that gets the repeat is the first one to see the request, or to look at it.
	case !errors.Is(err, errUnanswered) || !repeatable(s.req):
		return p, false, false
	case !s.spend():
		s.metrics.retryRefused(kind)
		return p, false, false
	default:
		budgeted = true
	}
	if p, ok = s.pick(s.tried, repeatable(s.req)); ok {
		s.metrics.retried(kind)
	} else if budgeted {
		s.retrying.Add(-1)
	}
	return p, budgeted, ok
}

// beforeSending reports whether a failure of this kind comes before a connection is there.
func beforeSending(kind string) bool {
	return kind == schema.ErrorKindConnect || kind == schema.ErrorKindDNS || kind == schema.ErrorKindTLS
}

// spend takes a repeat from the budget, if that has one.
func (u *upstream) spend() bool {
	var inHand int64
	for _, e := range u.endpoints {
		inHand += e.busy.Load()
	}
	if u.retrying.Add(1) <= retryFloor+inHand/retryShare {
		return true
	}
	u.retrying.Add(-1)
	return false
}

// keptBody is a request's body that stays open until release, as long as nobody has read
// from it: what was not sent to one endpoint can be sent to the next.
type keptBody struct {
	io.ReadCloser
	failed atomic.Bool // the client did not send it whole

	mu      sync.Mutex
	started bool
	closed  bool // Close was put off, in the attempt under way
	free    bool // Close is no longer put off
}

// Buffered is that of the body, which nobody has read from when it is asked.
func (b *keptBody) Buffered() int { return buffered(b.ReadCloser) }

// begin is the start of an attempt: that the one before wanted the body closed no longer
// counts.
func (b *keptBody) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = false
}

func (b *keptBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.started = true
	b.mu.Unlock()
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed.Store(true)
	}
	return n, err
}

func (b *keptBody) Close() error {
	b.mu.Lock()
	wait := !b.started && !b.free
	b.closed = b.closed || wait
	b.mu.Unlock()
	if wait {
		return nil
	}
	return b.ReadCloser.Close()
}

// release makes good for a Close that the last attempt put off.
func (b *keptBody) release() {
	b.mu.Lock()
	b.free = true
	closed := b.closed
	b.mu.Unlock()
	if closed {
		_ = b.ReadCloser.Close() // it was not read, so nobody misses anything
	}
}

// serve is told whether a deployment names the version. If not, no connection is kept
// and nobody asks the endpoints how they are; requests are sent all the same.
func (u *upstream) serve(deployed bool) {
	for _, e := range u.endpoints {
		keepWhile(e.transport)(deployed)
	}
	if deployed {
		u.startMonitor()
	} else {
		u.stopMonitor()
	}
}

// close is the end of what the upstream learns. Requests go on.
func (u *upstream) close() {
	u.serve(false)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, e := range u.endpoints {
		if e.timer != nil {
			e.timer.Stop()
		}
	}
}
