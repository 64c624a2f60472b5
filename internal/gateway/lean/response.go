package lean

import (
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"tidegate/internal/lines"
)

const (
	// drainBytesMax and lingerMax bound what is read of a request's body that the
	// handler has left, so that the client reads the response instead of a reset; as
	// in net/http.
	drainBytesMax = 256 << 10
	lingerMax     = 500 * time.Millisecond
)

// framing is how a client knows where a response ends.
type framing uint8

const (
	undecided framing = iota
	byNothing         // it has no body
	byLength
	byChunks
)

// response writes one response. It belongs to the handler until that returns.
type response struct {
	conn   *conn
	toHead bool  // the request's method is HEAD
	body   *body // of the request; nil if it has none
	header http.Header
	out    []byte // that is not yet sent

	framing   framing
	status    int   // 0 before WriteHeader
	length    int64 // with byLength
	written   int64
	announced []string // trailers that Trailer names
	closing   bool     // no request follows
	duplex    bool     // the handler reads the request's body while it answers
	deadlines bool     // some were set
	err       error    // of the connection
}

func (w *response) begin(c *conn, toHead, closing bool) {
	*w = response{conn: c, toHead: toHead, header: w.header, out: w.out[:0], announced: w.announced[:0], closing: closing}
}

// end drops what the handler may have put in.
func (w *response) end() {
	clear(w.header)
	w.conn, w.body = nil, nil
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// EnableFullDuplex implements what http.ResponseController asks for.
func (w *response) EnableFullDuplex() error {
	w.duplex = true
	return nil
}

// SetReadDeadline bounds reads of the request's body.
func (w *response) SetReadDeadline(t time.Time) error {
	w.deadlines = true
	return w.conn.nc.SetReadDeadline(t)
}

// SetWriteDeadline bounds the wait for room for the response: what there is room for goes
// out at any time.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.deadlines = true
	return w.conn.nc.SetWriteDeadline(t)
}

// WriteHeader implements http.ResponseWriter. Later changes of the header change
// nothing but trailers.
func (w *response) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic("invalid WriteHeader code " + strconv.Itoa(status)) // as net/http does
	case w.status != 0:
		w.conn.server.logf("http: superfluous response.WriteHeader call: %d after %d", status, w.status)
		return
	case status < 200 && status != http.StatusSwitchingProtocols:
		w.inform(status)
		return
	}
	if !w.duplex && w.pending() && !w.body.drain() {
		w.closing = true // a client that sends before it reads must not wait for ever
	}
	w.status = status
	w.out = appendStatus(w.out, status)
	w.announce()
	w.decide(w.header["Content-Length"], w.header["Connection"])
	for name, values := range w.header {
		if !strings.HasPrefix(name, http.TrailerPrefix) && w.passes(name) {
			w.out = appendField(w.out, name, values)
		}
	}
	w.endFields(len(w.header["Date"]) > 0)
}

// writeList is WriteHeader of a response that is not informational and whose header is a
// list, beside which there is none. It announces no trailers.
func (w *response) writeList(status int, h *lines.Header) {
	w.status = status
	w.out = appendStatus(w.out, status)
	w.decide(h.Lines("Content-Length"), h.Lines("Connection"))
	dated := false
	for i, name := range h.Names {
		if w.passes(name) {
			w.out = append(append(append(append(w.out, name...), ": "...), h.Values[i]...), "\r\n"...)
			dated = dated || name == "Date"
		}
	}
	w.endFields(dated)
}

// inform sends an informational response.
func (w *response) inform(status int) {
	w.out = appendStatus(w.out, status)
	for name, values := range w.header {
		if name != "Content-Length" && name != "Transfer-Encoding" {
			w.out = appendField(w.out, name, values)
		}
	}
	w.out = append(w.out, "\r\n"...)
	w.send()
}

// announce notes which trailers the header names.
func (w *response) announce() {
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			if httpguts.ValidTrailerHeader(name) {
				w.announced = append(w.announced, name)
			}
		}
	}
}

// decide finds the framing that is clear from the status and the header.
func (w *response) decide(lengths, connection []string) {
	w.length = -1
	if len(lengths) > 0 {
		n, err := strconv.ParseInt(lengths[0], 10, 64)
		if err == nil && n >= 0 {
			w.length = n
		} else {
			w.conn.server.logf("http: invalid Content-Length of %q", lengths[0])
		}
	}
	switch {
	case !bodyAllowed(w.status) || w.toHead:
		w.framing = byNothing
	case w.length >= 0:
		w.framing = byLength
	}
	if slices.Contains(connection, "close") || w.conn.server.closing.Load() {
		w.closing = true
	}
}

// bodyAllowed reports whether a response may have a body (RFC 9110, section 6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// passes reports whether a field goes out as it is: it is not about the framing.
func (w *response) passes(name string) bool {
	switch name {
	case "Content-Length", "Transfer-Encoding":
		return false
	case "Connection":
		return !w.closing
	case "Content-Type":
		return w.status != http.StatusNotModified
	}
	return true
}

// endFields writes what the header must have and, if the framing is clear, its end.
func (w *response) endFields(dated bool) {
	if w.length >= 0 && bodyAllowed(w.status) {
		w.out = appendLength(w.out, w.length)
	}
	if w.closing {
		w.out = append(w.out, "Connection: close\r\n"...)
	}
	if !dated {
		w.out = append(append(append(w.out, "Date: "...), *w.conn.server.date.Load()...), "\r\n"...)
	}
	if w.framing != undecided {
		w.out = append(w.out, "\r\n"...)
	}
}

