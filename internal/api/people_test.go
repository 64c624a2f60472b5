package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

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
	form := ask(web.Get(page)).Request.URL                                                                                      //nolint:bodyclose // ask closes it
	back := ask(web.PostForm(p.idp.Issuer+form.Path, url.Values{"id": {form.Query().Get("authRequestID")}, "user": {user.ID}})) //nolint:bodyclose // ask closes it
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

func TestPersonMayDoWhatRolesSayInEachAccount(t *testing.T) {
	p := newPeople(t, idp.PublicID, "")
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	third, err := p.CreateAccount(t.Context(), "Third")
	if err != nil {
		t.Fatal(err)
	}
	missing := strings.Repeat("f", 32)
	p.restart(t, "payments=admin@"+account+";on call=scripts:read@"+other.ID+","+missing)
	p.upload(t, "shop", "v1")
	b := p.signInAs(t, grace)
	status := func(method, path, body string, want int) answer {
		t.Helper()
		a := b.do(t, method, "/client/v4"+path, body)
		if a.status != want {
			t.Errorf("%s %s answered %d %s, want %d", method, path, a.status, a.text, want)
		}
		return a
	}
	at := func(id string) string { return "/accounts/" + id }
	status(http.MethodGet, at(account)+"/tokens", "", http.StatusOK)
	status(http.MethodGet, at(other.ID)+"/workers/scripts", "", http.StatusOK)
	status(http.MethodGet, at(other.ID)+"/tokens", "", http.StatusForbidden)
	status(http.MethodPut, at(other.ID)+"/workers/subdomain", `{"subdomain": "mine"}`, http.StatusForbidden)
	status(http.MethodGet, at(missing)+"/workers/scripts", "", http.StatusNotFound)
	if a := status(http.MethodGet, at(third.ID)+"/workers/scripts", "", http.StatusForbidden); !strings.Contains(a.text, "your role here does not open") {
		t.Errorf("a foreign account is refused with %s", a.text)
	}
	status(http.MethodPost, "/accounts", `{"name": "Mine"}`, http.StatusForbidden)
	status(http.MethodGet, "/system/health", "", http.StatusForbidden)
	status(http.MethodGet, "/user/tokens/verify", "", http.StatusBadRequest)
	if a := status(http.MethodGet, "/accounts", "", http.StatusOK); !strings.Contains(a.text, other.ID) || strings.Contains(a.text, third.ID) {
		t.Errorf("the accounts are %s", a.text)
	}
	// Zones belong to accounts that their paths do not name.
	zone := func(id string) string {
		t.Helper()
		var zones []struct{ ID string }
		a := status(http.MethodGet, "/zones?name=example.com&account.id="+id, "", http.StatusOK)
		if err := json.Unmarshal(a.Result, &zones); err != nil || len(zones) != 1 {
			t.Fatalf("the zones are %s, error %v", a.text, err)
		}
		return "/zones/" + zones[0].ID + "/workers/routes"
	}
	route := `{"pattern": "example.com/*", "script": "shop"}`
	status(http.MethodPost, zone(account), route, http.StatusOK)
	status(http.MethodGet, zone(other.ID), "", http.StatusOK)
	status(http.MethodPost, zone(other.ID), route, http.StatusBadRequest) // as for a zone that is nobody's

	if a := status(http.MethodPost, at(account)+"/tokens", `{"name": "ci", "scopes": ["admin"]}`, http.StatusOK); !strings.Contains(a.text, `"email":"grace@example.com"`) {
		t.Errorf("the token is %s", a.text)
	} else {
		var token struct{ Value string }
		if err := json.Unmarshal(a.Result, &token); err != nil {
			t.Fatal(err)
		}
		p.do(t, http.MethodGet, "/client/v4"+at(other.ID)+"/workers/scripts", bearer(token.Value), "").want(t, http.StatusForbidden, 9109)
	}
	b.do(t, http.MethodPost, "/session/links", "").want(t, http.StatusUnauthorized, 10000, "API token")

	p.restart(t, "platform-team=admin@*")
	if s := p.signInAs(t, ada).do(t, http.MethodGet, "/session", "").session(t); !s.Operator || len(s.Accounts) != 3 {
		t.Errorf("the operator has %+v", s)
	}
}

