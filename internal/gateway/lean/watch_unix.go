//go:build unix

package lean

import (
	"errors"
	"syscall"
)

// peerLeft reports whether the other side has closed its end, and all that it sent
// before has been read.
func peerLeft(fd uintptr) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	if err != nil {
		return !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
	}
	return n == 0
}

// shutDown ends both directions of a connection, whoever uses it.
func shutDown(fd uintptr) {
	_ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) // fails if the other side has done so
}

// shutRead ends what can be read of a connection, which wakes whoever waits for it.
func shutRead(fd uintptr) {
	_ = syscall.Shutdown(int(fd), syscall.SHUT_RD) // fails if there is no other side any more
}

// watchable says that sockets can be looked at here.
const watchable = true
