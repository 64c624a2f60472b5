package runtime

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/schema"
)

// http2 speaks HTTP/2 to one origin through http.Transport: over TLS where the
// origin offers it, and HTTP/1.1 where not; or in clear text, where the origin's
// scheme says that it speaks nothing else (RFC 9113, section 3.3).
//
// The Transport opens a connection more when the origin's limit of concurrent
// streams is reached, and repeats a request without a body that the origin says it
// has not looked at (GOAWAY, REFUSED_STREAM). What was in flight on a connection that
// died is sent once more if repeating does no harm, as in http1: in HTTP/2 by send, in
// HTTP/1.1 by the Transport.
type http2 struct {
	cfg       Config
	transport *http.Transport
	upgrades  transport     // HTTP/1.1 only, because HTTP/2 has no Upgrade
	busy      *atomic.Int64 // the requests in hand, bodies included
	draining  drain
	scheme    string // as the origin is to see it: "http" or "https"
	host      string // of the origin, with its port
	prefix    string
	own       bool        // send host as Host
	http1     atomic.Bool // the origin chose HTTP/1.1 when it was connected to last
}

func newHTTPS(cfg Config, u *url.URL) *http2 {
	var both, one http.Protocols
	both.SetHTTP1(true)
	both.SetHTTP2(true)
	one.SetHTTP1(true)
	t := newHTTP2(newHTTPTransport(cfg, &both), cfg, u)
	t.transport.DialTLSContext = dialTLS(cfg, u, func(protocol string) { t.http1.Store(protocol != "h2") }, "h2", "http/1.1")
	t.transport.Proxy = func(req *http.Request) (*url.URL, error) { return nil, t.attempt(req, t.http1.Load()) }
	upgrades := newHTTPTransport(cfg, &one)
	upgrades.DialTLSContext = dialTLS(cfg, u, func(string) {}, "http/1.1")
	upgrades.Proxy = func(req *http.Request) (*url.URL, error) { return nil, t.attempt(req, true) }
	t.upgrades = requestOnly{t, upgrades}
	t.scheme = "https"
	return t
}

// newH2C opens an origin that speaks HTTP/2 without TLS. A request for a switch of
// protocols goes there in HTTP/1.1: most servers take both on one port.
func newH2C(cfg Config, u *url.URL) *http2 {
	var only http.Protocols
	only.SetUnencryptedHTTP2(true)
	t := newHTTP2(newHTTPTransport(cfg, &only), cfg, u)
	addr, dialer := hostPort(u), originDialer(cfg)
	t.transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := dialOrigin(ctx, &dialer, network, addr, cfg.failover)
		if err == nil {
			boundUnacked(c, cfg.UnackedTimeout)
		}
		return c, err
	}
	upgrades := newHTTP1(cfg, u)
	upgrades.busy = t.busy
	t.upgrades = upgrades
	t.scheme = "http"
	return t
}

func newHTTP2(transport *http.Transport, cfg Config, u *url.URL) *http2 {
	t := &http2{cfg: cfg, transport: transport, busy: new(atomic.Int64), host: u.Host, prefix: pathPrefix(u), own: cfg.OriginHost}
	t.draining.sweep = t.closeIdle
	return t
}

// streamBuffer is how much of a response's body an HTTP/2 origin may send ahead of its client, who may be
// slow, as memory of the gateway: net/http would take 4 MiB. It is also what one response gets in the
// time of a way to the origin and back.
const streamBuffer = 256 << 10

func newHTTPTransport(cfg Config, protocols *http.Protocols) *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // the environment is not the operator's word on where traffic goes; see attempt
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConns:           cfg.IdleConnsMax,
		MaxIdleConnsPerHost:    cfg.IdleConnsMax,
		IdleConnTimeout:        cfg.IdleTimeout,
		ResponseHeaderTimeout:  cfg.ResponseHeaderTimeout,
		ExpectContinueTimeout:  cfg.ContinueTimeout,
		MaxResponseHeaderBytes: headBytesMax,
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: streamBuffer},
	}
}

