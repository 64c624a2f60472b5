// Package errs holds the one error type that crosses package borders with a
// meaning. Everything else is internal: logged in full, shown as "internal error".
package errs

import (
	"errors"
	"fmt"
)

// Kind says what the caller can do about an error. The API maps each kind to
// one HTTP status, and its client maps the status back.
type Kind string

const (
	Invalid      Kind = "invalid"      // the request is wrong; repeating it will not help
	NotFound     Kind = "not_found"    // the thing named does not exist, or not for this account
	Conflict     Kind = "conflict"     // somebody changed it meanwhile; read again
	Precondition Kind = "precondition" // it is not in the state that the caller named
	Unauthorized Kind = "unauthorized" // no valid credentials
	Forbidden    Kind = "forbidden"    // valid credentials without the right
	Limited      Kind = "limited"      // asked too often; try again later
	TooLarge     Kind = "too_large"    // a body, a list or a value above its limit
	Unavailable  Kind = "unavailable"  // a part it depends on is away; try again later
	Internal     Kind = "internal"     // a fault of ours
)

// Error is a failure that a user may read.
type Error struct {
	Kind Kind
	// Code is the number in the v4 envelope, as in Cloudflare's API (10007: no
	// such Worker). Zero lets the API choose its default for Kind.
	Code int
	// Message is one sentence naming the field and the value.
	Message string
	// Pointer is the JSON pointer of the field at fault, if there is one.
	Pointer string
}

func (e *Error) Error() string { return e.Message }

// New returns an *Error with a formatted message.
func New(kind Kind, code int, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// At returns a copy of e that points at a field, such as "/versions/0/percentage".
func (e *Error) At(pointer string) *Error {
	c := *e
	c.Pointer = pointer
	return &c
}

// KindOf returns the kind of the first *Error in err's chain, Internal for any
// other error, and "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
