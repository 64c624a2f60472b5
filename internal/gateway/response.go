package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"tidegate/schema"
)

// copyBuffers hold a piece of a response on its way; 32 kB is io.Copy's size.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// copyBody passes the body on piece by piece as it comes: after each read that
// was not the last one the client has all there is. It tells the backend's
// errors from the client's, which is given up at x.sendTimeout.
func copyBody(w http.ResponseWriter, resp *http.Response, x *exchange) (readErr, writeErr error) {
	client := http.NewResponseController(w)
	defer func() { x.wait.stop() }() // which may be made below
	if resp.Body == http.NoBody {
		return nil, nil
	}
	if resp.ContentLength < 0 {
		// The client may wait for the header of a stream whose first piece is far
		// off. It also makes a short body come in chunks, which trailers need.
		if err := client.Flush(); err != nil {
			return nil, err
		}
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	left := resp.ContentLength // negative: unknown
	for {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			left -= int64(n)
			if left != 0 || n > quietBytes {
				if x.wait == nil {
					x.wait = sendPatience(w, x.sendTimeout)
				}
				x.wait.begin()
			}
			if _, err := w.Write((*buf)[:n]); err != nil {
				return nil, err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
		if left != 0 {
			if err := client.Flush(); err != nil {
				return nil, err
			}
		}
		x.wait.end()
	}
}

// copyTrailers passes on what came after the body, announced or not. What cannot be a
// trailer, such as Content-Length, goes nowhere (RFC 9110, section 6.5.1).
func copyTrailers(h, trailer http.Header) {
	for name, values := range trailer {
		if !validTrailer(name, values) {
			continue
		}
		if !httpguts.HeaderValuesContainsToken(h["Trailer"], name) {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// validTrailer reports whether a field may be a trailer. net/http reads trailers
// without the checks that it has for headers.
func validTrailer(name string, values []string) bool {
	return httpguts.ValidHeaderFieldName(name) && httpguts.ValidTrailerHeader(name) &&
		!slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) })
}

// upgrade joins the client's connection and the backend's after a 101, until one
// of them ends or the gateway does. A backend switches when it has the whole request: the rest of
// a body would come on the connection that is the tunnel's then, and two would read it.
func (g *Gateway) upgrade(w http.ResponseWriter, out *http.Request, resp *http.Response, body *clientBody, x *exchange) {
	wanted, got := upgradeOf(out.Header), upgradeOf(resp.Header)
	backend, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || wanted == "" || !strings.EqualFold(wanted, got) {
		g.fail(w, out, body, x, fmt.Errorf("asked for a switch to %q, the backend switched to %q", wanted, got))
		return
	}
	if body.pending() {
		g.fail(w, out, body, x, fmt.Errorf("the backend switched to %q before it had the whole request", got))
		return
	}
	g.responseHeader(w.Header(), resp, x)
	w.Header()["Connection"], w.Header()["Upgrade"] = []string{"Upgrade"}, []string{got}
	resp.Header, resp.Body, resp.Request = w.Header(), nil, nil // so that Write sends the header only, without a length
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		g.fail(w, out, body, x, fmt.Errorf("take over the client's connection: %w", err))
		return
	}
	g.upgrades.Add(1)
	defer g.upgrades.Done()
	x.status, x.outcome = resp.StatusCode, schema.OutcomeOK
	if err := writeSwitch(buffered.Writer, resp); err != nil {
		x.outcome = schema.OutcomeCanceled
	} else {
		x.left = !joinConns(g.ending, client, buffered.Reader, backend)
	}
	_ = client.Close() // net/http leaves it to us, and the other side is gone
}

func writeSwitch(w *bufio.Writer, resp *http.Response) error {
	if err := resp.Write(w); err != nil {
		return err
	}
	return w.Flush()
}

// joinConns copies both ways. The end of either side ends both, because most
// protocols over an upgraded connection have no half-closed state. It reports
// whether the backend ended first, not the client or ctx.
func joinConns(ctx context.Context, client net.Conn, fromClient io.Reader, backend io.ReadWriteCloser) (backendFirst bool) {
	var first, once sync.Once
	note := func(byBackend bool) { first.Do(func() { backendFirst = byBackend }) }
	end := func(byBackend bool) {
		note(byBackend)
		once.Do(func() {
			if !byBackend || !sayEnd(client) {
				_ = client.Close()
			}
			_ = backend.Close() // with the client's end, ends both copies
		})
	}
	stop := context.AfterFunc(ctx, func() { end(false) })
	var other sync.WaitGroup
	other.Go(func() {
		read := &endReader{Reader: fromClient}
		_, _ = io.Copy(backend, read) // either end of a tunnel is an ordinary one
		full := !read.ended
		if full { // the backend takes no more; what it has said may still be on its way
			note(true)
			_ = client.SetDeadline(time.Now().Add(lingerMax))
			_, _ = io.Copy(io.Discard, read) // or the client would be reset, and lose that
		}
		end(full)
	})
	read := &endReader{Reader: backend}
	_, _ = io.Copy(client, read)
	end(read.ended)
	other.Wait()
	if !stop() {
		end(false) // waits for the one that is under way
	}
	return backendFirst
}

// sayEnd tells a client that nothing more comes, and gives it lingerMax to leave. It reports
// false for one that can only be closed. Over TLS it waits for what is being written.
func sayEnd(client net.Conn) bool {
	half, ok := client.(interface{ CloseWrite() error })
	return ok && client.SetDeadline(time.Now().Add(lingerMax)) == nil && half.CloseWrite() == nil
}

// endReader knows whether it came to its end, or failed: if not, it was a write that
// ended a copy.
type endReader struct {
	io.Reader
	ended bool
}

func (r *endReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.ended = r.ended || err != nil
	return n, err
}
