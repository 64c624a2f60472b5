package logjob

import (
	"net/url"
	"strings"

	"tidegate/internal/errs"
)

// AlertHook is where an account is told of its jobs' failures.
type AlertHook struct {
	URL      string
	Secret   string // sent as cf-webhook-auth; empty: none
	PolicyID string // given by the service
}

// Limits of an AlertHook, in bytes.
const (
	alertURLMax    = 4096
	alertSecretMax = 1024
)

// Validate refuses what could not be used.
func (h AlertHook) Validate() error {
	u, err := url.Parse(h.URL)
	switch {
	case len(h.URL) > alertURLMax:
		return errs.New(errs.Invalid, 0, "url has %d bytes; %d are allowed", len(h.URL), alertURLMax).At("/url")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil:
		return errs.New(errs.Invalid, 0, "url must be an absolute https:// URL without user info").At("/url")
	case len(h.Secret) > alertSecretMax || strings.ContainsFunc(h.Secret, func(r rune) bool { return r < ' ' || r > '~' }):
		return errs.New(errs.Invalid, 0, "secret must be at most %d printable ASCII characters, because it is sent in a header", alertSecretMax).At("/secret")
	}
	return nil
}

// DestinationName returns the scheme of a destination_conf and, without credentials
// and parameters, where it leads.
func DestinationName(conf string) (kind, name string) {
	kind, _, _ = strings.Cut(conf, "://")
	name, _, _ = strings.Cut(MaskDestination(conf), "?")
	return kind, name
}
