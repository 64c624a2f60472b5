package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tidegate/internal/signin"
	"tidegate/test/idp"
)

// refused holds that what somebody has come back with begins no session.
func (b *browser) refused(t *testing.T, h homecoming, status, code int, parts ...string) {
	t.Helper()
	b.do(t, http.MethodPost, "/session", h.body(t)).want(t, status, code, parts...)
	if b.cookie != nil {
		t.Errorf("a session has begun: %s", b.cookie)
	}
}

func TestWhoHasNotBegunIsNotSignedIn(t *testing.T) {
	p := newPeople(t, idp.ConfidentialID, "platform-team=admin@*")
	f := func(name string, try func(b *browser) (*browser, homecoming), parts ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			b, h := try(p.browser())
			b.refused(t, h, http.StatusUnauthorized, 10000, parts...)
		})
	}
	f("without having begun", func(b *browser) (*browser, homecoming) {
		return b, homecoming{}
	}, "has not begun", p.url)
	f("in another browser", func(b *browser) (*browser, homecoming) {
		return p.browser(), p.atProvider(t, b.goTo(t), ada)
	}, "has not begun")
	f("in another browser that has begun, too", func(b *browser) (*browser, homecoming) {
		other := p.browser()
		other.goTo(t)
		return other, p.atProvider(t, b.goTo(t), ada)
	}, "begun to sign in anew")
	f("with another state", func(b *browser) (*browser, homecoming) {
		h := p.atProvider(t, b.goTo(t), ada)
		h.OIDC.State += "x"
		return b, h
	}, "begun to sign in anew")
	f("without a state", func(b *browser) (*browser, homecoming) {
		h := p.atProvider(t, b.goTo(t), ada)
		h.OIDC.State = ""
		return b, h
	}, "begun to sign in anew")
	f("with somebody else's code", func(b *browser) (*browser, homecoming) { // as a login CSRF has it
		theirs := p.atProvider(t, p.browser().goTo(t), mallory)
		h := p.atProvider(t, b.goTo(t), ada)
		h.OIDC.Code = theirs.OIDC.Code
		return b, h
	}, "does not take its own code")
	f("with an invented code", func(b *browser) (*browser, homecoming) {
		h := p.atProvider(t, b.goTo(t), ada)
		h.OIDC.Code = "invented"
		return b, h
	}, "does not take its own code")
	f("by a code that was used", func(b *browser) (*browser, homecoming) {
		h := p.atProvider(t, b.goTo(t), ada)
		kept := p.browser()
		kept.attempt = b.attempt
		b.do(t, http.MethodPost, "/session", h.body(t)).session(t)
		return kept, h // who has kept the cookie, against what it says
	}, "does not take its own code")
	f("in an attempt that is over", func(b *browser) (*browser, homecoming) {
		h := p.atProvider(t, b.goTo(t), ada)
		wrong := h
		wrong.OIDC.State = "wrong"
		b.refused(t, wrong, http.StatusUnauthorized, 10000)
		return b, h
	}, "has not begun")
}

