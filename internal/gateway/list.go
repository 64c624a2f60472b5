package gateway

import (
	"math/rand/v2"
	"net/http"
	"time"

	"tidegate/internal/gateway/lean"
	"tidegate/internal/lines"
	"tidegate/schema"
)

// Most requests have no body, go to an origin that answers with nothing rare, and are of
// nobody's interest but the client's. Their headers stay lists from one socket to the
// other, and what the gateway says itself is added at the end. Everything else, refusals
// among it, goes the way of net/http's requests, which does the same: one suite runs over
// both.

// listTaker is a backend that, if TakesLists says so, finds the header of a request whose own is
// nil in the lines.Exchange of its context. It promises what a lettingGo does.
type listTaker interface{ TakesLists() bool }

// ServeList serves a request of the public whose header is a list, for lean.Server.
func (g *Gateway) ServeList(e *lean.Exchange) {
	received := time.Now()
	to, from, f, ok := g.listed(e)
	if !ok {
		g.ServeHTTP(e.HTTP())
		return
	}
	choice := picked{script: to.script, version: to.preview, decision: schema.DecisionPreview}
	if to.preview == nil {
		choice = to.script.choose(f, rand.Uint64())
	}
	g.metrics.inFlight.Add(1)
	defer g.metrics.inFlight.Add(-1)
	p := passages.Get().(*passage)
	p.exchange = exchange{
		picked: choice, backend: choice.version.backend, ray: newRay(received), client: from, received: received, sendTimeout: g.cfg.SendTimeout,
	}
	g.forwardList(e, p)
	g.record(asked{method: e.Method, header: &e.Header}, e.Target, &p.exchange, nil)
	if p.abort {
		panic(http.ErrAbortHandler) // as serve does
	}
	p.release()
}

// listed reports whether a request is one for lists, and finds out where it leads and
// what it wants there. It decides before a version is drawn, or what a version is would
// change its share.
func (g *Gateway) listed(e *lean.Exchange) (to target, from client, f facts, ok bool) {
	t := g.table.Load()
	if t == nil || g.deps.Tracer != nil || g.looped(e.Header.Lines(headerLoop)) {
		return to, from, f, false
	}
	from = g.clientAt(e.Peer(), "http", e.Host, &e.Header)
	to, ok = t.match(e.Host, from.scheme, e.Path)
	switch {
	case !ok:
		return to, from, f, false
	case to.preview != nil:
		return to, from, f, to.preview.lists && !to.script.Tailed
	case !to.script.lists:
		return to, from, f, false
	}
	f = factsOf(asked{method: e.Method, header: &e.Header}, to.script, e.Target, from.ip)
	return to, from, f, !f.made // a cookie goes with the response
}

// forwardList is forward with lists.
func (g *Gateway) forwardList(e *lean.Exchange, p *passage) {
	x, ctx, w := &p.exchange, e.Context(), e.Writer()
	conn, _ := (*e.Memory()).(*connMemory)
	if conn == nil {
		conn = &connMemory{}
		*e.Memory() = conn
	}
	conn.hints.start(w, true, x.ray)
	conn.lists = p.lists
	g.requestList(&conn.lists.Request, &e.Header, x)
	out := &p.out
	*out = *conn.empty(ctx)
	out.Method, out.RequestURI, out.Host = e.Method, e.Target, e.Host
	out.Proto, out.ProtoMajor, out.ProtoMinor, out.Body = "HTTP/1.1", 1, 1, http.NoBody

	resp, err := x.backend.RoundTrip(out)
	conn.hints.stop()
	p.lists, conn.lists = conn.lists, lines.Exchange{} // idle connections hold none
	if err != nil {
		_, r := e.HTTP()
		w.Header()["Cf-Ray"] = []string{x.ray}
		g.fail(w, r, nil, x, err)
		return
	}
	x.upstream = time.Since(x.received) // nothing has waited before
	defer resp.Body.Close()             // it was read to its end, or has failed
	if resp.Header != nil {
		_, r := e.HTTP()
		w.Header()["Cf-Ray"] = []string{x.ray}
		g.respond(ctx, w, r, resp, nil, x)
		return
	}
	g.responseList(&p.lists.Response, x)
	x.status, x.outcome = resp.StatusCode, schema.OutcomeOK
	e.WriteHeader(resp.StatusCode, &p.lists.Response)
	g.relay(ctx, ctx, w, resp, nil, false, x)
}

// requestList is requestHeader for a list. What of Connection's matters is not in one.
func (g *Gateway) requestList(h, from *lines.Header, x *exchange) {
	h.Reset()
	for i, name := range from.Names {
		value := from.Values[i]
		switch name {
		case "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Cf-Connecting-Ip", "Cf-Ray", headerLoop:
			continue // the gateway's to say
		case headerKey:
			if x.forward != "" {
				continue
			}
		case "Cookie":
			if value = withoutSession(value); value == "" && from.Values[i] != "" {
				continue
			}
		}
		if !connectionOnly(name) && (x.client.vouched || !aboutClient(name)) {
			h.Add(name, value)
		}
	}
	if x.forward != "" {
		h.Add(headerKey, x.forward)
	}
	h.Add("X-Forwarded-For", x.client.forward)
	h.Add("X-Forwarded-Proto", x.client.scheme)
	h.Add("X-Forwarded-Host", x.client.host)
	h.Add("Cf-Connecting-Ip", x.client.ip)
	h.Add("Cf-Ray", x.ray)
	for _, network := range g.loopWith(from.Lines(headerLoop)) {
		h.Add(headerLoop, network)
	}
}

// responseList is responseHeader for a list, in which it makes its changes.
func (g *Gateway) responseList(h *lines.Header, x *exchange) {
	h.Filter(func(name string) bool {
		switch name {
		case "Cf-Ray":
			return false
		case headerShowVersion, headerShowDecision, headerShowRule:
			return !g.cfg.ShowVersion
		}
		return !connectionOnly(name)
	})
	h.Add("Cf-Ray", x.ray)
	if g.retired.Load() {
		h.Add("Connection", "close")
	}
	if g.cfg.ShowVersion {
		for name, values := range g.shown(x) {
			h.Add(name, values[0])
		}
	}
}

// shown is what show tells the client.
func (g *Gateway) shown(x *exchange) http.Header {
	h := http.Header{}
	g.show(h, x)
	return h
}
