package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// proxyHeaderTimeout bounds the wait for the header. The protocol asks for at
// least 3 s, so that one lost packet can be sent again.
const proxyHeaderTimeout = 5 * time.Second

// Reasons why a balancer's connection was closed at its start.
const (
	proxyMissing   = "missing"   // nothing, or something else, within proxyHeaderTimeout
	proxyMalformed = "malformed" // a header that names no address
)

// ProxyProtocol returns a listener for balancers that tell the client's address in
// a header before all else (HAProxy's PROXY protocol, version 1 or 2). From trusted
// addresses each connection must have it, because a receiver that guesses could be
// fooled by a client; one without it is closed. From all others it is not
// looked for, so that one of theirs is a malformed request.
func ProxyProtocol(inner net.Listener, trusted []netip.Prefix) (net.Listener, error) {
	refused, err := telemetry.Meter("tidegate/gateway/listen").Int64Counter("tidegate_gateway_proxy_protocol_refused_total",
		metric.WithDescription("Connections from trusted proxies that were closed for want of a PROXY header, by reason."))
	if err != nil {
		return nil, fmt.Errorf("declare metrics of the PROXY protocol: %w", err)
	}
	return &proxyListener{&proxyproto.Listener{
		Listener:          inner,
		ReadHeaderTimeout: proxyHeaderTimeout,
		ValidateHeader:    tellsClient,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			peer, ok := o.Upstream.(*net.TCPAddr)
			if !ok {
				return proxyproto.SKIP, nil
			}
			address := peer.AddrPort().Addr().Unmap().WithZone("")
			for _, p := range trusted {
				if p.Contains(address) {
					return proxyproto.REQUIRE, nil
				}
			}
			return proxyproto.SKIP, nil
		},
	}, refused}, nil
}

// tellsClient refuses addresses that no HTTP client over TCP has. A connection of
// the balancer's own (LOCAL), or one whose client it does not know (UNKNOWN), has the
// connection's own addresses, as if there were no header: so section 2.1 of the protocol
// says, whatever addresses follow the word. What such a client tells of itself is
// therefore believed as far as the balancer is. An unknown client in version 2 (PROXY with
// UNSPEC) is refused, as section 2.2 allows.
func tellsClient(h *proxyproto.Header) error {
	if h.Command.IsLocal() || h.SourceAddr == nil {
		return nil
	}
	if _, ok := h.SourceAddr.(*net.TCPAddr); !ok {
		return fmt.Errorf("the PROXY header names the address %q, which is not one of TCP", h.SourceAddr)
	}
	return nil
}

type proxyListener struct {
	*proxyproto.Listener
	refused metric.Int64Counter
}

func (l *proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if c, ok := c.(*proxyproto.Conn); ok {
		return &proxyConn{Conn: c, refused: l.refused}, nil
	}
	return c, nil
}

// proxyConn counts connections that end at their header.
type proxyConn struct {
	*proxyproto.Conn
	refused metric.Int64Counter
	once    sync.Once
}

func (c *proxyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && c.ProxyHeader() == nil {
		c.once.Do(func() {
			reason := proxyMalformed
			if errors.Is(err, proxyproto.ErrNoProxyProtocol) {
				reason = proxyMissing
			}
			c.refused.Add(context.Background(), 1, metric.WithAttributes(attribute.String("reason", reason)))
		})
	}
	return n, err
}

// CloseWrite lets a server say that nothing more comes while it still reads: a connection
// that is closed over what was sent resets its client.
func (c *proxyConn) CloseWrite() error {
	if half, ok := c.Raw().(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
