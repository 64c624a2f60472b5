package gateway

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Reasons why a request reaches no script.
const (
	reasonNoSnapshot   = "no_snapshot"
	reasonLoop         = "loop"
	reasonBadTarget    = "bad_target"
	reasonConnect      = "connect"
	reasonMalformed    = "malformed"
	reasonUnknownHost  = "unknown_host"
	reasonNoDeployment = "no_deployment"
)

// Response headers of Config.ShowVersion.
const (
	headerShowVersion  = "Tidegate-Version"
	headerShowDecision = "Tidegate-Decision"
	headerShowRule     = "Tidegate-Affinity-Rule"
)

// exchange is one request that has reached a script, and what became of it.
type exchange struct {
	picked
	ray        string
	entrypoint string // of the version; empty for the default one, as all the public reaches
	backend    http.RoundTripper
	internal   bool          // a call from Worker to Worker
	starts     bool          // it has a place of enterStart
	caller     deploy.Caller // of it
	client     client
	received   time.Time

	outcome   string
	errorKind string
	status    int           // that the client was sent; 0 for none
	upstream  time.Duration // to the backend's response header; 0 when there was none
	left      bool          // the client, or the gateway's stop, ended a switched connection
	// abort says that the client's connection must be cut, because a clean end
	// would make a broken response look whole.
	abort bool
	// wait is the patience with a client that is sent a response of some length; nil
	// for others.
	wait        *patience
	sendTimeout time.Duration
	// memory is for what the backend gets; nil where it may keep that.
	memory *passage
}

// ServeHTTP serves one request of the public.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received := time.Now()
	ray := newRay(received)
	w.Header()["Cf-Ray"] = []string{ray}
	g.metrics.inFlight.Add(1)
	defer g.metrics.inFlight.Add(-1)

	if r.ProtoMajor == 2 {
		defer g.boundEnd(w)
	}
	if unsureOfEnd(r) {
		w.Header()["Connection"] = []string{"close"}
	}
	if g.looped(r.Header[headerLoop]) {
		g.refuse(w, reasonLoop, http.StatusLoopDetected, "This request has been through this gateway already: the origin of a version leads back to it.")
		return
	}
	t := g.table.Load()
	if t == nil {
		g.refuse(w, reasonNoSnapshot, http.StatusServiceUnavailable, "The gateway has no routing yet. Try again in a moment.")
		return
	}
	if r.Method == http.MethodConnect {
		g.refuse(w, reasonConnect, http.StatusNotImplemented, "This gateway opens no tunnels: CONNECT is for forward proxies.")
		return
	}
	if r.ProtoMajor == 2 {
		if fault := malformed(r); fault != "" {
			g.refuse(w, reasonMalformed, http.StatusBadRequest, fault)
			return
		}
	}
	if lacksLength(r) {
		g.refuse(w, reasonMalformed, http.StatusBadRequest, "A request like this must have a Content-Length in HTTP/1.0.")
		return
	}
	target, ok := rawTarget(r)
	if !ok {
		g.refuse(w, reasonBadTarget, http.StatusBadRequest, "The request names no path, or a fragment with it.")
		return
	}
	from := g.clientOf(r)
	to, ok := t.match(r.Host, from.scheme, r.URL.Path)
	if !ok && strings.ContainsAny(plainHost(r.Host), "@/?#\\,:") && !strings.HasPrefix(r.Host, "[") {
		g.refuse(w, reasonMalformed, http.StatusBadRequest, "This request names no valid host.") // RFC 9112, section 3.2
		return
	}
	if !ok {
		g.refuse(w, reasonUnknownHost, http.StatusNotFound, "Nothing is served at this host name and path.")
		return
	}
	choice := picked{script: to.script, version: to.preview, decision: schema.DecisionPreview}
	var late error
	starts := false
	if to.preview == nil {
		if len(to.script.Splits) == 0 {
			g.refuse(w, reasonNoDeployment, http.StatusNotFound, "This script has no deployment yet.")
			return
		}
		choice, late = g.pick(r.Context(), to.script, factsOf(ask(r), to.script, target, from.ip))
	} else if to.preview.startsFirst() {
		if starts = g.enterStart(to.script); !starts {
			late = errStarting
		}
	}
	p := passages.Get().(*passage)
	p.exchange = exchange{picked: choice, backend: choice.version.backend, starts: starts, ray: ray, client: from, received: received, memory: p}
	g.serve(w, r, target, &p.exchange, late)
	p.release()
}

