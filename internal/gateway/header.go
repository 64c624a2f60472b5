package gateway

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"tidegate/internal/deploy"
	"tidegate/schema/control"
)

// headerBinding names the callee of a service binding; see BindingHandler.
const headerBinding = deploy.BindingHeader

// client is who sent a request, as far as it can be believed.
type client struct {
	vouched bool   // a trusted proxy passed the request on
	ip      string // of the client itself
	forward string // X-Forwarded-For as it goes to the backend
	scheme  string // "http" or "https", as the client used it
	host    string // that the client asked for
}

// clientOf believes the connection, and the X-Forwarded headers or Forwarded only
// when it comes from a trusted proxy.
func (g *Gateway) clientOf(r *http.Request) client {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		peer = r.RemoteAddr
	}
	scheme := "http"
	if encrypted(r) {
		scheme = "https"
	}
	return g.clientAt(peer, scheme, r.Host, headerMap(r.Header))
}

// clientAt is clientOf a request that came from peer by a scheme and asks for a host.
func (g *Gateway) clientAt(peer, scheme, host string, header headers) client {
	c := client{ip: peer, forward: peer, scheme: scheme, host: host}
	if len(g.cfg.TrustedProxies) == 0 || !g.trusted(peer) {
		return c
	}
	c.vouched = true
	// X-Forwarded-* goes before Forwarded, as a whole: a proxy that writes the one
	// may let the other through as the client sent it.
	if lines := header.Lines("Forwarded"); lines != nil && !tellsOfClient(header) {
		g.believeForwarded(&c, lines, peer)
		return c
	}
	if list := strings.Join(header.Lines("X-Forwarded-For"), ", "); list != "" {
		c.forward = list + ", " + peer
		c.ip = g.firstUntrusted(list, peer)
	}
	if proto := strings.ToLower(firstLine(header, "X-Forwarded-Proto")); proto == "http" || proto == "https" {
		c.scheme = proto
	}
	if host := firstLine(header, "X-Forwarded-Host"); host != "" {
		c.host = host
	}
	return c
}

// tellsOfClient reports whether there is one of the X-Forwarded headers that are read.
func tellsOfClient(h headers) bool {
	return h.Lines("X-Forwarded-For") != nil || h.Lines("X-Forwarded-Proto") != nil || h.Lines("X-Forwarded-Host") != nil
}

// firstUntrusted walks back from the peer to the first address that no trusted
// proxy vouches for: anything further left may be the client's invention.
func (g *Gateway) firstUntrusted(list, peer string) string {
	addresses := strings.Split(list, ",")
	ip := peer
	for i := len(addresses) - 1; i >= 0; i-- {
		address, ok := nodeAddress(strings.TrimSpace(addresses[i])) // some balancers write a port, too
		if !ok {
			return ip
		}
		ip = address
		if !g.trusted(ip) {
			return ip
		}
	}
	return ip
}

func (g *Gateway) trusted(address string) bool {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	for _, p := range g.cfg.TrustedProxies {
		if p.Contains(ip.Unmap().WithZone("")) { // a prefix has no zone
			return true
		}
	}
	return false
}

// connectionOnly reports whether a header is about one connection and not about
// the message (RFC 9110, section 7.6.1, and the older names that proxies meet).
func connectionOnly(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	}
	return false
}

