package listen

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// bounded listens on loopback within bounds. counts returns what the metrics say.
func bounded(t *testing.T, cfg BoundsConfig, clear bool) (l net.Listener, counts func() map[string]int64) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	bounds, err := NewBounds(cfg)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = bounds.Listener(inner, clear)
	t.Cleanup(func() { _ = l.Close() })
	return l, func() map[string]int64 {
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, m := range all.ScopeMetrics[0].Metrics {
			name := strings.TrimPrefix(m.Name, "tidegate_gateway_connections")
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					got[name] += p.Value
				}
			case metricdata.Gauge[int64]:
				got[name] = data.DataPoints[0].Value
			}
		}
		return got
	}
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// One connection more than are allowed is refused in words, and there is room again
// when another one ends.
func TestConnectionsMax(t *testing.T) {
	l, counts := bounded(t, BoundsConfig{ConnectionsMax: 2}, true)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	ask := func(c net.Conn) (int, string) {
		t.Helper()
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	first, second := dial(t, l), dial(t, l)
	for _, c := range []net.Conn{first, second} {
		if status, body := ask(c); status != http.StatusOK || body != "served" {
			t.Errorf("got %d %q", status, body)
		}
	}
	for range 3 {
		if status, body := ask(dial(t, l)); status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "This gateway has as many") {
			t.Errorf("got %d %q", status, body)
		}
	}
	if got := counts(); got[""] != 2 || got["_refused_total"] != 3 {
		t.Errorf("the counts are %v", got)
	}
	_ = first.Close()
	for deadline := time.Now().Add(time.Minute); counts()[""] != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the connection that ended is still counted")
		}
	}
	if status, _ := ask(dial(t, l)); status != http.StatusOK {
		t.Errorf("got %d where there was room", status)
	}
	if status, _ := ask(second); status != http.StatusOK {
		t.Errorf("the connection that was there got %d", status)
	}
}

// Over TLS nothing can be said.
func TestConnectionsMaxOverTLS(t *testing.T) {
	l, counts := bounded(t, BoundsConfig{ConnectionsMax: 1}, false)
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			accepted <- c
		}
	}()
	dial(t, l)
	kept := <-accepted
	defer func() { _ = kept.Close() }()
	if n, err := dial(t, l).Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if got := counts(); got["_refused_total"] != 1 {
		t.Errorf("the counts are %v", got)
	}
}

// A client that takes nothing is given up; deadlines of the server's own go first, and
// ours is back when they are gone.
func TestSendTimeout(t *testing.T) {
	const limit = 100 * time.Millisecond
	f := func(prepare func(c net.Conn), want int64) {
		t.Helper()
		l, counts := bounded(t, BoundsConfig{SendTimeout: limit}, true)
		dial(t, l)
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		prepare(c)
		piece := make([]byte, 32<<10)
		for err == nil {
			_, err = c.Write(piece)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the write failed with %v", err)
		}
		if sc, ok := c.(syscall.Conn); !ok {
			t.Error("the socket cannot be looked at")
		} else if _, err := sc.SyscallConn(); err != nil {
			t.Errorf("look at the socket: %v", err)
		}
		if got := counts()["_timed_out_total"]; got != want {
			t.Errorf("%d are counted, want %d", got, want)
		}
	}
	f(func(net.Conn) {}, 1)
	f(func(c net.Conn) { _ = c.SetWriteDeadline(time.Unix(1, 0)) }, 0)
	f(func(c net.Conn) { _ = c.SetDeadline(time.Unix(1, 0)); _ = c.SetWriteDeadline(time.Time{}) }, 1)
	f(func(c net.Conn) { _, _ = c.Write([]byte("x")); _ = c.SetDeadline(time.Time{}) }, 1)
	f(func(c net.Conn) { // that said nothing for longer than the bound
		_, _ = c.Write([]byte("x"))
		<-time.After(2 * limit)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("the write after a pause: %v", err)
		}
	}, 1)
}

// A client that has as many connections as it may leaves room for the others.
func TestConnectionsPerClient(t *testing.T) {
	f := func(exempt string, want int64) {
		t.Helper()
		l, counts := bounded(t, BoundsConfig{ConnectionsPerClientMax: 2, Exempt: []netip.Prefix{netip.MustParsePrefix(exempt)}}, false)
		accepted := make(chan net.Conn, 4)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return // closed
				}
				accepted <- c
			}
		}()
		for range 3 {
			dial(t, l)
		}
		for deadline := time.Now().Add(time.Minute); counts()["_refused_total"] != want || counts()[""] != 3-want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the counts are %v", counts())
			}
		}
		if want == 0 {
			return
		}
		_ = (<-accepted).Close()
		dial(t, l)
		for range 2 {
			_ = (<-accepted).Close()
		}
		if got := counts(); got[""] != 0 || got["_refused_total"] != want {
			t.Errorf("at last the counts are %v", got)
		}
	}
	f("192.0.2.0/24", 1)
	f("127.0.0.0/8", 0)
}

func TestClientKey(t *testing.T) {
	p := perClient{max: 1, exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	f := func(address, want string) {
		t.Helper()
		key, ok := p.key(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		if got := key.String(); ok != (want != "") || ok && got != want {
			t.Errorf("%s is counted under %s: %t", address, got, ok)
		}
	}
	f("192.0.2.7:1", "192.0.2.7")
	f("[::ffff:192.0.2.7]:1", "192.0.2.7")
	f("[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::")
	f("[fe80::1%eth0]:1", "fe80::")
	f("10.1.2.3:1", "")
	if _, ok := p.key(&net.UnixAddr{}); ok {
		t.Error("a Unix socket is counted")
	}
}
