package api

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// protection is in every answer. What is not a page of the dashboard, which has a policy of
// its own, is data: a browser that shows it all the same loads nothing, frames nothing and
// keeps nothing.
var protection = map[string]string{
	"Cache-Control":                "no-store",
	"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

// onlyTLS has browsers come by TLS alone for a year. It holds for every port of the host,
// so that it does not cover subdomains, where scripts may be served in clear text.
const onlyTLS = "max-age=31536000"

func (s *Server) protect(c *gin.Context) {
	for name, value := range protection {
		c.Header(name, value)
	}
	if s.cameByTLS(c.Request) && !isLocalhost(c.Request) {
		c.Header("Strict-Transport-Security", onlyTLS)
	}
}

// isLocalhost reports whether the server is called by a name at which everything else on a
// developer's machine is, too.
func isLocalhost(r *http.Request) bool {
	host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
