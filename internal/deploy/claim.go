package deploy

import (
	"strings"

	"golang.org/x/net/publicsuffix"

	"tidegate/internal/errs"
)

// CheckClaim refuses a route that an account may not have by its own will, because it gets
// requests of names which are others', or could be: those of every host, of a whole suffix
// under which names are registered, and of the platform's own names. Scripts are served at
// <script>.<subdomain>.<domain>, so an account has what is below its own subdomain there.
// Without a domain, which is in lower case, nobody knows which names these are, and every route is refused.
func (r *Route) CheckClaim(domain, subdomain string) error {
	refuse := func(why string, args ...any) error {
		return errs.New(errs.Forbidden, 0, "route pattern %q "+why, append([]any{r.String()}, args...)...)
	}
	switch {
	case r.EveryHost():
		return refuse("matches every host, also those of other accounts: only the operator's token may set it")
	case r.Subdomains && isSuffix(r.Host):
		return refuse("matches every name below %s, also those of other accounts: name one below it, such as *.example.%s, or have the operator set it", r.Host, r.Host)
	case domain == "":
		return refuse("cannot be given to an account: this control plane does not know which names are the gateway's own. Its operator says so with --gateway-domain or --gateway-url")
	}
	platform, own := Route{Host: domain, Apex: true, Subdomains: true}, subdomain+"."+domain
	if !r.SharesHost(&platform) || r.Below(own) {
		return nil
	}
	return refuse("is on names of the gateway's own domain, %s, of which this account has those below %s: use one of them or another domain, or have the operator set it", domain, own)
}

// Below reports whether every host that the route matches is below a name, which itself is not.
func (r *Route) Below(name string) bool {
	return strings.HasSuffix(r.Host, "."+name) || r.Host == name && !r.Apex
}

// isSuffix reports whether names below host are registered one by one, or are the addresses of
// one network: no name ends in a number.
func isSuffix(host string) bool {
	suffix, _ := publicsuffix.PublicSuffix(host)
	last := host[strings.LastIndexByte(host, '.')+1:]
	return suffix == host || strings.Trim(last, "0123456789") == ""
}
