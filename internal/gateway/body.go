package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

var errDetached = errors.New("the handler has ended")

// lingerMax is how long the rest of a request's body is awaited after an early
// response, so that the client reads that instead of a reset; as net/http.
const lingerMax = 500 * time.Millisecond

// clientBody is the request's body in the hands of a backend, which may read it
// from a goroutine that outlives RoundTrip. net/http forbids reading after the
// handler has returned; detach makes sure of it. A nil *clientBody is a request
// without a body.
type clientBody struct {
	src     io.ReadCloser
	trailer http.Header // of the request; filled when src is at its end
	vouched bool        // a trusted proxy passed the request on
	client  *http.ResponseController
	ended   atomic.Bool // at its end
	readErr atomic.Bool // the client did not send it whole
	// malformed says that what came was no body, as in bad chunks: the client is there.
	malformed atomic.Bool
	mu        sync.Mutex // held while reading
	detached  bool       // under mu
	proceed   func()     // before the first Read; under mu; nil for nothing
	detaching sync.Once
	wait      patience // with the client, until the version answers
}

// takeBody puts the body of r, with the trailers that follow it, into out. Only
// ContentLength tells whether there is one: in HTTP/2, net/http gives every request a
// Body.
func takeBody(w http.ResponseWriter, r, out *http.Request, vouched bool) *clientBody {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		out.Body = http.NoBody
		return nil
	}
	if r.ContentLength < 0 && r.Trailer == nil {
		// Trailers that were not announced appear in r alone, and in a map that is
		// there already if there is one.
		r.Trailer = http.Header{}
		out.Trailer = r.Trailer
	}
	body := &clientBody{src: r.Body, trailer: r.Trailer, vouched: vouched, client: http.NewResponseController(w)}
	body.wait.expire = body.client.SetReadDeadline
	body.cleanTrailer() // of what was announced
	// Backends may answer while the body is still coming. HTTP/2 always can; for
	// HTTP/1 net/http wants to be told.
	_ = body.client.EnableFullDuplex()
	out.Body = body
	return body
}

func (b *clientBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.detached {
		return 0, errDetached
	}
	if b.proceed != nil {
		b.proceed()
		b.proceed = nil
	}
	b.wait.begin()
	n, err := b.src.Read(p)
	b.wait.end()
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.wait.stop()
		b.cleanTrailer()
		b.ended.Store(true)
	default:
		_, network := errors.AsType[net.Error](err)
		b.malformed.Store(!network && !errors.Is(err, io.ErrUnexpectedEOF))
		b.readErr.Store(true)
	}
	return n, err
}

// Buffered returns how many bytes Read returns without waiting for the client, as far as
// the server says.
func (b *clientBody) Buffered() int {
	if src, ok := b.src.(interface{ Buffered() int }); ok {
		return src.Buffered()
	}
	return 0
}

// cleanTrailer removes from the trailers what requestHeader would not take from a
// header: a backend may merge the two.
func (b *clientBody) cleanTrailer() {
	for name, values := range b.trailer {
		if !validTrailer(name, values) || connectionOnly(name) || setByGateway(name) || !b.vouched && aboutClient(name) {
			delete(b.trailer, name)
		}
	}
}

// Close does nothing: the server closes its body, and detach ends reads.
func (b *clientBody) Close() error { return nil }

// pending reports whether some of the body has not been read.
func (b *clientBody) pending() bool { return b != nil && !b.ended.Load() }

// leave tells the client of r that nobody will read the rest of its body, so that no
// request can follow on its connection. In HTTP/2 the stream's end says so.
func (b *clientBody) leave(h http.Header, r *http.Request) {
	if b.pending() && r.ProtoMajor == 1 {
		h["Connection"] = []string{"close"}
	}
}

// askBy has the client of r, if it waits to be asked for the body, asked by hints. net/http would
// ask when the body is read, and may be told to write a hint at the same moment.
func (b *clientBody) askBy(hints *informational, r *http.Request) {
	if b != nil && r.ProtoMajor == 1 && r.Header["Expect"] != nil {
		b.proceed = hints.proceed
	}
}

// bound gives the client at most d for each piece. It must be called before the first
// Read; without it there is no bound.
func (b *clientBody) bound(d time.Duration) {
	if b != nil {
		b.wait.max = d
	}
}

// answered lifts the bound: the version has begun to answer.
func (b *clientBody) answered() {
	if b != nil {
		b.wait.stop()
	}
}

// stalled reports whether the client was given up for not sending the rest.
func (b *clientBody) stalled() bool { return b != nil && b.wait.expired() }

// failed reports whether the client broke off.
func (b *clientBody) failed() bool { return b != nil && b.readErr.Load() }

// detach ends a read that is waiting for the client and makes all later ones fail. It may
// be called again, which changes nothing: the server needs the deadline that it leaves.
func (b *clientBody) detach() {
	if b == nil || b.ended.Load() {
		return
	}
	b.detaching.Do(func() {
		b.wait.stop()                                 // or it might outlive the handler
		_ = b.client.SetReadDeadline(time.Unix(1, 0)) // what cannot be interrupted is waited for below
		b.mu.Lock()
		defer b.mu.Unlock()
		b.detached = true
		_ = b.client.SetReadDeadline(time.Now().Add(lingerMax)) // for the server, which drains the body
	})
}
