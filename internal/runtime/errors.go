package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	h2 "golang.org/x/net/http2"

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
// client left, which is nobody's fault. So is one whose deadline has passed and whose
// timer is late: an origin that knows the deadline may be the first to end a call at it.
func fault(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{kindOf(err), op, err}
}

func kindOf(err error) string {
	if errors.Is(err, syscall.ETIMEDOUT) {
		return schema.ErrorKindReset // a connection that had been there: its other side is gone
	}
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
	if e, ok := errors.AsType[h2.StreamError](err); ok {
		return kindOfStream(e.Code)
	}
	for _, ended := range connectionEnds {
		if strings.Contains(err.Error(), ended) {
			return schema.ErrorKindReset
		}
	}
	return schema.ErrorKindProtocol
}

// connectionEnds are the words of net/http for the end of an HTTP/2 connection, for
// which it has no type and no variable.
var connectionEnds = []string{
	"http2: server sent GOAWAY",
	"http2: Transport received Server's graceful shutdown GOAWAY",
	"http2: client connection lost", // a ping was not answered
	"http2: client conn not usable",
	"http2: client conn could not be established",
	"http2: client connection force closed",
	"REFUSED_STREAM", // in words, of a request whose body has begun; also errRefused
}

// tooMuchHead reports whether a request was not sent because its header is longer than an HTTP/2
// server takes, by its settings. For that, too, net/http has words only.
func tooMuchHead(err error) bool {
	return strings.Contains(err.Error(), "request header list larger than peer's advertised limit")
}

// connectionEnded reports whether a connection broke that was there, and not just one
// request on it.
func connectionEnded(err error) bool {
	if _, ours := errors.AsType[*Error](err); ours {
		return false // from the dialer
	}
	_, stream := errors.AsType[h2.StreamError](err)
	return !stream && kindOf(err) == schema.ErrorKindReset
}

// kindOfStream tells a stream that the origin ended from one that broke the rules.
func kindOfStream(code h2.ErrCode) string {
	switch code {
	case h2.ErrCodeProtocol, h2.ErrCodeFlowControl, h2.ErrCodeFrameSize, h2.ErrCodeCompression, h2.ErrCodeStreamClosed, h2.ErrCodeHTTP11Required:
		return schema.ErrorKindProtocol
	}
	return schema.ErrorKindReset
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

// silentFor is the failure of a response that has stopped half-way.
func silentFor(limit time.Duration) error {
	return &Error{schema.ErrorKindTimeout, "read the response", fmt.Errorf("nothing more of it came for %s", limit)}
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
