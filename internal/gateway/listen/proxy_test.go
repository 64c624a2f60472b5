package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// A balancer that says nothing holds a connection for the header's time only, and
// every connection that ends at its header is counted.
func TestProxyHeadersThatDoNotCome(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })

	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := ProxyProtocol(inner, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	l.(*proxyListener).ReadHeaderTimeout = 250 * time.Millisecond
	f := func(sent, reason string, total int64) {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, sent); err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		rest, err := io.ReadAll(server)
		if err == nil || string(rest) != "" {
			t.Errorf("%q: read %q, %v", sent, rest, err)
		}
		if _, err := server.Write([]byte("x")); err == nil {
			t.Errorf("%q: something can be written", sent)
		}
		if _, err := server.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%q: read again: %v", sent, err)
		}
		if got := server.RemoteAddr().String(); got != c.LocalAddr().String() {
			t.Errorf("%q: the peer is %s", sent, got)
		}
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		counts := map[string]int64{}
		for _, p := range all.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]).DataPoints {
			counts[p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Value
		}
		if counts["reason="+reason] != total {
			t.Errorf("%q: the counts are %v, want %d of %s", sent, counts, total, reason)
		}
	}
	f("", proxyMissing, 1)
	f("PRO", proxyMissing, 2)
	f("GET / HTTP/1.1\r\n", proxyMissing, 3)
	f("PROXY TCP4 203.0.113.9", proxyMalformed, 1)
	f("PROXY TCP4 x y 1 2\r\n", proxyMalformed, 2)
}

// A connection with a PROXY header is ended in halves, as others are: the server that refuses an
// upload, or ends a tunnel, reads on so that its client is not reset.
func TestProxiedConnectionsHaveHalves(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := ProxyProtocol(inner, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\nfirst "); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	half, ok := server.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		t.Fatal("what is sent cannot be ended by itself")
	}
	if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
		t.Errorf("the client read %q, %v", got, err)
	}
	if _, err := io.WriteString(c, "second"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if got, err := io.ReadAll(server); err != nil || string(got) != "first second" {
		t.Errorf("the server read %q, %v", got, err)
	}
}

// What a balancer sends is read to the byte, and its client's address is of TCP, and the one
// that it sent; where it knows of none, it is the balancer's own.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\nGET"))
	f.Add([]byte("PROXY UNKNOWN\r\nGET"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\x7f\x00\x00\x01\x12\x67\x00\x50GET"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24" + strings.Repeat("\x20\x01", 16) + "\x12\x67\x00\x50GET"))
	f.Add([]byte("PROXY TCP6 ::ffff:203.0.113.9 ::1 4711 80\r\nGET"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		l, err := ProxyProtocol(pipeListener{sent}, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")})
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		peer, ok := c.RemoteAddr().(*net.TCPAddr)
		if !ok || peer.IP == nil {
			t.Fatalf("the peer is %v", c.RemoteAddr())
		}
		rest, err := io.ReadAll(c)
		if err == nil && len(rest) >= len(sent) {
			t.Errorf("%q was read without a header", sent)
		}
		if err == nil {
			header := sent[:len(sent)-len(rest)]
			if want := addressSent(header); peer.String() != want {
				t.Errorf("the peer of %q is %s, want %s", header, peer, want)
			}
		}
		if err != nil && len(rest) > 0 {
			t.Errorf("%q was read beside %v", rest, err)
		}
	})
}

// addressSent reads a good header (section 2 of the protocol), which ends where it is said to.
func addressSent(header []byte) string {
	const balancer = "192.0.2.1:1"
	if fields := strings.Fields(string(header)); bytes.HasPrefix(header, []byte("PROXY")) {
		if fields[1] == "UNKNOWN" {
			return balancer
		}
		return net.JoinHostPort(netip.MustParseAddr(fields[2]).Unmap().String(), fields[4])
	}
	command, family, addresses := header[12]&0xf, header[13]>>4, header[16:]
	switch {
	case command == 0:
		return balancer
	case family == 1:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addresses)), binary.BigEndian.Uint16(addresses[8:])).String()
	case family == 2:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addresses)).Unmap(), binary.BigEndian.Uint16(addresses[32:])).String()
	}
	return balancer
}

// pipeListener accepts one connection, from 192.0.2.1, with what was sent.
type pipeListener struct{ sent []byte }

func (l pipeListener) Accept() (net.Conn, error) { return &sentConn{rest: l.sent}, nil }
func (pipeListener) Close() error                { return nil }
func (pipeListener) Addr() net.Addr              { return &net.TCPAddr{} }

type sentConn struct {
	net.Conn
	rest []byte
}

func (c *sentConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (*sentConn) RemoteAddr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (*sentConn) LocalAddr() net.Addr             { return &net.TCPAddr{} }
func (*sentConn) SetReadDeadline(time.Time) error { return nil }
func (*sentConn) SetDeadline(time.Time) error     { return nil }
