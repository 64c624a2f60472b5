package lean

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"tidegate/internal/lines"
)

// prepare begins an exchange on a complete header. It returns false for a target that net/url
// does not take; then nothing is changed.
func (c *conn) prepare() bool {
	w := c.work
	h := &w.head
	text := lines.View(w.in[w.r : w.r+h.next])
	x := &w.exchange
	x.Method, x.Target, x.Host = text[h.method.from:h.method.to], text[h.target.from:h.target.to], text[h.host.from:h.host.to]
	if h.plainPath {
		x.Path, _, _ = strings.Cut(x.Target, "?")
	} else {
		u, err := h.url(strings.Clone(x.Target))
		if err != nil {
			return false
		}
		x.Path = u.Path
	}
	w.headAt = w.r
	w.r += h.next
	x.conn = c
	w.response.begin(c, x.Method == http.MethodHead, h.close)
	c.bodyRead.Store(h.length == 0)
	c.mayEndLines = 0
	if x.Method == http.MethodPost {
		c.mayEndLines = len("\r\n\r\n")
	}
	return true
}

// listed reports whether the request is one for a ListHandler.
func (h *head) listed() bool { return h.length == 0 && !h.close && !h.special }

// list makes the list of the header.
func (w *work) list() {
	text := lines.View(w.in[w.headAt : w.headAt+w.head.next])
	w.exchange.Header.Reset()
	for _, f := range w.head.fields {
		w.exchange.Header.Add(text[f.name.from:f.name.to], text[f.value.from:f.value.to])
	}
}

// http makes the request that net/http would.
func (c *conn) http() *http.Request {
	w := c.work
	h := &w.head
	// One string holds all that is taken from the header, because handlers may keep
	// parts of it: in events, in spans, and in headers that are still being sent.
	text := string(w.in[w.headAt : w.headAt+h.next])
	r := &w.request
	*r = *c.base
	r.Method, r.RequestURI = text[h.method.from:h.method.to], text[h.target.from:h.target.to]
	r.URL, _ = h.url(r.RequestURI) // prepare has seen that it can be read
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Host, r.RemoteAddr = text[h.host.from:h.host.to], c.remote
	r.Close, r.ContentLength = h.close, h.length
	r.Header = w.readHeader(text)
	r.Body = http.NoBody
	if h.length > 0 {
		w.response.body = &body{conn: c, left: h.length}
		r.Body = w.response.body
	}
	return r
}

func (h *head) url(target string) (*url.URL, error) {
	if !h.plainPath {
		return url.ParseRequestURI(target)
	}
	path, query, asked := strings.Cut(target, "?")
	return &url.URL{Path: path, RawQuery: query, ForceQuery: asked && query == ""}, nil
}

// readHeader fills the map that is there. The values are in an array of their own,
// since a backend may have the request's header in hand for longer than we do.
func (w *work) readHeader(text string) http.Header {
	clear(w.header)
	values := make([]string, 0, len(w.head.fields))
	for _, f := range w.head.fields {
		name, value := text[f.name.from:f.name.to], text[f.value.from:f.value.to]
		if before, ok := w.header[name]; ok {
			w.header[name] = append(before, value)
			continue
		}
		values = append(values, value)
		n := len(values)
		w.header[name] = values[n-1 : n : n]
	}
	if list := w.header["Pragma"]; len(list) > 0 && list[0] == "no-cache" && w.header["Cache-Control"] == nil {
		w.header["Cache-Control"] = []string{"no-cache"} // as net/http has it
	}
	return w.header
}

var errBodyClosed = errors.New("the request's body is closed")

// body is a request's body of a known length.
type body struct {
	mu     sync.Mutex // held while reading
	conn   *conn
	left   int64
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyClosed
	}
	return b.readLocked(p)
}

func (b *body) readLocked(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.conn.readBody(p, b.left)
	b.left -= int64(n)
	if b.left == 0 {
		b.conn.bodyRead.Store(true)
		err = io.EOF
	}
	return n, err
}

// Buffered returns how many bytes Read returns without waiting for the client.
func (b *body) Buffered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0
	}
	w := b.conn.work
	return int(min(b.left, int64(w.w-w.r)))
}

// Close ends reading. The rest is read, or not, when the handler has returned.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// drain reads on for a moment, and reports whether it came to the end.
func (b *body) drain() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left > drainBytesMax {
		return false
	}
	var rest [4 << 10]byte
	for b.left > 0 {
		if _, err := b.readLocked(rest[:]); err != nil && !errors.Is(err, io.EOF) {
			return false
		}
	}
	return true
}
