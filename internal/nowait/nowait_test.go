//go:build unix

package nowait_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/nowait"
)

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dialed.Close(), accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

func raw(t *testing.T, c *net.TCPConn) syscall.RawConn {
	t.Helper()
	r, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tryRead asks once.
func tryRead(t *testing.T, c *net.TCPConn, p []byte) (n int, err error) {
	t.Helper()
	if rawErr := raw(t, c).Control(func(fd uintptr) { n, err = nowait.Read(fd, p) }); rawErr != nil {
		t.Fatal(rawErr)
	}
	return n, err
}

func TestReadDoesNotWait(t *testing.T) {
	a, b := pair(t)
	var p [8]byte
	if n, err := tryRead(t, a, p[:]); n != 0 || !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("of a silent connection: %d bytes, %v; want EAGAIN", n, err)
	}
	_, _ = io.WriteString(b, "tide")
	_ = b.CloseWrite()
	_ = raw(t, a).Read(func(fd uintptr) bool { // until the bytes have come
		_, _, err := syscall.Recvfrom(int(fd), p[:1], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return err == nil
	})
	if n, err := tryRead(t, a, p[:]); err != nil || string(p[:n]) != "tide" {
		t.Errorf("%q, %v; want what was sent", p[:n], err)
	}
	_ = raw(t, a).Read(func(fd uintptr) bool { // until the end has come
		n, err := nowait.Read(fd, p[:])
		if n != 0 || err != nil && !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("after the last byte: %d bytes, %v", n, err)
		}
		return err == nil
	})
}

// tryWrite asks once.
func tryWrite(t *testing.T, c *net.TCPConn, p []byte) (n int, err error) {
	t.Helper()
	if rawErr := raw(t, c).Control(func(fd uintptr) { n, err = nowait.Write(fd, p) }); rawErr != nil {
		t.Fatal(rawErr)
	}
	return n, err
}

func TestWriteDoesNotWait(t *testing.T) {
	a, b := pair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than both sides' buffers hold
	left := sent
	for {
		n, err := tryWrite(t, a, left)
		if n < 0 || n == len(left) || err == nil && n == 0 {
			t.Fatalf("%d of %d bytes, %v; want some of them, or EAGAIN", n, len(left), err)
		}
		left = left[n:]
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, sent[:len(sent)-len(left)]) {
		t.Errorf("%d bytes came that are not the %d sent, %v", len(got), len(sent)-len(left), err)
	}
}

// A signal, or a panic, for a peer that has gone would end the process.
func TestWriteFailsOnceTheOtherSideHasGone(t *testing.T) {
	a, b := pair(t)
	_ = b.SetLinger(0) // resets
	_ = b.Close()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		_, err := tryWrite(t, a, []byte("x"))
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return
		}
		if err != nil {
			t.Fatalf("%v, want a reset", err)
		}
	}
	t.Error("writing to a peer that has gone fails never")
}
