package deploy

import (
	"net/url"
	"strings"

	"tidegate/internal/errs"
)

// Route is a parsed route pattern: [scheme://]host/path. The host may begin with
// "*." (every subdomain) or "*" (the host and every subdomain; alone: every
// host); the path may end with "*". The query of a request plays no part.
type Route struct {
	Scheme     string // "http", "https" or, for both, empty
	Host       string // lower case, without the wildcard; empty with Subdomains for every host
	Apex       bool   // Host itself matches
	Subdomains bool   // every name below Host matches
	Path       string // unescaped, begins with "/"
	PathPrefix bool   // Path is a prefix
}

// ParseRoute parses a pattern such as "shop.example.com/*" or "*.example.com/api/*".
func ParseRoute(pattern string) (Route, error) {
	invalid := func(why string) (Route, error) {
		return Route{}, errs.New(errs.Invalid, 0, "route pattern %q %s", pattern, why)
	}
	var r Route
	rest := pattern
	if scheme, after, ok := strings.Cut(pattern, "://"); ok && !strings.Contains(scheme, "/") {
		scheme = strings.ToLower(scheme)
		if scheme != "http" && scheme != "https" {
			return invalid("has a scheme other than http and https")
		}
		r.Scheme, rest = scheme, after
	}
	host, path, _ := strings.Cut(rest, "/")
	path = "/" + path

	r.Host, r.Apex = strings.ToLower(host), true
	if after, ok := strings.CutPrefix(r.Host, "*."); ok {
		r.Host, r.Apex, r.Subdomains = after, false, true
	} else if after, ok := strings.CutPrefix(r.Host, "*"); ok {
		r.Host, r.Subdomains = after, true
	}
	switch {
	case r.Host == "" && (!r.Subdomains || !r.Apex):
		return invalid("has no host: write for example shop.example.com/*")
	case strings.ContainsAny(r.Host, "*"):
		return invalid("has a wildcard inside the host: only a leading * is allowed")
	case strings.ContainsAny(r.Host, ":?#@ \t\\") || strings.HasPrefix(r.Host, ".") || strings.HasSuffix(r.Host, ".") || strings.Contains(r.Host, ".."):
		return invalid("has a host that is not a plain name: leave out ports, users and stray dots")
	case strings.ContainsAny(path, "?#"):
		return invalid("has a query or a fragment: routes match hosts and paths only")
	}

	path, r.PathPrefix = strings.CutSuffix(path, "*")
	if strings.Contains(path, "*") {
		return invalid("has a wildcard inside the path: only a trailing * is allowed")
	}
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		return invalid("has a bad % escape in its path")
	}
	r.Path = unescaped
	return r, nil
}

// String returns the pattern in the one form that all its spellings share: scheme
// and host in lower case, the path escaped where it must be.
func (r *Route) String() string {
	var b strings.Builder
	if r.Scheme != "" {
		b.WriteString(r.Scheme + "://")
	}
	if r.Subdomains {
		b.WriteByte('*')
		if !r.Apex {
			b.WriteByte('.')
		}
	}
	b.WriteString(r.Host)
	b.WriteString((&url.URL{Path: r.Path}).EscapedPath())
	if r.PathPrefix {
		b.WriteByte('*')
	}
	return b.String()
}

// EveryHost reports whether the route matches whatever the host is.
func (r *Route) EveryHost() bool { return r.Host == "" }

// SharesHost reports whether two routes name one host: the same one, with or
// without a wildcard, or one that the other's wildcard covers. Scheme and path
// play no part, because what a host's users send, such as cookies, goes to all of
// it. A route of every host names none.
func (r *Route) SharesHost(other *Route) bool {
	switch {
	case r.EveryHost() || other.EveryHost():
		return false
	case r.Host == other.Host:
		return true
	}
	return r.Subdomains && strings.HasSuffix(other.Host, "."+r.Host) ||
		other.Subdomains && strings.HasSuffix(r.Host, "."+other.Host)
}

// MatchPath reports whether the unescaped path of a request over scheme is the
// route's. The host is the caller's to match.
func (r *Route) MatchPath(scheme, path string) bool {
	if r.Scheme != "" && r.Scheme != scheme {
		return false
	}
	if path == "" {
		path = "/"
	}
	if r.PathPrefix {
		return strings.HasPrefix(path, r.Path)
	}
	return path == r.Path
}

// CompareRoutes orders the routes of one host by how specific they are, the most
// specific first: longer paths, exact ones before prefixes, one scheme before both.
func CompareRoutes(a, b *Route) int {
	if len(a.Path) != len(b.Path) {
		return len(b.Path) - len(a.Path)
	}
	return specificity(b) - specificity(a)
}

func specificity(r *Route) int {
	n := 0
	if !r.PathPrefix {
		n += 2
	}
	if r.Scheme != "" {
		n++
	}
	return n
}
