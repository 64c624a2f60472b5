package gateway

import (
	"net/http"

	"tidegate/internal/deploy"
)

// Retire says that another process has taken the listening sockets over. From then on
// every response to a request of a script ends its connection, in HTTP/2 by a GOAWAY,
// so that clients go over to the other gateway between two requests; schedules are the
// other one's to run; and snapshots are no longer kept on disk, where the other one's
// are. It may be called at any time.
func (g *Gateway) Retire() { g.retired.Store(true) }

// leave ends the client's connection after this response, if the gateway is retired.
func (g *Gateway) leave(h http.Header) {
	if g.retired.Load() {
		h["Connection"] = []string{"close"}
	}
}

// InFlight returns the number of requests being served, switched connections and runs
// of schedules included.
func (g *Gateway) InFlight() int64 {
	return g.metrics.inFlight.Load() + g.metrics.scheduledNow.Load()
}

// Warm reports whether no version that a deployment names is starting.
func (g *Gateway) Warm() bool {
	t := g.table.Load()
	if t == nil {
		return false
	}
	for _, sc := range t.scripts {
		for _, split := range sc.Splits {
			if v, ok := t.versions[split.VersionID]; ok && v.version.state.Phase == deploy.BackendStarting {
				return false
			}
		}
	}
	return true
}
