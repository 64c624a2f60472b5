package deploy

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of an origin.
const (
	EndpointsMax       = 64
	OriginRetriesMax   = 5
	OriginTimeoutMSMax = 3_600_000
	MonitorIntervalMax = 3600 // seconds, as upstream
	MonitorTimeoutMax  = 60   // seconds
	MonitorRetriesMax  = 5
	MonitorCountMax    = 100 // of consecutive_up and consecutive_down
)

// DefaultOriginRetries is how often a request may be sent to another endpoint when its
// origin does not say.
const DefaultOriginRetries = 1

// Origin is the backend of an origin version: one HTTP server, or several that serve
// the same. The scheme says how they are spoken to: http is HTTP/1.1, https is HTTP/2
// or HTTP/1.1 as the server offers, and h2c is HTTP/2 without TLS. Member names are
// those of Cloudflare's Load Balancing where it has them.
type Origin struct {
	// One of the two is set.
	URL       string     `json:"url,omitempty"` // scheme, host, optional port and path prefix
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	Monitor  *Monitor        `json:"monitor,omitempty"` // nil: nobody asks the endpoints how they are
	Timeouts *OriginTimeouts `json:"timeouts,omitempty"`
	// MaxRequests bounds the requests that a gateway has in hand at one endpoint; zero
	// is no bound.
	MaxRequests int `json:"max_requests,omitempty"`
	// Retries is how often a request may be sent to another endpoint; nil is DefaultOriginRetries.
	Retries *int `json:"retries,omitempty"`
}

// Endpoint is one server of an origin.
type Endpoint struct {
	URL    string  `json:"url"`    // as Origin.URL
	Weight float64 `json:"weight"` // above 0 and at most 1, relative to the others
}

// OriginTimeouts replace a gateway's own, in milliseconds; zero leaves that one.
type OriginTimeouts struct {
	ConnectMS      int64 `json:"connect_ms,omitempty"`       // name look-up, TCP and TLS, each
	FirstByteMS    int64 `json:"first_byte_ms,omitempty"`    // from the request's last byte to the response's header, of each attempt
	BetweenBytesMS int64 `json:"between_bytes_ms,omitempty"` // how long the next piece of a response's body may take
	IdleMS         int64 `json:"idle_ms,omitempty"`          // how long an unused connection is kept
}

// Monitor is how a gateway asks an endpoint whether it is well.
type Monitor struct {
	Method          string              `json:"method"` // GET or HEAD
	Path            string              `json:"path"`   // below that of the endpoint's URL
	Header          map[string][]string `json:"header,omitempty"`
	Interval        int                 `json:"interval"`         // seconds
	Timeout         int                 `json:"timeout"`          // seconds, for one try
	Retries         int                 `json:"retries"`          // further tries after one that timed out, at once
	ExpectedCodes   string              `json:"expected_codes"`   // see ParseStatusCodes
	ConsecutiveUp   int                 `json:"consecutive_up"`   // checks that must pass; zero is one
	ConsecutiveDown int                 `json:"consecutive_down"` // checks that must fail; zero is one
}

// DefaultMonitor is what a monitor without members means, as upstream; only the path
// is needed to make sense of it.
func DefaultMonitor() Monitor {
	return Monitor{Method: "GET", Path: "/", Interval: 60, Timeout: 5, Retries: 2, ExpectedCodes: "200"}
}

// All returns the endpoints, of which there is one for an origin that is a URL.
func (o *Origin) All() []Endpoint {
	if len(o.Endpoints) == 0 {
		return []Endpoint{{URL: o.URL, Weight: 1}}
	}
	return o.Endpoints
}

// RetriesMax is how often a request may be sent to another endpoint.
func (o *Origin) RetriesMax() int {
	if o.Retries == nil {
		return DefaultOriginRetries
	}
	return *o.Retries
}

// String names the endpoints, for people.
func (o *Origin) String() string {
	if len(o.Endpoints) == 0 {
		return o.URL
	}
	urls := make([]string, len(o.Endpoints))
	for i, e := range o.Endpoints {
		urls[i] = e.URL
	}
	return strings.Join(urls, ", ")
}

// Equal reports whether two origins are served by the same backend.
func (o *Origin) Equal(other *Origin) bool {
	if o == nil || other == nil {
		return o == other
	}
	return o.URL == other.URL && o.MaxRequests == other.MaxRequests && slices.Equal(o.Endpoints, other.Endpoints) &&
		equal(o.Retries, other.Retries) && equal(o.Timeouts, other.Timeouts) && o.Monitor.equal(other.Monitor)
}

