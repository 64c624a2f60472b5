package app

import (
	"context"
	"net/http"
	"net/http/pprof" // #nosec G108 -- what it adds to http.DefaultServeMux is served nowhere
	"time"

	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// addOps serves health and metrics of a process on an address of their own: a
// router's public listener belongs to the scripts, and ingest has none.
func (p *process) addOps() {
	p.serve(listenOps, &http.Server{Handler: p.opsHandler(), ReadHeaderTimeout: 10 * time.Second})
}

func (p *process) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status, text := p.readiness(r.Context())
		answer(w, status, text)
	})
	mux.Handle("GET /metrics", p.tel.Handler())
	if p.config.OpsPprof {
		addProfiles(mux)
	}
	return mux
}

// addProfiles adds Go's own, at the paths that `go tool pprof` knows, but for the command line, which
// may have passwords.
func addProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
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

// readyInterval is how often a process asks itself whether it is ready: well below what a rule waits for.
const readyInterval = 5 * time.Second

// tellReadiness keeps a metric of what /readyz says, for those who watch metrics alone. The checks ask
// databases and brokers, so they are not made for each of whoever reads metrics.
func (p *process) tellReadiness(ctx context.Context) error {
	ready, err := telemetry.Meter("tidegate/internal/app").Int64Gauge("tidegate_ready",
		metric.WithDescription("1 while the process can do its work, as /readyz says; 0 while something is missing that it needs."))
	if err != nil {
		return err
	}
	for {
		p.recordReadiness(ctx, ready)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(readyInterval):
		}
	}
}

func (p *process) recordReadiness(ctx context.Context, ready metric.Int64Gauge) {
	check, cancel := context.WithTimeout(ctx, readyInterval)
	defer cancel()
	err := p.checkReady(check)
	switch {
	case ctx.Err() != nil: // a stop is no failure of a check
	case err != nil:
		ready.Record(ctx, 0)
	default:
		ready.Record(ctx, 1)
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the peer is gone if this fails
}
