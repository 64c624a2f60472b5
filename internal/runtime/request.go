package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"

	"golang.org/x/net/http/httpguts"

	"tidegate/internal/deploy"
)

// copyBuffers hold a piece of a request body; 32 kB is io.Copy's size.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func hasBody(req *http.Request) bool {
	return req.Body != nil && req.Body != http.NoBody && req.ContentLength != 0
}

// validHead refuses what could end a line early. The server's parser lets none
// of it through; what the gateway adds, and other callers, must not either.
func validHead(req *http.Request) error {
	if !validToken(req.Method) {
		return fmt.Errorf("the method %q is not a token", req.Method)
	}
	if !validTarget(req.RequestURI) || !httpguts.ValidHostHeader(req.Host) {
		return fmt.Errorf("the target %q at host %q is not valid", req.RequestURI, req.Host)
	}
	for name, values := range req.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("the header name %q is not a token", name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("the header %s has a value that cannot be sent", name) // which may be a secret
			}
		}
	}
	return nil
}

func validToken(s string) bool { return httpguts.ValidHeaderFieldName(s) }

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

// writeHead writes the request line and the header. The framing is decided here
// from ContentLength and never taken from the header map, so that the two cannot
// disagree. Errors show at the flush.
//
// workerd takes the scheme of request.url and request.cf from headers of ours, and
// takes those away; the first is a copy, so that the Worker still sees
// X-Forwarded-Proto. What a client sends under these names goes nowhere.
func writeHead(bw *bufio.Writer, req *http.Request, to *http1) {
	host := to.host
	if host == "" {
		host = req.Host
	}
	for _, s := range [...]string{req.Method, " ", to.prefix, req.RequestURI, " HTTP/1.1\r\nHost: ", host, "\r\n"} {
		_, _ = bw.WriteString(s) // a bufio.Writer keeps its error for Flush
	}
	for name, values := range req.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		case "User-Agent": // an empty one means none, as in net/http
			if len(values) == 1 && values[0] == "" {
				continue
			}
		case "X-Forwarded-Proto":
			if to.worker && len(values) == 1 {
				writeField(bw, protoHeader, values[0])
			}
		case protoHeader, cfHeader, deploy.BindingHeader:
			if to.worker {
				continue
			}
		}
		for _, v := range values {
			writeField(bw, name, v)
		}
	}
	switch {
	case hasBody(req) && req.ContentLength > 0:
		writeField(bw, "Content-Length", strconv.FormatInt(req.ContentLength, 10))
	case hasBody(req):
		writeField(bw, "Transfer-Encoding", "chunked")
		for name := range req.Trailer {
			if validTrailerName(name) {
				writeField(bw, "Trailer", name)
			}
		}
	case req.Method == http.MethodPost || req.Method == http.MethodPut || req.Method == http.MethodPatch:
		writeField(bw, "Content-Length", "0") // RFC 9110, section 8.6: these are expected to say so
	}
	_, _ = bw.WriteString("\r\n") // as above
}

func validTrailerName(name string) bool {
	return httpguts.ValidHeaderFieldName(name) && httpguts.ValidTrailerHeader(name)
}

func writeField(bw *bufio.Writer, name, value string) {
	for _, s := range [...]string{name, ": ", value, "\r\n"} {
		_, _ = bw.WriteString(s) // a bufio.Writer keeps its error for Flush
	}
}

// writeBody sends the body piece by piece as it comes. It says whose fault an
// error is: the body's, which is the client's, or the connection's.
func writeBody(bw *bufio.Writer, req *http.Request) (bodyErr, writeErr error) {
	var dst io.Writer = bw
	chunked := req.ContentLength < 0
	if chunked {
		dst = httputil.NewChunkedWriter(bw)
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	left := req.ContentLength
	for chunked || left > 0 {
		p := *buf
		if !chunked {
			p = p[:min(int64(len(p)), left)]
		}
		n, err := req.Body.Read(p)
		if n > 0 {
			if _, werr := dst.Write(p[:n]); werr != nil {
				return nil, werr
			}
			if werr := bw.Flush(); werr != nil {
				return nil, werr
			}
			left -= int64(n)
		}
		if errors.Is(err, io.EOF) {
			if !chunked && left > 0 {
				return fmt.Errorf("read the request's body: %d bytes are missing: %w", left, io.ErrUnexpectedEOF), nil
			}
			break
		}
		if err != nil {
			return fmt.Errorf("read the request's body: %w", err), nil
		}
	}
	if !chunked {
		return nil, nil
	}
	_, _ = bw.WriteString("0\r\n") // a bufio.Writer keeps its error for Flush
	for name, values := range req.Trailer {
		for _, v := range values {
			// What cannot be a trailer has no meaning as one (RFC 9110, section 6.5.1).
			if validTrailerName(name) && httpguts.ValidHeaderFieldValue(v) {
				writeField(bw, name, v)
			}
		}
	}
	_, _ = bw.WriteString("\r\n") // as above
	return nil, bw.Flush()
}
