package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A proxy that nobody told this server to trust speaks TLS for the dashboard's own host.
func TestDashboardByTLSIsReachedByTLS(t *testing.T) {
	f := func(dashboard, host string, want bool) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "http://"+host+"/session", nil)
		if got := (&Server{dashboard: dashboard}).cameByTLS(r); got != want {
			t.Errorf("%s asked for at %q: %v", dashboard, host, got)
		}
	}
	f("https://tidegate.example.com/", "tidegate.example.com", true)
	f("https://tidegate.example.com:8443", "Tidegate.example.com:8443", true)
	f("https://tidegate.example.com", "127.0.0.1:8787", false)
	f("http://tidegate.example.com", "tidegate.example.com", false)
	f("", "tidegate.example.com", false)
}
