package runtime

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"tidegate/schema"
)

// Error is a failure of the backend, not of the client.
type Error struct {
	Kind string // one of the schema.ErrorKind constants
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
			return schema.ErrorKindTimeout
		}
		return schema.ErrorKindReset
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, broken) {
			return schema.ErrorKindReset
		}
	}
	return schema.ErrorKindProtocol
}

// dialFault tells a name that has no address from an address that nobody answers at.
func dialFault(ctx context.Context, addr string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	kind := schema.ErrorKindConnect
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		kind = schema.ErrorKindDNS
	}
	return &Error{kind, "connect to " + addr, err}
}

// endedError is the failure of a request whose process ended with it in hand.
type endedError struct {
	fault   *Error
	outcome string
}

func (e *endedError) Error() string {
	return e.fault.Error() + ": the Worker's process ended: " + e.outcome
}

func (e *endedError) Unwrap() error { return e.fault }

// ErrorKind returns the kind, as the gateway asks for it.
func (e *endedError) ErrorKind() string { return e.fault.Kind }

// Outcome returns what became of the invocation: one of the schema.Outcome constants.
func (e *endedError) Outcome() string { return e.outcome }
