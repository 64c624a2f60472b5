package signin

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/errs"
)

// discovery is a provider that tells no more than what it is.
type discovery struct {
	*httptest.Server
	asked  atomic.Int64
	issuer atomic.Value // string: what it says that it is
}

func newDiscovery(t *testing.T) *discovery {
	t.Helper()
	d := new(discovery)
	d.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.asked.Add(1)
		if r.URL.Path != "/.well-known/openid-configuration" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"issuer": %q, "authorization_endpoint": "https://id.example.com/authorize"}`, d.issuer.Load()) // to a test
	}))
	t.Cleanup(d.Close)
	d.issuer.Store(d.URL)
	return d
}

func (d *discovery) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(d.Certificate())
	return pool
}

func TestProviderWithACertificateOfItsOwn(t *testing.T) {
	d := newDiscovery(t)
	if err := New(Config{Issuer: d.URL, Name: "Example", CA: d.pool()}).Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := New(Config{Issuer: d.URL, Name: "Example"}).Ready(t.Context()); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "Example cannot be reached") {
		t.Errorf("without its authority: %v", err)
	}
}

// TestProviderIsAskedAgain: what was found is believed for a while, what was not for a shorter one.
func TestProviderIsAskedAgain(t *testing.T) {
	d := newDiscovery(t)
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	p := New(Config{Issuer: d.URL, Name: "Example", CA: d.pool(), Now: func() time.Time { return now }})
	f := func(later time.Duration, ready bool, asked int64) {
		t.Helper()
		now = now.Add(later)
		if err := p.Ready(t.Context()); (err == nil) != ready || d.asked.Load() != asked {
			t.Errorf("ready is %v after %d questions, want %v after %d", err, d.asked.Load(), ready, asked)
		}
	}
	f(0, true, 1)
	f(foundFor-1, true, 1)
	d.issuer.Store("https://evil.example")
	f(1, false, 2)
	f(retryAfter-1, false, 2)
	f(1, false, 3)
	d.issuer.Store(d.URL)
	f(retryAfter, true, 4)
}

func TestNobodyIsFollowedElsewhere(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("somebody came")
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(elsewhere.Close)
	leads := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(leads.Close)
	if err := New(Config{Issuer: leads.URL, Name: "Example"}).Ready(t.Context()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("ready is %v", err)
	}
}

func TestClaimsOfAPerson(t *testing.T) {
	f := func(c claims, email string, verified bool, groups ...string) {
		t.Helper()
		p, err := c.person("https://id.example.com", "0b1c", "roles")
		if err != nil || p.Email != email || p.EmailVerified != verified || strings.Join(p.Groups, "|") != strings.Join(groups, "|") || p.Subject != "0b1c" {
			t.Errorf("%v are of %+v, error %v", c, p, err)
		}
	}
	f(claims{"email": "a@example.com", "email_verified": true, "roles": []any{"one", "two"}}, "a@example.com", true, "one", "two")
	f(claims{"email": "a@example.com", "email_verified": "true", "roles": "one"}, "a@example.com", true, "one")
	f(claims{"email": "a@example.com"}, "a@example.com", false)
	f(claims{"email": "a@example.com", "email_verified": false}, "0b1c", false)
	f(claims{"email": "a@example.com", "email_verified": "false"}, "0b1c", false)
	f(claims{"email_verified": true, "groups": []any{"one"}}, "0b1c", false)
	f(claims{"roles": nil, "email": 7}, "0b1c", false)
	for _, roles := range []any{7, map[string]any{"admin": true}, []any{"one", 2}, make([]any, groupsMax+1)} {
		if p, err := (claims{"roles": roles}).person("i", "s", "roles"); err == nil || !strings.Contains(err.Error(), "roles") {
			t.Errorf("%T are of %+v, error %v", roles, p, err)
		}
	}
}

// What the ID token says of its address holds for no other one, nor the other way round.
func TestAnAddressAndItsProofAreOfOneSource(t *testing.T) {
	f := func(token, info claims, email string, verified bool) {
		t.Helper()
		token.add(info)
		if p, err := token.person("https://id.example.com", "0b1c", "groups"); err != nil || p.Email != email || p.EmailVerified != verified {
			t.Errorf("with user info %v somebody is %+v, error %v", info, p, err)
		}
	}
	const ada, other = "ada@example.com", "other@example.com"
	f(claims{"email": ada}, claims{"email": other, "email_verified": true}, ada, false)
	f(claims{"email": ada}, claims{"email_verified": true}, ada, false)
	f(claims{"email_verified": true}, claims{"email": ada}, ada, false)
	f(claims{"email": nil, "email_verified": true}, claims{"email": ada, "email_verified": false}, "0b1c", false)
	f(claims{"email": ada, "email_verified": true}, claims{"email": other, "email_verified": false}, ada, true)
	f(claims{}, claims{"email": ada, "email_verified": true}, ada, true)
	f(claims{"email_verified": false}, claims{"email": ada, "email_verified": true}, ada, true)
	f(claims{"email": ada, "email_verified": true}, nil, ada, true)
}
