package runtime

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// boundUnacked ends c when the other side's TCP has not taken what was sent, or answered a keep-alive
// probe, for d: TCP_USER_TIMEOUT (RFC 5482).
func boundUnacked(c net.Conn, d time.Duration) {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = raw.Control(func(fd uintptr) { // without it, requests have their time-outs still
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}
