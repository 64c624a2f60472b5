package runtime

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http/httptrace"
	"sync/atomic"
)

// refusalsMax is how often one request goes to an HTTP/2 server that says each time that it has not
// looked at it (REFUSED_STREAM, GOAWAY), where there is another endpoint. The Transport would go
// on for a minute; elsewhere it may until the time for a response is over.
const refusalsMax = 2

var errRefused = errors.New("REFUSED_STREAM, each time that it was sent")

// sight is what a Transport tells of a request on its way.
type sight struct {
	body      *carried      // of the request; nil if it has none
	again     func(n int32) // is told when the request goes out by HTTP/2 for the nth time
	tries     atomic.Int32
	connected atomic.Bool
	conn      atomic.Pointer[tls.Conn] // that it went by; nil without TLS
	reused    atomic.Bool              // the connection had been kept
	answered  atomic.Bool              // some of a response has come, be it an informational one
}

func (s *sight) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			c, _ := info.Conn.(*tls.Conn)
			s.conn.Store(c)
			s.connected.Store(true)
			s.reused.Store(info.Reused)
			if s.body != nil {
				s.body.again()
			}
			if s.byHTTP2() {
				s.again(s.tries.Add(1))
			} else {
				s.steady().body.Store(s.body)
			}
		},
		GotFirstResponseByte: func() { s.answered.Store(true) },
	})
}

// byHTTP2 reports whether the request went by HTTP/2. In clear text nothing else is spoken here.
func (s *sight) byHTTP2() bool {
	steady := s.steady()
	return steady == nil || steady.http2
}

func (s *sight) steady() *steadyConn {
	if c := s.conn.Load(); c != nil {
		steady, _ := c.NetConn().(*steadyConn)
		return steady
	}
	return nil
}

// over is the end of the exchange: the connection may be another one's.
func (s *sight) over() {
	if steady := s.steady(); steady != nil && s.body != nil {
		steady.body.CompareAndSwap(s.body, nil)
	}
}

// whyNotSent is why a Transport has closed a connection with a request's body in hand.
func (s *sight) whyNotSent() error {
	if steady := s.steady(); steady != nil {
		if broken := steady.broken.Load(); broken != nil {
			return *broken
		}
	}
	if s.answered.Load() {
		return errors.New("what came before the request was sent is no response")
	}
	return errNotSent
}

// switched lets the connection's other side take its time: what is sent there is no longer
// a request.
func (s *sight) switched() {
	if steady := s.steady(); steady != nil {
		steady.unbound()
	}
}
