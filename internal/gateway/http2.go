package gateway

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// malformed returns what is wrong with an HTTP/2 request that net/http lets
// through and that HTTP/1.1 cannot say, or says otherwise, towards a backend. The
// parser of HTTP/1.1 has refused all of it there. Empty is a good request.
func malformed(r *http.Request) string {
	switch {
	case !httpguts.ValidHeaderFieldName(r.Method): // both are tokens
		return "The method of this request is no token."
	case r.Host == "" || !httpguts.ValidHostHeader(r.Host):
		return "This request names no valid host."
	case r.RequestURI != "*" && !strings.HasPrefix(r.RequestURI, "/"):
		return "The path of this request does not begin with a slash." // the absolute form is for HTTP/1.1
	case strings.ContainsFunc(r.RequestURI, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return "The path of this request has a space or a control character in it."
	}
	// RFC 9113, section 8.3.1: they must not differ. A backend gets one of them.
	for _, host := range r.Header["Host"] {
		if !strings.EqualFold(host, r.Host) {
			return "This request names two hosts, in :authority and in Host."
		}
	}
	return lengthFault(r)
}
