package gateway

import (
	"context"
	"net/http"
	"sync"

	"tidegate/internal/lines"
)

// passage is the memory of one request on its way through, used again for others.
type passage struct {
	exchange
	out    http.Request // as it goes to the backend
	header http.Header  // of out
	values [5]string    // of header: those that the gateway sets
	lists  lines.Exchange
}

var passages = sync.Pool{New: func() any { return &passage{header: http.Header{}} }}

// release gives p back. It must not follow a panic, which may come from a backend
// that still has the request.
func (p *passage) release() {
	p.exchange, p.out, p.values = exchange{}, http.Request{}, [5]string{}
	clear(p.header)
	passages.Put(p)
}

// lettingGo is a backend that, if LetsGo says so, keeps nothing of a request without a
// body when its response's body has been closed or RoundTrip has failed: neither the
// request, nor its header, nor its context, nor in a goroutine of its own. http.Transport
// does not promise it.
type lettingGo interface{ LetsGo() bool }

// connMemory is what one request after the other on a connection uses. It is in the
// context of connections on which they come in turns.
type connMemory struct {
	hints   informational
	lists   lines.Exchange  // of the request in hand, if its header is a list
	ctx     context.Context // of the last request; as a rule that of all
	request *http.Request   // an empty one with ctx, which reports to hints and has lists; nil before the first
}

// empty returns a request of a context.
func (m *connMemory) empty(ctx context.Context) *http.Request {
	if m.ctx != ctx {
		m.ctx = ctx
		m.request = new(http.Request).WithContext(lines.With(m.hints.watch(ctx), &m.lists))
	}
	return m.request
}

type connMemoryKey struct{}

func withConnMemory(ctx context.Context) context.Context {
	return context.WithValue(ctx, connMemoryKey{}, &connMemory{})
}

// outgoing returns the request for the backend, less its body, and what passes its
// informational responses on. Where nobody can have a hand on them afterwards, both are in
// memory that was used before.
func (g *Gateway) outgoing(ctx context.Context, w http.ResponseWriter, r *http.Request, target string, x *exchange) (*http.Request, *informational) {
	if conn := memoryOf(ctx, r, x); conn != nil {
		conn.hints.start(w, passesHints(r, x), "")
		out := &x.memory.out
		*out = *conn.empty(ctx)
		out.Method, out.URL, out.RequestURI, out.Host, out.RemoteAddr = r.Method, r.URL, target, r.Host, r.RemoteAddr
		out.Proto, out.ProtoMajor, out.ProtoMinor, out.Close = r.Proto, r.ProtoMajor, r.ProtoMinor, r.Close
		out.Header = g.requestHeader(r, x)
		return out, &conn.hints
	}
	x.memory = nil
	hints := &informational{}
	hints.start(w, passesHints(r, x), "")
	out := r.WithContext(hints.watch(ctx))
	out.RequestURI = target
	if x.internal {
		out.Header = g.callHeader(r, x)
	} else {
		out.Header = g.requestHeader(r, x)
	}
	return out, hints
}

func memoryOf(ctx context.Context, r *http.Request, x *exchange) *connMemory {
	if x.memory == nil || r.Body != http.NoBody || ctx != r.Context() {
		return nil
	}
	if backend, ok := x.backend.(lettingGo); !ok || !backend.LetsGo() {
		return nil
	}
	conn, _ := ctx.Value(connMemoryKey{}).(*connMemory)
	return conn
}
