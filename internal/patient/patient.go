// Package patient opens connections to our own services, and gives those up whose other
// end has fallen silent. A machine that is cut off, or has lost its power, closes nothing:
// left to the kernel, what waits for it would wait for a quarter of an hour.
package patient

import (
	"net"
	"time"
)

const (
	// connectTimeout bounds one attempt. It has room for three packets that are lost.
	connectTimeout = 8 * time.Second
	// silence is how long the other end's kernel may leave unconfirmed what was sent, and
	// on a connection at rest the questions whether it is there. The service itself may
	// take as long as it likes to answer. Longer than it takes to lose a few packets in a
	// row, and than a switch takes to find another way.
	silence = 10 * time.Second
	// probe is how long a connection is at rest before the other end is asked, and asked again.
	probe = 5 * time.Second
)

// Dialer returns a dialer of such connections. Where the operating system does not bound
// what waits to be confirmed, as outside Linux, only connections at rest are given up.
func Dialer() *net.Dialer {
	return &net.Dialer{
		Timeout:         connectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probe, Interval: probe, Count: int(silence / probe)},
		Control:         boundSilence,
	}
}