func equal[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

func (m *Monitor) equal(other *Monitor) bool {
	if m == nil || other == nil {
		return m == other
	}
	return m.Method == other.Method && m.Path == other.Path && m.Interval == other.Interval && m.Timeout == other.Timeout &&
		m.Retries == other.Retries && m.ExpectedCodes == other.ExpectedCodes &&
		m.ConsecutiveUp == other.ConsecutiveUp && m.ConsecutiveDown == other.ConsecutiveDown &&
		maps.EqualFunc(m.Header, other.Header, slices.Equal[[]string])
}

// validate holds an origin to what a gateway cannot do without. The API is stricter.
func (o *Origin) validate() error {
	if (o.URL == "") == (len(o.Endpoints) == 0) {
		return fmt.Errorf("the origin must have a URL or endpoints")
	}
	if len(o.Endpoints) > EndpointsMax {
		return fmt.Errorf("the origin has %d endpoints: %d are the most", len(o.Endpoints), EndpointsMax)
	}
	for _, e := range o.All() {
		if u, err := url.Parse(e.URL); err != nil || u.Host == "" {
			return fmt.Errorf("the origin's URL %q is not absolute", e.URL)
		}
		if !(e.Weight > 0 && e.Weight <= 1) {
			return fmt.Errorf("the endpoint %q has the weight %v: it must be above 0 and at most 1", e.URL, e.Weight)
		}
	}
	if o.MaxRequests < 0 || o.RetriesMax() < 0 {
		return fmt.Errorf("the origin has max_requests %d and retries %d: neither can be negative", o.MaxRequests, o.RetriesMax())
	}
	if t := o.Timeouts; t != nil {
		for _, ms := range []int64{t.ConnectMS, t.FirstByteMS, t.BetweenBytesMS, t.IdleMS} {
			if ms < 0 || ms > OriginTimeoutMSMax {
				return fmt.Errorf("the origin has a time-out of %d ms: it must be from 0 to %d", ms, OriginTimeoutMSMax)
			}
		}
	}
	if o.Monitor == nil {
		return nil
	}
	return o.Monitor.validate()
}

func (m *Monitor) validate() error {
	if m.Interval <= 0 || m.Interval > MonitorIntervalMax || m.Timeout <= 0 || m.Timeout > MonitorTimeoutMax {
		return fmt.Errorf("the origin's monitor has the interval %d s and the timeout %d s: they must be from 1 to %d and %d", m.Interval, m.Timeout, MonitorIntervalMax, MonitorTimeoutMax)
	}
	if m.Retries < 0 || m.Retries > MonitorRetriesMax {
		return fmt.Errorf("the origin's monitor has %d retries: they must be from 0 to %d", m.Retries, MonitorRetriesMax)
	}
	_, err := ParseStatusCodes(m.ExpectedCodes)
	return err
}

// StatusCodes is a set of HTTP status codes.
type StatusCodes []statusRange

type statusRange struct{ from, to int }

// statusCodesMax bounds the length of a list of codes.
const statusCodesMax = 32

// ParseStatusCodes reads a list such as "200", "2xx" or "200, 301, 4xx".
func ParseStatusCodes(text string) (StatusCodes, error) {
	parts := strings.Split(text, ",")
	if len(parts) > statusCodesMax {
		return nil, fmt.Errorf("the status codes are more than %d", statusCodesMax)
	}
	codes := make(StatusCodes, len(parts))
	for i, part := range parts {
		part = strings.Trim(part, " ")
		hundreds, class := strings.CutSuffix(strings.ToLower(part), "xx")
		n, err := strconv.Atoi(hundreds)
		switch {
		case err != nil || part[0] < '1' || part[0] > '5':
		case class && len(part) == 3:
			codes[i] = statusRange{n * 100, n*100 + 99}
			continue
		case !class && len(part) == 3:
			codes[i] = statusRange{n, n}
			continue
		}
		return nil, fmt.Errorf("%q is no status code: it is a number from 100 to 599, or a class such as 2xx", part)
	}
	return codes, nil
}

// Contains reports whether a status is in the set.
func (c StatusCodes) Contains(status int) bool {
	return slices.ContainsFunc(c, func(r statusRange) bool { return r.from <= status && status <= r.to })
}