// dialTLS returns a dialer that tells which of the protocols the origin chose.
func dialTLS(cfg Config, u *url.URL, chosen func(protocol string), protocols ...string) func(ctx context.Context, network, _ string) (net.Conn, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		tlsConfig = cfg.TLS.Clone()
	}
	if tlsConfig.ServerName == "" {
		tlsConfig.ServerName = u.Hostname()
	}
	tlsConfig.NextProtos = protocols
	addr, dialer := hostPort(u), originDialer(cfg)
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := dialOrigin(ctx, &dialer, network, addr, cfg.failover)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
		defer cancel()
		steady := &steadyConn{Conn: c, limit: cfg.ResponseHeaderTimeout}
		tc := tls.Client(steady, tlsConfig)
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = c.Close() // the handshake's error is the one that matters
			return nil, &Error{schema.ErrorKindTLS, "TLS handshake with " + addr, err}
		}
		protocol := tc.ConnectionState().NegotiatedProtocol
		steady.http2 = protocol == "h2" // whose streams may wait
		steady.bounded.Store(!steady.http2)
		if steady.http2 {
			boundUnacked(c, cfg.UnackedTimeout)
		}
		chosen(protocol)
		return tc, nil
	}
}

// steadyConn bounds, once bounded is set, how long the other side may take nothing of what it is
// sent. Deadlines that its user sets go before that.
type steadyConn struct {
	net.Conn
	limit   time.Duration
	http2   bool // is spoken; set before anybody has the connection
	bounded atomic.Bool
	theirs  atomic.Bool             // the deadline is the user's
	body    atomic.Pointer[carried] // that is sent in HTTP/1.1; nil if none is
	broken  atomic.Pointer[error]   // how the other side has ended the connection; nil if it has not
}

