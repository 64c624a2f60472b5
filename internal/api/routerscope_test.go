package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/schema/control"
)

// whatRoutersAsk are the endpoints of the scope routers, with what they answer to an
// empty request that is let in.
func whatRoutersAsk(account string) map[string]int {
	return map[string]int{
		"GET /routing/snapshot":                            http.StatusOK,
		"PUT /routing/reports":                             http.StatusBadRequest,
		"PUT /routing/routers/edge-1":                      http.StatusBadRequest,
		"POST /routing/cron-claims":                        http.StatusBadRequest,
		"GET /accounts/" + account + "/routing/versions/7": http.StatusNotFound,
		"GET /accounts/" + account + "/routing/modules/00": http.StatusNotFound,
	}
}

// A router's token belongs to one account and serves all; only the operator gives it.
func TestTokenOfARouterOpensWhatRoutersAsk(t *testing.T) {
	p := newPlatform(t)
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	_, router, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "edge", Scopes: []control.Scope{control.Routers}})
	if err != nil {
		t.Fatal(err)
	}
	_, admin, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "admin", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{account, other.ID} {
		for operation, want := range whatRoutersAsk(of) {
			method, path, _ := strings.Cut(operation, " ")
			if a := p.do(t, method, "/client/v4"+path, bearer(router), ""); a.status != want {
				t.Errorf("%s answered a router %d %s, want %d", operation, a.status, a.text, want)
			}
			if a := p.do(t, method, "/client/v4"+path, bearer(admin), ""); a.status != http.StatusForbidden {
				t.Errorf("%s answered an account's admin %d %s", operation, a.status, a.text)
			}
		}
		for _, closed := range []string{"/workers/scripts", "/tokens", "/logpush/jobs", "/routing/snapshot"} {
			if a := p.do(t, http.MethodGet, "/client/v4/accounts/"+of+closed, bearer(router), ""); a.status != http.StatusForbidden {
				t.Errorf("a router reads %s of %s: %d %s", closed, of, a.status, a.text)
			}
		}
	}
	body := `{"name": "edge", "scopes": ["logs:read", "routers"]}`
	p.do(t, http.MethodPost, "/client/v4/accounts/"+account+"/tokens", bearer(admin), body).want(t, http.StatusForbidden, 10000, "only the operator's token")
	if a := p.do(t, http.MethodPost, "/client/v4/accounts/"+account+"/tokens", bearer(p.token), body); a.status != http.StatusOK || !strings.Contains(a.text, `"routers"`) {
		t.Errorf("the operator makes a router's token: %d %s", a.status, a.text)
	}
}

// The routers' token lies in one account, whose admins could lock the routers out of all.
func TestTokenOfARouterIsTheOperatorsToEnd(t *testing.T) {
	p := newPlatform(t)
	_, admin := tokenOf(t, p, control.Admin)
	edge, router := tokenOf(t, p, control.LogsRead, control.Routers)
	other, _ := tokenOf(t, p, control.LogsRead)
	end := func(secret, id string) answer {
		return p.do(t, http.MethodDelete, "/client/v4/accounts/"+account+"/tokens/"+id, bearer(secret), "")
	}
	snapshot := func() int {
		return p.do(t, http.MethodGet, "/client/v4/routing/snapshot", bearer(router), "").status
	}
	end(admin, edge.ID).want(t, http.StatusForbidden, 10000, "only the operator's token ends it")
	if status := snapshot(); status != http.StatusOK {
		t.Errorf("the router is answered %d after it was not ended", status)
	}
	if a := end(admin, other.ID); a.status != http.StatusOK {
		t.Errorf("an admin ends another token: %d %s", a.status, a.text)
	}
	if a := end(p.token, edge.ID); a.status != http.StatusOK {
		t.Errorf("the operator ends it: %d %s", a.status, a.text)
	}
	if status := snapshot(); status != http.StatusUnauthorized {
		t.Errorf("the router is answered %d after its end", status)
	}
}

// Where routers need a certificate a token alone opens none of their endpoints, whoever's
// it is, and all others as before.
func TestRoutersNeedACertificate(t *testing.T) {
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	p := newPlatformWith(t, api.Config{RoutersNeedCertificate: true, Now: func() time.Time { return now }})
	ask := func(method, path string, state *tls.ConnectionState) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), method, "/client/v4"+path, http.NoBody)
		r.Header.Set("Authorization", "Bearer "+p.token)
		r.Header.Set("X-Forwarded-Proto", "https") // proves nothing
		r.TLS = state
		w := httptest.NewRecorder()
		p.server.Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	unverified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
	good, old := &x509.Certificate{NotAfter: now}, &x509.Certificate{NotAfter: now.Add(-time.Second)}
	verified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{old, good}, {good, good}}}
	expired := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{old, good}, {good, old}}} // since the connection began
	for operation, want := range whatRoutersAsk(account) {
		method, path, _ := strings.Cut(operation, " ")
		for _, without := range []*tls.ConnectionState{nil, {}, unverified, expired} {
			if status, text := ask(method, path, without); status != http.StatusForbidden || !strings.Contains(text, "--api-cert-file") {
				t.Errorf("%s without a certificate: %d %s", operation, status, text)
			}
		}
		if status, text := ask(method, path, verified); status != want {
			t.Errorf("%s with a certificate: %d %s, want %d", operation, status, text, want)
		}
	}
	if status, text := ask(http.MethodGet, "/accounts", nil); status != http.StatusOK {
		t.Errorf("another endpoint: %d %s", status, text)
	}
}
