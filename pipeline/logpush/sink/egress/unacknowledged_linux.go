package egress

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Unacknowledged returns how many bytes of what was written to a TCP connection of Dial, its end included, the other
// side's kernel has not confirmed (SIOCOUTQ, tcp(7)). After a reset that is what it did not confirm before. 0 where the
// system does not tell.
func Unacknowledged(conn net.Conn) (bytes int, err error) {
	if watched, ok := conn.(*watchedConn); ok {
		conn = watched.Conn
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("ask a %T what is not acknowledged: %w", conn, errors.ErrUnsupported)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var errAsk error
	err = raw.Control(func(fd uintptr) { bytes, errAsk = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }) // #nosec G115 -- a descriptor
	return bytes, errors.Join(err, errAsk)
}
