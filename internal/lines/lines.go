// Package lines holds the header of an HTTP/1.1 message as a list of its lines. A proxy
// passes most of them on as they came; a map for each message, filled on one side and read
// on the other, costs it more than all that it decides.
package lines

import (
	"context"
	"unsafe"
)

// Header is a list of header lines in their order. Names are tokens in canonical form, as
// http.CanonicalHeaderKey has it, values have no control characters but tabs and no blanks
// around them: whoever adds a line has made sure of that, and nobody looks again.
//
// The strings may be views of a buffer that is used again for the next message. They are
// good until then, and not to be kept. The zero Header is empty and ready.
type Header struct {
	Names  []string
	Values []string // parallel to Names
}

// Reset makes the list empty.
func (h *Header) Reset() { h.Names, h.Values = h.Names[:0], h.Values[:0] }

// Add puts a line at the end.
func (h *Header) Add(name, value string) {
	h.Names, h.Values = append(h.Names, name), append(h.Values, value)
}

// Lines returns the values of all lines with a name, which is given in canonical form, in
// their order; nil if there is none. They must not be changed.
func (h *Header) Lines(name string) []string {
	for i, n := range h.Names {
		if n != name {
			continue
		}
		found := h.Values[i : i+1 : i+1]
		for j := i + 1; j < len(h.Names); j++ {
			if h.Names[j] == name {
				found = append(found, h.Values[j])
			}
		}
		return found
	}
	return nil
}

// Filter leaves out the lines that keep does not want.
func (h *Header) Filter(keep func(name string) bool) {
	n := 0
	for i, name := range h.Names {
		if keep(name) {
			h.Names[n], h.Values[n] = name, h.Values[i]
			n++
		}
	}
	h.Names, h.Values = h.Names[:n], h.Values[:n]
}

// View returns b as a string without copying it. b must not change while the string is in use.
func View(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Exchange carries headers to a backend and back, as lists. It belongs to one request
// after the other.
type Exchange struct {
	// Request is the header of the request. That of the http.Request is nil.
	Request Header
	// Response is the header of the response if that of the http.Response is nil. Otherwise
	// it is in the latter, as it is of a response with something rare about it.
	Response Header
	// Memory is what the backend keeps there for the next request.
	Memory any
}

type exchangeKey struct{}

// With returns a context for requests of x, one after the other. They must go to a backend
// that has a method TakesLists which says true, and have no body.
func With(ctx context.Context, x *Exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// Of returns the exchange of a request's context, or nil.
func Of(ctx context.Context) *Exchange {
	x, _ := ctx.Value(exchangeKey{}).(*Exchange)
	return x
}