// chunk settles that the body comes in chunks.
func (w *response) chunk() {
	w.framing = byChunks
	w.out = append(w.out, "Transfer-Encoding: chunked\r\n\r\n"...)
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) { return write(w, p) }

// WriteString implements io.StringWriter.
func (w *response) WriteString(s string) (int, error) { return write(w, s) }

func write[T string | []byte](w *response, p T) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case len(p) == 0:
		return 0, nil
	case !bodyAllowed(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.framing == byNothing: // HEAD
		return len(p), nil
	case w.framing == undecided:
		w.chunk()
	}
	w.written += int64(len(p))
	if w.framing == byLength {
		if w.written > w.length {
			return 0, http.ErrContentLength
		}
		return len(p), push(w, p)
	}
	w.out = append(strconv.AppendInt(w.out, int64(len(p)), 16), "\r\n"...)
	if err := push(w, p); err != nil {
		return 0, err
	}
	w.out = append(w.out, "\r\n"...)
	return len(p), nil
}

// push buffers p, or sends it at once where that would not fit.
func push[T string | []byte](w *response, p T) error {
	if len(w.out)+len(p) <= bufferBytes {
		w.out = append(w.out, p...)
		return nil
	}
	if w.send(); w.err != nil {
		return w.err
	}
	if len(p) < bufferBytes {
		w.out = append(w.out, p...)
		return nil
	}
	switch p := any(p).(type) {
	case string:
		_, err := io.WriteString(w.conn.nc, p)
		w.fail(err)
	case []byte:
		_, err := w.conn.nc.Write(p)
		w.fail(err)
	}
	return w.err
}

// fail notes that the client cannot be reached, which ends the request.
func (w *response) fail(err error) {
	if err != nil {
		w.err = err
		w.conn.cancel()
	}
}

func (w *response) send() {
	if w.err == nil && len(w.out) > 0 {
		w.fail(w.conn.write(w.out))
	}
	if w.out = w.out[:0]; cap(w.out) > headBytesMax {
		w.out = make([]byte, 0, bufferBytes) // of a header of unusual length
	}
}

// FlushError sends what there is.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.framing == undecided {
		w.chunk()
	}
	w.send()
	return w.err
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() } // the next write has the error

// finish ends the response when the handler has returned, and reports whether another
// request may follow.
func (w *response) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	var trailers http.Header
	if w.framing == undecided || w.framing == byChunks {
		trailers = w.trailers()
	}
	if w.framing == undecided {
		if len(trailers) > 0 || len(w.announced) > 0 {
			w.chunk()
		} else {
			w.framing, w.length = byLength, 0
			w.out = append(appendLength(w.out, 0), "\r\n"...)
		}
	}
	if w.framing == byChunks {
		w.out = append(w.out, "0\r\n"...)
		for name, values := range trailers {
			w.out = appendField(w.out, name, values)
		}
		w.out = append(w.out, "\r\n"...)
	}
	w.send()
	if w.err != nil || w.framing == byLength && w.written != w.length || w.conn.base.Context().Err() != nil {
		return false
	}
	if w.body != nil && !w.leaveBody() {
		return false
	}
	if w.deadlines && w.conn.nc.SetDeadline(time.Time{}) != nil {
		return false
	}
	return !w.closing
}

// pending reports whether some of the request's body has not been read.
func (w *response) pending() bool { return w.body != nil && !w.conn.bodyRead.Load() }

// leaveBody deals with a body that the handler has not read. Nothing of it must ever be
// read as a request.
func (w *response) leaveBody() bool {
	if !w.pending() {
		return w.body.Close() == nil
	}
	nc := w.conn.nc
	w.deadlines = true
	if nc.SetReadDeadline(time.Now().Add(lingerMax)) != nil || w.body.Close() != nil { // which waits for a reader
		return false
	}
	if !w.closing && w.body.drain() {
		return true
	}
	if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, nc) // until the client has seen the end, or the time is over
	}
	return false
}

// abort makes sure that nobody reads the request's body any more.
func (w *response) abort() {
	if w.body != nil {
		_ = w.conn.nc.SetReadDeadline(time.Unix(1, 0)) // ends a read that waits; the connection is about to be closed
		_ = w.body.Close()                             // never fails
	}
}

// trailers returns what follows the body, or nil.
func (w *response) trailers() (list http.Header) {
	add := func(name string, values []string) {
		if list == nil {
			list = http.Header{}
		}
		list[name] = append(list[name], values...)
	}
	for name, values := range w.header {
		if bare, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(bare, values)
		}
	}
	for _, name := range w.announced {
		if values := w.header[name]; len(values) > 0 {
			add(name, values)
		}
	}
	return list
}

func appendStatus(b []byte, status int) []byte {
	if status == http.StatusOK {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = append(strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10), ' ')
	if text := http.StatusText(status); text != "" {
		return append(append(b, text...), "\r\n"...)
	}
	return append(strconv.AppendInt(append(b, "status code "...), int64(status), 10), "\r\n"...)
}

func appendLength(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, "Content-Length: "...), n, 10), "\r\n"...)
}

// appendField writes what can be a field, and nothing that could end a line.
func appendField(b []byte, name string, values []string) []byte {
	for i := range len(name) {
		if !isToken[name[i]] {
			return b
		}
	}
	if name == "" {
		return b
	}
	for _, v := range values {
		if strings.ContainsAny(v, "\r\n") {
			v = strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
		}
		b = append(append(append(append(b, name...), ": "...), textproto.TrimString(v)...), "\r\n"...)
	}
	return b
}
