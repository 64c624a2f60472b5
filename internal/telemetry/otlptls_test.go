package telemetry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"tidegate/internal/certs/certstest"
)

// A collector whose authority is private, and which asks for a certificate, gets metrics and
// traces by the standard variables alone.
func TestCollectorOverTLS(t *testing.T) {
	ca := certstest.NewAuthority(t, "test")
	pair, own := ca.Issue(t, "collector", "127.0.0.1"), ca.Issue(t, "tidegate")
	certificate, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(text)
	var mu sync.Mutex
	got := map[string]bool{}
	collector := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Path] = true
	}))
	collector.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	collector.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	collector.StartTLS()
	t.Cleanup(collector.Close)

	send := func() map[string]bool {
		t.Helper()
		telemetry, err := Start(t.Context(), "test", "0")
		if err != nil {
			t.Fatal(err)
		}
		_, span := Tracer("test").Start(t.Context(), "one")
		span.End()
		_ = telemetry.Stop(context.WithoutCancel(t.Context())) // what arrived tells
		mu.Lock()
		defer mu.Unlock()
		arrived := got
		got = map[string]bool{}
		return arrived
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000") // milliseconds, tries of what is refused included
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.File)
	t.Setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", own.Cert)
	t.Setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", own.Key)
	if arrived := send(); !arrived["/v1/metrics"] || !arrived["/v1/traces"] {
		t.Errorf("the collector got %v, want metrics and traces", arrived)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", certstest.NewAuthority(t, "another").File)
	if arrived := send(); len(arrived) > 0 {
		t.Errorf("a collector that is not trusted got %v", arrived)
	}
}
