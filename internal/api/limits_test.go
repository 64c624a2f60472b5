package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/schema/control"
)

// limited has a limit of 3 requests, a clock, and another token.
func limited(t *testing.T) (p *platform, now *time.Time, other string) {
	t.Helper()
	at := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	p = newPlatformAt(t, api.Config{Now: func() time.Time { return at }, RateLimit: 3,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, nil)
	_, other, err := p.store.CreateToken(t.Context(), control.Token{AccountID: account, Name: "other", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	return p, &at, other
}

func TestRequestsOfATokenAreLimited(t *testing.T) {
	p, now, other := limited(t)
	ask := func(token string) answer { return p.do(t, http.MethodGet, "/client/v4/accounts", bearer(token), "") }
	left := func(a answer, ratelimit string) {
		t.Helper()
		if got := a.header.Get("Ratelimit"); got != ratelimit {
			t.Errorf("Ratelimit is %q, want %q", got, ratelimit)
		}
		if got := a.header.Get("Ratelimit-Policy"); got != `"default";q=3;w=300` {
			t.Errorf("Ratelimit-Policy is %q", got)
		}
	}
	allowed := func(token, ratelimit string) {
		t.Helper()
		a := ask(token)
		if a.status != http.StatusOK || a.header.Get("Retry-After") != "" {
			t.Fatalf("answered %d %s, Retry-After %q", a.status, a.text, a.header.Get("Retry-After"))
		}
		left(a, ratelimit)
	}
	refused := func(token, seconds string) {
		t.Helper()
		a := ask(token)
		a.want(t, http.StatusTooManyRequests, 971, "more than 3 requests in 5 minutes", "--api-rate-limit", seconds+" s")
		if got := a.header.Get("Retry-After"); got != seconds {
			t.Errorf("Retry-After is %q, want %q", got, seconds)
		}
		left(a, `"default";r=0;t=`+map[string]string{"100": "300", "75": "275"}[seconds])
	}
	allowed(p.token, `"default";r=2;t=100`)
	allowed(p.token, `"default";r=1;t=200`)
	allowed(p.token, `"default";r=0;t=300`)
	refused(p.token, "100")
	*now = now.Add(25 * time.Second)
	refused(p.token, "75") // one that is refused costs nothing
	allowed(other, `"default";r=2;t=100`)
	*now = now.Add(75 * time.Second)
	allowed(p.token, `"default";r=0;t=300`)
	*now = now.Add(time.Hour)
	allowed(p.token, `"default";r=2;t=100`)
}

// A page of the dashboard is a client like others, and many of them share a token.
func TestSessionsCountForTheirToken(t *testing.T) {
	p, _, _ := limited(t)
	first, second := p.browser().signIn(t, p.token), p.browser().signIn(t, p.token)
	if a := first.do(t, http.MethodGet, "/client/v4/accounts", ""); a.status != http.StatusOK { // signing in has counted, too
		t.Errorf("the third request answered %d %s", a.status, a.text)
	}
	second.do(t, http.MethodGet, "/client/v4/accounts", "").want(t, http.StatusTooManyRequests, 971, "by one API token")
	p.do(t, http.MethodGet, "/client/v4/accounts", bearer(p.token), "").want(t, http.StatusTooManyRequests, 971)
	if a := first.do(t, http.MethodGet, "/session", ""); a.status != http.StatusOK {
		t.Errorf("the session answered %d %s", a.status, a.text)
	}
}

// Each session and each link is a row, and a line of the audit log.
func TestSessionsAndLinksAreLimited(t *testing.T) {
	for path, body := range map[string]string{"/session": `{"token": %q}`, "/session/links": ""} {
		p, now, _ := limited(t)
		_, secret := tokenOf(t, p, control.LogsRead)
		if body != "" {
			body = fmt.Sprintf(body, secret)
		}
		ask := func() answer { return p.do(t, http.MethodPost, path, bearer(secret), body) }
		for range 3 {
			if a := ask(); a.status != http.StatusOK {
				t.Errorf("POST %s answered %d %s", path, a.status, a.text)
			}
		}
		for range 20 { // which are no attempts that failed
			a := ask()
			a.want(t, http.StatusTooManyRequests, 971, "by one API token", "100 s")
			if got := a.header.Get("Retry-After"); got != "100" {
				t.Errorf("POST %s answered Retry-After %q", path, got)
			}
		}
		*now = now.Add(100 * time.Second)
		if a := ask(); a.status != http.StatusOK {
			t.Errorf("POST %s answered %d %s", path, a.status, a.text)
		}
	}
}

// A router polls for snapshots as fast as there is news, and loads modules of each version.
func TestRoutersAreNotLimited(t *testing.T) {
	p, _, other := limited(t)
	for range 10 {
		for _, path := range []string{"/routing/snapshot", "/accounts/" + account + "/routing/versions/none", "/accounts/" + account + "/routing/modules/00"} {
			a := p.do(t, http.MethodGet, "/client/v4"+path, bearer(p.token), "")
			if a.status == http.StatusTooManyRequests || a.header.Get("Ratelimit") != "" {
				t.Fatalf("%s answered %d %s", path, a.status, a.text)
			}
		}
	}
	const own = "/client/v4/accounts/" + account + "/routing/snapshot" // which every token that reads scripts may ask
	for i := range 4 {
		if a := p.do(t, http.MethodGet, own, bearer(other), ""); (a.status == http.StatusTooManyRequests) != (i == 3) {
			t.Errorf("request %d answered %d %s", i+1, a.status, a.text)
		}
	}
}

func TestWithoutALimitNothingIsSaidOfOne(t *testing.T) {
	p := newPlatform(t)
	a := p.do(t, http.MethodGet, "/client/v4/accounts", bearer(p.token), "")
	if a.status != http.StatusOK || a.header.Get("Ratelimit") != "" || a.header.Get("Ratelimit-Policy") != "" {
		t.Errorf("answered %d with %v", a.status, a.header)
	}
}

func TestGuessesOfTokensAreBounded(t *testing.T) {
	p, now, other := limited(t)
	from := func(address, token string) answer {
		header := bearer(token)
		header.Set("X-Forwarded-For", address)
		return p.do(t, http.MethodGet, "/client/v4/user/tokens/verify", header, "")
	}
	if a := from("192.0.2.1", p.token); a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	for range 1000 {
		from("192.0.2.1", "wrong").want(t, http.StatusUnauthorized, 1000)
	}
	a := from("192.0.2.1", "wrong")
	a.want(t, http.StatusTooManyRequests, 971, "192.0.2.1", "300 s")
	if got := a.header.Get("Retry-After"); got != "300" {
		t.Errorf("Retry-After is %q", got)
	}
	if a := from("192.0.2.1", p.token); a.status != http.StatusOK {
		t.Errorf("a token that was good before is kept out: %d %s", a.status, a.text)
	}
	from("192.0.2.1", other).want(t, http.StatusTooManyRequests, 971) // it might be the next guess
	from("192.0.2.2", "wrong").want(t, http.StatusUnauthorized, 1000)
	if a := from("192.0.2.2", other); a.status != http.StatusOK {
		t.Errorf("another address is kept out: %d %s", a.status, a.text)
	}
	*now = now.Add(5 * time.Minute)
	from("192.0.2.1", "wrong").want(t, http.StatusUnauthorized, 1000)
}

// Each guess of a feed's address is a look into the database, for which nobody needs a token.
func TestGuessesOfFeedsAreBounded(t *testing.T) {
	p, _, _ := limited(t)
	for path, protocol := range map[string]string{"/client/v4/tails/": "trace-v1", "/instant-logs/ws/sessions/": ""} {
		open := func(secret, address string) (status int, retryAfter string) { // not p.do, which wants what it asks for in openapi.yaml
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path+secret, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Protocol": {protocol}, "X-Forwarded-For": {address}}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
			_ = resp.Body.Close()
			return resp.StatusCode, resp.Header.Get("Retry-After")
		}
		from := "192.0.2.1"
		if protocol == "" {
			from = "192.0.2.2"
		}
		for i := range 1000 {
			if status, _ := open(fmt.Sprint("guess", i), from); status != http.StatusNotFound {
				t.Fatalf("%s answered %d", path, status)
			}
		}
		if status, wait := open("guess", from); status != http.StatusTooManyRequests || wait != "300" {
			t.Errorf("%s answered %d, try again in %q s", path, status, wait)
		}
		if status, _ := open("guess", "192.0.2.3"); status != http.StatusNotFound {
			t.Errorf("of another address %s answered %d", path, status)
		}
	}
}

// A token that was good once is no way around the bound after it was deleted.
func TestTokensThatHaveEndedAreBounded(t *testing.T) {
	p, _, _ := limited(t)
	token, secret := tokenOf(t, p, control.LogsRead)
	ask := func() answer {
		return p.do(t, http.MethodGet, "/client/v4/user/tokens/verify", bearer(secret), "")
	}
	if a := ask(); a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	if err := p.DeleteToken(t.Context(), account, token.ID); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		ask().want(t, http.StatusUnauthorized, 1000)
	}
	ask().want(t, http.StatusTooManyRequests, 971)
}

// Cookies are guessed as tokens are, and count together with them.
func TestGuessesOfSessionsAreBounded(t *testing.T) {
	p, now, _ := limited(t)
	good := p.browser().signIn(t, p.token)
	good.do(t, http.MethodGet, "/session", "").session(t)
	ended := p.browser().signIn(t, p.token)
	ended.do(t, http.MethodGet, "/session", "").session(t)
	cookie := *ended.cookie
	ended.do(t, http.MethodDelete, "/session", "")
	ended.cookie = &cookie
	guess := p.browser()
	guess.cookie = &http.Cookie{Name: cookie.Name, Value: "wrong"}
	for range 330 {
		guess.do(t, http.MethodGet, "/session", "").want(t, http.StatusUnauthorized, 10000)
		ended.do(t, http.MethodGet, "/client/v4/accounts", "").want(t, http.StatusUnauthorized, 10000)
		if a := guess.do(t, http.MethodDelete, "/session", "", "Cookie", cookie.Name+"=wrong"); a.status != http.StatusOK {
			t.Fatalf("signing out answered %d %s", a.status, a.text)
		}
		guess.cookie = &http.Cookie{Name: cookie.Name, Value: "wrong"}
	}
	for range 10 {
		p.do(t, http.MethodGet, "/client/v4/accounts", bearer("wrong"), "").want(t, http.StatusUnauthorized, 10000)
	}
	guess.do(t, http.MethodGet, "/session", "").want(t, http.StatusTooManyRequests, 971)
	guess.do(t, http.MethodDelete, "/session", "").want(t, http.StatusTooManyRequests, 971)
	ended.do(t, http.MethodGet, "/session", "").want(t, http.StatusTooManyRequests, 971)
	good.do(t, http.MethodGet, "/session", "").session(t)
	*now = now.Add(5 * time.Minute)
	guess.do(t, http.MethodGet, "/session", "").want(t, http.StatusUnauthorized, 10000)
}
