package deploy

import (
	"strings"
	"testing"

	"tidegate/internal/errs"
)

func TestClaims(t *testing.T) {
	const domain = "apps.example.com"
	f := func(pattern, domain, wantPart string) {
		t.Helper()
		r, err := ParseRoute(pattern)
		if err != nil {
			t.Fatal(err)
		}
		err = r.CheckClaim(domain, "acme")
		switch {
		case wantPart == "" && err != nil:
			t.Errorf("%s with the gateway's domain %q is refused: %v", pattern, domain, err)
		case wantPart != "" && (errs.KindOf(err) != errs.Forbidden || !strings.Contains(err.Error(), wantPart) || !strings.Contains(err.Error(), r.String())):
			t.Errorf("%s with the gateway's domain %q: error %v, want one that is forbidden, and says %q", pattern, domain, err, wantPart)
		}
	}
	for _, pattern := range []string{
		"shop.example.org/*", "*.example.org/*", "*example.org/*", "*.shop.co.uk/*", "example.com/*", "www.example.com/*", "*.www.example.com/*", "xapps.example.com/*",
		"a.acme.apps.example.com/*", "*.acme.apps.example.com/*", "*.a.acme.apps.example.com/x", "10.0.0.1/*", "intranet/*",
	} {
		f(pattern, domain, "")
	}
	for pattern, why := range map[string]string{
		"*/*": "every host", "https://*/x": "every host",
		"*.com/*": "every name below com", "*com/*": "every name below com", "*.co.uk/*": "every name below co.uk", "*.localhost/*": "every name below localhost",
		"*.github.io/*": "every name below github.io", "*.internal/*": "every name below internal", "*.0.0.1/*": "every name below 0.0.1", "*.1/*": "every name below 1",
		"apps.example.com/*": "below acme.apps.example.com", "*.apps.example.com/*": "below acme.apps.example.com", "*.example.com/*": "below acme.apps.example.com",
		"*example.com/*": "below acme.apps.example.com", "login.other.apps.example.com/*": "below acme.apps.example.com",
		"*.other.apps.example.com/*": "below acme.apps.example.com", "www.apps.example.com/*": "below acme.apps.example.com",
		"acme.apps.example.com/*": "below acme.apps.example.com", "*acme.apps.example.com/*": "below acme.apps.example.com",
		"xacme.apps.example.com/*": "below acme.apps.example.com", "a.Xacme.apps.example.com/*": "below acme.apps.example.com",
	} {
		f(pattern, domain, why)
	}
	f("a.acme.localhost/*", "localhost", "")
	f("*.acme.localhost/*", "localhost", "")
	f("login.dev.localhost/*", "localhost", "below acme.localhost")
	f("shop.example.org/*", "", "--gateway-domain")
}
