package lean

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"tidegate/internal/nowait"
)

const (
	bufferBytes = 4 << 10
	// headBytesMax is more than nearly every header has; longer ones net/http reads, which
	// has a limit of its own.
	headBytesMax = 16 << 10
)

// conn is one connection. Its goroutine owns it, but for what is atomic and cancel.
type conn struct {
	server *Server
	nc     net.Conn
	raw    syscall.RawConn
	remote string
	peer   string        // remote without its port
	memory any           // the handler's
	base   *http.Request // an empty request with the connection's context
	cancel context.CancelFunc

	word     atomic.Int64 // its state; see wordOf
	requests atomic.Int64 // that were served
	bodyRead atomic.Bool  // the request in hand has been read to its end

	work     *work // buffers and the request in hand; nil while there is nothing
	tryRead  func(fd uintptr) bool
	readErr  error // of the last tryRead
	gotBytes int   // by the last tryRead
	over     bool  // the connection must end after what tryRead has served
	held     bool  // tryRead is serving, and has fd
	fd       uintptr
	tryWrite func(fd uintptr)
	unsent   []byte // what the last tryWrite was given, less what it has sent
	writeErr error  // of the last tryWrite
	// mayEndLines is how many bytes of empty lines may follow a POST, as net/http has
	// it: old clients end a body with one (RFC 9112, section 2.2).
	mayEndLines int
	gone        bool // left's answer
	look        func(fd uintptr)
}

// work is what a connection needs while there is a request, and no longer: thousands
// of idle ones share a few.
type work struct {
	in       []byte // in[r:w] was read and not yet used
	r, w     int
	head     head
	headAt   int // where it is in in, once it is complete
	exchange Exchange
	request  http.Request
	header   http.Header
	response response
}

var works = sync.Pool{New: func() any {
	w := &work{in: make([]byte, bufferBytes), header: http.Header{}}
	w.response.header, w.response.out = http.Header{}, make([]byte, 0, bufferBytes)
	return w
}}

