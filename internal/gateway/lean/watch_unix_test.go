//go:build unix

package lean

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/nowait"
)

// pair returns the two ends of a connection.
func pair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialed.Close() })
	_ = dialed.SetDeadline(time.Now().Add(time.Minute))
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

func rawOf(t *testing.T, c *net.TCPConn) syscall.RawConn {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The poller tells of an end once. When that is spent, shutRead tells again, whether the other
// side has closed its half or all of the connection, and leaves the way back open.
func TestShutReadWakesWhoWaits(t *testing.T) {
	f := func(end func(client *net.TCPConn) error, open bool) {
		t.Helper()
		client, server := pair(t)
		raw := rawOf(t, server)
		_, _ = io.WriteString(client, "x")
		if err := end(client); err != nil {
			t.Fatal(err)
		}
		var b [8]byte
		if err := raw.Read(func(fd uintptr) bool { // up to the end
			n, err := nowait.Read(fd, b[:])
			for n > 0 {
				n, err = nowait.Read(fd, b[:])
			}
			return !errors.Is(err, syscall.EAGAIN)
		}); err != nil {
			t.Fatal(err)
		}
		wait := func() chan error {
			woken := make(chan error, 1)
			go func() {
				looks := 0
				woken <- raw.Read(func(uintptr) bool { looks++; return looks > 1 })
			}()
			return woken
		}
		woken := wait()
		for waits := false; !waits; {
			select {
			case err := <-woken: // by the poller, which had not told before
				if err != nil {
					t.Fatal(err)
				}
				woken = wait()
			case <-time.After(50 * time.Millisecond):
				waits = true
			}
		}
		if err := raw.Control(shutRead); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-woken:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("nobody was woken")
		}
		if !open {
			return
		}
		if _, err := io.WriteString(server, "bye"); err != nil {
			t.Error(err)
		}
		_ = server.Close()
		if got, err := io.ReadAll(client); string(got) != "bye" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	f((*net.TCPConn).CloseWrite, true)
	f((*net.TCPConn).Close, false)
	f(func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }, false) // a reset
}

// A sweep may find that a client has left when its last request has just been read and the
// state does not tell yet.
func TestSweepBetweenAReadAndItsRequest(t *testing.T) {
	client, server := pair(t)
	s := &Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), HTTP: &http.Server{},
		ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute,
		conns: map[*conn]struct{}{}, empty: make(chan struct{}),
	}
	s.tick()
	c := newConn(s, server)
	if !c.enter(stateIdle) || !s.add(c) {
		t.Fatal("the server does not take the connection")
	}
	const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	_, _ = io.WriteString(client, request)
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.work = works.Get().(*work)
	c.work.head.reset()
	if err := c.raw.Read(func(fd uintptr) bool {
		n, err := nowait.Read(fd, c.work.in[c.work.w:])
		c.work.w += n
		return c.work.w == len(request) || err != nil && !errors.Is(err, syscall.EAGAIN)
	}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !c.left(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the client's end does not come")
		}
	}
	for range idleLookTicks {
		s.tick()
		s.sweep()
	}
	c.serve()
	if got, err := io.ReadAll(client); !strings.HasPrefix(string(got), "HTTP/1.1 200 OK\r\n") || err != nil {
		t.Errorf("got %q, %v; want an answer", got, err)
	}
	if n := s.Stats(); n.Conns != 0 || n.Requests != 1 {
		t.Errorf("%+v", n)
	}
}
