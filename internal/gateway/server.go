package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/internal/gateway/lean"
)

// Limits towards clients. Bodies have none: they stream.
const (
	headerBytesMax    = 128 << 10 // Cloudflare's limit for a request's header
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	// newConnGrace is how long after the start of a Shutdown a first request is
	// awaited on a new connection. It may be on its way; net/http waits 5 s for it.
	newConnGrace = 500 * time.Millisecond

	// Of one HTTP/2 connection. Browsers open up to 100 streams at once, balancers
	// that gather many clients on a connection more.
	streamsMax = 250
	// uploadBytesMax is what a connection may send ahead of its readers, over all of
	// its streams. One of them alone may fill half of it, so that it cannot stop the rest.
	uploadBytesMax       = 1 << 20
	streamUploadBytesMax = uploadBytesMax / 2
	// frameBytesMax is the protocol's least, and enough; a connection keeps a buffer of it.
	frameBytesMax = 16 << 10
	// pingAfter is how long a connection may say nothing before it is asked whether
	// it lives; without an answer within pingTimeout it is closed.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
)

// NewServer returns a server for the public with limits on everything that a
// client could hold on to without sending a request. It speaks HTTP/1.1, and HTTP/2
// with those who begin with its preface (h2c with prior knowledge) or, where its
// listener is one of TLS, agree on it there. Its Shutdown waits for the
// requests in flight, except switched connections, which end with Gateway.Run;
// HTTP/2 connections get a GOAWAY first.
//
// Plain HTTP/1.1 is served by a lean path, everything else by net/http, with the same
// behaviour. The HTTP of the server is a server of its own, which does without the
// lean path.
func NewServer(h http.Handler) *lean.Server {
	return &lean.Server{
		Handler:           h,
		HTTP:              newHTTPServer(h),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		NewConnGrace:      newConnGrace,
		ConnContext:       withConnMemory,
	}
}

func newHTTPServer(h http.Handler) *http.Server {
	fresh := &newConns{}
	s := &http.Server{
		Handler:           h,
		MaxHeaderBytes:    headerBytesMax,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ConnState:         fresh.note,
		ConnContext:       noteTLS,
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          streamsMax,
			MaxReadFrameSize:              frameBytesMax,
			MaxReceiveBufferPerConnection: uploadBytesMax,
			MaxReceiveBufferPerStream:     streamUploadBytesMax,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
		},
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.RegisterOnShutdown(func() { time.AfterFunc(newConnGrace, fresh.closeAll) })
	return s
}

// overTLS is the key of a connection's context that says so.
type overTLS struct{}

func noteTLS(ctx context.Context, c net.Conn) context.Context {
	if _, ok := c.(*tls.Conn); ok {
		return context.WithValue(ctx, overTLS{}, true)
	}
	return ctx
}

// encrypted reports whether a request came over TLS. net/http takes the word of
// an HTTP/2 client for it, who may write either scheme.
func encrypted(r *http.Request) bool {
	return r.TLS != nil || r.ProtoMajor == 2 && r.Context().Value(overTLS{}) != nil
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
