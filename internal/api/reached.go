package api

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// reachedAt is where the caller found this server. What a proxy says of that is
// believed, whoever it is: a caller who lies about it harms nobody else.
func reachedAt(r *http.Request) (host string, byTLS bool) {
	host, byTLS = r.Host, r.TLS != nil || forwardedByTLS(r)
	if forwarded := firstOf(r.Header.Get("X-Forwarded-Host")); forwarded != "" && !strings.ContainsAny(forwarded, "/?#@\\ ") {
		host = forwarded
	}
	return host, byTLS
}

func forwardedByTLS(r *http.Request) bool {
	return strings.EqualFold(firstOf(r.Header.Get("X-Forwarded-Proto")), "https")
}

// dashboardURL is Config.DashboardURL, else where the caller found this server.
func (s *Server) dashboardURL(r *http.Request) string {
	if s.dashboard != "" {
		return s.dashboard
	}
	host, byTLS := reachedAt(r)
	u := url.URL{Scheme: "http", Host: host}
	if byTLS {
		u.Scheme = "https"
	}
	return u.String()
}

// cameByTLS reports whether the browser speaks TLS, to this server or to a trusted proxy, or
// asks for the host of a dashboard that is reached by TLS.
func (s *Server) cameByTLS(r *http.Request) bool {
	if r.TLS != nil || s.trusts(peerOf(r)) && forwardedByTLS(r) {
		return true
	}
	u, err := url.Parse(s.dashboard)
	return err == nil && u.Scheme == "https" && strings.EqualFold(u.Host, r.Host)
}

// clientAddress is the last one on the way here that is no trusted proxy's; the zero
// address when it is not known.
func (s *Server) clientAddress(r *http.Request) netip.Addr {
	address := peerOf(r)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !s.trusts(address) {
			break
		}
		before, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		address = before.Unmap()
	}
	return address
}

func (s *Server) trusts(address netip.Addr) bool {
	return slices.ContainsFunc(s.proxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

func peerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// firstOf a list that proxies add to.
func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}
