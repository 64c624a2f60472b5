package lean

import (
	"context"
	"net/http"

	"tidegate/internal/lines"
)

// ListHandler is a Handler that also answers requests whose header is a list. It gets
// those without a body and without what concerns more than the version that serves them;
// all others go to ServeHTTP.
type ListHandler interface {
	// ServeList answers the request of x. Nothing of x must be kept after it has returned,
	// strings neither: they are views of a buffer.
	ServeList(x *Exchange)
}

// Exchange is a request and its response. Whoever wants them as net/http has them calls
// HTTP, at any time before the response's header is written.
type Exchange struct {
	Method, Target, Host string
	Path                 string       // of Target, without its encoding
	Header               lines.Header // less Host
	conn                 *conn
}

// Context is the connection's. It ends when the client leaves.
func (x *Exchange) Context() context.Context { return x.conn.base.Context() }

// Peer returns the address of the other side, without its port.
func (x *Exchange) Peer() string { return x.conn.peer }

// Memory is where a handler may keep something for the connection's next request; nil
// before the first one.
func (x *Exchange) Memory() *any { return &x.conn.memory }

// HTTP returns the request for a handler that may keep what it is given, and Writer.
func (x *Exchange) HTTP() (http.ResponseWriter, *http.Request) { return x.Writer(), x.conn.http() }

// Writer returns the response. Its header is that of WriteHeader, if that comes first.
func (x *Exchange) Writer() http.ResponseWriter { return &x.conn.work.response }

// WriteHeader is that of Writer, with a header that is a list.
func (x *Exchange) WriteHeader(status int, h *lines.Header) {
	x.conn.work.response.writeList(status, h)
}
