package gateway

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"tidegate/internal/deploy"
)

// A key that a gateway makes is this, before 32 hex digits. It means nothing: whoever
// sees one knows only that two requests with it are of one client.
const keyPrefix = "tg-"

const keyChars = len(keyPrefix) + 32

// newKey returns a key of 128 random bits. It tells clients apart and guards nothing.
func newKey() string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], rand.Uint64())
	binary.BigEndian.PutUint64(raw[8:], rand.Uint64())
	text := make([]byte, keyChars)
	hex.Encode(text[copy(text, keyPrefix):], raw[:])
	return string(text)
}

// isMade reports whether a key looks as if a gateway had made it. One that does not is
// the application's own, and may be a secret.
func isMade(key string) bool {
	if len(key) != keyChars || key[:len(keyPrefix)] != keyPrefix {
		return false
	}
	for i := len(keyPrefix); i < len(key); i++ {
		if c := key[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// issuer gives the cookie of a rule to clients that have none. It is immutable.
type issuer struct {
	name   string
	path   string // where browsers send it
	domain string // below which they do; empty for the host alone
	lax    bool
	always bool // Secure, also where the client is not seen to speak HTTPS
	// attributes follow the value: those for each combination of issuedSecure and issuedDomain.
	attributes [4]string
}

const (
	issuedSecure = 1 << iota
	issuedDomain
)

// newIssuer returns the issuer of a valid rule that has one.
func newIssuer(r *deploy.AffinityRule) *issuer {
	set := r.Set
	is := &issuer{
		name: r.Name, path: cmp.Or(set.Path, "/"), domain: set.Domain,
		lax: set.SameSite != deploy.CookieNone, always: set.Secure == deploy.CookieSecureAlways,
	}
	c := http.Cookie{ //nolint:gosec // Secure is one of the four combinations below
		Name: r.Name, Value: "v", Path: is.path, MaxAge: int(set.MaxAge), HttpOnly: true, SameSite: http.SameSiteLaxMode, Partitioned: set.Partitioned,
	}
	if !is.lax {
		c.SameSite = http.SameSiteNoneMode
	}
	for i := range is.attributes {
		c.Secure, c.Domain = i&issuedSecure != 0, ""
		if i&issuedDomain != 0 {
			c.Domain = set.Domain
		}
		is.attributes[i] = strings.TrimPrefix(c.String(), r.Name+"=v")
	}
	return is
}

// mayIssue reports whether a request without the cookie is of a client that has none.
// Where a browser hides the one that it has, a new one would take its place.
func (is *issuer) mayIssue(q asked, target string) bool {
	path, _, _ := strings.Cut(target, "?")
	if rest, ok := strings.CutPrefix(path, is.path); !ok || rest != "" && rest[0] != '/' && !strings.HasSuffix(is.path, "/") {
		return false // RFC 6265, section 5.1.4
	}
	if !is.lax || firstLine(q.header, "Sec-Fetch-Site") != "cross-site" {
		return true
	}
	// A link of another site gets here with the cookie, a form or an image of it without.
	return firstLine(q.header, "Sec-Fetch-Mode") == "navigate" && (q.method == http.MethodGet || q.method == http.MethodHead)
}

// setCookie returns the value of Set-Cookie.
func (is *issuer) setCookie(key string, c *client) string {
	kind := 0
	if is.always || c.scheme == "https" {
		kind |= issuedSecure
	}
	if is.domain != "" && within(plainHost(c.host), is.domain) {
		kind |= issuedDomain // from another host browsers refuse it
	}
	return is.name + "=" + key + is.attributes[kind]
}

// within reports whether host is domain or below it.
func within(host, domain string) bool {
	above, ok := strings.CutSuffix(host, domain)
	return ok && (above == "" || above[len(above)-1] == '.')
}

// giveCookie adds the cookie to the header of a version's response. One that the
// version sets itself under that name stays: it is the next request's key.
//
// A cache that served the response to others would make them all one client. So it is
// private, as with HAProxy's nocache, and loses the fields that make caches
// overlook that.
func giveCookie(h http.Header, x *exchange) {
	n := len(x.script.affinity)
	if n == 0 || x.script.affinity[n-1].issuer == nil {
		return // the rules changed while the version started
	}
	is := x.script.affinity[n-1].issuer
	for _, line := range h["Set-Cookie"] {
		if name, _, _ := strings.Cut(line, "="); strings.TrimSpace(name) == is.name {
			return
		}
	}
	h["Set-Cookie"] = append(slices.Clip(h["Set-Cookie"]), is.setCookie(x.cookie, &x.client))
	control := h["Cache-Control"]
	stored := !httpguts.HeaderValuesContainsToken(control, "no-store") ||
		httpguts.HeaderValuesContainsToken(control, "must-understand") // which takes no-store back (RFC 9111, section 5.2.2.3)
	if stored && !httpguts.HeaderValuesContainsToken(control, "private") {
		// Of directives that contradict each other the most restrictive one holds
		// (RFC 9111, section 4.2.1).
		h["Cache-Control"] = append(slices.Clip(control), "private")
	}
	for name := range h {
		switch {
		case strings.HasSuffix(name, "Cdn-Cache-Control"), // RFC 9213
			name == "Surrogate-Control", name == "Edge-Control", name == "X-Accel-Expires": // and before
			delete(h, name)
		}
	}
}

func firstOf(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
