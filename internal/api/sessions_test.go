package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/schema/control"
)

// browser is somebody at the dashboard.
type browser struct {
	p       *platform
	header  http.Header  // of every request
	cookie  *http.Cookie // of the session
	attempt *http.Cookie // to sign in at an identity provider
}

func (p *platform) browser(header ...string) *browser {
	b := &browser{p: p, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
	for i := 0; i < len(header); i += 2 {
		b.header[header[i]] = []string{header[i+1]}
	}
	return b
}

// do sends a request with the cookie, and keeps the one that comes back.
func (b *browser) do(t *testing.T, method, path, body string, header ...string) answer {
	t.Helper()
	sent := b.header.Clone()
	for i := 0; i < len(header); i += 2 {
		sent[header[i]] = []string{header[i+1]}
	}
	for _, cookie := range []*http.Cookie{b.cookie, b.attempt} {
		if cookie != nil {
			sent["Cookie"] = append(sent["Cookie"], cookie.Name+"="+cookie.Value)
		}
	}
	a := b.p.do(t, method, path, sent, body)
	for _, line := range a.header["Set-Cookie"] {
		cookie, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(cookie.Name, control.SignInCookie) {
			b.attempt = cookie
		} else {
			b.cookie = cookie
		}
	}
	return a
}

// signIn signs in by a token.
func (b *browser) signIn(t *testing.T, token string) *browser {
	t.Helper()
	if a := b.do(t, http.MethodPost, "/session", `{"token": "`+token+`"}`); a.status != http.StatusOK || b.cookie == nil {
		t.Fatalf("signing in answered %d %s", a.status, a.text)
	}
	return b
}

type shownSession struct {
	Token    struct{ ID, Name string }
	Person   struct{ ID, Email, Name, Provider string }
	Operator bool
	Accounts []struct {
		ID, Name string
		Scopes   []string
	}
	Expires time.Time `json:"expires_on"`
}

func (a answer) session(t *testing.T) shownSession {
	t.Helper()
	var s shownSession
	if err := json.Unmarshal(a.Result, &s); err != nil || a.status != http.StatusOK {
		t.Fatalf("answered %d %s: %v", a.status, a.text, err)
	}
	return s
}

func tokenOf(t *testing.T, p *platform, scopes ...control.Scope) (control.Token, string) {
	t.Helper()
	token, secret, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "on call", Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	return token, secret
}

func sessionStory(t *testing.T, p *platform) {
	token, secret := tokenOf(t, p, control.ScriptsEdit)
	b := p.browser()
	b.do(t, http.MethodGet, "/session", "").want(t, http.StatusUnauthorized, 10000, "nobody is signed in")
	made := b.do(t, http.MethodPost, "/session", `{"token": " `+secret+`\n"}`)
	for _, a := range []answer{made, b.do(t, http.MethodGet, "/session", "")} {
		s := a.session(t)
		if s.Token.ID != token.ID || s.Token.Name != "on call" || s.Operator || len(s.Accounts) != 1 ||
			s.Accounts[0].ID != account || s.Accounts[0].Name != "Tidegate" || fmt.Sprint(s.Accounts[0].Scopes) != "[scripts:edit]" || time.Until(s.Expires) > control.SessionLifetime {
			t.Errorf("the session is %s", a.text)
		}
		if strings.Contains(a.text, b.cookie.Value) || strings.Contains(a.text, secret) || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("the answer gives away a secret, or may be kept: %v %s", a.header, a.text)
		}
	}
	link, err := p.CreateSessionLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(link.ExpiresOn); left > control.SessionLinkLifetime || left < control.SessionLinkLifetime-time.Minute {
		t.Errorf("the link is good for %s", left)
	}
	if a := b.do(t, http.MethodDelete, "/session", ""); a.status != http.StatusOK || string(a.Result) != "null" || b.cookie.Value != "" || b.cookie.MaxAge >= 0 {
		t.Errorf("signing out answered %d %s and left %v", a.status, a.text, b.cookie)
	}
}

