package runtime

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// refusedPause is how long an origin that refuses a connection is given before it is
// tried once more. A server that is started anew by its supervisor listens again by
// then more often than not, and nothing of the request has been sent.
const refusedPause = 100 * time.Millisecond

// dialOrigin connects to an origin. Its error has a kind. With failover a refused
// connection is not tried again: another endpoint takes the request at once.
func dialOrigin(ctx context.Context, dialer *net.Dialer, network, addr string, failover bool) (net.Conn, error) {
	dial := func() (net.Conn, error) { return dialer.DialContext(ctx, network, addr) }
	var c net.Conn
	var err error
	if failover {
		c, err = dial()
	} else {
		c, err = twice(ctx, refusedPause, dial)
	}
	if err != nil {
		return nil, dialFault(ctx, addr, err)
	}
	return c, nil
}

// twice repeats a dial that was refused, once, after the pause. Other failures took
// their time already, or will not be over so soon.
func twice(ctx context.Context, pause time.Duration, dial func() (net.Conn, error)) (net.Conn, error) {
	c, err := dial()
	if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
		return c, err
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return dial()
	}
}
