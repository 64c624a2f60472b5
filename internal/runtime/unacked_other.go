//go:build !linux

package runtime

import (
	"net"
	"time"
)

func boundUnacked(net.Conn, time.Duration) {}
