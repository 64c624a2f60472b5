package gateway

import (
	"errors"
	"io"
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
	src      io.ReadCloser
	client   *http.ResponseController
	ended    atomic.Bool // at its end
	readErr  atomic.Bool // the client did not send it whole
	mu       sync.Mutex  // held while reading
	detached bool        // under mu
}

func newClientBody(w http.ResponseWriter, src io.ReadCloser) *clientBody {
	client := http.NewResponseController(w)
	// Backends may answer while the body is still coming. HTTP/2 always can; for
	// HTTP/1 net/http wants to be told.
	_ = client.EnableFullDuplex()
	return &clientBody{src: src, client: client}
}

func (b *clientBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.detached {
		return 0, errDetached
	}
	n, err := b.src.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.ended.Store(true)
	default:
		b.readErr.Store(true)
	}
	return n, err
}

// Close does nothing: the server closes its body, and detach ends reads.
func (b *clientBody) Close() error { return nil }

// pending reports whether some of the body has not been read.
func (b *clientBody) pending() bool { return b != nil && !b.ended.Load() }

// failed reports whether the client broke off.
func (b *clientBody) failed() bool { return b != nil && b.readErr.Load() }

// detach ends a read that is waiting for the client and makes all later ones fail.
func (b *clientBody) detach() {
	if b == nil || b.ended.Load() {
		return
	}
	_ = b.client.SetReadDeadline(time.Unix(1, 0)) // what cannot be interrupted is waited for below
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.detached {
		b.detached = true
		_ = b.client.SetReadDeadline(time.Now().Add(lingerMax)) // for the server, which drains the body
	}
}
