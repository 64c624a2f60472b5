package api_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"tidegate/internal/api"
)

// Every kind of answer tells browsers what not to do with it; and whether to come by TLS
// alone, where they did.
func TestEveryAnswerIsProtected(t *testing.T) {
	p := newPlatformWith(t, api.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}) // httptest's clients
	ask := func(method, path, host string, change func(*http.Request)) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
		r.Host = host
		r.Header.Set("Authorization", "Bearer "+p.token)
		if change != nil {
			change(r)
		}
		w := httptest.NewRecorder()
		p.server.Handler().ServeHTTP(w, r)
		return w
	}
	for _, answer := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/client/v4/accounts", http.StatusOK},
		{http.MethodGet, "/client/v4/accounts/" + account + "/workers/scripts/none/versions", http.StatusNotFound},
		{http.MethodPut, "/client/v4/routing/reports", http.StatusBadRequest},
		{http.MethodGet, "/client/v4/nothing", http.StatusNotFound},
		{http.MethodGet, "/session", http.StatusUnauthorized},
		{http.MethodGet, "/healthz", http.StatusOK},
		{http.MethodGet, "/readyz", http.StatusOK},
		{http.MethodGet, "/openapi.yaml", http.StatusOK},
		{http.MethodGet, "/login", http.StatusOK}, // of a dashboard that adds nothing
	} {
		w := ask(answer.method, answer.path, "api.example.com", nil)
		if w.Code != answer.status {
			t.Errorf("%s %s answered %d, want %d", answer.method, answer.path, w.Code, answer.status)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Strict-Transport-Security": "",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s has %s %q, want %q", answer.method, answer.path, name, got, want)
			}
		}
	}

	overTLS := func(r *http.Request) { r.TLS = new(tls.ConnectionState) }
	proxied := func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }
	stranger := func(r *http.Request) { proxied(r); r.RemoteAddr = "198.51.100.1:1234" }
	f := func(host, want string, change func(*http.Request)) {
		t.Helper()
		if got := ask(http.MethodGet, "/client/v4/accounts", host, change).Header().Get("Strict-Transport-Security"); got != want {
			t.Errorf("%s: Strict-Transport-Security is %q, want %q", host, got, want)
		}
	}
	f("api.example.com", "max-age=31536000", overTLS)
	f("api.example.com:8787", "max-age=31536000", proxied)
	f("api.example.com", "", stranger)
	f("localhost:8787", "", overTLS)
	f("tidegate.localhost", "", overTLS)
}
