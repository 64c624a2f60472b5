// Package parameters reads the parameters of a destination_conf. Its errors name
// parameters and never repeat the value of one that may be a secret.
package parameters

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"tidegate/pipeline/logpush/sink/egress"
)

// Check refuses unknown, repeated and missing parameters; of known, those
// marked true are required.
func Check(scheme string, query url.Values, known map[string]bool) error {
	var missing []string
	for name, required := range known {
		if required && query.Get(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("required parameters are missing: %s", strings.Join(missing, ", "))
	}
	for name, values := range query {
		if _, ok := known[name]; !ok {
			return fmt.Errorf("the parameter %q is not known for %s: possible are %s", name, scheme, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if len(values) > 1 {
			return fmt.Errorf("the parameter %q is given twice", name)
		}
	}
	return nil
}

// Endpoint reads the parameter endpoint, a host; nil when there is none. A scheme
// before it is our addition, for a store on the operator's network without TLS.
func Endpoint(query url.Values, policy egress.Policy) (*url.URL, error) {
	endpoint := query.Get("endpoint")
	if endpoint == "" {
		return nil, nil
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the parameter endpoint must be a host, with a port if need be")
	}
	if err := policy.CheckScheme(u.Scheme); err != nil {
		return nil, fmt.Errorf("the parameter endpoint: %w", err)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(u.Path, "/")}, nil
}