// serve answers a request that has reached a script, and sees to its event. An
// error of pick is answered here, too.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, target string, x *exchange, late error) {
	ctx, span := g.startSpan(r, x)
	var waiting *pending
	if late != nil {
		g.notStarted(w, r, x, late)
	} else {
		if waiting = g.expect(x); waiting != nil {
			ctx = deploy.WatchRequest(ctx, waiting)
		}
		g.forward(ctx, w, r, target, x)
	}
	g.record(ask(r), target, x, waiting)
	endSpan(span, x)
	if x.abort {
		panic(http.ErrAbortHandler) // the one way to cut a connection that net/http has
	}
}

// refuse answers a request that reaches no script.
func (g *Gateway) refuse(w http.ResponseWriter, reason string, status int, sentence string) {
	g.metrics.unmatched[index(unmatchedReasons, reason)].Add(1)
	hurryBody(w)
	answer(w, status, sentence)
}

// answer sends a sentence of the gateway's own.
func answer(w http.ResponseWriter, status int, sentence string) {
	h := w.Header()
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{strconv.Itoa(len(sentence) + 1)}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, sentence+"\n") // a client that is gone needs no answer
}

// rawTarget returns the path and query as the client wrote them, since decoding
// and encoding them again is not the identity.
func rawTarget(r *http.Request) (string, bool) {
	if r.Method == http.MethodConnect {
		return "", false // with a path it is no request at all, yet net/http lets it through
	}
	if strings.HasPrefix(r.RequestURI, "/") {
		// A path in HTTP/2 may hold a blank, which would end a target in HTTP/1.1. A
		// fragment stays with the client (RFC 9112, section 3.2); servers disagree on
		// where the path of a target ends that has one.
		return r.RequestURI, !strings.ContainsAny(r.RequestURI, " \t#")
	}
	if r.URL.Host != "" { // absolute form, as sent to proxies
		return r.URL.RequestURI(), strings.IndexByte(r.RequestURI, '#') < 0
	}
	return "", false
}

// rayTick is how long rays begin with the same five digits.
const rayTick = 64 // seconds; the digits come again after two years

