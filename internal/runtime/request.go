package runtime

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/net/http/httpguts"

	"tidegate/internal/deploy"
	"tidegate/internal/lines"
)

// headBuffers hold the header of a request, and of its response when that is read.
var headBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// headBufferMax is what is kept of a buffer that grew.
const headBufferMax = 64 << 10

func putHeadBuffer(b *[]byte) {
	if cap(*b) <= headBufferMax {
		headBuffers.Put(b)
	}
}

func hasBody(req *http.Request) bool {
	return req.Body != nil && req.Body != http.NoBody && req.ContentLength != 0
}

// validHead refuses what could end a line early. The server's parser lets none
// of it through; what the gateway adds, and other callers, must not either.
func validHead(req *http.Request) error {
	if err := validTop(req); err != nil {
		return err
	}
	for name, values := range req.Header {
		if !lines.ValidName(name) {
			return badName(name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return badValue(name)
			}
		}
	}
	return nil
}

func badName(name string) error { return fmt.Errorf("the header name %q is not a token", name) }

// badValue does not tell the value, which may be a secret.
func badValue(name string) error {
	return fmt.Errorf("the header %s has a value that cannot be sent", name)
}

// validTop is validHead without the header.
func validTop(req *http.Request) error {
	if !lines.ValidName(req.Method) {
		return fmt.Errorf("the method %q is not a token", req.Method)
	}
	if !validTarget(req.RequestURI) || !httpguts.ValidHostHeader(req.Host) {
		return fmt.Errorf("the target %q at host %q is not valid", req.RequestURI, req.Host)
	}
	return nil
}

func validTarget(s string) bool {
	if s != "*" && (s == "" || s[0] != '/') {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// appendHead appends the request line and the header, and refuses what validHead does.
// The framing is decided here from ContentLength and never taken from the header map,
// so that the two cannot disagree.
//
// workerd takes the scheme of request.url and request.cf from headers of ours, and
// takes those away; the first is a copy, so that the Worker still sees
// X-Forwarded-Proto. What a client sends under these names goes nowhere.
func appendHead(out []byte, req *http.Request, to *http1) ([]byte, error) {
	if err := validTop(req); err != nil {
		return out, err
	}
	host := to.host
	if host == "" {
		host = req.Host
	}
	for _, s := range [...]string{req.Method, " ", to.prefix, req.RequestURI, " HTTP/1.1\r\nHost: ", host, "\r\n"} {
		out = append(out, s...)
	}
	if x := listsOf(req); x != nil {
		for i, name := range x.Request.Names {
			if !to.leavesOut(name) {
				out = appendField(out, name, x.Request.Values[i])
			}
		}
		return append(appendFraming(out, req), "\r\n"...), nil
	}
	for name, values := range req.Header {
		switch {
		case to.leavesOut(name), name == "User-Agent" && len(values) == 1 && values[0] == "": // which means none, as in net/http
			continue
		case name == "X-Forwarded-Proto" && to.worker && len(values) == 1:
			out = appendField(out, protoHeader, values[0])
		}
		if !lines.ValidName(name) {
			return out, badName(name)
		}
		for _, v := range values {
			out = appendField(out, name, v)
			if !lines.ValidValue(out[len(out)-len(v)-len("\r\n") : len(out)-len("\r\n")]) {
				return out, badValue(name)
			}
		}
	}
	return append(appendFraming(out, req), "\r\n"...), nil
}

// leavesOut reports whether a header is not for the other side, or is not told by the header.
func (t *http1) leavesOut(name string) bool {
	switch name {
	case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
		return true
	case protoHeader, cfHeader, deploy.BindingHeader:
		return t.worker
	}
	return false
}

// listsOf returns the exchange that has the request's header as a list, or nil where it is
// in the request.
func listsOf(req *http.Request) *lines.Exchange {
	if req.Header != nil {
		return nil
	}
	return lines.Of(req.Context())
}

func appendFraming(out []byte, req *http.Request) []byte {
	switch {
	case hasBody(req) && req.ContentLength > 0:
		out = append(out, "Content-Length: "...)
		out = append(strconv.AppendInt(out, req.ContentLength, 10), "\r\n"...)
	case hasBody(req):
		out = appendField(out, "Transfer-Encoding", "chunked")
		for name := range req.Trailer {
			if validTrailerName(name) {
				out = appendField(out, "Trailer", name)
			}
		}
	case req.Method == http.MethodPost || req.Method == http.MethodPut || req.Method == http.MethodPatch:
		out = appendField(out, "Content-Length", "0") // RFC 9110, section 8.6: these are expected to say so
	}
	return out
}

func validTrailerName(name string) bool {
	return httpguts.ValidHeaderFieldName(name) && httpguts.ValidTrailerHeader(name)
}

func appendField(out []byte, name, value string) []byte {
	out = append(out, name...)
	out = append(out, ": "...)
	out = append(out, value...)
	return append(out, "\r\n"...)
}
