package runtime

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
)

// Kinds of failure of a backend, as they appear in an event's ErrorKind.
const (
	KindConnect  = "connect"  // no connection
	KindDNS      = "dns"      // no address for the name
	KindTLS      = "tls"      // no trust, or no common protocol
	KindTimeout  = "timeout"  // no response header in time
	KindReset    = "reset"    // the connection broke
	KindProtocol = "protocol" // what came was no HTTP, or more of it than allowed
)

// Error is a failure of the backend, not of the client.
type Error struct {
	Kind string // one of the Kind constants
	Op   string // what was attempted
	Err  error
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// ErrorKind returns the kind.
func (e *Error) ErrorKind() string { return e.Kind }

// fault wraps what went wrong during op. An ended context is its own reason: the
// client left, which is nobody's fault.
func fault(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{kindOf(err), op, err}
}

func kindOf(err error) string {
	if e, ok := errors.AsType[net.Error](err); ok {
		if e.Timeout() {
			return KindTimeout
		}
		return KindReset
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, broken) {
			return KindReset
		}
	}
	return KindProtocol
}

// dialFault tells a name that has no address from an address that nobody answers at.
func dialFault(ctx context.Context, addr string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	kind := KindConnect
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		kind = KindDNS
	}
	return &Error{kind, "connect to " + addr, err}
}
