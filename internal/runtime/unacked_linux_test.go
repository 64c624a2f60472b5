package runtime

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"tidegate/schema"
)

// An HTTP/2 connection whose other side takes nothing any more, as a process that was stopped or a
// firewall that forgot the connection, is given up with its streams, and not used again.
func TestHTTP2ConnectionThatTakesNothingIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	room := func(bytes int) { // of the connections that come
		raw, err := l.(*net.TCPListener).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes) })
		}
		if err != nil {
			t.Error(err)
		}
	}
	room(4 << 10)
	server := &http.Server{
		Handler:           http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }),
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: time.Minute,
	}
	server.Protocols.SetUnencryptedHTTP2(true)
	over := make(chan struct{})
	t.Cleanup(func() { close(over); _ = server.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_ = h2.NewFramer(c, c).WriteSettings()
			<-over
			_ = c.Close()
		}()
		_ = server.Serve(l) // what comes next
	}()
	cfg := shortConfig()
	cfg.UnackedTimeout = 100 * time.Millisecond
	backend := open(t, cfg, "h2c://"+l.Addr().String())
	send := func() (*http.Response, error) {
		req := request(t, http.MethodPost, "/", "x")
		body := bytes.NewReader(make([]byte, 60<<10)) // an origin's first window has room for it
		req.Body, req.ContentLength = io.NopCloser(body), body.Size()
		return backend.RoundTrip(req)
	}
	resp, err := send()
	wantKind(t, resp, err, schema.ErrorKindReset)
	room(1 << 20)
	resp, err = send()
	readAll(t, resp, err)
}
