package gateway

import (
	"errors"

	"tidegate/schema"
)

var (
	errNoBackend = errors.New("the snapshot names a version that the runtime has no backend for")
	errStarting  = errors.New("the version has not started in time")
)

// outcomeOf asks an error for the outcome of the process that ended with the
// request in hand.
func outcomeOf(err error) string {
	if e, ok := errors.AsType[interface {
		error
		Outcome() string
	}](err); ok {
		return e.Outcome()
	}
	return schema.OutcomeInternalError
}

// kindOf asks an error for its kind.
func kindOf(err error) string {
	if e, ok := errors.AsType[interface {
		error
		ErrorKind() string
	}](err); ok {
		return e.ErrorKind()
	}
	return schema.ErrorKindOther
}
