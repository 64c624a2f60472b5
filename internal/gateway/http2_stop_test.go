package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// A stop tells HTTP/2 clients to go, finishes the streams in hand, and takes no
// new ones.
func TestShutdownOfHTTP2(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	e := start(t, snapshot(1, script([]string{origin(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, "whole")
	})}, 100_000)))
	server := gateway.NewServer(e)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	busy, idle := dialFrames(t, l.Addr().String(), false), dialFrames(t, l.Addr().String(), false)
	id := busy.send(true, get("/")...)
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(ctx) }()
	for _, c := range []*frames{busy, idle} {
		for {
			frame, err := c.ReadFrame()
			if err != nil {
				t.Fatalf("before a GOAWAY: %v", err)
			}
			if g, ok := frame.(*http2.GoAwayFrame); ok {
				if g.ErrCode != http2.ErrCodeNo {
					t.Errorf("the GOAWAY says %s", g.ErrCode)
				}
				break
			}
		}
	}
	close(release)
	if got := busy.result(id); got != "200 whole" {
		t.Errorf("the stream in hand got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	<-served
	wantEvent(t, e.events.nth(1), schema.OutcomeOK, "", 200)
}

// slowToEnd is a backend that notices late that its client has gone.
type slowToEnd struct{ arrived, gone, release chan struct{} }

func (b *slowToEnd) Update(*deploy.Snapshot) map[string]http.RoundTripper {
	return map[string]http.RoundTripper{v1: b}
}

func (*slowToEnd) Release(func(string) bool) {}

func (b *slowToEnd) RoundTrip(r *http.Request) (*http.Response, error) {
	close(b.arrived)
	<-r.Context().Done()
	close(b.gone)
	<-b.release
	return nil, r.Context().Err()
}

// A server's Shutdown takes a broken HTTP/2 connection for an ended one while its
// handlers still run; Run, the last to use the emitter, waits for their events.
func TestEventsOfBrokenHTTP2ConnectionsOutliveTheServer(t *testing.T) {
	b := &slowToEnd{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	e := start(t, snapshot(1, script([]string{"http://127.0.0.1:1"}, 100_000)), func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) { d.Backends = b })
	c := dialFrames(t, e.addr, false)
	c.send(true, get("/")...)
	<-b.arrived
	_ = c.conn.Close()
	<-b.gone
	stopped := make(chan struct{})
	go func() { e.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("Run has ended before the handler")
	case <-time.After(100 * time.Millisecond):
	}
	close(b.release)
	<-stopped
	if n := len(e.events.all()); n != 1 {
		t.Fatalf("%d events when Run returned, want 1", n)
	}
	wantEvent(t, e.events.nth(1), schema.OutcomeCanceled, "", 0)
}

// endsWithItsClient is a backend that ends its response well as soon as its client has gone,
// as a gRPC server does that sends the status "canceled".
type endsWithItsClient struct{ begun chan struct{} }

func (b endsWithItsClient) RoundTrip(r *http.Request) (*http.Response, error) {
	read, write := io.Pipe()
	go func() {
		_, _ = io.WriteString(write, "x")
		close(b.begun)
		<-r.Context().Done()
		_ = write.Close()
	}()
	return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 2, Header: http.Header{}, Trailer: http.Header{"Grpc-Status": {"1"}}, ContentLength: -1, Body: read}, nil
}

// A response that ends because its client has left was not delivered, however well it ended.
func TestResponseThatEndsWithItsClient(t *testing.T) {
	b := endsWithItsClient{make(chan struct{})}
	e := start(t, snapshot(1, script([]string{"http://127.0.0.1:1"}, 100_000)), func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) { d.Backends = oneBackend{b} })
	c := dialFrames(t, e.addr, false)
	c.send(true, get("/")...)
	<-b.begun
	_ = c.conn.Close()
	wantEvent(t, e.events.nth(1), schema.OutcomeCanceled, "", 200)
}
