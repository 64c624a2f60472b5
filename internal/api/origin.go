package api

import (
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"tidegate/internal/deploy"
)

const (
	originBytesMax      = 2048
	monitorHeadersMax   = 20
	monitorHeaderMax    = 4096 // bytes of all names and values
	originMaxRequestMax = 1_000_000
)

// originBody is an origin as it is uploaded. What is absent gets a default, except where
// the gateway's own setting counts: timeouts.
type originBody struct {
	URL         *string        `json:"url"`
	Endpoints   []endpointBody `json:"endpoints"`
	Monitor     *monitorBody   `json:"monitor"`
	Timeouts    *timeoutsBody  `json:"timeouts"`
	MaxRequests *int           `json:"max_requests"`
	Retries     *int           `json:"retries"`
}

type endpointBody struct {
	URL    string   `json:"url"`
	Weight *float64 `json:"weight"`
}

type timeoutsBody struct {
	ConnectMS      *int64 `json:"connect_ms"`
	FirstByteMS    *int64 `json:"first_byte_ms"`
	BetweenBytesMS *int64 `json:"between_bytes_ms"`
	IdleMS         *int64 `json:"idle_ms"`
}

type monitorBody struct {
	Method          *string             `json:"method"`
	Path            *string             `json:"path"`
	Header          map[string][]string `json:"header"`
	Interval        *int                `json:"interval"`
	Timeout         *int                `json:"timeout"`
	Retries         *int                `json:"retries"`
	ExpectedCodes   *string             `json:"expected_codes"`
	ConsecutiveUp   *int                `json:"consecutive_up"`
	ConsecutiveDown *int                `json:"consecutive_down"`
}

// check returns the origin, complete with its defaults. Errors name the member.
func (b *originBody) check(at place) (*deploy.Origin, error) {
	o := &deploy.Origin{Retries: b.Retries}
	switch {
	case b.URL != nil && b.Endpoints != nil:
		return nil, at.fail("has both url and endpoints: name one server by url, or several by endpoints")
	case b.URL == nil && b.Endpoints == nil:
		return nil, at.fail("names no server: give it a url, or endpoints")
	case b.URL != nil:
		o.URL = *b.URL
		if _, err := checkOriginURL(o.URL, at.member("url")); err != nil {
			return nil, err
		}
	default:
		var err error
		if o.Endpoints, err = checkEndpoints(b.Endpoints, at.member("endpoints")); err != nil {
			return nil, err
		}
	}
	if err := inRange(b.MaxRequests, 1, originMaxRequestMax, at.member("max_requests"), &o.MaxRequests); err != nil {
		return nil, err
	}
	if err := inRange(b.Retries, 0, deploy.OriginRetriesMax, at.member("retries"), new(int)); err != nil {
		return nil, err
	}
	var err error
	if b.Timeouts != nil {
		if o.Timeouts, err = b.Timeouts.check(at.member("timeouts")); err != nil {
			return nil, err
		}
	}
	if b.Monitor != nil {
		o.Monitor, err = b.Monitor.check(at.member("monitor"))
	}
	return o, err
}

// checkEndpoints wants servers that are alike: a gateway that speaks TLS to one of them
// and clear text to the other would keep no promise about either.
func checkEndpoints(list []endpointBody, at place) ([]deploy.Endpoint, error) {
	if len(list) == 0 || len(list) > deploy.EndpointsMax {
		return nil, at.fail("has %d entries: it must have 1 to %d", len(list), deploy.EndpointsMax)
	}
	endpoints := make([]deploy.Endpoint, len(list))
	seen := make(map[string]int, len(list))
	var scheme string
	for i, e := range list {
		here := at.element(i)
		u, err := checkOriginURL(e.URL, here.member("url"))
		if err != nil {
			return nil, err
		}
		if scheme == "" {
			scheme = u.Scheme
		}
		if u.Scheme != scheme {
			return nil, here.member("url").fail("%q begins with %s://, where endpoints[0] has %s://: all endpoints of a version must be spoken to alike", shown(e.URL), u.Scheme, scheme)
		}
		if first, repeated := seen[serverOf(u)]; repeated {
			return nil, here.member("url").fail("%q is the same as endpoints[%d]: name each endpoint once, with a weight", shown(e.URL), first)
		}
		seen[serverOf(u)] = i
		endpoints[i] = deploy.Endpoint{URL: e.URL, Weight: 1}
		if e.Weight == nil {
			continue
		}
		if !(*e.Weight > 0 && *e.Weight <= 1) {
			return nil, here.member("weight").fail("is %v: it must be above 0 and at most 1; an endpoint that is to get nothing is left out", *e.Weight)
		}
		endpoints[i].Weight = *e.Weight
	}
	return endpoints, nil
}

// serverOf returns the same text for two ways to write one URL.
func serverOf(u *url.URL) string {
	port := u.Port()
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		port = strconv.FormatUint(n, 10) // 0080 is 80
	} else if u.Scheme == "https" {
		port = "443"
	} else {
		port = "80"
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	}
	return net.JoinHostPort(host, port) + strings.TrimRight(u.EscapedPath(), "/")
}

