package kafka

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestTroubles(t *testing.T) {
	for _, transport := range []string{"plaintext", "tls"} {
		t.Run(transport, func(t *testing.T) {
			sinktest.Troubles(t, func(t *testing.T, address string, noProgress time.Duration) logpush.Sink {
				options := loopback
				options.Egress.NoProgress = noProgress
				return open(t, "kafka://"+address+"/events?transport="+transport, options)
			}, batch("one", "two"))
		})
	}
}

// dripping is a connection on which answers come a byte at a time, and never whole.
type dripping struct {
	net.Conn
	from int32 // of the connections of its counter
	no   int32
}

func (c *dripping) Write(p []byte) (int, error) {
	if c.no < c.from {
		return c.Conn.Write(p)
	}
	if n, err := c.Conn.Write([]byte{0, 0, 0x10, 0}); err != nil { // how long the answer will be
		return n, err
	}
	for {
		if n, err := c.Conn.Write([]byte{0}); err != nil {
			return n, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// An answer that drips in is progress, connection by connection, and the client waits for the first of one whatever
// the context says. It must hold no job for longer than a question may take.
func TestAnAnswerThatDrips(t *testing.T) {
	for _, c := range []struct {
		name string
		from int32 // this connection, and all that come after
	}{{"at the first question", 1}, {"where messages are sent", 3}} {
		t.Run(c.name, func(t *testing.T) {
			var conns atomic.Int32
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "events"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
				l, err := net.Listen(network, address)
				return dripsFrom{l, &conns, c.from}, err
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			address := cluster.ListenAddrs()[0]
			s := open(t, "kafka://"+address+"/events?transport=plaintext", loopback).(*sink)
			s.try = 10 * time.Second
			ended := make(chan error, 1)
			go func() { ended <- s.Put(context.Background(), batch("one", "two")) }()
			select {
			case err := <-ended:
				if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Status != logpush.StatusTimeout {
					t.Errorf("put returned %+v, want a timeout", err)
				}
			case <-time.After(time.Minute):
				t.Error("put has not returned")
			}
			if n := conns.Load(); n < c.from {
				t.Errorf("%d connections came: none dripped", n)
			}
		})
	}
}

type dripsFrom struct {
	net.Listener
	conns *atomic.Int32
	from  int32
}

func (l dripsFrom) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &dripping{c, l.from, l.conns.Add(1)}, nil
}

// A broker names others, which may be out of reach where it is not: what the client says of it then is only that it has
// tried often enough.
func TestALeaderThatCannotBeReached(t *testing.T) {
	t.Parallel() // the client waits for half a minute
	b := refusing(t, func([]byte) error { return nil })
	s := open(t, "kafka://"+b.address+"/in?transport=plaintext", loopback).(*sink)
	var conns atomic.Int32
	made := s.dial
	s.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if conns.Add(1) > 2 { // where messages are sent
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
		return made(ctx, network, address)
	}
	e, ok := errors.AsType[*logpush.UploadError](s.Put(t.Context(), batch("one")))
	if !ok || e.Permanent || e.Text != "connection failed: connection refused" {
		t.Errorf("put returned %+v, want that the connection was refused", e)
	}
}
