package app

import (
	"net/http"
	"time"
)

// addOps serves health and metrics of a process on an address of their own: a
// router's public listener belongs to the scripts, and ingest has none.
func (p *process) addOps() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := p.checkReady(r.Context()); err != nil {
			answer(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", p.tel.Handler())
	p.serve(listenOps, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second})
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the peer is gone if this fails
}