// aboutClient reports whether a header is a proxy's word on who the client is or
// how it came, which a backend may believe. The list has the names that servers,
// balancers and frameworks read. Not all of Cf-, since clients send Cf-Access-
// headers themselves.
func aboutClient(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		// CGI and its heirs spell - and _ alike: X_Real_IP would pass for X-Real-IP there.
		name = textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	switch name {
	case "Forwarded", "Client-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Real-Ip", "X-Real-Port", "X-Remote-Addr", "X-Remote-Ip",
		"X-Original-Forwarded-For", "X-Originating-Ip", "X-Original-Host", "X-Url-Scheme", "Front-End-Https",
		"True-Client-Ip", "Fastly-Client-Ip", "Fly-Client-Ip", "X-Envoy-External-Address", "X-Azure-Clientip", "X-Appengine-User-Ip",
		"Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Cf-Pseudo-Ipv4", "Cf-Ipcountry", "Cf-Visitor":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded") // -For, -Port, -Server, -Ssl, -Prefix and more
}

// setByGateway reports whether a header is the gateway's own word in every request.
func setByGateway(name string) bool {
	switch name {
	case "Cf-Ray", "Cf-Connecting-Ip", headerLoop, headerBinding:
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded")
}

// dropListed removes the headers that the Connection header names.
func dropListed(h http.Header, connection []string) {
	for _, list := range connection {
		for name := range strings.SplitSeq(list, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
}

// mayHoldSession is true of few lines of Cookie but those with the dashboard's session.
func mayHoldSession(line string) bool { return strings.Contains(line, control.SessionCookie) }

// withoutSession takes the dashboard's session out of a line of Cookie. Browsers send a
// host's cookies to all of its ports, and what is served at this one has no business there.
func withoutSession(line string) string {
	if !mayHoldSession(line) {
		return line
	}
	var kept []string
	for pair := range strings.SplitSeq(line, ";") {
		name, _, _ := strings.Cut(pair, "=")
		if !control.IsSessionCookie(textproto.TrimString(name)) {
			kept = append(kept, pair)
		}
	}
	return textproto.TrimString(strings.Join(kept, ";"))
}

// withoutSessions is withoutSession for all lines, less those of which nothing is left; nil for none.
func withoutSessions(lines []string) []string {
	var kept []string
	for _, line := range lines {
		if rest := withoutSession(line); rest != "" || line == "" {
			kept = append(kept, rest)
		}
	}
	return kept
}

// requestHeader returns the header for the backend: the client's, without what
// concerns the client's connection alone, with the gateway's word on who it was.
// The values are shared with r and must not be changed.
func (g *Gateway) requestHeader(r *http.Request, x *exchange) http.Header {
	var h http.Header
	var all []string // one allocation for five values
	if x.memory != nil {
		h, all = x.memory.header, x.memory.values[:]
	} else {
		h, all = make(http.Header, len(r.Header)+6), make([]string, 5)
	}
	g.passOn(h, r, x)
	copy(all, []string{x.client.forward, x.client.scheme, x.client.host, x.client.ip, x.ray})
	for i, name := range [...]string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Cf-Connecting-Ip", "Cf-Ray"} {
		h[name] = all[i : i+1 : i+1]
	}
	return h
}

// passOn puts into h what of a request's header is for the backend, whoever sends it.
func (g *Gateway) passOn(h http.Header, r *http.Request, x *exchange) {
	for name, values := range r.Header {
		if !connectionOnly(name) && (x.client.vouched || !aboutClient(name)) {
			h[name] = values
		}
	}
	if cookies := h["Cookie"]; slices.ContainsFunc(cookies, mayHoldSession) {
		if h["Cookie"] = withoutSessions(cookies); h["Cookie"] == nil {
			delete(h, "Cookie")
		}
	}
	if connection := r.Header["Connection"]; connection != nil {
		dropListed(h, connection)
		if protocol := wantedSwitch(r); protocol != "" {
			h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{protocol}
		}
	}
	if httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers") {
		h["Te"] = []string{"trailers"} // gRPC wants to know
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = noUserAgent
	}
	if x.forward != "" {
		h[headerKey] = []string{x.forward}
	}
	h[headerLoop] = g.loopWith(r.Header[headerLoop])
}

// noUserAgent keeps a transport from naming itself.
var noUserAgent = []string{""}

// wantedSwitch returns the protocol that a request wants to switch to, or "" where
// that is none or not to be. HTTP/1.0 has no such wish (RFC 9110, section 7.8).
func wantedSwitch(r *http.Request) string {
	if protocol := upgradeOf(r.Header); r.ProtoAtLeast(1, 1) && !morePlainHTTP(protocol) {
		return protocol
	}
	return ""
}

// morePlainHTTP reports whether a switch to protocol would let requests through that
// nobody picks a version for and no event tells of: HTTP itself, also over TLS.
// Ignoring a wish to switch is always right (RFC 9110, section 7.8).
func morePlainHTTP(protocol string) bool {
	for p := range strings.SplitSeq(strings.ToLower(protocol), ",") {
		p, _, _ = strings.Cut(textproto.TrimString(p), "/")
		if p == "h2c" || p == "h2" || p == "http" || p == "tls" {
			return true
		}
	}
	return false
}

// upgradeOf returns the protocol that a message wants to switch to, or "".
func upgradeOf(h http.Header) string {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

// responseHeader fills the client's header from the backend's response.
func (g *Gateway) responseHeader(h http.Header, resp *http.Response, x *exchange) {
	ray, closing := h["Cf-Ray"], h["Connection"]
	for name, values := range resp.Header {
		if !connectionOnly(name) {
			h[name] = values
		}
	}
	dropListed(h, resp.Header["Connection"])
	h["Cf-Ray"] = ray
	if closing != nil {
		h["Connection"] = closing
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // net/http would guess one
	}
	if resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		delete(h, "Content-Length") // clients of HTTP/2 would miss the body; servers of HTTP/1.1 leave it out
	}
	if len(resp.Trailer) > 0 {
		names := make([]string, 0, len(resp.Trailer))
		for name := range resp.Trailer {
			if validTrailer(name, nil) {
				names = append(names, name)
			}
		}
		h["Trailer"] = []string{strings.Join(names, ", ")}
	}
	if x.cookie != "" {
		giveCookie(h, x)
	}
	g.leave(h)
	g.show(h, x)
}

// show tells the client which version answered, where the operator wants that.
func (g *Gateway) show(h http.Header, x *exchange) {
	if g.cfg.ShowVersion {
		h[headerShowVersion], h[headerShowDecision] = []string{x.version.ID}, []string{x.decision}
		delete(h, headerShowRule) // a backend may have sent one
		if x.rule != 0 {
			h[headerShowRule] = []string{strconv.Itoa(x.rule)}
		}
	}
}

// informational passes informational responses such as 103 Early Hints on as
// they come. A 100 is not the origin's to send, but the body's when it is read. A 101
// among them is malformed: HTTP/2 has none (RFC 9113, section 8.6), yet its transport lets
// one through, and a client would take it for the end of the exchange.
type informational struct {
	trace httptrace.ClientTrace
	w     http.ResponseWriter

	ray string // that w's header has not got yet; empty where it has

	mu      sync.Mutex
	stopped bool // the response proper is there, and w belongs to the handler again
}

// watch returns the context that makes a transport report to i.
func (i *informational) watch(ctx context.Context) context.Context {
	i.trace.Got1xxResponse = i.pass
	return httptrace.WithClientTrace(ctx, &i.trace)
}

// start makes i pass on what comes for w, if anything is to pass (see passesHints), with a ray that
// w's header has not got. A stopped one may be started again only if nobody can report
// for the request before.
func (i *informational) start(w http.ResponseWriter, pass bool, ray string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.w, i.ray, i.stopped = w, ray, !pass
}

// passesHints reports whether a client gets informational responses. What a 103 names is
// asked for at once, before the response is there: one that is to get a cookie by that does
// without. In HTTP/1.0 it would take the first of them for the response (RFC 9110, section 15.2).
func passesHints(r *http.Request, x *exchange) bool { return x.cookie == "" && r.ProtoAtLeast(1, 1) }

// stop must be called when RoundTrip has returned: transports with goroutines of
// their own may report later still.
func (i *informational) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.w, i.stopped = nil, true
}

func (i *informational) pass(code int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if code == http.StatusSwitchingProtocols {
		return errors.New("the backend switched protocols in the middle of an exchange")
	}
	if i.stopped || code == http.StatusContinue {
		return nil
	}
	h := i.w.Header()
	before := h.Clone()
	delete(h, "Connection") // it is for the response proper
	if i.ray != "" {
		h["Cf-Ray"] = []string{i.ray}
	}
	for name, values := range header {
		if !connectionOnly(name) {
			h[name] = values
		}
	}
	i.w.WriteHeader(code)
	clear(h)
	maps.Copy(h, before)
	return nil
}

// proceed asks a client of HTTP/1.1 for the body that it has announced. Once hints are stopped the
// server does that by itself.
func (i *informational) proceed() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped {
		return
	}
	h := i.w.Header()
	before := h.Clone()
	clear(h)
	i.w.WriteHeader(http.StatusContinue)
	maps.Copy(h, before)
}
