package gateway

import (
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// headerLoop lists the networks that a request has passed (RFC 8586). An origin
// that leads back to the gateway under the client's host name would otherwise
// spend all of the gateway's connections on one request. A backend that copies
// this header into requests to other scripts is refused too: the RFC tells the two
// apart no more than we can.
const headerLoop = "Cdn-Loop"

// validLoopID accepts what cannot be taken for a list or a parameter, and the
// empty id, which stands for the domain.
func validLoopID(id string) bool {
	return httpguts.ValidHostHeader(id) && !strings.ContainsAny(id, " \t,;\"")
}

// looped reports whether a request with this CDN-Loop has been here before. A
// client that writes our id itself refuses nobody but itself.
func (g *Gateway) looped(values []string) bool { return g.passed(values) > 0 }

// passed returns how often a request with this CDN-Loop has been here.
func (g *Gateway) passed(values []string) (times int) {
	for _, value := range values {
		for network := range strings.SplitSeq(value, ",") {
			id, _, _ := strings.Cut(network, ";") // parameters
			if strings.EqualFold(strings.TrimSpace(id), g.cfg.LoopID) {
				times++
			}
		}
	}
	return times
}

// loopWith returns the header for the backend: what the client sent, and us.
func (g *Gateway) loopWith(before []string) []string {
	if len(before) == 0 {
		return g.loop
	}
	return append(slices.Clip(before), g.cfg.LoopID)
}
