package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Who begins a request and never ends it is let go, whether it is read or refused before.
func TestBodiesThatDoNotComeAreNotAwaited(t *testing.T) {
	p := newPlatform(t)
	p.server.AwaitBodies(50 * time.Millisecond)
	for path, status := range map[string]int{"/session": http.StatusBadRequest, "/client/v4/accounts": http.StatusUnauthorized} {
		for _, length := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", path, length); err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // the connection is closed
			if err != nil || answer.StatusCode != status {
				t.Errorf("POST %s with %s is answered %v, error %v", path, length, answer, err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("POST %s with %s: the connection was not ended: %v", path, length, err)
			}
			_ = conn.Close() // it is over
		}
	}
}

// Requests that have come whole are worked on for as long as it takes, and a stream is one.
func TestWhatHasComeIsNotHurried(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	p.server.AwaitBodies(time.Millisecond)
	p.server.BeatEvery(10 * time.Millisecond)
	s := p.watch(t, "shop", "")
	for range 20 {
		s.want("heartbeat", "")
	}
}
