package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

const (
	// refusalsMax is how many refused connections are answered at once; what comes
	// beyond is closed without a word.
	refusalsMax = 64
	// refusalTime is how long such a client may take to read the answer.
	refusalTime = 500 * time.Millisecond
	// refusal is what a client in clear text gets. Over TLS the connection is closed: a
	// handshake would cost more than what the bound is there to save.
	refusal = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nConnection: close\r\n" +
		"Content-Length: 50\r\n\r\nThis gateway has as many connections as it takes.\n"
)

var epoch = time.Now()

// BoundsConfig says what a gateway bears of its clients' connections. Zero bounds nothing.
type BoundsConfig struct {
	ConnectionsMax int // open at once, over all listeners
	// ConnectionsPerClientMax is the part of them that one address may have, or one /64
	// of IPv6. Exempt are the balancers in front, which have the connections of many.
	ConnectionsPerClientMax int
	Exempt                  []netip.Prefix
	SendTimeout             time.Duration // how long a client may take nothing that it is sent
}

// Reasons why a connection is refused.
const (
	refusedTotal  = "total"
	refusedClient = "client"
)

// Bounds hold the connections of all of a gateway's listeners together.
type Bounds struct {
	cfg                BoundsConfig
	open               atomic.Int64
	clients            perClient
	refusing           chan struct{} // has an element for each refusal that is under way
	refused, exhausted metric.Int64Counter
}

// NewBounds returns bounds for listeners that Listener makes.
func NewBounds(cfg BoundsConfig) (*Bounds, error) {
	b := &Bounds{
		cfg: cfg, refusing: make(chan struct{}, refusalsMax),
		clients: perClient{max: cfg.ConnectionsPerClientMax, exempt: cfg.Exempt},
	}
	meter := telemetry.Meter("tidegate/gateway/listen")
	var errs [3]error
	b.refused, errs[0] = meter.Int64Counter("tidegate_gateway_connections_refused_total",
		metric.WithDescription("Connections that were refused because as many as are allowed were open, in total or of that client."))
	b.exhausted, errs[1] = meter.Int64Counter("tidegate_gateway_connections_timed_out_total",
		metric.WithDescription("Connections that were closed because their client took nothing of what it was sent for too long."))
	_, errs[2] = meter.Int64ObservableGauge("tidegate_gateway_connections", metric.WithDescription("Connections of clients that are open."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error { o.Observe(b.open.Load()); return nil }))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("declare metrics of connections: %w", err)
	}
	return b, nil
}

// Listener returns a listener whose connections are held to the bounds. It belongs next
// to the network, below PROXY headers and TLS. clear says that HTTP can be
// spoken on its connections as they are.
func (b *Bounds) Listener(inner net.Listener, clear bool) net.Listener {
	return &boundListener{Listener: inner, bounds: b, clear: clear}
}

type boundListener struct {
	net.Listener
	bounds   *Bounds
	clear    bool
	refusals sync.WaitGroup
}

func (l *boundListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		bound, reason := l.bounds.admit(c)
		if bound != nil {
			return bound, nil
		}
		l.bounds.refused.Add(context.Background(), 1, metric.WithAttributes(attribute.String("reason", reason)))
		l.refuse(c)
	}
}

// admit counts c, or says why it must not be.
func (b *Bounds) admit(c net.Conn) (bound *boundConn, reason string) {
	if n := b.open.Add(1); b.cfg.ConnectionsMax > 0 && n > int64(b.cfg.ConnectionsMax) {
		b.open.Add(-1)
		return nil, refusedTotal
	}
	client, counted := b.clients.key(c.RemoteAddr())
	if counted && !b.clients.take(client) {
		b.open.Add(-1)
		return nil, refusedClient
	}
	return &boundConn{Conn: c, bounds: b, client: client}, ""
}

// refuse ends c, and does not wait for its client.
func (l *boundListener) refuse(c net.Conn) {
	if l.clear {
		select {
		case l.bounds.refusing <- struct{}{}:
			l.refusals.Go(func() {
				tell(c)
				<-l.bounds.refusing
			})
			return
		default:
		}
	}
	_ = c.Close() // nothing was promised on it
}

// tell answers and closes. The client's request is read, or the kernel would reset the
// connection, and the answer with it.
func tell(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(refusalTime)) // a client that is gone needs no answer, here and below
	_, _ = io.WriteString(c, refusal)
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, c, 64<<10)
	_ = c.Close()
}

// Close also waits for the refusals that are under way.
func (l *boundListener) Close() error {
	err := l.Listener.Close()
	l.refusals.Wait()
	return err
}

// boundConn has a deadline for each of its writes, which is moved only when a quarter
// of it has passed, so that most writes move none. Deadlines that its user sets go
// before it, until the user takes them away.
type boundConn struct {
	net.Conn
	bounds *Bounds
	client netip.Addr // that it is counted under; invalid for none
	closed atomic.Bool
	moved  atomic.Int64 // when the deadline was moved last, in ns since epoch; 0 for never
	theirs atomic.Bool  // the deadline is the user's
}

func (c *boundConn) Write(p []byte) (int, error) {
	limit := c.bounds.cfg.SendTimeout
	ours := limit > 0 && !c.theirs.Load()
	if ours {
		now := time.Since(epoch)
		if moved := c.moved.Load(); moved == 0 || now-time.Duration(moved) > limit/4 {
			c.moved.Store(int64(now))
			if err := c.Conn.SetWriteDeadline(time.Now().Add(limit + limit/4)); err != nil {
				return 0, err
			}
		}
	}
	n, err := c.Conn.Write(p)
	if ours && errors.Is(err, os.ErrDeadlineExceeded) && !c.theirs.Load() {
		c.bounds.exhausted.Add(context.Background(), 1)
	}
	return n, err
}

func (c *boundConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() && !c.theirs.Load() {
		return nil // there is none of the user's, and ours stays
	}
	c.theirs.Store(!t.IsZero())
	c.moved.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

func (c *boundConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite is what net/http does before it closes a connection whose client may
// still be sending.
func (c *boundConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SyscallConn lets a server look at the socket, and read of it. What is written to it
// has no bound.
func (c *boundConn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (c *boundConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.bounds.open.Add(-1)
		if c.client.IsValid() {
			c.bounds.clients.release(c.client)
		}
	}
	return c.Conn.Close()
}