// newRay returns 16 hex digits. They tell requests apart and guard nothing. The first
// five are the time at which the request came, so that ClickHouse, which keeps events by time, knows where
// to look for a ray; nobody else may rely on it. The rest is random.
func newRay(received time.Time) string {
	var raw [8]byte
	var text [16]byte
	const random = 44                         // bits
	tick := uint64(received.Unix()) / rayTick // #nosec G115 -- after 1970
	binary.BigEndian.PutUint64(raw[:], tick<<random|rand.Uint64()>>(64-random))
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

// forward sends the request to x.version and its response to the client, and
// notes in x how that ended.
func (g *Gateway) forward(ctx context.Context, w http.ResponseWriter, r *http.Request, target string, x *exchange) {
	ctx, cancel := withCallDeadline(ctx, r, x.received)
	defer cancel()
	out, hints := g.outgoing(ctx, w, r, target, x)
	injectTrace(ctx, out.Header)
	body := takeBody(w, r, out, x.client.vouched)
	body.askBy(hints, r)
	defer body.detach()
	if !x.internal {
		body.bound(g.cfg.BodyTimeout)
		x.sendTimeout = g.cfg.SendTimeout
	}

	started := time.Now()
	resp, err := g.roundTrip(out, x)
	hints.stop()
	if err != nil && r.Context().Err() == nil && overdue(ctx) {
		g.leave(w.Header())
		g.show(w.Header(), x)
		answerOverdue(w, x)
		return
	}
	if err != nil {
		g.fail(w, r, body, x, err)
		return
	}
	body.answered()
	x.upstream = time.Since(started)
	respBody := resp.Body
	defer func() {
		body.detach()        // first: the backend may wait for a piece of it
		_ = respBody.Close() // it was read to its end, or has failed
	}()

	if resp.StatusCode == http.StatusSwitchingProtocols {
		g.upgrade(w, out, resp, body, x)
		return
	}
	g.respond(ctx, w, r, resp, body, x)
}

// respond passes a response on whose header is a map.
func (g *Gateway) respond(ctx context.Context, w http.ResponseWriter, r *http.Request, resp *http.Response, body *clientBody, x *exchange) {
	g.responseHeader(w.Header(), resp, x)
	if len(resp.Trailer) > 0 && r.ProtoMajor == 1 && r.Method != http.MethodHead {
		delete(w.Header(), "Content-Length") // in HTTP/1.1 trailers follow chunks only
	}
	body.leave(w.Header(), r)
	x.status, x.outcome = resp.StatusCode, schema.OutcomeOK
	w.WriteHeader(resp.StatusCode)
	// The end of an HTTP/2 stream is sent when the handler has ended, unless it is the header's.
	endsLater := r.ProtoMajor == 2 && r.Method != http.MethodHead
	g.relay(ctx, r.Context(), w, resp, body, endsLater, x)
}

// relay passes on what follows a response's header, and notes in x how that ended. ctx is
// the call's, client the context that ends when the client leaves. endsLater says that no client
// has the whole response before this returns: one that is gone by then was not served, however
// well the version ended its response, which it may have done because it heard of that.
func (g *Gateway) relay(ctx, client context.Context, w http.ResponseWriter, resp *http.Response, body *clientBody, endsLater bool, x *exchange) {
	readErr, writeErr := copyBody(w, resp, x)
	if x.wait.expired() {
		g.metrics.stalled[index(stallReasons, stalledResponse)].Add(1)
	}
	switch {
	case readErr == nil && writeErr == nil && !(endsLater && (body.failed() || client.Err() != nil)):
		copyTrailers(w.Header(), resp.Trailer)
		if saysOverdue(ctx, resp) {
			x.outcome = schema.OutcomeCanceled
		}
	case readErr == nil, writeErr != nil, body.failed(), client.Err() != nil:
		x.outcome, x.abort = schema.OutcomeCanceled, true
	case overdue(ctx) && resp.ContentLength < 0:
		endOverdue(w, x)
	default:
		x.outcome, x.errorKind, x.abort = schema.OutcomeResponseStreamDisconnected, kindOf(readErr), true
		g.blame(x, readErr)
		_ = http.NewResponseController(w).Flush() // let the client see what came; the cut follows
	}
}

// fail answers for a backend that gave no response.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, body *clientBody, x *exchange, err error) {
	if body.stalled() {
		g.metrics.stalled[index(stallReasons, stalledBody)].Add(1)
		body.leave(w.Header(), r)
		x.outcome, x.status = schema.OutcomeCanceled, http.StatusRequestTimeout
		answer(w, x.status, "The rest of the request's body did not come in time.")
		return
	}
	if r.Context().Err() != nil || body.failed() {
		x.outcome = schema.OutcomeCanceled
		if r.Context().Err() == nil && body.malformed.Load() {
			body.leave(w.Header(), r)
			answer(w, http.StatusBadRequest, "The request's body is not in the form that its header says.")
			// After more than was announced, HTTP/2's server resets the stream by itself,
			// and tells the reader of the body first: then nothing was sent.
			if http.NewResponseController(w).Flush() == nil {
				x.status = http.StatusBadRequest
				return
			}
		}
		x.abort = true // the client left: there is nobody to answer
		return
	}
	x.errorKind = kindOf(err)
	body.leave(w.Header(), r)
	g.leave(w.Header())
	g.show(w.Header(), x)
	switch x.errorKind {
	case schema.ErrorKindTimeout:
		x.outcome, x.status = schema.OutcomeExceededWallTime, http.StatusGatewayTimeout
		answer(w, x.status, "The service behind this gateway did not answer in time.")
	case schema.ErrorKindOverloaded:
		x.outcome, x.status = outcomeOf(err), http.StatusServiceUnavailable
		w.Header()["Retry-After"] = []string{"1"}
		answer(w, x.status, "The service behind this gateway has as many requests in hand as it may. Try again in a moment.")
	default:
		x.outcome, x.status = outcomeOf(err), http.StatusBadGateway
		answer(w, x.status, "The service behind this gateway could not be reached or gave no valid answer.")
	}
	g.blame(x, err)
}

// blame counts a failure of a backend, and logs one a second of them: under load
// they come by the thousand, and each is in an event anyway.
func (g *Gateway) blame(x *exchange, err error) {
	g.metrics.upstreamErrors[index(errorKinds, x.errorKind)].Add(1)
	g.complain.Do(func() {
		g.log.Warn("backend failed", "script", x.script.Name, "version_id", x.version.ID, "outcome", x.outcome,
			"error_kind", x.errorKind, "ray_id", x.ray, "error", err)
	})
}
