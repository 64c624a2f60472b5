package gateway

import (
	"net/http"
	"strings"
)

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