func (b *timeoutsBody) check(at place) (*deploy.OriginTimeouts, error) {
	var t deploy.OriginTimeouts
	for _, m := range []struct {
		name string
		sent *int64
		to   *int64
	}{
		{"connect_ms", b.ConnectMS, &t.ConnectMS}, {"first_byte_ms", b.FirstByteMS, &t.FirstByteMS},
		{"between_bytes_ms", b.BetweenBytesMS, &t.BetweenBytesMS}, {"idle_ms", b.IdleMS, &t.IdleMS},
	} {
		if err := inRange(m.sent, 1, deploy.OriginTimeoutMSMax, at.member(m.name), m.to); err != nil {
			return nil, err
		}
	}
	if t == (deploy.OriginTimeouts{}) {
		return nil, nil //nolint:nilnil // an empty object says as much as none
	}
	return &t, nil
}

func (b *monitorBody) check(at place) (*deploy.Monitor, error) {
	m := deploy.DefaultMonitor()
	for _, n := range []struct {
		name     string
		sent     *int
		min, max int
		to       *int
	}{
		{"interval", b.Interval, 1, deploy.MonitorIntervalMax, &m.Interval},
		{"timeout", b.Timeout, 1, deploy.MonitorTimeoutMax, &m.Timeout},
		{"retries", b.Retries, 0, deploy.MonitorRetriesMax, &m.Retries},
		{"consecutive_up", b.ConsecutiveUp, 0, deploy.MonitorCountMax, &m.ConsecutiveUp},
		{"consecutive_down", b.ConsecutiveDown, 0, deploy.MonitorCountMax, &m.ConsecutiveDown},
	} {
		if err := inRange(n.sent, n.min, n.max, at.member(n.name), n.to); err != nil {
			return nil, err
		}
	}
	if b.Method != nil {
		if m.Method = *b.Method; m.Method != http.MethodGet && m.Method != http.MethodHead {
			return nil, at.member("method").fail("is %q: it must be GET or HEAD", shown(m.Method))
		}
	}
	if b.Path != nil {
		if m.Path = *b.Path; !validMonitorPath(m.Path) {
			return nil, at.member("path").fail("is %q: it must begin with / and be as it is sent, in printable ASCII without blanks and #, with at most %d bytes", shown(m.Path), originBytesMax)
		}
	}
	if b.ExpectedCodes != nil {
		if _, err := deploy.ParseStatusCodes(*b.ExpectedCodes); err != nil {
			return nil, at.member("expected_codes").fail("is %q: it must be a list such as \"200\", \"2xx\" or \"200,301\"", shown(*b.ExpectedCodes))
		}
		m.ExpectedCodes = *b.ExpectedCodes
	}
	var err error
	m.Header, err = checkMonitorHeader(b.Header, at.member("header"))
	return &m, err
}

func validMonitorPath(path string) bool {
	return strings.HasPrefix(path, "/") && len(path) <= originBytesMax &&
		!strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' })
}

// notForMonitors are headers that say how the request is sent, which is the gateway's.
var notForMonitors = []string{"Connection", "Content-Length", "Expect", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func checkMonitorHeader(sent map[string][]string, at place) (map[string][]string, error) {
	if len(sent) > monitorHeadersMax {
		return nil, at.fail("has %d names: %d are the most", len(sent), monitorHeadersMax)
	}
	header := make(map[string][]string, len(sent))
	size := 0
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		here, canonical := at.member(name), http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return nil, here.fail("is no header: a name has letters, digits and dashes")
		case slices.Contains(notForMonitors, canonical):
			return nil, here.fail("cannot be set: the gateway decides how a request is sent")
		case header[canonical] != nil:
			return nil, here.fail("appears twice: names of headers have no case")
		case len(sent[name]) == 0, canonical == "Host" && len(sent[name]) > 1:
			return nil, here.fail("has %d values: it must have at least one, and Host exactly one", len(sent[name]))
		}
		for i, value := range sent[name] {
			size += len(name) + len(value)
			if !httpguts.ValidHeaderFieldValue(value) || canonical == "Host" && (value == "" || !httpguts.ValidHostHeader(value)) {
				return nil, here.element(i).fail("is no value that can be sent") // which may be a secret
			}
		}
		header[canonical] = sent[name]
	}
	if size > monitorHeaderMax {
		return nil, at.fail("has %d bytes: %d are the most", size, monitorHeaderMax)
	}
	if len(header) == 0 {
		return nil, nil
	}
	return header, nil
}

// inRange copies a number that was sent.
func inRange[T int | int64](sent *T, least, most T, at place, to *T) error {
	if sent == nil {
		return nil
	}
	if *sent < least || *sent > most {
		return at.fail("is %d: it must be from %d to %d", *sent, least, most)
	}
	*to = *sent
	return nil
}

func checkOriginURL(text string, at place) (*url.URL, error) {
	shownText := shown(withoutUser(text))
	refuse := func(why string) (*url.URL, error) { return nil, at.fail("%q %s", shownText, why) }
	if len(text) > originBytesMax {
		return refuse("is too long")
	}
	u, err := url.Parse(text)
	if err != nil {
		return refuse("is not a URL, such as http://10.0.0.5:9000") // err may hold a password
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
	return u, nil
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