// What somebody may do is asked at each of their requests: nobody keeps by a session what
// was taken away.
func TestRolesThatAreTakenAwayEndInSessions(t *testing.T) {
	p := newPeople(t, idp.PublicID, "payments=admin@"+account+";on call=scripts:read@"+account)
	one, other := p.signInAs(t, grace), p.signInAs(t, grace)
	scopes := func(b *browser, want string) {
		t.Helper()
		if s := b.do(t, http.MethodGet, "/session", "").session(t); strings.Join(s.Accounts[0].Scopes, " ") != want {
			t.Errorf("the session has %v, want %s", s.Accounts[0].Scopes, want)
		}
	}
	scopes(one, "admin scripts:read")
	p.restart(t, "on call=scripts:read@"+account)
	scopes(one, "scripts:read")
	one.do(t, http.MethodGet, "/client/v4/accounts/"+account+"/tokens", "").want(t, http.StatusForbidden, 10000)
	p.restart(t, "somebody else=admin@*")
	for _, path := range []string{"/session", "/client/v4/user"} {
		one.do(t, http.MethodGet, path, "").want(t, http.StatusUnauthorized, 10000, "no role here any more")
	}
	p.restart(t, "payments=admin@"+account+";on call=scripts:read@"+account)
	scopes(one, "admin scripts:read")

	// A group that somebody has left counts until they sign in again, anywhere.
	p.idp.SetGroups("grace", "on call")
	scopes(other, "admin scripts:read")
	p.signInAs(t, grace)
	scopes(one, "scripts:read")
	scopes(other, "scripts:read")

	there := p.people.People
	p.people.People = signin.New(signin.Config{Issuer: "https://another.example.com", Roles: p.config.Roles})
	one.do(t, http.MethodGet, "/session", "").want(t, http.StatusUnauthorized, 10000, "no role")
	p.people.People = there

	p.restart(t, "payments=admin@*;on call=scripts:read@*;platform-team=admin@*")
	stays := p.signInAs(t, ada)
	if a := one.do(t, http.MethodDelete, "/session?everywhere=true", ""); a.status != http.StatusOK {
		t.Errorf("signing out everywhere answered %d %s", a.status, a.text)
	}
	other.do(t, http.MethodGet, "/session", "").want(t, http.StatusUnauthorized, 10000, "sign in again")
	stays.do(t, http.MethodGet, "/session", "").session(t)
}

// Some providers tell everything in the ID token.
func TestGroupsComeWithTheIDTokenToo(t *testing.T) {
	p := newPeople(t, idp.PublicID, "payments=scripts:read@"+account)
	p.idp.Forge(func(claims map[string]any) string {
		claims["email"], claims["name"], claims["groups"] = "g.hopper@example.com", "Grace", "payments"
		return p.idp.Sign(claims)
	})
	if s := p.signInAs(t, grace).do(t, http.MethodGet, "/session", "").session(t); s.Person.Email != "g.hopper@example.com" || s.Person.Name != "Grace" {
		t.Errorf("the session is %+v", s)
	}
}

// Who watches events is asked for their roles again and again, not for their session alone.
func TestStreamsEndWithTheRole(t *testing.T) {
	p := newPeople(t, idp.PublicID, "payments=scripts:edit@"+account+"; on call=policy:edit@"+account+"; visitors=logs:read@00000000000000000000000000000009")
	p.server.BeatEvery(10 * time.Millisecond)
	p.upload(t, "shop", "v1")
	for group, sentence := range map[string]string{"on call": "scripts:edit or logs:read", "visitors": "does not open account", "": "no role here any more"} {
		b := p.signInAs(t, grace)
		s := p.watchAs(t, "shop", "", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Cookie": {b.cookie.Name + "=" + b.cookie.Value}})
		for range 20 {
			s.want("heartbeat", "")
		}
		session, err := p.store.OpenSession(t.Context(), b.cookie.Value)
		if err != nil {
			t.Fatal(err)
		}
		session.Person.Groups = []string{group}
		if _, _, err := p.store.CreatePersonSession(t.Context(), *session.Person); err != nil { // as they sign in elsewhere
			t.Fatal(err)
		}
		name, data, ok := s.next()
		for ok && name == "heartbeat" {
			name, data, ok = s.next()
		}
		if _, _, more := s.next(); name != "notice" || !strings.Contains(data, sentence) || more {
			t.Errorf("in the group %q the stream has %q %s, and more: %v", group, name, data, more)
		}
	}
}