// TestSessionOpensWhatItsTokenOpens holds a session against its token, at every operation.
func TestSessionOpensWhatItsTokenOpens(t *testing.T) {
	p := newPlatform(t)
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := p.CreateToken(t.Context(), control.Token{AccountID: other.ID, Name: "foreign", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"the operator": p.token, "a foreign token": foreign}
	for _, scope := range control.Scopes {
		_, secrets[string(scope)] = tokenOf(t, p, scope)
	}
	for who, secret := range secrets {
		b := p.browser().signIn(t, secret)
		for _, operation := range p.validator.Operations() {
			method, path, _ := strings.Cut(operation, " ")
			path = "/client/v4" + strings.NewReplacer("{account}", account, "{script}", "none", "{id}", "7", "{dataset}", "workers_trace_events",
				"{zone}", "7", "{name}", "free", "{environment}", "production", "{worker}", "none", "{sha256}", "00").Replace(path)
			if byToken, bySession := p.do(t, method, path, bearer(secret), ""), b.do(t, method, path, ""); byToken.status != bySession.status {
				t.Errorf("%s by the session of %s answered %d, by the token %d: %s", operation, who, bySession.status, byToken.status, bySession.text)
			}
		}
	}
}

func TestCookiesOfSessions(t *testing.T) {
	trusted := newPlatformWith(t, api.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	strangers := newPlatform(t)
	f := func(p *platform, wantName string, wantSecure bool, header ...string) {
		t.Helper()
		b := p.browser(header...).signIn(t, p.token)
		c := b.cookie
		if c.Name != wantName || c.Secure != wantSecure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" ||
			c.MaxAge < 11*3600 || c.MaxAge > 12*3600 || len(c.Value) < 40 {
			t.Errorf("the cookie is %s", c)
		}
		b.do(t, http.MethodGet, "/session", "").session(t)
		if a := b.do(t, http.MethodGet, "/client/v4/user", ""); a.status != http.StatusOK || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("the cookie %s opens %d %v", c, a.status, a.header)
		}
	}
	f(strangers, "tidegate-session", false)
	f(strangers, "tidegate-session", false, "X-Forwarded-Proto", "https") // anybody can say so
	f(trusted, "tidegate-session", false)
	f(trusted, "tidegate-session", false, "X-Forwarded-Proto", "http")
	f(trusted, "__Host-tidegate-session", true, "X-Forwarded-Proto", "https")

	// What a plain connection has set opens nothing over TLS.
	b := trusted.browser().signIn(t, trusted.token)
	b.do(t, http.MethodGet, "/session", "", "X-Forwarded-Proto", "https").want(t, http.StatusUnauthorized, 10000, "nobody")
}

func TestOtherOriginsAreRefused(t *testing.T) {
	p := newPlatformWith(t, api.Config{DashboardURL: "https://tidegate.example.com/"})
	own := strings.TrimPrefix(p.url, "http://")
	from := func(site, origin string) []string {
		header := []string{"Sec-Fetch-Site", site}
		if site == "" {
			header = []string{"Sec-Fetch-Mode", "cors"}
		}
		if origin != "" {
			header = append(header, "Origin", origin)
		}
		return header
	}
	const scripts = "/client/v4/accounts/" + account + "/workers/scripts"
	f := func(allowed bool, header []string) {
		t.Helper()
		b := p.browser().signIn(t, p.token)
		b.header = http.Header{}
		for _, request := range [][3]string{
			{http.MethodGet, "/session"}, {http.MethodGet, scripts}, {http.MethodPut, scripts + "/none/routes", `[]`},
			{http.MethodPost, "/client/v4/graphql", `{"query": "{ viewer { accounts { accountTag } } }"}`},
			{http.MethodPost, "/session", `{"token": "` + p.token + `"}`}, {http.MethodDelete, "/session"},
		} {
			a := b.do(t, request[0], request[1], request[2], header...)
			if refused := a.status == http.StatusForbidden; refused == allowed {
				t.Errorf("%s %s with %v answered %d %s", request[0], request[1], header, a.status, a.text)
			}
		}
		// A token of its own is nothing that another page could make a browser send.
		if a := p.do(t, http.MethodGet, scripts, http.Header{"Authorization": {"Bearer " + p.token}, "Origin": {"https://evil.example"}}, ""); a.status != http.StatusOK {
			t.Errorf("with a token: %d %s", a.status, a.text)
		}
	}
	f(true, from("same-origin", "http://"+own))
	f(true, from("none", ""))                                   // typed by the user
	f(true, from("", "http://"+own))                            // a browser without TLS says no more
	f(true, from("", ""))                                       // no browser
	f(true, from("cross-site", "https://tidegate.example.com")) // the operator says that this is us
	f(false, from("cross-site", "https://evil.example"))
	f(false, from("same-site", "https://shop.example.com")) // a script of our own platform
	f(false, from("cross-site", ""))
	f(false, from("", "https://evil.example"))
	f(false, from("", "null"))
}

// A viewer that is let in would hold one of few places.
func TestStreamsCheckTheOrigin(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	b := p.browser().signIn(t, p.token)
	b.do(t, http.MethodGet, "/client/v4/accounts/"+account+"/workers/scripts/shop/events/live", "", "Sec-Fetch-Site", "same-site").
		want(t, http.StatusForbidden, 10000, "another origin")
}

// A stream that is open goes on no longer than what opened it.
func TestStreamsEndWithTheSession(t *testing.T) {
	p := newPlatform(t)
	p.server.BeatEvery(10 * time.Millisecond)
	p.upload(t, "shop", "v1")
	token, secret := tokenOf(t, p, control.ScriptsRead, control.LogsRead)
	b := p.browser().signIn(t, secret)
	bySession := p.watchAs(t, "shop", "", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Cookie": {b.cookie.Name + "=" + b.cookie.Value}})
	byToken := p.watchAs(t, "shop", "", bearer(secret))
	ends := func(s *stream, sentence string) {
		t.Helper()
		for {
			name, data, ok := s.next()
			if !ok {
				t.Fatalf("the stream ended without a word")
			}
			if name == "heartbeat" {
				continue
			}
			if _, _, more := s.next(); name != "notice" || !strings.Contains(data, sentence) || more {
				t.Errorf("the stream has %q %s, and more: %v", name, data, more)
			}
			return
		}
	}
	for range 20 {
		bySession.want("heartbeat", "")
	}
	b.do(t, http.MethodDelete, "/session", "")
	ends(bySession, "the session has ended: sign in again")
	for range 20 {
		byToken.want("heartbeat", "")
	}
	if err := p.DeleteToken(t.Context(), account, token.ID); err != nil {
		t.Fatal(err)
	}
	ends(byToken, "not valid")
}

func TestSignOutEverywhere(t *testing.T) {
	p := newPlatform(t)
	_, secret := tokenOf(t, p, control.ScriptsRead)
	one, other, operator := p.browser().signIn(t, secret), p.browser().signIn(t, secret), p.browser().signIn(t, p.token)
	one.do(t, http.MethodDelete, "/session?everywhere=all", "").want(t, http.StatusBadRequest, 10001, "everywhere")
	if a := one.do(t, http.MethodDelete, "/session?everywhere=true", ""); a.status != http.StatusOK || one.cookie.Value != "" {
		t.Errorf("it answered %d %s and left %v", a.status, a.text, one.cookie)
	}
	other.do(t, http.MethodGet, "/session", "").want(t, http.StatusUnauthorized, 10000, "sign in again")
	other.do(t, http.MethodDelete, "/session?everywhere=true", "").want(t, http.StatusUnauthorized, 10000)
	operator.do(t, http.MethodGet, "/session", "").session(t)
	if a := p.call(t, http.MethodGet, "/audit_logs?action.type=session.delete_all", ""); !strings.Contains(a.text, `"session.delete_all"`) {
		t.Errorf("it is not audited: %s", a.text)
	}
}

func TestTokenOfARequestComesFirst(t *testing.T) {
	p := newPlatform(t)
	_, reader := tokenOf(t, p, control.LogsRead)
	b := p.browser().signIn(t, p.token)
	const scripts = "/client/v4/accounts/" + account + "/workers/scripts"
	b.do(t, http.MethodGet, scripts, "", "Authorization", "Bearer "+reader).want(t, http.StatusForbidden, 10000, "scripts:read")
	b.do(t, http.MethodGet, scripts, "", "Authorization", "Bearer wrong").want(t, http.StatusUnauthorized, 10000)
	b.do(t, http.MethodGet, scripts, "", "X-Auth-Key", reader).want(t, http.StatusForbidden, 10000, "scripts:read")
}

func TestSessionsEndWithTheirToken(t *testing.T) {
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	wait := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	p := newPlatformAt(t, api.Config{Now: clock}, clock)
	token, secret := tokenOf(t, p, control.Admin)
	gone := func(b *browser) {
		t.Helper()
		b.do(t, http.MethodGet, "/session", "").want(t, http.StatusUnauthorized, 10000, "sign in again")
		b.do(t, http.MethodGet, "/client/v4/user", "").want(t, http.StatusUnauthorized, 10000, "sign in again")
	}

	one, other := p.browser().signIn(t, secret), p.browser().signIn(t, secret)
	if a := one.do(t, http.MethodDelete, "/client/v4/accounts/"+account+"/tokens/"+token.ID, ""); a.status != http.StatusOK {
		t.Fatalf("a session that deletes its token: %d %s", a.status, a.text)
	}
	gone(one)
	gone(other)

	idle, busy := p.browser().signIn(t, p.token), p.browser().signIn(t, p.token)
	wait(control.SessionIdle - time.Minute)
	busy.do(t, http.MethodGet, "/session", "").session(t)
	wait(time.Minute)
	gone(idle)
	for range 22 {
		wait(30 * time.Minute)
		busy.do(t, http.MethodGet, "/client/v4/user", "")
	}
	gone(busy) // 12 hours after it began

	signedOut := p.browser().signIn(t, p.token)
	kept := *signedOut
	signedOut.do(t, http.MethodDelete, "/session", "")
	gone(&kept)

	again := p.browser().signIn(t, p.token)
	before := *again
	again.signIn(t, p.token)
	gone(&before) // the browser does not know it any more
	again.do(t, http.MethodGet, "/session", "").session(t)
}

func TestLinkSignsInOnce(t *testing.T) {
	p := newPlatform(t)
	token, secret := tokenOf(t, p, control.LogsRead)
	link := func(a answer) (address, code string) {
		t.Helper()
		var made struct{ URL string }
		if err := json.Unmarshal(a.Result, &made); err != nil || a.status != http.StatusOK {
			t.Fatalf("answered %d %s", a.status, a.text)
		}
		u, err := url.Parse(made.URL)
		if err != nil || u.Path != "/login" || u.RawQuery != "" {
			t.Fatalf("the link is %s, error %v", made.URL, err)
		}
		code, _ = strings.CutPrefix(u.Fragment, "code=")
		return u.Scheme + "://" + u.Host, code
	}
	address, code := link(p.do(t, http.MethodPost, "/session/links", bearer(secret), ""))
	if address != p.url {
		t.Errorf("the link leads to %s, and the server is at %s", address, p.url)
	}
	b := p.browser()
	if s := b.do(t, http.MethodPost, "/session", `{"code": "`+code+`"}`).session(t); s.Token.ID != token.ID {
		t.Errorf("the link signed in as %+v", s)
	}
	if a := b.do(t, http.MethodGet, "/client/v4/user", ""); a.status != http.StatusOK {
		t.Errorf("the session opens %d %s", a.status, a.text)
	}
	p.browser().do(t, http.MethodPost, "/session", `{"code": "`+code+`"}`).want(t, http.StatusUnauthorized, 10000, "it was used")

	b.do(t, http.MethodPost, "/session/links", "").want(t, http.StatusUnauthorized, 10000, "API token")
	p.do(t, http.MethodPost, "/session/links", nil, "").want(t, http.StatusUnauthorized, 10000, "API token")
	p.do(t, http.MethodPost, "/session/links", bearer("wrong"), "").want(t, http.StatusUnauthorized, 10000)

	header := bearer(secret)
	header["X-Forwarded-Proto"], header["X-Forwarded-Host"] = []string{"https"}, []string{"tidegate.example.com"}
	if address, _ = link(p.do(t, http.MethodPost, "/session/links", header, "")); address != "https://tidegate.example.com" {
		t.Errorf("behind a proxy, the link leads to %s", address)
	}
	told := newPlatformWith(t, api.Config{DashboardURL: "https://console.example.com/"})
	if address, _ = link(told.do(t, http.MethodPost, "/session/links", bearer(told.token), "")); address != "https://console.example.com" {
		t.Errorf("with an address of its own, the link leads to %s", address)
	}
}

func TestSignInIsRefusedInASentence(t *testing.T) {
	p := newPlatform(t)
	f := func(body string, status, code int, part string) {
		t.Helper()
		b := p.browser()
		b.do(t, http.MethodPost, "/session", body).want(t, status, code, part)
		if b.cookie != nil {
			t.Errorf("%s has set %s", body, b.cookie)
		}
	}
	f(``, http.StatusBadRequest, 10001, "empty")
	f(`{}`, http.StatusBadRequest, 10001, "token")
	f(`{"token": "a", "code": "b"}`, http.StatusBadRequest, 10001, "not two")
	f(`{"token": 7}`, http.StatusBadRequest, 10001, "token")
	f(`{"secret": "a"}`, http.StatusBadRequest, 10001, "secret")
	f(`{"token": "`+strings.Repeat("a", 5000)+`"}`, http.StatusRequestEntityTooLarge, 10027, "4096")
	f(`{"token": ""}`, http.StatusUnauthorized, 10000, "not valid")
	f(`{"token": "wrong"}`, http.StatusUnauthorized, 10000, "not valid")
	f(`{"code": "wrong"}`, http.StatusUnauthorized, 10000, "link")
}

func TestAttemptsToSignInAreBounded(t *testing.T) {
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	p := newPlatformAt(t, api.Config{Now: func() time.Time { return now }, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, nil)
	try := func(address, token string) answer {
		return p.browser("X-Forwarded-For", address).do(t, http.MethodPost, "/session", `{"token": "`+token+`"}`)
	}
	for range 20 { // those that succeed are not counted
		try("192.0.2.1", p.token).session(t)
	}
	for range 10 {
		try("192.0.2.1", "wrong").want(t, http.StatusUnauthorized, 10000)
	}
	for _, token := range []string{"wrong", p.token} {
		a := try("192.0.2.1", token)
		a.want(t, http.StatusTooManyRequests, 971, "192.0.2.1", "300 s")
		if a.header.Get("Retry-After") != "300" {
			t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
		}
	}
	// Who is in front of the proxy counts, not what they say of others.
	try("192.0.2.77, 192.0.2.1", "wrong").want(t, http.StatusTooManyRequests, 971)
	try("192.0.2.1, 192.0.2.77", "wrong").want(t, http.StatusUnauthorized, 10000)
	try("192.0.2.2", p.token).session(t)
	for i := range 10 {
		try(fmt.Sprintf("2001:db8::%d", i), "wrong").want(t, http.StatusUnauthorized, 10000)
	}
	try("2001:db8::ffff", "wrong").want(t, http.StatusTooManyRequests, 971) // the same customer
	try("2001:db8:0:1::1", "wrong").want(t, http.StatusUnauthorized, 10000)
	now = now.Add(5 * time.Minute)
	try("192.0.2.1", p.token).session(t)
}

// Whatever is done by a session is done by its token, at the dashboard.
func TestHistoryTellsTheDashboard(t *testing.T) {
	p := newPlatform(t)
	v := p.upload(t, "shop", "v1")
	b := p.browser("User-Agent", "Mozilla/5.0").signIn(t, p.token)
	body := `{"strategy": "percentage", "versions": [{"version_id": "` + v.ID + `", "percentage": 100}]}`
	a := b.do(t, http.MethodPost, "/client/v4/accounts/"+account+"/workers/scripts/shop/deployments", body)
	var d struct {
		Source string
		Author string `json:"author_email"`
	}
	if err := json.Unmarshal(a.Result, &d); err != nil || d.Source != "dash" || d.Author != "admin@localhost" {
		t.Errorf("the deployment is %s, error %v", a.text, err)
	}
}