func TestOtherOriginsDoNotSignIn(t *testing.T) {
	p := newPeople(t, idp.ConfidentialID, "platform-team=admin@*")
	evil := p.browser("Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	evil.do(t, http.MethodPost, "/session/oidc", "").want(t, http.StatusForbidden, 10000, "evil.example")
	b := p.browser()
	h := p.atProvider(t, b.goTo(t), ada)
	b.header = evil.header
	b.refused(t, h, http.StatusForbidden, 10000, "evil.example")
}

// TestForgedIDTokensAreRefused has the provider, or who stands between it and us, tell
// what is not so.
func TestForgedIDTokensAreRefused(t *testing.T) {
	p := newPeople(t, idp.ConfidentialID, "platform-team=admin@*")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	type claims = map[string]any
	changed := func(name string, value any) func(claims) string {
		return func(c claims) string {
			c[name] = value
			return p.idp.Sign(c)
		}
	}
	try := func(forge func(claims) string) (*browser, homecoming) {
		p.idp.Forge(forge)
		b := p.browser()
		return b, p.atProvider(t, b.goTo(t), ada)
	}
	for name, forge := range map[string]func(claims) string{
		"another nonce":    changed("nonce", "another"),
		"no nonce":         changed("nonce", nil),
		"another audience": changed("aud", "another"),
		"no audience":      changed("aud", []string{}),
		"another party":    changed("azp", "another"),
		"two audiences and no party": func(c claims) string {
			c["aud"] = []string{idp.ConfidentialID, "another"}
			delete(c, "azp")
			return p.idp.Sign(c)
		},
		"another issuer":               changed("iss", "https://evil.example"),
		"no subject":                   changed("sub", ""),
		"another subject":              changed("sub", "grace"), // than the user info
		"expired":                      changed("exp", time.Now().Add(-time.Minute).Unix()),
		"no expiry":                    changed("exp", nil),
		"not yet valid":                changed("nbf", time.Now().Add(time.Hour).Unix()),
		"unsigned":                     idp.Unsigned,
		"no token":                     func(claims) string { return "" },
		"another's RSA key":            func(c claims) string { return idp.Sign(c, jose.RS256, rsaKey, "another") },
		"another's elliptic curve key": func(c claims) string { return idp.Sign(c, jose.ES256, ecKey, "another") },
		"the client's secret as key":   func(c claims) string { return idp.Sign(c, jose.HS256, []byte(idp.Secret+strings.Repeat(" ", 32)), "") },
	} {
		t.Run(name, func(t *testing.T) {
			b, h := try(forge)
			b.refused(t, h, http.StatusUnauthorized, 10000, "cannot be believed")
		})
	}
	for name, forge := range map[string]func(claims) string{
		"what the provider signs":  func(c claims) string { return p.idp.Sign(c) },
		"clocks that differ a bit": changed("exp", time.Now().Add(-10*time.Second).Unix()),
		"two audiences": func(c claims) string {
			c["aud"] = []string{idp.ConfidentialID, "another"}
			c["azp"] = idp.ConfidentialID
			return p.idp.Sign(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, h := try(forge)
			if s := b.do(t, http.MethodPost, "/session", h.body(t)).session(t); !s.Operator {
				t.Errorf("the session is %+v", s)
			}
		})
	}
}

func TestProviderIsAway(t *testing.T) {
	provider, err := idp.Start(ada)
	if err != nil {
		t.Fatal(err)
	}
	provider.Close()
	p := newPeople(t, idp.ConfidentialID, "platform-team=admin@*")
	b := p.browser()
	h := p.atProvider(t, b.goTo(t), ada)
	there := p.people.People
	config := p.config
	config.Issuer = provider.Issuer
	p.people.People = signin.New(config)
	if a := b.do(t, http.MethodGet, "/session/oidc", ""); a.status != http.StatusOK || !strings.Contains(a.text, "Example cannot be reached now") {
		t.Errorf("the login page hears %s", a.text)
	}
	b.do(t, http.MethodPost, "/session/oidc", "").want(t, http.StatusServiceUnavailable, 10013, "Example cannot be reached now", "API token")
	b.refused(t, h, http.StatusServiceUnavailable, 10013, "Example cannot be reached now")
	p.browser().signIn(t, p.token) // by a token, as ever

	p.people.People = there // and it is back
	b = p.browser()
	b.do(t, http.MethodPost, "/session", p.atProvider(t, b.goTo(t), ada).body(t)).session(t)
}

func TestWhoHasNoRoleIsNotSignedIn(t *testing.T) {
	p := newPeople(t, idp.ConfidentialID, "platform-team=admin@*; ada@example.com=admin@*")
	for _, user := range []idp.User{nobody, mallory} {
		b := p.browser()
		h := p.atProvider(t, b.goTo(t), user)
		a := b.do(t, http.MethodPost, "/session", h.body(t))
		a.want(t, http.StatusForbidden, 10000, "Example knows you as "+user.ID, "no group of yours")
		if b.cookie != nil || strings.Contains(a.text, "platform-team") || strings.Contains(a.text, "visitors") {
			t.Errorf("%s was answered %s, with the cookie %v", user.ID, a.text, b.cookie)
		}
	}
}
