package runtime

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// carried is the body of a request on its way through an http.Transport, which tells of a connection
// that has ended, or of a stream that was reset, only when it has closed the body and nobody reads it any
// more. A client may pause for as long as it likes. So a goroutine of its own waits for the client, and
// the Transport for what that brings, or for Close. Its methods may be called concurrently.
type carried struct {
	src   io.ReadCloser
	limit time.Duration // how long the Transport may be busy with what it was given, until lift
	late  func()        // is called after that, once
	out   *io.PipeReader

	mu      sync.Mutex
	started bool // somebody reads src
	shut    bool // closed before that, until again
	lifted  bool
	busy    *time.Timer // nil before the first Read has returned
}

// errNotSent is what the Transport reads of a body that it has closed.
var errNotSent = fmt.Errorf("the connection ended before the request was sent: %w", net.ErrClosed)

// carriedBytes is the most that the Transport is given at once: a frame of HTTP/2 by default.
const carriedBytes = 16 << 10

var carriedBuffers = sync.Pool{New: func() any { b := make([]byte, carriedBytes); return &b }}

func (b *carried) Read(p []byte) (int, error) {
	if err := b.begin(); err != nil {
		return 0, err
	}
	n, err := b.out.Read(p)
	switch {
	case n > 0:
		b.give()
	case errors.Is(err, io.ErrClosedPipe):
		err = errNotSent
	}
	return n, err
}

// begin is the end of what the Transport was busy with.
func (b *carried) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy != nil {
		b.busy.Stop()
	}
	switch {
	case b.shut:
		return errNotSent
	case !b.started:
		b.started = true
		var in *io.PipeWriter
		b.out, in = io.Pipe()
		go b.carry(in)
	}
	return nil
}

// give bounds what the Transport does with a piece.
func (b *carried) give() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.lifted:
	case b.busy == nil:
		b.busy = time.AfterFunc(b.limit, b.expire)
	default:
		b.busy.Reset(b.limit)
	}
}

func (b *carried) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.lifted {
		b.lifted = true
		b.late()
	}
}

// lift takes the bound off: there is a response, or will be none.
func (b *carried) lift() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lifted = true
	if b.busy != nil {
		b.busy.Stop()
	}
}

func (b *carried) carry(in *io.PipeWriter) {
	buf := carriedBuffers.Get().(*[]byte)
	defer carriedBuffers.Put(buf)
	for {
		n, err := b.src.Read(*buf)
		if n > 0 {
			if _, closed := in.Write((*buf)[:n]); closed != nil {
				return
			}
		}
		if err != nil {
			_ = in.CloseWithError(err) // it has no error
			return
		}
	}
}

// Close ends reads. What nobody has read from can be read after again.
func (b *carried) Close() error {
	b.end()
	return b.src.Close()
}

func (b *carried) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut = !b.started; b.started {
		_ = b.out.Close() // it has no error
	}
}

// again is the start of another attempt to send the request.
func (b *carried) again() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = false
}