// newConn returns nil for a connection that cannot be watched.
func newConn(s *Server, nc net.Conn) *conn {
	sc, ok := nc.(syscall.Conn)
	if !ok || !watchable {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	c := &conn{server: s, nc: nc, raw: raw, remote: nc.RemoteAddr().String()}
	c.peer = c.remote
	if host, _, err := net.SplitHostPort(c.remote); err == nil {
		c.peer = host
	}
	c.tryRead, c.tryWrite = c.readOnce, c.writeOnce
	c.look = func(fd uintptr) { c.gone = peerLeft(fd) }
	ctx := context.WithValue(context.Background(), http.ServerContextKey, s.HTTP)
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, nc.LocalAddr())
	if s.ConnContext != nil {
		ctx = s.ConnContext(ctx)
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.base = new(http.Request).WithContext(ctx)
	c.word.Store(wordOf(stateNew, s.ticks.Load()))
	return c
}

// serve answers requests until the connection ends or goes elsewhere.
func (c *conn) serve() {
	handed := false
	defer func() {
		if !handed {
			c.finish()
		}
	}()
	for {
		why, ok := c.readHead()
		if !ok {
			return
		}
		if why == reasonNone && !c.prepare() {
			why = reasonLine
		}
		if why != reasonNone {
			handed = c.handOver(why)
			return
		}
		if !c.serveOne() {
			return
		}
	}
}

// serveOne answers the request in hand, and reports whether the connection goes on.
func (c *conn) serveOne() bool {
	if !c.enter(stateActive) || !c.answer() {
		return false
	}
	next := stateIdle
	if c.pipelined() {
		next = stateReading // Shutdown closes what is idle
	}
	if !c.enter(next) {
		return false
	}
	if next == stateIdle && c.server.closing.Load() { // Shutdown may have looked before it was idle
		return false
	}
	if c.work.r == c.work.w {
		c.giveBack()
	}
	return true
}

// pipelined reports whether some of the next request is here. Empty lines are of none.
func (c *conn) pipelined() bool {
	return len(bytes.TrimLeft(c.work.in[c.work.r:c.work.w], "\r\n")) > 0
}

// finish is the end of the connection here.
func (c *conn) finish() {
	_ = c.nc.Close() // all that was to be said has been
	c.cancel()
	c.giveBack()
	c.server.remove(c)
}

// enter changes the state unless somebody has retired the connection.
func (c *conn) enter(st state) bool {
	for {
		word := c.word.Load()
		if stateOf(word) == stateRetired {
			return false
		}
		if c.word.CompareAndSwap(word, wordOf(st, c.server.ticks.Load())) {
			return true
		}
	}
}

// retire closes the connection if it is still in the state that word says. Its
// goroutine cannot begin a request in between.
func (c *conn) retire(word int64) {
	if c.word.CompareAndSwap(word, wordOf(stateRetired, tickOf(word))) {
		_ = c.nc.Close() // ends the wait of its goroutine
	}
}

// cut ends the connection whatever it does; its goroutine closes it. Closing it here would
// wait for the handler, if that is called by readOnce.
func (c *conn) cut() {
	c.word.Store(wordOf(stateRetired, 0))
	_ = c.raw.Control(shutDown) // first, or its handler could still answer that it was cut off
	c.cancel()
}

// wake has the goroutine of an idle connection look for itself whether the client has left.
// It may have read a request that no state tells of yet, which it can still answer.
func (c *conn) wake() { _ = c.raw.Control(shutRead) } // fails if it has ended

// left reports whether the client has closed its side. The sweeper calls it.
func (c *conn) left() bool {
	c.gone = false
	return c.raw.Control(c.look) != nil || c.gone
}

// readHead reads until there is a request's header, or a reason to leave it to
// net/http. It returns false when the connection has ended.
func (c *conn) readHead() (reason, bool) {
	for {
		if w := c.work; w != nil && w.w > w.r {
			if c.mayEndLines > 0 && w.head.next == 0 && (w.in[w.r] == '\r' || w.in[w.r] == '\n') {
				w.r++
				c.mayEndLines--
				continue
			}
			done, why := w.head.advance(w.in[w.r:w.w])
			switch {
			case done || why != reasonNone:
				return why, true
			case !w.makeRoom():
				return reasonSize, true
			case stateOf(c.word.Load()) != stateReading && !c.enter(stateReading):
				return 0, false
			}
		}
		if c.server.ended.Load() || !c.fill() { // Shutdown may have looked before it was reading
			return 0, false
		}
	}
}

// makeRoom reports whether more of the header may be read.
func (w *work) makeRoom() bool {
	if w.r > 0 {
		w.w = copy(w.in, w.in[w.r:w.w])
		w.r = 0
	}
	if w.w < len(w.in) {
		return true
	}
	if len(w.in) >= headBytesMax {
		return false
	}
	w.in = append(w.in, make([]byte, len(w.in))...)
	return true
}

// fill waits for bytes. While it waits with nothing in hand the connection has no
// buffer.
func (c *conn) fill() bool {
	err := c.raw.Read(c.tryRead)
	return err == nil && c.readErr == nil && c.gotBytes > 0 && !c.over
}

// readOnce reads what is there, and reports whether the wait is over.
//
// Most requests come whole and with nothing after them. Those are served in here, since the
// poller tells of all that comes later: asking for the next request before waiting for it
// would cost a system call that finds nothing. Of a client that closes its side together
// with its request the poller has told already; the sweeper looks for those.
func (c *conn) readOnce(fd uintptr) bool {
	if c.work == nil {
		c.work = works.Get().(*work)
		c.work.head.reset()
	}
	w := c.work
	if w.r == w.w {
		w.r, w.w = 0, 0
	}
	n, err := nowait.Read(fd, w.in[w.w:])
	if errors.Is(err, syscall.EAGAIN) {
		if w.w == 0 {
			c.giveBack()
		}
		return false
	}
	emptied := n < len(w.in)-w.w
	w.w += n
	c.gotBytes, c.readErr = n, err
	if err != nil || !emptied || !c.cameWhole() {
		return true
	}
	c.held, c.fd = true, fd
	c.over = !c.serveOne()
	c.held = false
	return c.over
}

// cameWhole prepares the request in hand if it is one for lists and all that there is.
func (c *conn) cameWhole() bool {
	w := c.work
	if c.server.lists == nil || c.mayEndLines > 0 || c.server.ended.Load() {
		return false
	}
	done, _ := w.head.advance(w.in[w.r:w.w]) // readHead gets the same answer
	return done && w.head.listed() && w.w-w.r == w.head.next && c.prepare()
}

// write sends all of p. What there is no room for waits in a write of the connection itself,
// which knows for how long: a wait on the socket would have no bound, or one that an
// earlier write has left.
func (c *conn) write(p []byte) error {
	c.unsent = p
	if c.held {
		c.writeOnce(c.fd)
	} else if err := c.raw.Control(c.tryWrite); err != nil {
		return err
	}
	rest := c.unsent
	c.unsent = nil
	if c.writeErr != nil || len(rest) == 0 {
		return os.NewSyscallError("write", c.writeErr)
	}
	_, err := c.nc.Write(rest)
	return err
}

// writeOnce sends as much of unsent as there is room for.
func (c *conn) writeOnce(fd uintptr) {
	n, err := nowait.Write(fd, c.unsent)
	if errors.Is(err, syscall.EAGAIN) {
		err = nil
	}
	c.unsent, c.writeErr = c.unsent[n:], err
}

// giveBack ends the connection's hold on its buffers.
func (c *conn) giveBack() {
	w := c.work
	if w == nil {
		return
	}
	c.work = nil
	if len(w.in) > bufferBytes {
		return // rare, and would only grow on us
	}
	w.r, w.w = 0, 0
	works.Put(w)
}

// handOver gives the connection to net/http, with what was read of the request. It
// reports whether there was still a connection to give.
func (c *conn) handOver(why reason) bool {
	if !c.enter(stateRetired) {
		return false
	}
	var read []byte
	if why == reasonHTTP2 && c.requests.Load() > 0 {
		// net/http would begin to speak HTTP/2 here. In the middle of a connection this is
		// no request, as nothing is that begins with an empty line.
		read = append(read, "\r\n"...)
	}
	read = append(read, c.work.in[c.work.r:c.work.w]...)
	c.cancel() // nobody has this context
	c.giveBack()
	c.server.handOver(&prefixed{c.nc, read}, why)
	c.server.remove(c) // after it: Shutdown has net/http take connections while there are any here
	return true
}

// answer has the handler serve the request in hand. It reports whether another one
// may follow.
func (c *conn) answer() (again bool) {
	w := c.work
	c.requests.Add(1)
	defer func() {
		if fault := recover(); fault != nil {
			again = false
			w.response.abort()
			c.work = nil // is not used again: the panic may come from what still has the request
			if err, ok := fault.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				stack := make([]byte, 64<<10)
				c.server.logf("http: panic serving %s: %v\n%s", c.remote, fault, stack[:runtime.Stack(stack, false)])
			}
		}
		w.response.end()
		w.head.reset()
	}()
	if c.server.lists != nil && w.head.listed() {
		w.list()
		c.server.lists.ServeList(&w.exchange)
	} else {
		c.server.Handler.ServeHTTP(&w.response, c.http())
	}
	return w.response.finish()
}

// readBody reads bytes of a request's body, at most left.
func (c *conn) readBody(p []byte, left int64) (int, error) {
	if int64(len(p)) > left {
		p = p[:left]
	}
	w := c.work
	if w.r < w.w {
		n := copy(p, w.in[w.r:w.w])
		w.r += n
		return n, nil
	}
	n, err := c.nc.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
