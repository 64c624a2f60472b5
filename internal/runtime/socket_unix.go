//go:build unix

package runtime

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"tidegate/internal/nowait"
)

// rawSocket does with a connection what net.Conn cannot: it asks the kernel without
// waiting, and waits without having asked. It belongs to its conn, as a request does.
type rawSocket struct {
	raw    syscall.RawConn // nil where there is no socket to ask
	broken bool            // it had one, which is closed
	probe  func(fd uintptr) bool
	step   func(fd uintptr) bool
	byte   [1]byte
	silent bool // what probe found

	// Of the exchange in hand.
	phase   phase
	out, in []byte
	sent, n int
	err     error
}

// phase is what an exchange does next.
type phase uint8

const (
	toProbe phase = iota
	toSend
	toRead
)

func (s *rawSocket) init(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		s.broken = true
		return
	}
	s.raw, s.probe, s.step = raw, s.look, s.next
}

// alive reports whether an idle connection is still open and silent: bytes that nobody
// asked for make it unusable as much as its end does.
func (s *rawSocket) alive() bool {
	if s.raw == nil {
		return !s.broken
	}
	return s.raw.Read(s.probe) == nil && s.silent
}

func (s *rawSocket) look(fd uintptr) bool {
	_, err := nowait.Read(fd, s.byte[:])
	s.silent = errors.Is(err, syscall.EAGAIN)
	return true // never wait until there is something to read
}

// canExchange reports whether exchange may be called.
func (s *rawSocket) canExchange() bool { return s.raw != nil }

// exchange sends out and reads the first bytes of the answer into in. It begins to
// wait for them at once, where a read would first ask for what cannot be there yet. A
// connection that was idle must be alive still, or exchange sends nothing and returns
// errStale. If the socket has no room for all of out it returns before any of the answer:
// sent says how far it came.
func (s *rawSocket) exchange(out, in []byte, idle bool) (sent, n int, err error) {
	s.phase, s.out, s.in, s.sent, s.n, s.err = toSend, out, in, 0, 0, nil
	if idle {
		s.phase = toProbe
	}
	err = s.raw.Read(s.step)
	s.out, s.in = nil, nil
	if err == nil {
		err = s.err
	}
	return s.sent, s.n, err
}

// next is called with the poller armed, and again when there is something to read. It
// returns true when the exchange is over.
func (s *rawSocket) next(fd uintptr) bool {
	switch s.phase {
	case toProbe:
		if s.look(fd); !s.silent {
			s.err = errStale
			return true
		}
		s.phase = toSend
		return s.next(fd)
	case toSend:
		n, err := nowait.Write(fd, s.out)
		s.sent = n
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			s.err = os.NewSyscallError("write", err)
			return true
		}
		s.phase = toRead
		return s.sent < len(s.out)
	case toRead:
	}
	n, err := nowait.Read(fd, s.in)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false
	case err != nil:
		s.err = os.NewSyscallError("read", err)
	case n == 0:
		s.err = io.EOF
	}
	s.n = n
	return true
}
