package deploy

import (
	"fmt"
	"strings"
)

// AffinityCookieAttributes are those of a cookie that the gateway sets, by the names
// of RFC 6265 and its successor. HttpOnly is always there, as no script needs the value. The
// zero value is a cookie of one host that ends with the browser's session.
type AffinityCookieAttributes struct {
	// MaxAge is how long browsers keep the cookie, in seconds; zero is until they are
	// closed.
	MaxAge int64 `json:"max_age,omitempty"`
	// SameSite is CookieLax, which is also what empty means, or CookieNone.
	SameSite string `json:"same_site,omitempty"`
	// Domain is the name whose subdomains get the cookie, too. Empty is the host alone.
	Domain string `json:"domain,omitempty"`
	// Path is where the cookie is sent; empty is everywhere.
	Path string `json:"path,omitempty"`
	// Secure is CookieSecureAuto, which is also what empty means, or CookieSecureAlways.
	Secure string `json:"secure,omitempty"`
	// Partitioned keeps one cookie for each site that embeds this one (CHIPS).
	Partitioned bool `json:"partitioned,omitempty"`
}

// Values of AffinityCookieAttributes.
const (
	CookieLax          = "lax"
	CookieNone         = "none"
	CookieSecureAuto   = "auto"   // where the client speaks HTTPS
	CookieSecureAlways = "always" // everywhere, for a gateway that does not see that clients speak HTTPS
)

// Bounds of the attributes.
const (
	cookieMaxAgeMax = 400 * 86_400 // browsers cut longer ones (draft-ietf-httpbis-rfc6265bis, section 5.5)
	cookieDomainMax = 253
)

// checkSet is check for Set. What a browser would throw away is refused here, since
// each request of such a client would be taken for a new one's.
func (r *AffinityRule) checkSet() (member, why string) {
	c := r.Set
	always := c.Secure == CookieSecureAlways
	switch {
	case c.MaxAge < 0 || c.MaxAge > cookieMaxAgeMax:
		return "set.max_age", fmt.Sprintf("is %d: it must be from 0 to %d seconds (400 days), 0 being until the browser is closed", c.MaxAge, cookieMaxAgeMax)
	case strings.EqualFold(c.SameSite, "strict"):
		return "set.same_site", `is "strict", with which a browser hides the cookie when it comes from another site: the client would be given another key each time`
	case c.SameSite != "" && c.SameSite != CookieLax && c.SameSite != CookieNone:
		return "set.same_site", fmt.Sprintf("is %.60q: it must be %q or %q", c.SameSite, CookieLax, CookieNone)
	case c.Secure != "" && c.Secure != CookieSecureAuto && !always:
		return "set.secure", fmt.Sprintf("is %.60q: it must be %q or %q", c.Secure, CookieSecureAuto, CookieSecureAlways)
	case !always && c.SameSite == CookieNone:
		return "set.secure", fmt.Sprintf("must be %q with the same_site %q: browsers refuse the cookie otherwise", CookieSecureAlways, CookieNone)
	case !always && c.Partitioned:
		return "set.secure", fmt.Sprintf("must be %q for a partitioned cookie: browsers refuse it otherwise", CookieSecureAlways)
	case !always && (hasPrefixFold(r.Name, "__Host-") || hasPrefixFold(r.Name, "__Secure-")):
		return "set.secure", fmt.Sprintf("must be %q for the name %.60q: browsers refuse the cookie otherwise", CookieSecureAlways, r.Name)
	}
	if why := c.checkDomain(r.Name); why != "" {
		return "set.domain", why
	}
	return "set.path", c.checkPath(r.Name)
}

func (c *AffinityCookieAttributes) checkDomain(name string) (why string) {
	switch {
	case c.Domain == "":
		return ""
	case hasPrefixFold(name, "__Host-"):
		return fmt.Sprintf("does not go with the name %.60q, which is for cookies of one host", name)
	case len(c.Domain) > cookieDomainMax:
		return fmt.Sprintf("has %d bytes: at most %d are allowed", len(c.Domain), cookieDomainMax)
	}
	last := ""
	for label := range strings.SplitSeq(c.Domain, ".") {
		if last = label; !plainLabel(label) {
			break
		}
	}
	if !plainLabel(last) || !strings.ContainsAny(last, "abcdefghijklmnopqrstuvwxyz") { // an address has no subdomains
		return fmt.Sprintf("is %.60q: it must be a plain host name in lower case, such as example.com", c.Domain)
	}
	return ""
}

// plainLabel reports whether a part of a host name has letters, digits and inner
// hyphens only.
func plainLabel(label string) bool {
	return label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-' &&
		!strings.ContainsFunc(label, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' })
}

func (c *AffinityCookieAttributes) checkPath(name string) (why string) {
	switch {
	case c.Path == "":
		return ""
	case c.Path != "/" && hasPrefixFold(name, "__Host-"):
		return fmt.Sprintf("does not go with the name %.60q, whose cookies are for all paths", name)
	case len(c.Path) > affinityTextMax:
		return fmt.Sprintf("has %d bytes: at most %d are allowed", len(c.Path), affinityTextMax)
	case c.Path[0] != '/' || strings.ContainsFunc(c.Path, notInCookiePath):
		return fmt.Sprintf("is %.60q: it must begin with a slash and have neither ; ? nor #, no spaces and no letters beyond ASCII", c.Path)
	}
	return ""
}

func notInCookiePath(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(";?#", c) }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
