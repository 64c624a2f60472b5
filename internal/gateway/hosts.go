package gateway

import "strings"

// NamesHost reports whether requests for a host, in lower case and without a port,
// reach a script that names just this host: by its own name, a preview's, an alias's,
// or a route's. Names below a route's wildcard are anybody's to invent, so they do not
// count; ServesHost counts them.
func (g *Gateway) NamesHost(host string) bool { return g.table.Load().named(host, false) }

// ServesHost reports whether a request for a host, in lower case and without a port,
// may reach a script, be it by a wildcard.
func (g *Gateway) ServesHost(host string) bool { return g.table.Load().named(host, true) }

// named looks a host up without a path; a nil table names none.
func (t *table) named(host string, wildcards bool) bool {
	if t == nil {
		return false
	}
	if to, ok := t.hosts[host]; ok {
		return to.script != nil // switched off, which no route can undo
	}
	if len(t.routes[host]) > 0 {
		return true
	}
	for parent := host; wildcards && parent != ""; {
		_, parent, _ = strings.Cut(parent, ".")
		if len(t.under[parent]) > 0 {
			return true
		}
	}
	return false
}
