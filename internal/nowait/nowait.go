// Package nowait reads and writes sockets without ever waiting. What it does is for the
// callbacks of a syscall.RawConn, which knows how to wait.
package nowait

import (
	"errors"
	"os"
	"syscall"
)

// Writer writes to a connection. It belongs to one goroutine at a time.
type Writer struct {
	raw  syscall.RawConn
	step func(fd uintptr) bool
	left []byte // of the Write in hand
	err  error  // of the same
}

// Init must come first.
func (w *Writer) Init(raw syscall.RawConn) { w.raw, w.step = raw, w.next }

// Write sends all of p. Like a Write of the connection it waits for room until the
// connection's deadline or end.
func (w *Writer) Write(p []byte) error {
	w.left, w.err = p, nil
	err := w.raw.Write(w.step)
	w.left = nil
	if err != nil {
		return err
	}
	return w.err
}

// WriteHeld is Write for a caller within a callback of a read of the same connection, which
// holds fd for it. Only what there is no room for goes the way of Write.
func (w *Writer) WriteHeld(fd uintptr, p []byte) error {
	n, err := Write(fd, p)
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		return os.NewSyscallError("write", err)
	}
	if n == len(p) {
		return nil
	}
	return w.Write(p[n:])
}

// next reports whether the Write is over.
func (w *Writer) next(fd uintptr) bool {
	for len(w.left) > 0 {
		n, err := Write(fd, w.left)
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			w.err = os.NewSyscallError("write", err)
			return true
		}
		w.left = w.left[n:]
	}
	return true
}
