package runtime

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// uploadGrace is how long an upload may go on after the response has ended; as in
// net/http.
const uploadGrace = 50 * time.Millisecond

// atHandMax is the largest body that is sent with its header. It fits into what any
// socket holds that waits to be sent, so that sending it does not wait for the origin.
const atHandMax = 8 << 10

// atHand reports whether the body of req can be read without waiting for the client,
// because the body says so: by a method Buffered, as bufio.Reader has it.
func atHand(req *http.Request) bool {
	return req.ContentLength > 0 && req.ContentLength <= atHandMax && int64(buffered(req.Body)) >= req.ContentLength
}

func buffered(body io.ReadCloser) int {
	if b, ok := body.(interface{ Buffered() int }); ok {
		return b.Buffered()
	}
	return 0
}

// appendBody appends the body of req, and closes it.
func appendBody(out []byte, req *http.Request) ([]byte, error) {
	at := len(out)
	out = append(out, make([]byte, req.ContentLength)...)
	n, err := io.ReadFull(req.Body, out[at:])
	_ = req.Body.Close() // it was read to its end, or has failed
	if err != nil {
		return nil, bodyFault(err, req.ContentLength-int64(n))
	}
	return out, nil
}

// bodyFault is the error of a body that is not there as a whole.
func bodyFault(err error, missing int64) error {
	if missing > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return fmt.Errorf("read the request's body: %d bytes are missing: %w", missing, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read the request's body: %w", err)
}

// upload is a request's body on its way while the response is read.
type upload struct {
	conn     *conn          // another request's once released and done are set
	sending  sync.WaitGroup // the goroutine that sends it
	mu       sync.Mutex
	done     bool
	bodyErr  error       // the client's body could not be read
	writeErr error       // the backend did not take it
	stalled  error       // why: it took nothing for too long; nil if that is not why
	gotHead  bool        // the response's header is there: its time-out is over
	released bool        // the response is read: whoever ends last decides what becomes of the connection
	stuck    atomic.Bool // stalled is set
}

// startUpload sends the body from a goroutine that ends with the body or, when
// the exchange ends first, with the connection's writes and the body's Close.
func (c *conn) startUpload(req *http.Request) {
	u := &upload{conn: c}
	c.upload = u
	c.watch.unbound() // the time-out starts when the body is sent
	u.sending.Go(func() {
		bodyErr, writeErr := writeBody(u, req)
		_ = req.Body.Close() // it was read to its end, or has failed
		u.finish(c, bodyErr, writeErr)
	})
}

// Write sends a piece of the body.
func (u *upload) Write(p []byte) (int, error) { return writeSteadily(u.conn, p, u.extend) }

// extend gives the other side its time to take something anew, unless release has said how
// much there is left.
func (u *upload) extend() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.released && u.conn.SetWriteDeadline(time.Now().Add(u.conn.pool.cfg.ResponseHeaderTimeout)) == nil // fails on a closed connection only
}

func (u *upload) finish(c *conn, bodyErr, writeErr error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done, u.bodyErr, u.writeErr = true, bodyErr, writeErr
	switch {
	case bodyErr != nil:
		_ = c.Close() // half a body must not look like a whole one
	case u.released:
		u.settleLocked(c)
	case errors.Is(writeErr, os.ErrDeadlineExceeded):
		u.stalled = tookNothing(c.pool.cfg.ResponseHeaderTimeout, writeErr)
		u.stuck.Store(true)
		switch {
		case !u.gotHead:
			c.watch.await(0) // nor will it answer
		case c.pool.cfg.BetweenBytesTimeout == 0:
			c.watch.await(c.pool.cfg.ResponseHeaderTimeout) // it may have said what it wants to before it has read the rest
		}
	case !u.gotHead:
		c.watch.await(c.pool.cfg.ResponseHeaderTimeout) // after a failed write too: the backend may have said why
	}
}

// tookNothing is the failure of an upload that does not get on.
func tookNothing(limit time.Duration, err error) error {
	return fmt.Errorf("the other side took nothing of the request's body for %s: %w", limit, err)
}

// release is conn.release for a connection with an upload. The last byte of a
// response often overtakes the note that the body was sent; yet a backend that has
// answered may also never read the rest, and nobody watches the writes any more.
func (u *upload) release(c *conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.released = true
	if u.done {
		u.settleLocked(c)
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(uploadGrace)) // fails on a closed connection only, whose writes fail too
}

func (u *upload) settleLocked(c *conn) {
	if u.bodyErr != nil || u.writeErr != nil || c.SetWriteDeadline(time.Time{}) != nil {
		_ = c.Close() // the request was not sent whole
		return
	}
	c.pool.putIdle(c)
}

// headerRead takes the time-out from the upload; the caller may end it then.
func (u *upload) headerRead() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gotHead = true
}

// failed returns the error of the client's body, or that the backend took no more of it,
// either of which explains all that follows.
func (u *upload) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bodyErr != nil {
		return u.bodyErr
	}
	return u.stalled
}

// copyBuffers hold a piece of a body on its way.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBufferBytes); return &b }}

const copyBufferBytes = 32 << 10 // io.Copy's size

// Room around a chunk that fills a copyBuffer.
const (
	chunkHead = "ffff\r\n"
	chunkTail = "\r\n" + "0\r\n\r\n"
)

// writeBody sends the body piece by piece as it comes, each in one write. It says
// whose fault an error is: the body's, which is the client's, or the connection's.
func writeBody(dst io.Writer, req *http.Request) (bodyErr, writeErr error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	if req.ContentLength < 0 {
		return writeChunks(dst, req, *buf)
	}
	for left := req.ContentLength; left > 0; {
		n, err := req.Body.Read((*buf)[:min(int64(len(*buf)), left)])
		if n > 0 {
			if _, werr := dst.Write((*buf)[:n]); werr != nil {
				return nil, werr
			}
			left -= int64(n)
		}
		if err != nil && (left > 0 || !errors.Is(err, io.EOF)) {
			return bodyFault(err, left), nil
		}
	}
	return nil, nil
}

func writeChunks(dst io.Writer, req *http.Request, buf []byte) (bodyErr, writeErr error) {
	var digits [4]byte
	for {
		n, err := req.Body.Read(buf[len(chunkHead) : len(buf)-len(chunkTail)])
		out := buf[:0]
		if n > 0 {
			size := strconv.AppendInt(digits[:0], int64(n), 16)
			begin := len(chunkHead) - len("\r\n") - len(size)
			copy(buf[begin:], size)
			copy(buf[begin+len(size):], "\r\n")
			out = append(buf[begin:len(chunkHead)+n], "\r\n"...)
		}
		ended := errors.Is(err, io.EOF)
		if ended {
			out = appendLastChunk(out, req.Trailer)
		}
		if len(out) > 0 {
			if _, werr := dst.Write(out); werr != nil {
				return nil, werr
			}
		}
		switch {
		case ended:
			return nil, nil
		case err != nil:
			return bodyFault(err, 0), nil
		}
	}
}

func appendLastChunk(out []byte, trailer http.Header) []byte {
	out = append(out, "0\r\n"...)
	for name, values := range trailer {
		for _, v := range values {
			// What cannot be a trailer has no meaning as one (RFC 9110, section 6.5.1).
			if validTrailerName(name) && httpguts.ValidHeaderFieldValue(v) {
				out = appendField(out, name, v)
			}
		}
	}
	return append(out, "\r\n"...)
}
