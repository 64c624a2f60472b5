package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"tidegate/internal/api"
	"tidegate/internal/signin"
	"tidegate/schema/control"
	"tidegate/test/idp"
)

// People whom the identity provider knows.
var (
	ada   = idp.User{ID: "ada", Name: "Ada Lovelace", Email: "ada@example.com", EmailVerified: true, Groups: []string{"platform-team"}}
	grace = idp.User{ID: "grace", Name: "Grace Hopper", Email: "grace@example.com", EmailVerified: true, Groups: []string{"payments", "on call"}}
	// mallory has made the provider believe in an address that is somebody else's.
	mallory = idp.User{ID: "mallory", Name: "Mallory", Email: "ada@example.com"}
	nobody  = idp.User{ID: "nobody", Name: "Nobody Special", Email: "nobody@example.com", EmailVerified: true, Groups: []string{"visitors"}}
)

// peoplesPlatform is one at which people sign in.
type peoplesPlatform struct {
	*platform
	idp    *idp.Provider
	config signin.Config
	people struct{ api.People } // as of the newest start

	browsers int
}

// browser is one at an address of its own: attempts that fail are counted by address.
func (p *peoplesPlatform) browser(header ...string) *browser {
	p.browsers++
	return p.platform.browser(append(header, "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", p.browsers))...)
}

func newPeople(t *testing.T, clientID, roles string, change ...func(*api.Deps)) *peoplesPlatform {
	t.Helper()
	provider, err := idp.Start(ada, grace, mallory, nobody)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Close)
	p := &peoplesPlatform{idp: provider, config: signin.Config{
		Issuer: provider.Issuer, Name: "Example", ClientID: clientID, Scopes: []string{"openid", "email", "profile"}, GroupsClaim: "groups",
	}}
	if clientID == idp.ConfidentialID {
		p.config.ClientSecret = idp.Secret
	}
	p.restart(t, roles)
	p.platform = newPlatformAt(t, api.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, nil, append(change, func(d *api.Deps) { d.People = &p.people })...)
	provider.ComeBackTo(p.url + "/login")
	return p
}

// restart has the API know other roles.
func (p *peoplesPlatform) restart(t *testing.T, roles string) {
	t.Helper()
	var err error
	if p.config.Roles, err = signin.ParseRoles(roles); err != nil {
		t.Fatal(err)
	}
	p.people.People = signin.New(p.config)
}

// goTo begins to sign in, and returns the address of the provider's page.
func (b *browser) goTo(t *testing.T) string {
	t.Helper()
	a := b.do(t, http.MethodPost, "/session/oidc", "")
	var page struct{ URL string }
	if err := json.Unmarshal(a.Result, &page); err != nil || a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	return page.URL
}

// homecoming is the body of POST /session that follows from an address.
type homecoming struct {
	OIDC struct {
		Code  string `json:"code"`
		State string `json:"state"`
	} `json:"oidc"`
}

func (h homecoming) body(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// atProvider has a user sign in on the provider's page, and returns what they come back with.
func (p *peoplesPlatform) atProvider(t *testing.T, page string, user idp.User) (h homecoming) {
	t.Helper()
	web := &http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), p.url) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	ask := func(res *http.Response, err error) *http.Response {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close() // nothing is read of it
		return res
	}
	form := ask(web.Get(page)).Request.URL
	back := ask(web.PostForm(p.idp.Issuer+form.Path, url.Values{"id": {form.Query().Get("authRequestID")}, "user": {user.ID}}))
	at, err := back.Location()
	if err != nil || at.Path != "/login" || at.Query().Get("code") == "" {
		t.Fatalf("the provider answered %s and leads to %s, error %v", back.Status, at, err)
	}
	h.OIDC.Code, h.OIDC.State = at.Query().Get("code"), at.Query().Get("state")
	return h
}

// signInAs is the whole way.
func (p *peoplesPlatform) signInAs(t *testing.T, user idp.User) *browser {
	t.Helper()
	b := p.browser()
	b.do(t, http.MethodPost, "/session", p.atProvider(t, b.goTo(t), user).body(t)).session(t)
	return b
}

