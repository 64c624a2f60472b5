package runtime

import (
	"cmp"
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"tidegate/schema"
)

// refusedPause is how long an origin that refuses a connection is given before it is
// tried once more. A server that is started anew by its supervisor listens again by
// then more often than not, and nothing of the request has been sent.
const refusedPause = 100 * time.Millisecond

// abandonedAfter is how long a connection was waited for in vain when that its client has left
// is no excuse: by then TCP has asked a second time. Most clients have less patience than
// Config.DialTimeout, and an endpoint whose machine is gone would never be taken out for them.
const abandonedAfter = time.Second

// abandoned returns the error of a connection that did not come while ctx lasted, or nil if it
// was not waited for long.
func abandoned(ctx context.Context, addr string, began time.Time, err error) error {
	if ctx.Err() == nil || time.Since(began) < abandonedAfter {
		return nil
	}
	return &Error{schema.ErrorKindConnect, "connect to " + addr, err}
}

// dialOrigin connects to an origin. Its error has a kind. With failover a refused
// connection is not tried again: another endpoint takes the request at once.
func dialOrigin(ctx context.Context, dialer *net.Dialer, network, addr string, failover bool) (net.Conn, error) {
	dial := func() (net.Conn, error) { return dialer.DialContext(ctx, network, addr) }
	var c net.Conn
	var err error
	began := time.Now()
	if failover {
		c, err = dial()
	} else {
		c, err = twice(ctx, refusedPause, dial)
	}
	if err != nil {
		return nil, cmp.Or(abandoned(ctx, addr, began, err), dialFault(ctx, addr, err))
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
