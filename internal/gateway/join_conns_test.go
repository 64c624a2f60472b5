package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// deaf is a version that takes nothing and goes on talking.
type deaf struct {
	closed chan struct{}
	said   atomic.Int64
}

func (d *deaf) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func (d *deaf) Close() error { close(d.closed); return nil }

func (d *deaf) Read(p []byte) (int, error) {
	select {
	case <-d.closed:
		return 0, net.ErrClosed
	default:
		d.said.Add(int64(len(p)))
		return len(p), nil
	}
}

// The story: a version took no more, and its client, which sent on or read nothing, held the tunnel open
// for as long as it liked. Over TLS not even the gateway's end could break it off.
func TestATunnelEndsWithAVersionThatTakesNoMore(t *testing.T) {
	server := httptest.NewTLSServer(nil) // for its certificate
	defer server.Close()
	for name, test := range map[string]struct {
		secure bool
		client func(c net.Conn, backend *deaf)
	}{
		"the client reads on":             {false, func(c net.Conn, _ *deaf) { _, _ = io.Copy(io.Discard, c) }},
		"the client reads nothing":        {false, func(net.Conn, *deaf) {}},
		"the client reads nothing of TLS": {true, func(net.Conn, *deaf) {}},
		"the client reads nothing, and ends": {true, func(c net.Conn, backend *deaf) {
			for last := int64(-1); last != backend.said.Load(); time.Sleep(50 * time.Millisecond) { // until the gateway waits for it
				last = backend.said.Load()
			}
			_ = c.(*tls.Conn).CloseWrite()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if test.secure {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
				s = tls.Server(s, server.TLS)
				go func() { _ = s.(*tls.Conn).Handshake() }()
			}
			if _, err := io.WriteString(c, "a ping"); err != nil {
				t.Fatal(err)
			}
			backend := &deaf{closed: make(chan struct{})}
			go test.client(c, backend)
			done := make(chan bool, 1)
			go func() { done <- joinConns(context.Background(), s, s, backend) }()
			select {
			case first := <-done:
				if !first {
					t.Error("the client is said to have left first")
				}
			case <-time.After(time.Minute):
				t.Error("the tunnel is still open")
			}
		})
	}
}
