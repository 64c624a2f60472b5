package app

import (
	"context"
	"fmt"
	"net"
	"os"
)

// sdNotify tells the service manager how this process is (sd_notify(3)), where it wants
// to know.
func sdNotify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // an @ is for Go what it is for systemd
	if err != nil {
		return fmt.Errorf("tell the service manager %q: %w", state, err)
	}
	defer func() { _ = conn.Close() }() // the datagram is sent or not
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager %q: %w", state, err)
	}
	return nil
}

// keepNotified tells the service manager when everything serves, and when that ends. It
// does without the manager's ear rather than not at all.
func (p *process) keepNotified(ctx context.Context) error {
	tell := func(state string) {
		if err := sdNotify(state); err != nil {
			p.log.Warn("the service manager was not told", "error", err)
		}
	}
	if p.awaitServing(ctx) == nil {
		// After a take-over the process that the manager started is another one.
		tell(fmt.Sprintf("READY=1\nMAINPID=%d", os.Getpid()))
		<-ctx.Done()
	}
	if p.replacement == nil || p.replacement.drainsUntil().IsZero() { // else the service goes on in another process
		tell("STOPPING=1")
	}
	return nil
}

// awaitServing returns nil once everything is ready and the listeners accept.
func (p *process) awaitServing(ctx context.Context) error {
	if err := p.awaitReady(ctx); err != nil || p.replacement == nil {
		return err
	}
	select {
	case <-p.replacement.serving:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
