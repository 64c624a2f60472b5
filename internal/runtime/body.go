package runtime

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"os"
	"sync"
	"time"
)

// attachBody makes resp.Body give the connection back. unsent says that the
// request's body was announced and never sent, so that no request can follow it.
func (c *conn) attachBody(req *http.Request, resp *http.Response, unsent bool) {
	if unsent {
		resp.Close = true
		closeBody(req)
	}
	b, ours := resp.Body.(*responseBody)
	if !ours {
		b = &responseBody{resp: resp, framing: byNetHTTP, src: resp.Body}
		if resp.Body == http.NoBody {
			b.framing = noBody
		}
	}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		_ = c.SetWriteDeadline(time.Time{}) // of the request's body; fails on a closed connection only
		resp.Body = &switched{conn: c}
		return
	case b.framing == noBody && c.upload == nil:
		resp.Body = http.NoBody
		c.end(!resp.Close)
		return
	case b.framing == byChunks:
		b.src = httputil.NewChunkedReader(c.br)
	}
	b.conn, b.upload, b.keep = c, c.upload, !resp.Close
	resp.Body = b
}

// responseBody is the body of a response. Its owner reads and closes it from one goroutine.
type responseBody struct {
	resp     *http.Response
	conn     *conn     // another request's once released is set
	upload   *upload   // of this request; nil if there is none
	src      io.Reader // byChunks: without the trailers; byNetHTTP: all there is to read
	left     int64     // byLength: what is to come
	framing  framing
	keep     bool
	released bool
}

func (b *responseBody) Read(p []byte) (int, error) {
	if b.released {
		return 0, io.EOF
	}
	limit := b.conn.pool.cfg.BetweenBytesTimeout
	if limit == 0 && b.upload != nil && b.upload.stuck.Load() {
		limit = b.conn.pool.cfg.ResponseHeaderTimeout
	}
	if limit > 0 {
		b.conn.watch.await(limit)
	}
	n, err := b.read(p)
	if err == nil {
		return n, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = silentFor(cmp.Or(limit, b.conn.pool.cfg.ResponseHeaderTimeout)) // the latter came while it was read
	}
	return n, b.finish(err)
}

// finish gives the connection back, and returns the error for the reader.
func (b *responseBody) finish(err error) error {
	b.released = true
	if errors.Is(err, io.EOF) {
		b.conn.end(b.keep)
		return io.EOF
	}
	b.conn.end(false)
	return b.conn.pool.fault(b.resp.Request.Context(), "read the response", err)
}

// read returns io.EOF with the last byte, or after it, and only if the body is whole.
func (b *responseBody) read(p []byte) (int, error) {
	switch b.framing {
	case noBody:
		return 0, io.EOF
	case byLength:
		n, err := b.conn.br.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		switch {
		case b.left == 0:
			return n, io.EOF
		case errors.Is(err, io.EOF):
			return n, io.ErrUnexpectedEOF
		}
		return n, err
	case byChunks:
		n, err := b.src.Read(p)
		if errors.Is(err, io.EOF) {
			err = b.readTrailer()
		}
		return n, err
	case untilClose:
		return b.conn.br.Read(p)
	}
	return b.src.Read(p)
}

var errLongTrailer = errors.New("the trailer of the response is too long")

// readTrailer reads what follows the last chunk, and returns io.EOF if that is well.
// Like net/http it takes no more than fits into the connection's buffer.
func (b *responseBody) readTrailer() error {
	br := b.conn.br
	next, err := br.Peek(2)
	if string(next) == "\r\n" {
		if _, err := br.Discard(2); err != nil {
			return err
		}
		return io.EOF
	}
	for n := 2; err == nil && !bytes.HasSuffix(next, []byte("\r\n\r\n")); n++ {
		next, err = br.Peek(n)
	}
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, bufio.ErrBufferFull):
		return errLongTrailer
	case err != nil:
		return err
	}
	header, err := textproto.NewReader(br).ReadMIMEHeader()
	if err != nil {
		return err
	}
	if b.resp.Trailer == nil {
		b.resp.Trailer = http.Header{}
	}
	maps.Copy(b.resp.Trailer, http.Header(header))
	return io.EOF
}

// Close waits for the upload: afterwards nobody reads the request's body.
func (b *responseBody) Close() error {
	if !b.released {
		b.released = true
		b.conn.end(false)
	}
	if b.upload != nil {
		closeBody(b.resp.Request) // ends a read that waits for the client; release has bounded the writes
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
