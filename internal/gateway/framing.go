package gateway

import (
	"net/http"
	"strings"
)

// unsureOfEnd reports whether a request may end elsewhere than net/http says, so that
// its connection must be closed after the answer (RFC 9112, section 6.1): whoever
// sent it may take what follows for the rest of its body. That is so after a
// Content-Length beside Transfer-Encoding, of which net/http forgets the former, and
// after any Transfer-Encoding in HTTP/1.0, which it forgets, too. As nobody can tell
// these from good ones, it is so after every request in chunks or in HTTP/1.0. Who
// has read the header by other means, and refuses both together, leaves
// r.TransferEncoding empty.
func unsureOfEnd(r *http.Request) bool {
	return r.ProtoMajor == 1 && (len(r.TransferEncoding) > 0 || r.ProtoMinor == 0)
}

// lacksLength reports whether an HTTP/1.0 request must have a Content-Length and has
// none (RFC 1945, section 8.3). It may have come in chunks, which net/http ignores.
func lacksLength(r *http.Request) bool {
	if r.ProtoMajor != 1 || r.ProtoMinor != 0 || r.Header["Content-Length"] != nil {
		return false
	}
	return r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
}

// lengthFault returns what is wrong with the Content-Length of an HTTP/2 request.
// net/http reads the first of several, takes what is no number for 0, and asks
// nothing of a stream that ends with its header; a body, or the lack of one, that
// was not announced would go on as a whole request (RFC 9113, section 8.1.1).
func lengthFault(r *http.Request) string {
	values := r.Header["Content-Length"]
	for _, v := range values {
		if v != values[0] || v == "" || strings.Trim(v, "0123456789") != "" {
			return "This request has no valid Content-Length."
		}
	}
	if len(values) > 0 && r.ContentLength == 0 && strings.Trim(values[0], "0") != "" {
		return "This request's Content-Length is not that of its body." // which is none, or longer than any
	}
	return ""
}
