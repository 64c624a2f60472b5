package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"time"

	"tidegate/schema"
)

// uploadGrace is how long an upload may go on after the response has ended; as in
// net/http.
const uploadGrace = 50 * time.Millisecond

var (
	errUnanswered  = errors.New("the connection ended before a response")
	errHeadTooLong = fmt.Errorf("the response's header is longer than %d bytes", headBytesMax)
)

// conn is one connection to an origin. It belongs to one request at a time:
// between takeIdle or dial and putIdle or Close.
type conn struct {
	net.Conn
	pool      *http1
	br        *bufio.Reader
	bw        *bufio.Writer
	alive     func() bool
	abort     func()    // closes the connection when the client leaves
	idleSince time.Time // under pool.mu

	headLeft int         // bytes of a response's header that may still come; negative: no bound
	stop     func() bool // stops watching the request's context; false when that has ended
	upload   *upload     // nil for a request without a body
}

func newConn(pool *http1, nc net.Conn) *conn {
	c := &conn{Conn: nc, pool: pool, alive: newProbe(nc)}
	c.abort = func() { _ = nc.Close() } // whoever uses it sees the end
	c.br, c.bw = bufio.NewReader(c), bufio.NewWriter(nc)
	return c
}

// Read bounds the header of a response; http.ReadResponse does not.
func (c *conn) Read(p []byte) (int, error) {
	if c.headLeft < 0 {
		return c.Conn.Read(p)
	}
	if c.headLeft == 0 {
		return 0, errHeadTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.headLeft)])
	c.headLeft -= n
	return n, err
}

// roundTrip sends req and reads the header of its response. After an error the
// connection is closed. An error that wraps errUnanswered came before the first
// byte of a response.
func (c *conn) roundTrip(req *http.Request) (*http.Response, error) {
	c.stop = context.AfterFunc(req.Context(), c.abort)
	c.upload = nil
	resp, err := c.exchange(req)
	if err != nil {
		c.release(false)
		if c.upload != nil {
			if bodyErr := c.upload.failed(); bodyErr != nil {
				return nil, bodyErr
			}
		}
		closeBody(req)
		return nil, err
	}
	return resp, nil
}

func (c *conn) exchange(req *http.Request) (*http.Response, error) {
	writeHead(c.bw, req, c.pool)
	if err := c.bw.Flush(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	patience := c.pool.cfg.ResponseHeaderTimeout
	body := hasBody(req)
	expects := body && req.Header.Get("Expect") != ""
	switch {
	case expects:
		patience = c.pool.cfg.ContinueTimeout
	case body:
		c.startUpload(req)
	}
	if c.upload == nil {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return nil, fmt.Errorf("%w: %w", errUnanswered, err)
		}
	}
	c.headLeft = headBytesMax
	_, err := c.br.Peek(1)
	if expects && err != nil && kindOf(err) == schema.ErrorKindTimeout {
		// RFC 9110, section 10.1.1: a client does not wait for ever.
		c.startUpload(req)
		_, err = c.br.Peek(1)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	if expects && c.upload == nil {
		if err := c.SetReadDeadline(time.Now().Add(c.pool.cfg.ResponseHeaderTimeout)); err != nil {
			return nil, err
		}
	}
	resp, err := c.readFinal(req, expects)
	if err != nil {
		return nil, err
	}
	if c.upload != nil {
		c.upload.headerRead()
	}
	c.headLeft = -1
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	c.attachBody(req, resp, expects && c.upload == nil)
	return resp, nil
}

// readFinal reads headers up to the one of the response proper. A 100 starts an
// upload that waits for it; the other informational ones go to the client trace.
func (c *conn) readFinal(req *http.Request, expects bool) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(c.br, req)
		if err != nil {
			return nil, err
		}
		if err := checkHead(resp); err != nil {
			return nil, err
		}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			if req.Header.Get("Upgrade") == "" {
				return nil, errors.New("the backend switched protocols unasked")
			}
			return resp, nil
		case resp.StatusCode >= 200:
			return resp, nil
		case resp.StatusCode == http.StatusContinue:
			if expects && c.upload == nil {
				c.startUpload(req)
			}
		default:
			if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.Got1xxResponse != nil {
				if err := trace.Got1xxResponse(resp.StatusCode, textproto.MIMEHeader(resp.Header)); err != nil {
					return nil, err
				}
			}
		}
	}
}

