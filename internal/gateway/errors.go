package gateway

import "errors"

// Error kinds that the gateway itself gives; the others are the backends' own.
const (
	kindTimeout = "timeout" // of the answer; a connection that cannot be made in time is "connect"
	kindReset   = "reset"
	kindOther   = "other"
)

var errNoBackend = errors.New("the snapshot names a version that the runtime has no backend for")

// kindOf asks an error for its kind.
func kindOf(err error) string {
	if e, ok := errors.AsType[interface {
		error
		ErrorKind() string
	}](err); ok {
		return e.ErrorKind()
	}
	return kindOther
}
