package runtime

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"tidegate/schema"
)

func TestRefusedConnectionIsTriedOnceMore(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	unreachable := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}
	f := func(name string, ctx context.Context, pause time.Duration, errs []error, want error) {
		t.Helper()
		n := 0
		there, here := net.Pipe()
		defer there.Close()
		defer here.Close()
		c, err := twice(ctx, pause, func() (net.Conn, error) {
			if n++; errs[n-1] != nil {
				return nil, errs[n-1]
			}
			return here, nil
		})
		if n != len(errs) || !errors.Is(err, want) || (err == nil) != (c != nil) {
			t.Errorf("%s: %d tries, then %v and %v, want %d and %v", name, n, c, err, len(errs), want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	f("good", t.Context(), 0, []error{nil}, nil)
	f("back again", t.Context(), 0, []error{refused, nil}, nil)
	f("away", t.Context(), 0, []error{refused, refused}, refused)
	f("unreachable", t.Context(), 0, []error{unreachable}, unreachable)
	f("the client left", ended, time.Hour, []error{refused}, context.Canceled)
}

// A client that leaves while a connection is made says nothing, unless that takes long.
func TestWhoLeavesSoonBlamesNobody(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	f := func(ctx context.Context, waited time.Duration, want string) {
		t.Helper()
		if err := abandoned(ctx, "192.0.2.1:80", time.Now().Add(-waited), context.Canceled); blame(err) != want || (err == nil) != (want == "") {
			t.Errorf("after %s: got %v, want the kind %q", waited, err, want)
		}
	}
	f(ended, -time.Hour, "")
	f(ended, abandonedAfter, schema.ErrorKindConnect)
	f(t.Context(), abandonedAfter, "")
}
