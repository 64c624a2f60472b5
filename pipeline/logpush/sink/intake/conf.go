package intake

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
)

// rules say what a destination_conf of one scheme may look like.
type rules struct {
	path     string   // stands for an empty path
	paths    []string // the paths that are possible, "*" at the end for any rest; none allows all
	port     string   // where none is named; empty is that of HTTP or HTTPS
	required []string // parameters, header_<Name> among them
	sent     []string // parameters that stay in the URL
	taken    []string // parameters that are for us and not sent, "*" at the end for any rest

	// anyParameter leaves parameters that no rule names in the URL. The scheme is
	// then that of the request, too: without it a destination speaks TLS unless it
	// says insecure=true.
	anyParameter bool
}

const paramInsecure = "insecure"

// params are the parameters of a destination_conf that are not headers.
type params map[string]string

// flag reads a parameter that is true or false; false where it is missing.
func (p params) flag(name string) (bool, error) {
	switch p[name] {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, fmt.Errorf("the parameter %s must be true or false", name)
}

// parse reads a destination_conf. Its errors name parameters and never repeat values.
func parse(u *url.URL, r rules, policy egress.Policy) (*endpoint, params, error) {
	if err := logpush.CheckDateOnly(u); err != nil {
		return nil, nil, err
	}
	e := &endpoint{url: *u, header: http.Header{}, answerMax: answerMax}
	p := params{}
	var kept []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, nameErr := url.QueryUnescape(rawName)
		value, valueErr := url.QueryUnescape(rawValue)
		if nameErr != nil || valueErr != nil {
			return nil, nil, errors.New("a parameter is not URL-encoded")
		}
		if header, ok := strings.CutPrefix(name, "header_"); ok {
			if err := e.addHeader(header, value); err != nil {
				return nil, nil, err
			}
			continue
		}
		taken := matches(r.taken, name) || !r.anyParameter && name == paramInsecure
		switch {
		case !taken && !r.anyParameter && !slices.Contains(r.sent, name):
			return nil, nil, fmt.Errorf("%s has no parameter %q: possible are %s", u.Scheme, name, r.parameters())
		case !taken:
			kept = append(kept, pair) // as it was written: a receiver may sign or compare it
		case p[name] != "":
			return nil, nil, fmt.Errorf("the parameter %s is given twice", name)
		}
		p[name] = value
	}
	for _, name := range r.required {
		header, isHeader := strings.CutPrefix(name, "header_")
		if isHeader && e.header.Get(header) == "" || !isHeader && p[name] == "" {
			return nil, nil, fmt.Errorf("%s needs the parameter %s", u.Scheme, name)
		}
	}
	e.url.RawQuery = strings.Join(kept, "&")
	if err := e.setAddress(u, r, p, policy); err != nil {
		return nil, nil, err
	}
	e.client = policy.Client()
	return e, p, nil
}

func (e *endpoint) setAddress(u *url.URL, r rules, p params, policy egress.Policy) error {
	if !r.anyParameter {
		insecure, err := p.flag(paramInsecure)
		if err != nil {
			return err
		}
		e.url.Scheme = "https"
		if insecure {
			e.url.Scheme = "http"
		}
	}
	if err := policy.CheckScheme(e.url.Scheme); err != nil {
		return err
	}
	if u.Hostname() == "" {
		return errors.New("the host is missing")
	}
	if u.Port() == "" && r.port != "" {
		e.url.Host = net.JoinHostPort(u.Hostname(), r.port)
	}
	if u.Path == "" || u.Path == "/" {
		e.url.Path = cmp.Or(r.path, u.Path)
	}
	if len(r.paths) > 0 && !matches(r.paths, e.url.Path) {
		return fmt.Errorf("the path of %s must be %s", u.Scheme, strings.Join(r.paths, " or "))
	}
	return nil
}

// matches reports whether name is one of names, or begins as one that ends with "*".
func matches(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		start, isPrefix := strings.CutSuffix(n, "*")
		return n == name || isPrefix && len(name) > len(start) && strings.HasPrefix(name, start)
	})
}

// parameters lists what a destination_conf may hold, for the error about another one.
func (r rules) parameters() string {
	names := slices.Concat(r.required, r.sent, r.taken, []string{"header_<Name>", paramInsecure})
	for i, name := range names {
		names[i] = strings.Replace(name, "*", "<name>", 1)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// ours are the headers that a destination_conf cannot set.
var ours = map[string]bool{
	"Host": true, "Content-Length": true, "Content-Encoding": true, "Transfer-Encoding": true,
	"Connection": true, "Te": true, "Trailer": true, "Upgrade": true, "Expect": true,
	HeaderBatchID: true, HeaderJobID: true, HeaderDataset: true, HeaderRecords: true, HeaderSignature: true,
}

func (e *endpoint) addHeader(name, value string) error {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Errorf("header_%s does not name a header", name)
	case !httpguts.ValidHeaderFieldValue(value):
		return fmt.Errorf("the value of header_%s has characters that a header cannot have", name)
	case ours[http.CanonicalHeaderKey(name)]:
		return fmt.Errorf("header_%s cannot be set: delivery sets this header itself", name)
	case e.header.Get(name) != "":
		return fmt.Errorf("header_%s is given twice", name)
	}
	e.header.Set(name, value)
	return nil
}
