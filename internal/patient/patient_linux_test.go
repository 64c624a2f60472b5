package patient

import (
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func option(t *testing.T, c net.Conn, name int) int {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	var failed error
	if err := raw.Control(func(fd uintptr) { value, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, name) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := Dialer().DialContext(t.Context(), network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A control plane that was cut off from PostgreSQL left every request, and its look for
// changes, to the kernel, which gives a connection up after 15 minutes and sends again up
// to two minutes after the network is whole. `make test-cluster` cuts it off.
func TestSilenceIsBounded(t *testing.T) {
	c := dial(t, "tcp", "127.0.0.1:0")
	if ms := option(t, c, unix.TCP_USER_TIMEOUT); ms != int(silence.Milliseconds()) {
		t.Errorf("what was sent may stay unconfirmed for %d ms", ms)
	}
	if idle, interval, count := option(t, c, unix.TCP_KEEPIDLE), option(t, c, unix.TCP_KEEPINTVL), option(t, c, unix.TCP_KEEPCNT); idle != 5 || interval != 5 || count != 2 {
		t.Errorf("a connection at rest is asked after %d s, every %d s, %d times", idle, interval, count)
	}
}

func TestUnixSocketsHaveNoSilence(t *testing.T) {
	dial(t, "unix", filepath.Join(t.TempDir(), "socket"))
}
