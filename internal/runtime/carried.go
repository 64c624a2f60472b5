package runtime

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// carried is the body of a request on its way through an http.Transport, which tells of a connection
// that has ended, or of a stream that was reset, only when it has closed the body and nobody reads it any
// more. A client may pause for as long as it likes. So a goroutine of its own waits for the client, when
// the Transport wants more, and the Transport for what that brings, or for Close. Read is for one
// goroutine at a time; the other methods may be called concurrently.
type carried struct {
	src   io.ReadCloser
	limit time.Duration // how long the Transport may be busy with what it was given, until lift
	late  func()        // is called after that, once

	wanted chan int // bytes; nil until somebody reads src
	found  chan piece
	over   chan struct{} // closed by end
	ended  error         // of src; the reader's

	mu     sync.Mutex
	done   bool // over is closed
	shut   bool // closed before anybody read src, until again
	lifted bool
	busy   *time.Timer // nil before the first Read has returned
}

// piece is what one read of src has brought.
type piece struct {
	buf *[]byte
	n   int
	err error
}

// errNotSent is what the Transport reads of a body that it has closed, or whose connection.
var errNotSent = fmt.Errorf("the connection ended before the request was sent: %w", net.ErrClosed)

// carriedBytes is the most that is read at once: a frame of HTTP/2 by default.
const carriedBytes = 16 << 10

var carriedBuffers = sync.Pool{New: func() any { b := make([]byte, carriedBytes); return &b }}

func (b *carried) Read(p []byte) (int, error) {
	if err := b.begin(); err != nil {
		return 0, err
	}
	select {
	case b.wanted <- min(len(p), carriedBytes):
	case <-b.over:
		return 0, errNotSent
	}
	select {
	case got := <-b.found:
		return b.take(p, got)
	case <-b.over:
		return 0, errNotSent
	}
}

// take copies a piece, and bounds what the Transport does with it.
func (b *carried) take(p []byte, got piece) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return 0, errNotSent // carry has the buffer
	}
	n := copy(p, (*got.buf)[:got.n])
	if b.ended = got.err; b.ended != nil {
		carriedBuffers.Put(got.buf) // carry has ended
	}
	switch {
	case n == 0 || b.lifted:
	case b.busy == nil:
		b.busy = time.AfterFunc(b.limit, b.expire)
	default:
		b.busy.Reset(b.limit)
	}
	return n, b.ended
}

// begin is the end of what the Transport was busy with.
func (b *carried) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy != nil {
		b.busy.Stop()
	}
	switch {
	case b.ended != nil:
		return b.ended
	case b.shut:
		return errNotSent
	case b.wanted == nil:
		b.wanted, b.found, b.over = make(chan int), make(chan piece), make(chan struct{})
		go b.carry(b.wanted, b.found, b.over)
	}
	return nil
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

func (b *carried) carry(wanted <-chan int, found chan<- piece, over <-chan struct{}) {
	buf := carriedBuffers.Get().(*[]byte)
	for {
		select {
		case most := <-wanted:
			n, err := b.src.Read((*buf)[:most])
			select {
			case found <- piece{buf, n, err}:
				if err != nil {
					return
				}
				continue
			case <-over:
			}
		case <-over:
		}
		b.mu.Lock() // whoever copies from the buffer has it, too
		defer b.mu.Unlock()
		carriedBuffers.Put(buf)
		return
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
	switch {
	case b.wanted == nil:
		b.shut = true
	case !b.done:
		b.done = true
		close(b.over)
	}
}

// again is the start of another attempt to send the request.
func (b *carried) again() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = false
}