func (c *steadyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.broken.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close ends the wait for more of a request's body. The Transport waits, too, before it tells that the
// connection has ended.
func (c *steadyConn) Close() error {
	if b := c.body.Load(); b != nil {
		b.end()
	}
	return c.Conn.Close()
}

func (c *steadyConn) Write(p []byte) (sent int, err error) {
	if !c.bounded.Load() {
		return c.Conn.Write(p)
	}
	return writeSteadily(c.Conn, p, func() bool {
		return !c.theirs.Load() && c.Conn.SetWriteDeadline(time.Now().Add(c.limit)) == nil // fails on a closed connection only
	})
}

// unbound must not be called while something is written.
func (c *steadyConn) unbound() {
	c.bounded.Store(false)
	_ = c.Conn.SetWriteDeadline(time.Time{}) // fails on a closed connection only
}

func (c *steadyConn) SetWriteDeadline(t time.Time) error {
	c.theirs.Store(!t.IsZero())
	return c.Conn.SetWriteDeadline(t)
}

func (c *steadyConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// sentBefore marks, as its RemoteAddr, a request that a Transport has tried to send.
const sentBefore = "sent before"

// attempt is called by a Transport each time that it is about to send a request, as the
// question for a proxy, and ends the request by an error. In HTTP/1.1 the Transport sends one
// that can be repeated anew whenever a kept connection ends under it, which is for the caller to
// decide where there is another endpoint. What it repeats in HTTP/2 nobody has looked at.
func (t *http2) attempt(req *http.Request, http1 bool) error {
	again := req.RemoteAddr == sentBefore
	req.RemoteAddr = sentBefore
	if !again || !http1 || !replayed(req) {
		return nil
	}
	if t.cfg.failover {
		return &Error{schema.ErrorKindReset, "use the connection to " + t.host, errUnanswered}
	}
	t.cfg.metrics.retried(schema.ErrorKindReset)
	return nil
}

// replayed reports whether a Transport may send req again that has been sent: what is not
// repeatable it does only if nothing was written.
func replayed(req *http.Request) bool {
	return repeatable(req) || req.Header["Idempotency-Key"] != nil || req.Header["X-Idempotency-Key"] != nil
}

// close ends what is idle now, and what is in use as soon as its last stream has ended.
func (t *http2) close() {
	t.draining.begin()
	t.upgrades.close()
}

func (t *http2) reopen() {
	t.draining.end()
	t.upgrades.reopen()
}

func (t *http2) inHand() *atomic.Int64 { return t.busy }

func (t *http2) closeIdle() { t.transport.CloseIdleConnections() }

// done is the end of a request, with its body.
func (t *http2) done() {
	t.busy.Add(-1)
	t.draining.ended()
}

// RoundTrip sends the request. It never changes req.
func (t *http2) RoundTrip(req *http.Request) (*http.Response, error) {
	t.busy.Add(1)
	resp, err := t.roundTrip(req)
	if err != nil {
		t.done() // otherwise the response's end does it
		return nil, err
	}
	return resp, nil
}

func (t *http2) roundTrip(req *http.Request) (*http.Response, error) {
	if err := validHead(req); err != nil {
		closeBody(req)
		return nil, &Error{schema.ErrorKindProtocol, "send the request", err}
	}
	if req.Header.Get("Upgrade") != "" {
		return t.upgrades.roundTrip(req)
	}
	return t.send(t.transport, req)
}

// requestOnly sends requests as http2 has them through another Transport.
type requestOnly struct {
	*http2
	transport *http.Transport
}

func (t requestOnly) roundTrip(req *http.Request) (*http.Response, error) {
	return t.send(t.transport, req)
}

func (t requestOnly) close() { t.transport.CloseIdleConnections() }

func (t requestOnly) reopen() {}

func (t *http2) send(transport *http.Transport, req *http.Request) (*http.Response, error) {
	out := *req
	out.RemoteAddr = ""
	if err := t.address(&out); err != nil {
		closeBody(req)
		return nil, &Error{schema.ErrorKindProtocol, "send the request", err}
	}
	if !hasBody(req) {
		closeBody(req)
		out.Body = http.NoBody // or the Transport would look for its first byte
	}
	began := time.Now()
	ctx, cancel := context.WithCancelCause(req.Context())
	var seen sight
	if hasBody(req) {
		seen.body = &carried{src: req.Body, limit: t.cfg.ResponseHeaderTimeout, late: func() {
			if seen.byHTTP2() { // in HTTP/1.1 each write has its bound
				cancel(tookNothing(t.cfg.ResponseHeaderTimeout, os.ErrDeadlineExceeded))
			}
		}}
		out.Body = seen.body
		defer seen.body.lift()
	}
	seen.again = func(n int32) {
		if t.cfg.failover && n > refusalsMax || n > 1 && time.Since(began) > t.cfg.ResponseHeaderTimeout {
			cancel(errRefused)
		}
	}
	watched := out.WithContext(seen.watch(ctx))
	resp, err := transport.RoundTrip(watched)
	if err != nil && !t.cfg.failover && connectionEnded(err) && repeatable(req) && req.Context().Err() == nil &&
		!seen.answered.Load() && (seen.reused.Load() || seen.byHTTP2()) {
		first := err
		t.cfg.metrics.retried(schema.ErrorKindReset)
		watched.RemoteAddr = ""
		seen.tries.Store(0)
		if resp, err = transport.RoundTrip(watched); notConnected(err) {
			err = first // as in http1: it was sent
		}
	}
	if err != nil {
		defer cancel(nil)
		defer seen.over()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && req.Context().Err() == nil {
		err = cause
	}
	if errors.Is(err, errNotSent) {
		err = seen.whyNotSent()
	}
	if err != nil && !seen.answered.Load() {
		err = unanswered(err)
	}
	if err != nil && !seen.connected.Load() { // the Transport does not say that it was dialing
		if gone := abandoned(req.Context(), t.host, began, err); gone != nil {
			return nil, gone
		}
	}
	if err != nil {
		return nil, fault(req.Context(), "send the request to "+t.host, err)
	}
	check, byHTTP2 := checkHead, seen.byHTTP2() // of HTTP/1.1 the response could say so
	if byHTTP2 {
		check = checkHTTP2
	}
	if err := check(resp); err != nil {
		go func() { _ = resp.Body.Close(); cancel(nil) }() // see ignored; it ends with the request
		return nil, &Error{schema.ErrorKindProtocol, "read the response of " + t.host, err}
	}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		rw, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			_ = resp.Body.Close() // nothing of it is used
			cancel(nil)
			return nil, &Error{schema.ErrorKindProtocol, "switch protocols with " + t.host, errors.New("the connection cannot be written to")}
		}
		seen.switched()
		resp.Body = &switchedTLS{ReadWriteCloser: rw, t: t, cancel: cancel}
	case byHTTP2 && withoutState(resp.Body) && (bodiless(resp) || resp.ContentLength <= 0):
		resp.Body = http.NoBody
		if !hasBody(req) { // or it ends with the request's: an upload may go on, or its stream be about to end
			cancel(nil)
		}
		t.done()
	case byHTTP2 && bodiless(resp):
		resp.Body, resp.ContentLength = &responseReader{ReadCloser: ignored{resp.Body}, ctx: req.Context(), cancel: cancel, t: t, seen: &seen}, 0
	default:
		resp.Body = &responseReader{ReadCloser: resp.Body, ctx: req.Context(), cancel: cancel, t: t, seen: &seen}
	}
	return resp, nil
}

// checkHTTP2 refuses what the Transport lets through of a response in HTTP/2. It takes any number for
// a status; a server that is told to send it panics. Of a Content-Length that is none, or of
// several, it thinks nothing; a client of HTTP/1.1 would be sent them beside a body that they do
// not measure.
func checkHTTP2(resp *http.Response) error {
	if resp.StatusCode < 200 || resp.StatusCode > 999 {
		return fmt.Errorf("the response has the status %d", resp.StatusCode)
	}
	if lengths := resp.Header["Content-Length"]; lengths != nil && resp.ContentLength < 0 {
		return fmt.Errorf("the response has the Content-Length %q", lengths)
	}
	return nil
}

// bodiless reports whether a response has no body by its status. Of a 304 with a Content-Length
// the Transport misses it in HTTP/2: that is the length of what the client has.
func bodiless(resp *http.Response) bool {
	return resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified
}

// ignored is the body of a response that has none: what comes all the same is nobody's. In HTTP/2 its
// Close waits for what reads the request's body, so it is for the caller, who can end that first.
type ignored struct{ io.Closer }

func (ignored) Read([]byte) (int, error) { return 0, io.EOF }

// address gives the request the URL that the Transport wants, with the target as it
// was written.
func (t *http2) address(out *http.Request) error {
	out.URL = &url.URL{Scheme: t.scheme, Host: t.host}
	path, query, hasQuery := strings.Cut(t.prefix+out.RequestURI, "?")
	// Opaque reaches the wire as it is, where Path would be escaped anew. Only a
	// leading // would be taken for a host.
	if strings.HasPrefix(path, "//") {
		if err := setPath(out.URL, path); err != nil {
			return err
		}
	} else {
		out.URL.Opaque = path
	}
	out.URL.RawQuery, out.URL.ForceQuery = query, hasQuery && query == ""
	out.RequestURI = ""
	if t.own {
		out.Host = t.host
	}
	return nil
}

func setPath(u *url.URL, escaped string) error {
	path, err := url.PathUnescape(escaped)
	u.Path, u.RawPath = path, escaped
	return err
}

// withoutState tells the body of a response that ended with its header, which has a
// type of its own in net/http, from one that is still to come. It matters to gRPC: a
// call's status is in the header only if the stream ends with that, so the gateway
// must end its own stream there, too.
func withoutState(body io.ReadCloser) bool { return reflect.TypeOf(body).Size() == 0 }

// notConnected reports whether an error of a Transport is the dialer's.
func notConnected(err error) bool {
	_, ours := errors.AsType[*Error](err)
	return ours
}

// unanswered marks an error of a Transport that came before the response. What it has
// from the dialer has its kind already: nothing was sent.
func unanswered(err error) error {
	if notConnected(err) || kindOf(err) == schema.ErrorKindProtocol {
		return err
	}
	return fmt.Errorf("%w: %w", errUnanswered, err)
}

// responseReader is the body of a response. It gives errors their kind and notes the
// end. Its owner reads and closes it from one goroutine.
type responseReader struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc // of what the Transport has
	t      *http2
	seen   *sight
	silent *time.Timer // ends a read that takes too long; nil without a bound, and before the first one
	over   bool
}