// peopleStory is that of a platform without a provider, and of one with.
func peopleStory(t *testing.T, without *platform) {
	if a := without.browser().do(t, http.MethodGet, "/session/oidc", ""); a.status != http.StatusOK || string(a.Result) != "null" {
		t.Errorf("without a provider: %d %s", a.status, a.text)
	}
	without.browser().do(t, http.MethodPost, "/session/oidc", "").want(t, http.StatusNotFound, 7003, "API token")
	without.browser().do(t, http.MethodPost, "/session", `{"oidc": {"code": "a", "state": "b"}}`).want(t, http.StatusNotFound, 7003, "API token")

	p := newPeople(t, idp.ConfidentialID, "platform-team=admin@*")
	p.http.Transport = without.validator
	if a := p.browser().do(t, http.MethodGet, "/session/oidc", ""); a.status != http.StatusOK || string(a.Result) != `{"name":"Example"}` {
		t.Errorf("the provider is %s", a.text)
	}
	p.signInAs(t, ada)
}

func TestPersonSignsIn(t *testing.T) {
	for _, client := range []string{idp.ConfidentialID, idp.PublicID} {
		t.Run(client, func(t *testing.T) {
			p := newPeople(t, client, "platform-team=admin@*; payments=scripts:edit@"+account)
			v := p.upload(t, "shop", "v1")
			b := p.browser()
			page := b.goTo(t)
			u, err := url.Parse(page)
			if q := u.Query(); err != nil || !strings.HasPrefix(page, p.idp.Issuer) || q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" ||
				q.Get("nonce") == "" || q.Get("redirect_uri") != p.url+"/login" || strings.Contains(page, b.attempt.Value) {
				t.Errorf("the provider's page is %s, error %v", page, err)
			}
			if c := b.attempt; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge > 600 || len(c.Value) < 40 {
				t.Errorf("the attempt's cookie is %s", c)
			}
			a := b.do(t, http.MethodPost, "/session", p.atProvider(t, page, grace).body(t))
			s := a.session(t)
			if s.Person.Email != "grace@example.com" || s.Person.Name != "Grace Hopper" || s.Person.Provider != "Example" || s.Token.ID != "" || s.Operator ||
				len(s.Accounts) != 1 || s.Accounts[0].ID != account || strings.Join(s.Accounts[0].Scopes, " ") != "scripts:edit" {
				t.Errorf("the session is %s", a.text)
			}
			if c := b.cookie; c.Name != control.SessionCookie || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || strings.Contains(a.text, c.Value) {
				t.Errorf("the session's cookie is %s", c)
			}
			if b.attempt.MaxAge >= 0 || b.attempt.Value != "" {
				t.Errorf("the attempt's cookie is left: %s", b.attempt)
			}
			a = b.do(t, http.MethodPost, "/client/v4/accounts/"+account+"/workers/scripts/shop/deployments",
				`{"strategy": "percentage", "versions": [{"version_id": "`+v.ID+`", "percentage": 100}]}`)
			if a.status != http.StatusOK || !strings.Contains(a.text, `"author_email":"grace@example.com"`) || !strings.Contains(a.text, `"source":"dash"`) {
				t.Errorf("the deployment is %s", a.text)
			}
			if a := b.do(t, http.MethodGet, "/client/v4/user", ""); !strings.Contains(a.text, `"email":"grace@example.com"`) || !strings.Contains(a.text, s.Person.ID) {
				t.Errorf("the user is %s", a.text)
			}
			a = p.call(t, http.MethodGet, "/audit_logs?actor.email=grace@example.com", "")
			for _, action := range []string{"session.create", "deployment.create"} {
				if !strings.Contains(a.text, action) {
					t.Errorf("%s is not in the audit log: %s", action, a.text)
				}
			}
			b.do(t, http.MethodDelete, "/session", "")
			b.do(t, http.MethodGet, "/session", "").want(t, http.StatusUnauthorized, 10000)
		})
	}
}
