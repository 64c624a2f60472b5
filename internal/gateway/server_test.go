package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"tidegate/internal/gateway"
)

// A connection that a browser has opened ahead of need, or a probe, used to hold
// Shutdown until net/http gave it up after 5 s. A request in hand is finished still.
func TestShutdownDoesNotWaitForSilentConnections(t *testing.T) {
	// A machine that stands still for a while makes one stop late, but not each.
	for tries := 3; ; tries-- {
		err := shutDownBesideASilentConnection(t)
		if err == nil {
			return
		}
		if t.Logf("Shutdown: %v", err); tries == 1 {
			t.Fatal("no stop was in time")
		}
	}
}

func shutDownBesideASilentConnection(t *testing.T) error {
	t.Helper()
	inHand, finish := make(chan struct{}), make(chan struct{})
	server := gateway.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(inHand)
		<-finish
		_, _ = io.WriteString(w, "whole")
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	known := 0
	dial := func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		known++
		waitFor(t, "the connection", func() bool { return server.Stats().Conns == known })
		return c
	}
	silent, busy := dial(), dial()
	_, _ = io.WriteString(busy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-inHand

	// Within what net/http would wait for the silent one alone.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(ctx) }()
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("the silent connection was sent something")
	}
	close(finish)
	resp, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil {
		t.Fatalf("the request in hand: %v", err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "whole" || err != nil {
		t.Errorf("the request in hand got %q, %v", body, err)
	}
	_ = resp.Body.Close()
	defer func() { _, _ = server.Close(), <-served }()
	return <-stopped
}
