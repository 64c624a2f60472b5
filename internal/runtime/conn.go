package runtime

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"time"

	"tidegate/schema"
)

var (
	errUnanswered  = errors.New("the connection ended before a response")
	errStale       = errors.New("the connection was no longer good")
	errHeadTooLong = fmt.Errorf("the response's header is longer than %d bytes", headBytesMax)
)

// conn is one connection to an origin. It belongs to one request at a time:
// between takeIdle or dial and putIdle or Close.
type conn struct {
	net.Conn
	pool      *http1
	br        *bufio.Reader
	socket    rawSocket
	idleSince time.Time // under pool.mu

	watch    watch   // of the request's context, and of deadlines for reading
	unsent   []byte  // a request without a body, which goes out with the first read
	unproven bool    // the connection was idle, and may have ended since
	headLeft int     // bytes of a response's header that may still come; negative: no bound
	doubtful bool    // a response's header was not as it should be: no other request may follow
	upload   *upload // nil for a request without a body, or with one that was sent with the header
}

func newConn(pool *http1, nc net.Conn) *conn {
	c := &conn{Conn: nc, pool: pool}
	c.socket.init(nc)
	c.watch.init(nc, pool.patrol)
	c.br = bufio.NewReaderSize(c, readBufferBytes)
	return c
}

// readBufferBytes holds a whole header, as a rule, and a small body with it. Large
// bodies are read past it.
const readBufferBytes = 8 << 10

// Read bounds the header of a response; http.ReadResponse does not.
func (c *conn) Read(p []byte) (int, error) {
	if c.headLeft < 0 {
		return c.Conn.Read(p)
	}
	if c.headLeft == 0 {
		return 0, errHeadTooLong
	}
	p = p[:min(len(p), c.headLeft)]
	read := c.Conn.Read
	if c.unsent != nil {
		read = c.sendAndRead
	}
	n, err := read(p)
	c.headLeft -= n
	return n, err
}

// sendAndRead sends the request and reads the first bytes of the answer.
func (c *conn) sendAndRead(p []byte) (int, error) {
	out := c.unsent
	c.unsent = nil
	sent, n, err := c.socket.exchange(out, p, c.unproven)
	if err != nil || sent == len(out) {
		return n, err
	}
	if err := c.sendSteadily(out[sent:]); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// sendSteadily sends what the socket may have no room for, as writeSteadily does.
func (c *conn) sendSteadily(p []byte) error {
	_, err := writeSteadily(c, p, func() bool {
		return c.SetWriteDeadline(time.Now().Add(c.pool.cfg.ResponseHeaderTimeout)) == nil // fails on a closed connection only
	})
	if err == nil {
		err = c.SetWriteDeadline(time.Time{})
	}
	return err
}

// writeSteadily writes p. The other side may be slow, but has to take something in the time that
// it has for a response's header. extend gives it that time anew, or reports that there is no more.
func writeSteadily(to net.Conn, p []byte, extend func() bool) (sent int, err error) {
	for {
		more := extend()
		n, err := to.Write(p[sent:])
		if sent += n; !more || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return sent, err
		}
	}
}

// roundTrip sends req, whose header is in buf, and reads the header of its response.
// After an error the connection is closed. An error that wraps errUnanswered came
// before the first byte of a response, and left buf as it was; one that is errStale, too,
// came before the first byte of the request.
func (c *conn) roundTrip(req *http.Request, buf *[]byte) (*http.Response, error) {
	c.upload, c.doubtful = nil, false
	c.watch.begin(req.Context())
	resp, err := c.exchange(req, buf)
	if err != nil {
		c.release(false)
		if c.upload != nil {
			if cause := c.upload.failed(); cause != nil {
				return nil, cause
			}
		}
		closeBody(req)
		return nil, err
	}
	return resp, nil
}

func (c *conn) exchange(req *http.Request, buf *[]byte) (*http.Response, error) {
	body := hasBody(req)
	expects := body && len(req.Header["Expect"]) > 0
	out := *buf
	if body && !expects && atHand(req) {
		var err error
		if out, err = appendBody(out, req); err != nil {
			return nil, err
		}
		*buf, body = out, false
	}
	if !body && c.socket.canExchange() {
		c.unsent = out
	} else if err := c.sendSteadily(out); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	switch {
	case expects: // awaitHead bounds the wait
	case body:
		c.startUpload(req)
	default:
		c.watch.await(c.pool.cfg.ResponseHeaderTimeout)
	}
	c.headLeft = headBytesMax
	if err := c.awaitHead(req, expects); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	resp, err := c.readFinal(req, expects, buf)
	if err == nil {
		err = req.Context().Err() // nobody wants the response, be it that the patrol has not noticed yet
	}
	if err != nil {
		return nil, err
	}
	if c.upload != nil {
		c.upload.headerRead()
	}
	c.headLeft = -1
	c.watch.unbound()
	c.attachBody(req, resp, expects && c.upload == nil)
	return resp, nil
}

