//go:build unix

package runtime

import (
	"errors"
	"net"
	"syscall"
)

// newProbe returns a function that reports whether an idle connection is still
// open and silent. It asks the kernel without waiting; bytes that nobody asked
// for make a connection unusable as much as its end does.
func newProbe(c net.Conn) func() bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return func() bool { return true }
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return func() bool { return false }
	}
	var buf [1]byte
	alive := false
	read := func(fd uintptr) bool {
		_, err := syscall.Read(int(fd), buf[:])
		alive = errors.Is(err, syscall.EAGAIN)
		return true // never wait until there is something to read
	}
	return func() bool { return raw.Read(read) == nil && alive }
}
