// Package lean serves the common case of HTTP/1.1 at a fraction of what net/http
// costs: one goroutine a connection, no timers, and next to no garbage.
//
// It reads a strict subset of the protocol and nothing else. Where a request is
// outside it, or could be read in two ways, the connection goes to net/http with all
// bytes of that request, and stays there. So refusals, upgrades, HTTP/2 and
// everything rare are in one place, and what is served here is never in doubt.
package lean

import (
	"cmp"
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server accepts connections, serves them itself while it can, and hands the others
// to HTTP. Its methods may be called concurrently; fields are set before Serve.
type Server struct {
	// Handler answers the requests that are served here. It must keep nothing of a
	// request or a response writer after it has returned; strings it may keep. It may be
	// a ListHandler, too.
	Handler http.Handler
	// HTTP gets what is not served here. Its Handler, limits, ErrorLog and hooks are its own.
	HTTP *http.Server
	// ReadHeaderTimeout bounds the wait for a request's header, from its first byte or,
	// for the first request, from the connection's start; IdleTimeout the wait for
	// the next request. Both are kept to within a tick.
	ReadHeaderTimeout, IdleTimeout time.Duration
	// ConnContext may add to the context of a connection, which all its requests have, one
	// after the other. Nil adds nothing.
	ConnContext func(context.Context) context.Context
	// NewConnGrace is how long after the start of a Shutdown the first request of a
	// connection is awaited. It may be on its way.
	NewConnGrace time.Duration

	lists      ListHandler // Handler, or nil
	closing    atomic.Bool
	ended      atomic.Bool // the grace is over
	ticks      atomic.Int64
	date       atomic.Pointer[string]
	handed     handedListener
	handedLate atomic.Bool // a connection went to HTTP while closing
	setUp      sync.Once
	stop       chan struct{} // closed with Close, and by Shutdown when all has ended
	wake       chan struct{} // holds one signal at most: there are connections again

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	empty     chan struct{} // closed and replaced when the last connection has gone
	served    int64         // requests of connections that have gone
	handovers [reasons]int64
}

// Stats are the numbers of a server since its start.
type Stats struct {
	Requests   int64            // that were served here
	Conns      int              // that are served here now
	HandedOver map[string]int64 // connections that went to net/http, by reason; all reasons are there
}

func (s *Server) init() {
	s.setUp.Do(func() {
		s.lists, _ = s.Handler.(ListHandler)
		s.handed.conns, s.handed.closed = make(chan net.Conn), make(chan struct{})
		s.stop, s.wake = make(chan struct{}), make(chan struct{}, 1)
		s.mu.Lock() // Stats may be asked before Serve
		s.listeners, s.conns = map[net.Listener]struct{}{}, map[*conn]struct{}{}
		s.empty = make(chan struct{})
		s.mu.Unlock()
		s.tick()
		go s.sweepUntilStopped()                    // ends with Shutdown or Close, as the next
		go func() { _ = s.HTTP.Serve(&s.handed) }() // fails when it is shut down, and only then
	})
}

// Serve accepts connections until the listener fails, or until Shutdown or Close:
// then it returns http.ErrServerClosed. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	s.init()
	s.handed.addr.Store(&addrOf{l.Addr()})
	s.mu.Lock()
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	if s.closing.Load() {
		_ = l.Close() // Shutdown may not have seen it
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
	}()
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		if s.closing.Load() && err != nil {
			return http.ErrServerClosed
		}
		if temporary(err) {
			// Out of file descriptors, most likely: net/http waits as well.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logf("gateway: accept: %v; trying again in %s", err, pause)
			time.Sleep(pause)
			continue
		}
		if err != nil {
			return err
		}
		pause = 0
		s.take(nc)
	}
}

func temporary(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Temporary() //nolint:staticcheck // deprecated for its vagueness, and all there is for Accept
}

// take serves a connection here if its socket can be watched.
func (s *Server) take(nc net.Conn) {
	c := newConn(s, nc)
	if c == nil {
		s.handOver(nc, reasonTransport)
		return
	}
	if s.add(c) {
		go c.serve() // ends with its connection, which Close and Shutdown see to
	}
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() { // accepted before its listener was closed
		_ = c.nc.Close() // nothing was promised on it
		return false
	}
	if len(s.conns) == 0 {
		s.stampDate()
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.conns[c] = struct{}{}
	return true
}

// remove forgets a connection that is closed or handed over.
func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.served += c.requests.Load()
	if len(s.conns) == 0 {
		close(s.empty)
		s.empty = make(chan struct{})
	}
}

// Shutdown closes the listeners and idle connections, waits for the requests in
// flight, here and in HTTP, and returns ctx's error if that ends first. HTTP, which
// answers nothing new once it is shut down, is so after the connections here, or after
// NewConnGrace: their requests may be for it.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	listenErr := s.closeListeners()
	grace := time.AfterFunc(s.NewConnGrace, func() {
		s.ended.Store(true)
		s.closeThose(stateNew)
		s.closeThose(stateReading) // or slow senders would hold the stop
	})
	defer grace.Stop()
	s.closeThose(stateIdle)
	early, cancel := context.WithTimeout(ctx, s.NewConnGrace)
	defer cancel()
	if s.wait(early) == nil && s.handedLate.Load() {
		<-early.Done() // net/http may not have read the request yet
	}
	rest := make(chan error, 1)
	go func() { rest <- s.HTTP.Shutdown(ctx) }()
	err := s.wait(ctx)
	if httpErr := <-rest; err == nil {
		err = httpErr
	}
	if err != nil {
		return err
	}
	s.ended.Store(true)
	s.end()
	return listenErr
}

func (s *Server) wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, empty := len(s.conns), s.empty
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-empty:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close closes all listeners and connections. Requests in flight are cut off, and
// their contexts end.
func (s *Server) Close() error {
	s.init()
	s.ended.Store(true)
	err := s.closeListeners()
	s.mu.Lock()
	for c := range s.conns {
		c.cut()
	}
	s.mu.Unlock()
	s.end()
	return errors.Join(err, s.HTTP.Close())
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
}

func (s *Server) closeListeners() error {
	s.closing.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for l := range s.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// closeThose closes the connections in a state in which nobody waits for an answer.
func (s *Server) closeThose(st state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if word := c.word.Load(); stateOf(word) == st {
			c.retire(word)
		}
	}
}

// Stats returns the numbers so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := Stats{Requests: s.served, Conns: len(s.conns), HandedOver: map[string]int64{}}
	for c := range s.conns {
		stats.Requests += c.requests.Load()
	}
	for r, name := range reasonNames {
		stats.HandedOver[name] = s.handovers[r]
	}
	return stats
}

func (s *Server) logf(format string, args ...any) {
	cmp.Or(s.HTTP.ErrorLog, log.Default()).Printf(format, args...) // as net/http has it
}
