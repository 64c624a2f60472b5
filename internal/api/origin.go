package api

import (
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"tidegate/internal/errs"
)

const originBytesMax = 2048

func checkOrigin(text string) error {
	shownText := shown(withoutUser(text))
	refuse := func(why string) error {
		return errs.New(errs.Invalid, 0, "metadata.origin.url %q %s", shownText, why).At("/metadata/origin/url")
	}
	if len(text) > originBytesMax {
		return refuse("is too long")
	}
	u, err := url.Parse(text)
	if err != nil {
		return refuse("is not a URL") // err may hold a password
	}
	switch {
	case u.User != nil:
		return refuse("has a user name: every gateway and every reader of the version would see it")
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c", u.Host == "":
		return refuse("must be absolute, such as http://10.0.0.5:9000; it may also begin with https:// or h2c://")
	case !validPort(u):
		return refuse("has a bad port: it is a number from 1 to 65535, or left out with its colon")
	case !validHost(u.Hostname()):
		return refuse("has a bad host: it is an IP address or a name of letters, digits, - and _, with at most 63 between dots and 253 in all")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return refuse("must have no query and no fragment")
	}
	return nil
}

// withoutUser removes what may be a user name and a password. The text need not
// be a URL, so it is all up to the last @.
func withoutUser(text string) string {
	i := strings.LastIndexByte(text, '@')
	if i < 0 {
		return text
	}
	scheme, _, found := strings.Cut(text[:i], "//")
	if !found {
		return text[i+1:]
	}
	return scheme + "//" + text[i+1:]
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port > 0
}

// hostLabel is one part of a name. DNS wants no dash at its ends; underscores are
// not for hosts there, but container networks use them.
var hostLabel = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?$`)

// validHost takes an IP address or a DNS name, with or without the final dot. A
// name that ends in a number is a mistyped address.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > 253 {
		return false
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if !hostLabel.MatchString(label) {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
