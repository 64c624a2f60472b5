package gateway

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Limits towards clients. Bodies have none: they stream.
const (
	headerBytesMax    = 128 << 10 // Cloudflare's limit for a request's header
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	// newConnGrace is how long after the start of a Shutdown a first request is
	// awaited on a new connection. It may be on its way; net/http waits 5 s for it.
	newConnGrace = 500 * time.Millisecond
)

// NewServer returns a server for the public with limits on everything that a
// client could hold on to without sending a request. Its Shutdown waits for the
// requests in flight, except switched connections, which end with Gateway.Run.
func NewServer(h http.Handler) *http.Server {
	fresh := &newConns{}
	s := &http.Server{
		Handler:           h,
		MaxHeaderBytes:    headerBytesMax,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ConnState:         fresh.note,
	}
	s.RegisterOnShutdown(func() { time.AfterFunc(newConnGrace, fresh.closeAll) })
	return s
}

// newConns are the connections on which no request has come yet: browsers open
// them ahead of need, probes to see whether anybody listens. Shutdown takes them
// for busy.
type newConns struct {
	open  sync.Map // of net.Conn; lock-free for the many requests on connections that have left it
	ended atomic.Bool
}

func (n *newConns) note(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		n.open.Store(c, nil)
		if n.ended.Load() { // accepted before the listener closed, served after closeAll
			_ = c.Close() // nothing was promised on it
		}
	case http.StateIdle: // and active before
	default:
		n.open.Delete(c)
	}
}

func (n *newConns) closeAll() {
	n.ended.Store(true)
	n.open.Range(func(c, _ any) bool {
		_ = c.(net.Conn).Close() // nothing was promised on it
		return true
	})
}
