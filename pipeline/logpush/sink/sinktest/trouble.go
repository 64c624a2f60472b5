package sinktest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
)

// Opener makes a sink of a destination at host:port that may make no progress for so
// long; 0 is as usual.
type Opener func(t *testing.T, address string, noProgress time.Duration) logpush.Sink

// patience is longer than a machine stands still.
const patience = time.Minute

// troubles are what a destination may do to a connection, whatever it speaks. Each comes
// to pass anew with every try, so none of them is permanent.
var troubles = []struct {
	name  string
	hangs bool
	serve func(c net.Conn, over <-chan struct{}) // over is closed once the sink has given up
}{
	{"hangs up at once", false, func(net.Conn, <-chan struct{}) {}},
	{"resets at once", false, func(c net.Conn, _ <-chan struct{}) { reset(c) }},
	{"hangs up in the middle", false, func(c net.Conn, _ <-chan struct{}) { some(c) }},
	{"resets in the middle", false, func(c net.Conn, _ <-chan struct{}) {
		some(c)
		reset(c)
	}},
	{"takes nothing", true, func(c net.Conn, over <-chan struct{}) {
		<-over
		_, _ = io.Copy(io.Discard, c)
	}},
	{"takes it and says nothing", true, func(c net.Conn, over <-chan struct{}) {
		_, _ = io.Copy(io.Discard, c)
		<-over
	}},
	{"speaks another language", false, func(c net.Conn, _ <-chan struct{}) {
		some(c)
		_, _ = io.WriteString(c, "220 mail.example ESMTP\r\n")
	}},
	{"speaks another language on and on", false, func(c net.Conn, _ <-chan struct{}) {
		some(c)
		babble := bytes.Repeat([]byte("x"), 4096)
		for _, err := c.Write(babble); err == nil; _, err = c.Write(babble) {
		}
	}},
	{"lets an answer drip", false, func(c net.Conn, _ <-chan struct{}) {
		some(c)
		for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"); err == nil; _, err = io.WriteString(c, "X-More: to come\r\n") {
			<-time.After(5 * time.Millisecond)
		}
	}},
}

func some(c net.Conn) { _, _ = io.CopyN(io.Discard, c, 10) }

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0) // a reset instead of an orderly end
	_ = c.Close()
}

// Troubles tests what a sink makes of a destination that keeps to no protocol: an error
// after which the object comes again. It must end by itself, and when its context does,
// and leave neither a connection nor a goroutine.
func Troubles(t *testing.T, open Opener, o logpush.Object) {
	t.Run("nobody listens", func(t *testing.T) {
		mayPass(t, open(t, nobody(t), 0).Put(t.Context(), o), false)
	})
	for _, c := range troubles {
		t.Run(c.name, func(t *testing.T) {
			try(t, c.serve, func(address string, _ <-chan struct{}) {
				mayPass(t, open(t, address, 200*time.Millisecond).Put(t.Context(), o), c.hangs)
			})
		})
		if !c.hangs {
			continue
		}
		t.Run(c.name+", and the context ends", func(t *testing.T) {
			try(t, c.serve, func(address string, asked <-chan struct{}) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					<-asked
					cancel()
				}()
				if err := open(t, address, time.Hour).Put(ctx, o); !errors.Is(err, context.Canceled) {
					t.Errorf("put returned %v, want the context's error", err)
				}
			})
		})
	}
}

// mayPass wants the error of an object that is refused for now.
func mayPass(t *testing.T, err error, timeout bool) {
	t.Helper()
	e, ok := errors.AsType[*logpush.UploadError](err)
	if !ok || e.Permanent || e.Records != nil || e.Text == "" {
		t.Errorf("put returned %+v, want an *UploadError that may pass", err)
	} else if timeout && e.Status != logpush.StatusTimeout && e.Status != logpush.StatusConnectTimeout {
		t.Errorf("put returned %+v, want a timeout", err)
	}
}

// nobody returns an address where nobody listens.
func nobody(t *testing.T) string {
	l := listen(t)
	_ = l.Close()
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// try has put talk to a destination that serves connections so. Asked is closed when the first
// one has come.
func try(t *testing.T, serve func(c net.Conn, over <-chan struct{}), put func(address string, asked <-chan struct{})) {
	t.Helper()
	before, l := runtime.NumGoroutine(), listen(t)
	asked, over := make(chan struct{}), make(chan struct{})
	var conns sync.WaitGroup
	conns.Go(func() {
		for first := sync.OnceFunc(func() { close(asked) }); ; {
			c, err := l.Accept()
			if err != nil {
				return
			}
			first()
			conns.Go(func() {
				defer func() { _ = c.Close() }() // it may be closed
				serve(c, over)
			})
		}
	})
	await(t, "put did not return", func() { put(l.Addr().String(), asked) })
	close(over)
	_ = l.Close()
	await(t, "a connection is left open", conns.Wait)
	settle(t, before)
}

// settle waits until no more goroutines run than before.
func settle(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("goroutines are left:\n%s", stacks())
		}
	}
}

// await fails the test if f does not return.
func await(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s:\n%s", what, stacks())
	}
}

func stacks() string {
	var text strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&text, 1) // a builder takes everything
	return text.String()
}