// checkHead refuses what http.ReadResponse lets through and nobody can rely on. A name
// with a blank before its colon is one that the next reader may take for the name
// without it, and Content-Length then says where two readers part.
func checkHead(resp *http.Response) error {
	if resp.ProtoMajor != 1 {
		return fmt.Errorf("the response says to be %s", resp.Proto)
	}
	if resp.StatusCode < 100 {
		return fmt.Errorf("the response has the status %d", resp.StatusCode)
	}
	for name := range resp.Header {
		if strings.IndexByte(name, ' ') >= 0 {
			return fmt.Errorf("the response's header name %q has a blank", name)
		}
	}
	return nil
}

// attachBody makes resp.Body give the connection back. unsent says that the
// request's body was announced and never sent, so that no request can follow it.
func (c *conn) attachBody(req *http.Request, resp *http.Response, unsent bool) {
	if unsent {
		resp.Close = true
		closeBody(req)
	}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		resp.Body = &switched{conn: c}
	case resp.Body == http.NoBody && c.upload == nil:
		c.end(!resp.Close)
	default:
		resp.Body = &responseBody{src: resp.Body, conn: c, upload: c.upload, req: req, keep: !resp.Close}
	}
}

// end is the end of an exchange whose response was given out.
func (c *conn) end(keep bool) {
	busy := c.pool.busy
	c.release(keep)
	busy.Add(-1)
}

// release ends the request's hold on c. It is kept for another one only if keep
// is set, the client has not left, and both sides are at the end of a message.
func (c *conn) release(keep bool) {
	watching := c.stop()
	switch {
	case !keep || !watching || c.br.Buffered() > 0:
		_ = c.Close() // an error tells nothing that the exchange has not told
	case c.upload == nil:
		c.pool.putIdle(c)
	default:
		c.upload.release(c)
	}
}

// responseBody is the body of a response. Its owner reads and closes it from one goroutine.
type responseBody struct {
	src      io.ReadCloser
	conn     *conn   // another request's once released is set
	upload   *upload // of this request; nil if there is none
	req      *http.Request
	keep     bool
	released bool
}

func (b *responseBody) Read(p []byte) (int, error) {
	if b.released {
		return 0, io.EOF
	}
	n, err := b.src.Read(p)
	if err == nil {
		return n, nil
	}
	b.released = true
	if errors.Is(err, io.EOF) {
		b.conn.end(b.keep)
		return n, io.EOF
	}
	b.conn.end(false)
	return n, b.conn.pool.fault(b.req.Context(), "read the response", err)
}

// Close waits for the upload: afterwards nobody reads the request's body.
func (b *responseBody) Close() error {
	if !b.released {
		b.released = true
		b.conn.end(false)
	}
	if b.upload != nil {
		closeBody(b.req) // ends a read that waits for the client; release has bounded the writes
		b.upload.sending.Wait()
	}
	return nil
}

// switched is the connection after a 101: raw bytes both ways.
type switched struct {
	conn *conn
	once sync.Once
}

func (s *switched) Read(p []byte) (int, error)  { return s.conn.br.Read(p) }
func (s *switched) Write(p []byte) (int, error) { return s.conn.Write(p) }
func (s *switched) Close() error                { s.once.Do(func() { s.conn.end(false) }); return nil }

// upload is a request's body on its way while the response is read.
type upload struct {
	sending  sync.WaitGroup // the goroutine that sends it
	mu       sync.Mutex
	done     bool
	bodyErr  error // the client's body could not be read
	writeErr error // the backend did not take it
	gotHead  bool  // the response's header is there: its time-out is over
	released bool  // the response is read: whoever ends last decides what becomes of the connection
}

// startUpload sends the body from a goroutine that ends with the body or, when
// the exchange ends first, with the connection's writes and the body's Close.
func (c *conn) startUpload(req *http.Request) {
	u := &upload{}
	c.upload = u
	_ = c.SetReadDeadline(time.Time{}) // its time starts when the body is sent; a dead connection shows at the next read
	u.sending.Go(func() {
		bodyErr, writeErr := writeBody(c.bw, req)
		_ = req.Body.Close() // it was read to its end, or has failed
		u.finish(c, bodyErr, writeErr)
	})
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
	case !u.gotHead:
		// After a failed write too: the backend may have said why. Setting a
		// deadline fails on a closed connection only, and that the reader notices.
		_ = c.SetReadDeadline(time.Now().Add(c.pool.cfg.ResponseHeaderTimeout))
	}
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

// headerRead takes the deadline from the upload; the caller may clear it then.
func (u *upload) headerRead() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gotHead = true
}

// failed returns the error of the client's body, which explains all that follows.
func (u *upload) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bodyErr
}
