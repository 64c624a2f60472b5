package lean

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// reason is why a connection goes to net/http. Zero is none.
type reason uint8

const (
	reasonNone      reason = iota
	reasonTransport        // its socket cannot be watched: TLS, PROXY headers, other systems
	reasonHTTP2            // the preface of HTTP/2
	reasonLine             // a request line outside of the subset
	reasonField            // a field line outside of the subset
	reasonFraming          // a body that is not of a plain length, or is announced first
	reasonUpgrade          // a wish to switch protocols, or another option of Connection
	reasonSize             // a header longer than headBytesMax
	reasons
)

var reasonNames = map[reason]string{
	reasonTransport: "transport", reasonHTTP2: "http2", reasonLine: "request_line", reasonField: "field",
	reasonFraming: "framing", reasonUpgrade: "upgrade", reasonSize: "size",
}

// handOver gives a connection to net/http, for good.
func (s *Server) handOver(nc net.Conn, why reason) {
	s.mu.Lock()
	s.handovers[why]++
	s.mu.Unlock()
	select {
	case s.handed.conns <- nc:
		if s.closing.Load() {
			s.handedLate.Store(true)
		}
	case <-s.handed.closed:
		_ = nc.Close() // the server is stopping; nothing was promised on it
	}
}

// handedListener is the listener of the net/http server.
type handedListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   atomic.Pointer[addrOf]
}

type addrOf struct{ net.Addr }

func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *handedListener) Addr() net.Addr {
	if a := l.addr.Load(); a != nil {
		return a.Addr
	}
	return &net.TCPAddr{}
}

// prefixed is a connection some of whose bytes were read already.
type prefixed struct {
	net.Conn
	read []byte // that were; one goroutine reads
}

func (c *prefixed) Read(p []byte) (int, error) {
	if len(c.read) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.read)
	if c.read = c.read[n:]; len(c.read) == 0 {
		c.read = nil // a connection lives longer than its first request
	}
	return n, nil
}

// CloseWrite lets net/http end a refusal without a reset.
func (c *prefixed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
