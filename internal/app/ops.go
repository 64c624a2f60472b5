package app

import (
	"context"
	"net/http"
	"time"
)

// addOps serves health and metrics of a process on an address of their own: a
// router's public listener belongs to the scripts, and ingest has none.
func (p *process) addOps() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status, text := p.readiness(r.Context())
		answer(w, status, text)
	})
	mux.Handle("GET /metrics", p.tel.Handler())
	p.serve(listenOps, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second})
}

// readiness is the answer of /readyz: the first condition that does not hold, or
// that all do, with what somebody should know all the same.
func (p *process) readiness(ctx context.Context) (status int, text string) {
	if err := p.checkReady(ctx); err != nil {
		return http.StatusServiceUnavailable, "not ready: " + err.Error()
	}
	text = "ready"
	for _, note := range p.notes {
		if n := note(); n != "" {
			text += "\n" + n
		}
	}
	return http.StatusOK, text
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the peer is gone if this fails
}