func (b *responseReader) Read(p []byte) (int, error) {
	limit := b.t.cfg.BetweenBytesTimeout
	if limit > 0 {
		b.await(limit)
	}
	n, err := b.ReadCloser.Read(p)
	inTime := b.silent == nil || b.silent.Stop()
	if err == nil && inTime {
		return n, nil
	}
	b.end()
	switch {
	case !inTime && !errors.Is(err, io.EOF):
		err = fault(b.ctx, "read the response", silentFor(limit))
	case !errors.Is(err, io.EOF):
		err = fault(b.ctx, "read the response", err)
	}
	return n, err
}

// await bounds the read that follows.
func (b *responseReader) await(limit time.Duration) {
	if b.silent == nil {
		b.silent = time.AfterFunc(limit, func() {
			b.cancel(nil)
			_ = b.ReadCloser.Close() // the Transport does not look at the context while it sends the request's body
		})
		return
	}
	b.silent.Reset(limit)
}

func (b *responseReader) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	b.end()
	return err
}

func (b *responseReader) end() {
	if !b.over {
		b.over = true
		b.seen.over()
		b.t.done()
	}
}

// switchedTLS is the connection after a 101.
type switchedTLS struct {
	io.ReadWriteCloser
	t      *http2
	cancel context.CancelCauseFunc
	once   sync.Once
}

func (s *switchedTLS) Close() error {
	err := s.ReadWriteCloser.Close()
	s.cancel(nil)
	s.once.Do(s.t.done)
	return err
}
