package gateway

import "net/http"

// asked is what the gateway reads of a request to decide about it and to tell of it, by
// whichever path it came.
type asked struct {
	method string
	header headers
	whole  *http.Request // nil where the header is a list
}

// headers is a request's header: a headerMap or a *lines.Header.
type headers interface {
	// Lines returns the values of a name in canonical form, nil if there is none. They must
	// not be changed.
	Lines(name string) []string
}

type headerMap http.Header

func (m headerMap) Lines(name string) []string { return m[name] }

func ask(r *http.Request) asked { return asked{r.Method, headerMap(r.Header), r} }

// firstLine returns the value of the first line with a name, "" for none.
func firstLine(h headers, name string) string { return firstOf(h.Lines(name)) }
