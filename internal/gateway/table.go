package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"tidegate/internal/deploy"
)

// table is a snapshot made ready for look-ups. It is immutable.
type table struct {
	revision int64
	// hosts are the platform's own names: a script's, its previews', its aliases'.
	// They come before any route, so that no route can take them over. One without a
	// script is switched off.
	hosts map[string]target
	// routes by the host that they name, and under by the name whose subdomains
	// they match ("" for all); each list has the most specific one first.
	routes map[string][]route
	under  map[string][]route
	// scripts by account and name, for calls that come by name and not by host.
	scripts map[scriptKey]*script
	// versions by id, those that only a held-back script still names included.
	versions map[string]servedVersion
	waiting  int           // scripts whose newest deployment is held back
	replaced chan struct{} // closed when another table serves
}

type scriptKey struct{ account, name string }

// servedVersion is a version with the script that it belongs to.
type servedVersion struct {
	script  *script
	version *version
}

// target is what a host or a route leads to.
type target struct {
	script  *script
	preview *version // for a preview host or an alias, else nil
}

type route struct {
	deploy.Route
	target target
}

// previewIDChars of a version id begin its preview host.
const previewIDChars = 8

// compile builds the table. What cannot be served - a bad route, a name that is
// taken - is left out with a warning, so that one script's mistake does not keep
// another one's update away. Of two claims to one name the first one wins. A new
// deployment that is not ready gives way to the one of before, the table in force,
// which may be nil.
func compile(s *deploy.Snapshot, domain string, backends map[string]http.RoundTripper, before *table) (t *table, warnings []string) {
	t = &table{
		revision: s.Revision, hosts: map[string]target{},
		routes: map[string][]route{}, under: map[string][]route{},
		scripts: make(map[scriptKey]*script, len(s.Scripts)), versions: map[string]servedVersion{},
		replaced: make(chan struct{}),
	}
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	scripts := make([]*script, len(s.Scripts))
	for i := range s.Scripts {
		next := &s.Scripts[i]
		sc := newScript(next, backends, before.script(scriptKey{next.AccountID, next.Name}), warn)
		scripts[i] = sc
		t.scripts[scriptKey{sc.AccountID, sc.Name}] = sc
		for _, v := range sc.versions {
			if old := before.version(v.ID); old != nil {
				v.leftOut = old.leftOut
			}
			t.versions[v.ID] = servedVersion{sc, v}
		}
		if sc.heldBack {
			t.waiting++
		}
		own := target{script: sc}
		if sc.HostDisabled {
			own = target{} // nothing is served there, be it by a preview or a route
		}
		if host := sc.host("", domain); !t.claim(host, own) {
			warn("script %s/%s: the name %s is taken", sc.AccountID, sc.Name, host)
		}
		for _, pattern := range sc.Routes {
			r, err := deploy.ParseRoute(pattern)
			if err != nil {
				warn("script %s/%s: %v", sc.AccountID, sc.Name, err)
				continue
			}
			t.addRoute(route{r, target{script: sc}})
		}
	}
	// Previews come after every script's own name: the script "abcdef01-shop" is
	// not to be hidden by a version of "shop".
	for _, sc := range scripts {
		if sc.PreviewsDisabled {
			continue
		}
		for _, v := range sc.versions {
			if v.Worker != nil && len(v.Worker.Objects) > 0 {
				continue // a second version of objects of which only one may run
			}
			to := target{script: sc, preview: v}
			if len(v.ID) >= previewIDChars {
				t.claim(sc.host(v.ID[:previewIDChars]+"-", domain), to)
			}
			if v.Alias != "" {
				t.claim(sc.host(v.Alias+"-", domain), to) // versions come newest first: that one has the alias
			}
		}
	}
	t.sortRoutes()
	return t, warnings
}

// claim gives a host its target, unless it has one already.
func (t *table) claim(host string, to target) bool {
	_, taken := t.hosts[host]
	if !taken {
		t.hosts[host] = to
	}
	return !taken
}

// script returns a script of the table, or nil; a nil table has none.
func (t *table) script(key scriptKey) *script {
	if t == nil {
		return nil
	}
	return t.scripts[key]
}

// version returns a version of the table, or nil; a nil table has none.
func (t *table) version(id string) *version {
	if t == nil {
		return nil
	}
	return t.versions[id].version
}

// inForce reports whether requests are drawn for a version.
func (t *table) inForce(versionID string) bool {
	v, ok := t.versions[versionID]
	return ok && slices.ContainsFunc(v.script.Splits, func(s deploy.Split) bool { return s.VersionID == versionID })
}

func (t *table) addRoute(r route) {
	if r.Apex && r.Host != "" {
		t.routes[r.Host] = append(t.routes[r.Host], r)
	}
	if r.Subdomains {
		t.under[r.Host] = append(t.under[r.Host], r)
	}
}

// sortRoutes puts hosts named exactly before "*.host" before "*host", and the
// more specific path first among equals.
func (t *table) sortRoutes() {
	width := func(r *route) int {
		switch {
		case !r.Subdomains:
			return 0
		case !r.Apex:
			return 1
		}
		return 2
	}
	for _, lists := range []map[string][]route{t.routes, t.under} {
		for _, list := range lists {
			slices.SortStableFunc(list, func(a, b route) int {
				if d := width(&a) - width(&b); d != 0 {
					return d
				}
				return deploy.CompareRoutes(&a.Route, &b.Route)
			})
		}
	}
}

// hostBytesMax is what a name can have (RFC 1035, 2.3.4; in text, without the last dot). Each label of
// one costs a look at the rest, so a header of nothing but dots would take seconds.
const hostBytesMax = 253

// match finds the script of a request. The host may carry a port, capitals and a
// trailing dot; path is unescaped.
func (t *table) match(host, scheme, path string) (target, bool) {
	host = plainHost(host)
	if len(host) > hostBytesMax {
		return target{}, false
	}
	if to, ok := t.hosts[host]; ok {
		return to, to.script != nil
	}
	if to, ok := firstMatch(t.routes[host], scheme, path); ok {
		return to, true
	}
	for parent := host; len(t.under) > 0 && parent != ""; {
		_, parent, _ = strings.Cut(parent, ".")
		if to, ok := firstMatch(t.under[parent], scheme, path); ok {
			return to, true
		}
	}
	return target{}, false
}

func firstMatch(routes []route, scheme, path string) (target, bool) {
	for i := range routes {
		if routes[i].MatchPath(scheme, path) {
			return routes[i].target, true
		}
	}
	return target{}, false
}

// plainHost strips the port and one trailing dot, and lowers the case. It
// allocates only for capitals. What follows a colon and is no port stays, so that
// nothing is served there: in shop.example.com:80@evil.example a backend that makes
// links of its Host would name the latter.
func plainHost(host string) string {
	// The colons of an IPv6 address are inside brackets.
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") == "" {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