// awaitHead waits for the first byte of a header. While a body waits for a 100 it does so for a
// while only, and then starts the upload: a client does not wait for ever (RFC 9110, section
// 10.1.1), whatever else it is told meanwhile.
func (c *conn) awaitHead(req *http.Request, expects bool) error {
	waits := expects && c.upload == nil
	if waits {
		c.watch.await(c.pool.cfg.ContinueTimeout)
	}
	_, err := c.br.Peek(1)
	switch {
	case !waits:
	case err == nil:
		c.watch.await(c.pool.cfg.ResponseHeaderTimeout)
	case kindOf(err) == schema.ErrorKindTimeout:
		c.startUpload(req)
		_, err = c.br.Peek(1)
	}
	return err
}

// readFinal reads headers up to the one of the response proper. A 100 starts an
// upload that waits for it; the other informational ones go to the client trace.
func (c *conn) readFinal(req *http.Request, expects bool, buf *[]byte) (*http.Response, error) {
	for {
		resp, err := c.readHead(req, buf)
		if err != nil {
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
		if err := c.awaitHead(req, expects); err != nil {
			return nil, err
		}
	}
}

// readHead reads one header. One that is written as it should be is read by parseHead, in
// buf; all others by http.ReadResponse, which is milder and needs more time. That somebody
// else on the way reads those otherwise is likely enough to give the connection up afterwards.
func (c *conn) readHead(req *http.Request, buf *[]byte) (*http.Response, error) {
	head := c.bufferedHead()
	buffered := head != nil
	if !buffered {
		head = c.gatherHead(buf)
	}
	if bytes.HasSuffix(head, emptyLine) {
		if a := c.parseHead(head, req, buf); a != nil {
			a.resp.Request = req
			if !buffered {
				return &a.resp, nil
			}
			_, err := c.br.Discard(len(head))
			return &a.resp, err
		}
	}
	c.doubtful = true
	if !buffered {
		c.br = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(head)), c.br), readBufferBytes)
	}
	resp, err := http.ReadResponse(c.br, req)
	if err != nil {
		return nil, err
	}
	return resp, checkHead(resp)
}

// parseHead reads a head into the list of the request's exchange if there is one and the
// head is plain, or else into a map.
func (c *conn) parseHead(head []byte, req *http.Request, buf *[]byte) *answer {
	if x := listsOf(req); x != nil {
		if a := listHead(head, req.Method, x); a != nil {
			return a
		}
	}
	*buf = append((*buf)[:0], head...)
	return parseHead(*buf, req.Method)
}

// emptyLine is the end of a head, with that of the line before.
var emptyLine = []byte("\r\n\r\n")

// bufferedHead returns the bytes up to the next empty line, if they came with the first ones.
func (c *conn) bufferedHead() []byte {
	if _, err := c.br.Peek(1); err != nil {
		return nil // the next read fails like this one
	}
	b, err := c.br.Peek(c.br.Buffered())
	end := bytes.Index(b, emptyLine)
	if err != nil || end < 0 {
		return nil
	}
	return b[:end+len(emptyLine)]
}

// gatherHead takes what bufferedHead did not find into buf: a head that comes in pieces, is
// longer than the connection's buffer, or ends otherwise. It reads up to the first empty line, in
// either spelling. Whoever sends what is no head may send no more of it, so it ends there, too,
// as it does at an error: http.ReadResponse finds the same one.
func (c *conn) gatherHead(buf *[]byte) []byte {
	head := (*buf)[:0]
	for begin, status := 0, true; ; {
		piece, err := c.br.ReadSlice('\n')
		head = append(head, piece...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue // a long line
		}
		line := head[begin:]
		if err != nil || string(line) == "\n" || string(line) == "\r\n" || !mayBeLine(line, status) {
			break
		}
		begin, status = len(head), false
	}
	*buf = head
	return head
}

// mayBeLine reports whether a line of a head, or its first one, is one in anybody's eyes.
func mayBeLine(line []byte, first bool) bool {
	if first {
		return bytes.HasPrefix(line, []byte("HTTP/"))
	}
	return line[0] == ' ' || line[0] == '\t' || bytes.IndexByte(line, ':') >= 0
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

// end is the end of an exchange whose response was given out.
func (c *conn) end(keep bool) {
	busy := c.pool.busy
	c.release(keep)
	busy.Add(-1)
}

// release ends the request's hold on c. It is kept for another one only if keep
// is set, the client has not left, and both sides are at the end of a message.
func (c *conn) release(keep bool) {
	untouched := c.watch.end()
	switch {
	case !keep || !untouched || c.doubtful || c.br.Buffered() > 0:
		_ = c.Close() // an error tells nothing that the exchange has not told
	case c.upload == nil:
		c.pool.putIdle(c)
	default:
		c.upload.release(c)
	}
}
