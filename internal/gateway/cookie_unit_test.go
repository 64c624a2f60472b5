package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// setting is a rule that sets the cookie visitor.
func setting(c deploy.AffinityCookieAttributes) deploy.AffinityRule {
	return deploy.AffinityRule{Source: deploy.AffinityCookie, Name: "visitor", Set: &c}
}

// What is set is read by net/http as it was meant, comes back as the same key, and holds
// nothing that would begin another attribute or another field.
func FuzzSetCookie(f *testing.F) {
	f.Add("visitor", "", "", int64(0), 0, "shop.example.com:8443", false)
	f.Add("__Host-visitor", "", "/", int64(3600), 2, "shop.example.com", true)
	f.Add("visitor", "example.com", "/app", int64(34_560_000), 7, "SHOP.example.com.", true)
	f.Add("v", "example.com", "/a,b", int64(1), 0, "badexample.com", true)
	f.Add("a'b", "1.a", "/a%20b/", int64(60), 2, "[::1]:80", false)
	f.Fuzz(func(t *testing.T, name, domain, path string, maxAge int64, kind int, host string, https bool) {
		set := deploy.AffinityCookieAttributes{MaxAge: maxAge, Domain: domain, Path: path, Partitioned: kind&1 != 0}
		if kind&2 != 0 {
			set.Secure = deploy.CookieSecureAlways
		}
		if kind&4 != 0 {
			set.SameSite = deploy.CookieNone
		}
		rule := deploy.AffinityRule{Source: deploy.AffinityCookie, Name: name, Set: &set}
		if rule.Validate() != nil {
			return
		}
		c := client{scheme: "http", host: host}
		if https {
			c.scheme = "https"
		}
		is, key := newIssuer(&rule), newKey()
		line := is.setCookie(key, &c)
		got, err := http.ParseSetCookie(line)
		if err != nil || strings.Count(line, ";") != len(strings.Split(line, "; "))-1 || strings.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("%+v sets %q: %v", set, line, err)
		}
		want := &http.Cookie{
			Name: name, Value: key, Path: "/", MaxAge: int(maxAge), Secure: https || kind&2 != 0, HttpOnly: true,
			SameSite: http.SameSiteLaxMode, Partitioned: set.Partitioned, Raw: line,
		}
		if path != "" {
			want.Path = path
		}
		if kind&4 != 0 {
			want.SameSite = http.SameSiteNoneMode
		}
		if host := plainHost(host); domain != "" && (host == domain || strings.HasSuffix(host, "."+domain)) {
			want.Domain = domain
		}
		if got.String() != want.String() || got.Value != want.Value || len(got.Unparsed) > 0 {
			t.Fatalf("%+v sets %q: net/http reads %+v, want %+v", set, line, got, want)
		}
		if back := cookieValue([]string{"a=b; " + got.Name + "=" + got.Value}, name); back != key || !isMade(back) {
			t.Fatalf("%q comes back as %q", line, back)
		}
	})
}

func TestMadeKeys(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		key := newKey()
		if !isMade(key) || seen[key] || !forwardable(key) {
			t.Fatalf("made %q, and %d before", key, len(seen))
		}
		seen[key] = true
	}
	const digits = "0123456789abcdef0123456789abcdef"
	for _, other := range []string{"", "tg-", digits, "tg_" + digits, "tg-" + digits + "0", "tg-" + digits[1:], "tg-" + strings.ToUpper(digits), "tg-" + digits[1:] + "g", "TG-" + digits} {
		if isMade(other) {
			t.Errorf("%q passes for one that was made", other)
		}
	}
}

// A key is made where the client has no cookie, and only there: one that it does not
// show here would be replaced.
func TestWhoIsGivenACookie(t *testing.T) {
	f := func(want bool, rule deploy.AffinityRule, method, target string, lines ...string) {
		t.Helper()
		r := parse(t, target, lines...)
		r.Method = method
		sc := scriptWith(50_000, rule)
		raw, _ := rawTarget(r)
		got := factsOf(ask(r), sc, raw, "192.0.2.1")
		if got.made != want || want && (!isMade(got.Key) || got.Rule != 1 || sc.choose(got, 0).cookie != got.Key) {
			t.Errorf("%s %s %q: got %+v, want a new key: %t", method, target, lines, got, want)
		}
		if call := callFacts(ask(r), sc, raw, "192.0.2.1"); call.made {
			t.Errorf("%s %s %q: a call is given a cookie", method, target, lines)
		}
	}
	const get, post = http.MethodGet, http.MethodPost
	plain := setting(deploy.AffinityCookieAttributes{})
	f(true, plain, get, "/")
	f(true, plain, http.MethodHead, "/a?b=c")
	f(true, plain, post, "/", "Cookie: visitors=1; visitor")
	f(true, plain, get, "http://shop.dev.localhost/a")
	f(false, plain, get, "/", "Cookie: visitor=x")
	f(false, plain, get, "/", "Cookie: visitor=tg-0123456789abcdef0123456789abcdef")
	f(false, plain, get, "/", "Cloudflare-Workers-Version-Key: mine")
	f(true, plain, get, "/", "Cloudflare-Workers-Version-Key:")
	// A browser that has the cookie shows it to the top of a page from elsewhere, not to
	// its forms, images and frames.
	f(true, plain, get, "/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
	f(false, plain, post, "/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
	f(false, plain, get, "/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")
	f(true, plain, post, "/", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors")
	f(true, plain, post, "/", "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate")
	none := setting(deploy.AffinityCookieAttributes{SameSite: deploy.CookieNone, Secure: deploy.CookieSecureAlways})
	f(true, none, post, "/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors")
	// Nor does it show one of another path.
	app := setting(deploy.AffinityCookieAttributes{Path: "/app"})
	f(true, app, get, "/app")
	f(true, app, get, "/app?x=1")
	f(true, app, get, "/app/a")
	f(true, app, get, "http://shop.dev.localhost/app/a")
	f(false, app, get, "/")
	f(false, app, get, "/application")
	f(false, app, get, "/x?/app")
	folder := setting(deploy.AffinityCookieAttributes{Path: "/app/"})
	f(true, folder, get, "/app/a")
	f(false, folder, get, "/app")
}

// A key that was found goes on if its rule says so, or if it was made here; one that was
// made goes on, or serves to choose, or is not made at all.
func TestWhichKeysGoOn(t *testing.T) {
	yes, no := true, false
	const made, session = "tg-0123456789abcdef0123456789abcdef", "s3cret"
	f := func(want string, share deploy.Percentage, rule deploy.AffinityRule, line string) {
		t.Helper()
		sc := scriptWith(share, rule)
		r := parse(t, "/rooms/7", line)
		if got := sc.choose(factsOf(ask(r), sc, r.RequestURI, "192.0.2.1"), 0); got.forward != want {
			t.Errorf("%+v, %q: goes on as %q, want %q", rule, line, got.forward, want)
		}
		if got := sc.choose(callFacts(ask(r), sc, r.RequestURI, "192.0.2.1"), 0); got.forward != want {
			t.Errorf("%+v, %q: goes on from a call as %q, want %q", rule, line, got.forward, want)
		}
	}
	cookie := func(forward *bool, set *deploy.AffinityCookieAttributes) deploy.AffinityRule {
		return deploy.AffinityRule{Source: deploy.AffinityCookie, Name: "visitor", Forward: forward, Set: set}
	}
	set := &deploy.AffinityCookieAttributes{}
	for _, share := range []deploy.Percentage{50_000, deploy.Full} { // whatever there is to decide here
		f(made, share, cookie(nil, set), "Cookie: visitor="+made)
		f("", share, cookie(nil, set), "Cookie: visitor="+session)
		f(session, share, cookie(&yes, set), "Cookie: visitor="+session)
		f("", share, cookie(&no, set), "Cookie: visitor="+made)
		f("", share, cookie(nil, nil), "Cookie: visitor="+made)
		f(session, share, cookie(&yes, nil), "Cookie: visitor="+session)
		f("", share, cookie(&yes, nil), "Cloudflare-Workers-Version-Key: k") // it is there already
		f("7", share, deploy.AffinityRule{Source: deploy.AffinityPath, Prefix: "/rooms/", Forward: &yes}, "X: y")
		f("192.0.2.1", share, deploy.AffinityRule{Source: deploy.AffinityClientIP, Forward: &yes}, "X: y")
	}
	fresh := func(share deploy.Percentage, rule deploy.AffinityRule, forward, cookie bool, decision string, lines ...string) {
		t.Helper()
		sc := scriptWith(share, rule)
		r := parse(t, "/", lines...)
		p := sc.choose(factsOf(ask(r), sc, r.RequestURI, ""), 0)
		if (p.forward != "") != forward || (p.cookie != "") != cookie || p.decision != decision || (p.rule == 1) != (decision == schema.DecisionAffinity) {
			t.Errorf("%s, %+v, %q: got %+v", share, rule, lines, p)
		}
	}
	const override = `Cloudflare-Workers-Version-Overrides: shop="` + testVersion + `"`
	fresh(50_000, cookie(nil, set), true, true, schema.DecisionAffinity)
	fresh(50_000, cookie(&no, set), false, true, schema.DecisionAffinity)
	fresh(deploy.Full, cookie(nil, set), true, true, schema.DecisionOnly)
	fresh(deploy.Full, cookie(&no, set), false, false, schema.DecisionOnly)
	fresh(50_000, cookie(nil, set), true, true, schema.DecisionOverride, override)
	fresh(50_000, cookie(&no, set), false, false, schema.DecisionOverride, override)
}

// A decoded key may hold what would end a header, or what one loses on its way.
func TestKeysThatNoHeaderCarriesStay(t *testing.T) {
	yes := true
	sc := scriptWith(50_000, deploy.AffinityRule{Source: deploy.AffinityQuery, Name: "id", Forward: &yes})
	for query, want := range map[string]string{
		"a%20b": "a b", "%7e": "~", "a%0d%0aX:+y": "", "%20a": "", "a+": "", "%00": "", "%7f": "", "a%09b": "", "%c3%bc": "",
	} {
		r := parse(t, "/?id="+query)
		f := factsOf(ask(r), sc, r.RequestURI, "")
		if got := sc.choose(f, 0); f.Key == "" || got.forward != want || got.rule != 1 {
			t.Errorf("%q: the key %q goes on as %q, want %q", query, f.Key, got.forward, want)
		}
	}
}

// Visitors who come without a cookie are split as dice would: a client that keeps no
// cookies has a new key each time. 23.9 is what chi-square with one degree of freedom
// exceeds once in a million times, so that the eight comparisons fail by chance in eight runs of a
// million, while a split that is off by 2 % of all visitors fails nearly always.
// And while the share grows, nobody with a cookie moves back.
func TestVisitorsWithoutACookieAreSplitByShare(t *testing.T) {
	const n, chi2Max = 40_000, 23.9
	shares := []deploy.Percentage{1_000, 10_000, 33_333, 80_000}
	f := func(what string, share deploy.Percentage, count float64) {
		t.Helper()
		want := n * float64(share) / float64(deploy.Full)
		if chi2 := (count - want) * (count - want) * (1/want + 1/(n-want)); chi2 > chi2Max {
			t.Errorf("%s at %s: %v of %d, want about %.0f: chi-square %.1f", what, share, count, n, want, chi2)
		}
	}
	var keys []string
	r := parse(t, "/")
	for _, share := range shares {
		sc, count := scriptWith(share, setting(deploy.AffinityCookieAttributes{})), 0.0
		keys = keys[:0]
		for range n {
			facts := factsOf(ask(r), sc, "/", "")
			keys = append(keys, facts.Key)
			if sc.choose(facts, 0).version.ID == testVersion {
				count++
			}
		}
		f("new visitors", share, count)
	}
	arrived := make([]bool, n)
	for _, share := range append(shares, deploy.Full) {
		sc, count := scriptWith(share, setting(deploy.AffinityCookieAttributes{})), 0.0
		for i, key := range keys {
			r := http.Request{Header: http.Header{"Cookie": {"visitor=" + key}}}
			here := sc.choose(factsOf(ask(&r), sc, "/", ""), 0).version.ID == testVersion
			if arrived[i] && !here {
				t.Fatalf("at %s the visitor %s moved back", share, key)
			}
			if arrived[i] = here; here {
				count++
			}
		}
		if share < deploy.Full {
			f("visitors who came back", share, count)
		}
	}
}

// What sets a cookie is for one client: caches for many must not keep it.
func TestCookiesKeepResponsesPrivate(t *testing.T) {
	sc := scriptWith(50_000, setting(deploy.AffinityCookieAttributes{MaxAge: 60}))
	f := func(want, h http.Header) {
		t.Helper()
		before := h.Clone()
		x := exchange{picked: picked{script: sc, cookie: "tg-k"}, client: client{scheme: "http", host: "shop.dev.localhost"}}
		giveCookie(h, &x)
		if len(want["Set-Cookie"]) == 0 {
			want["Set-Cookie"] = append(slices.Clone(before["Set-Cookie"]), "visitor=tg-k; Path=/; Max-Age=60; HttpOnly; SameSite=Lax")
		}
		if fmt.Sprint(h) != fmt.Sprint(want) {
			t.Errorf("%v became\n%v, want\n%v", before, h, want)
		}
	}
	f(http.Header{"Cache-Control": {"private"}}, http.Header{})
	f(http.Header{"Cache-Control": {"public, max-age=60", "private"}}, http.Header{"Cache-Control": {"public, max-age=60"}})
	f(http.Header{"Cache-Control": {"Private, max-age=60"}}, http.Header{"Cache-Control": {"Private, max-age=60"}})
	f(http.Header{"Cache-Control": {"no-store"}}, http.Header{"Cache-Control": {"no-store"}})
	// A cache that knows must-understand is to ignore no-store beside it (RFC 9111, section 5.2.2.3).
	f(http.Header{"Cache-Control": {"must-understand, no-store, max-age=60", "private"}}, http.Header{"Cache-Control": {"must-understand, no-store, max-age=60"}})
	f(http.Header{"Cache-Control": {"private"}}, http.Header{"X-Accel-Expires": {"60"}}) // goes before Cache-Control at nginx
	f(http.Header{"Cache-Control": {`private="x"`, "private"}}, http.Header{"Cache-Control": {`private="x"`}})
	f(http.Header{"Cache-Control": {"max-age=1", "private"}, "Expires": {"x"}},
		http.Header{"Cache-Control": {"max-age=1"}, "Expires": {"x"}, "Cdn-Cache-Control": {"max-age=60"}, "Cloudflare-Cdn-Cache-Control": {"max-age=60"}, "Surrogate-Control": {"max-age=60"}, "Edge-Control": {"!no-store"}})
	f(http.Header{"Cache-Control": {"private"}, "Set-Cookie": {"session=1; Path=/", "visitors=1", "visitor=tg-k; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"}},
		http.Header{"Set-Cookie": {"session=1; Path=/", "visitors=1"}})
	// The version's own stays, and the response with it.
	own := http.Header{"Set-Cookie": {"a=b", "visitor=mine; Path=/"}, "Cache-Control": {"public"}}
	f(own.Clone(), own)

	shared := make([]string, 1, 4) // room for more behind a slice that somebody else has
	shared[0] = "a=b"
	h := http.Header{"Set-Cookie": shared}
	giveCookie(h, &exchange{picked: picked{script: sc, cookie: "tg-k"}})
	if shared[:2][1] != "" {
		t.Error("the version's own header was written to")
	}
	// The rule went while the version was starting.
	h = http.Header{}
	if giveCookie(h, &exchange{picked: picked{script: scriptWith(50_000), cookie: "tg-k"}}); len(h) != 0 {
		t.Errorf("without a rule: %v", h)
	}
}

func TestCookiesAllocateLittle(t *testing.T) {
	sc := scriptWith(50_000, setting(deploy.AffinityCookieAttributes{MaxAge: 60}))
	first, again := parse(t, "/"), parse(t, "/", "Cookie: a=b; visitor=tg-0123456789abcdef0123456789abcdef")
	is := sc.affinity[0].issuer
	f := func(what string, want float64, run func()) {
		t.Helper()
		if n := testing.AllocsPerRun(100, run); n != want {
			t.Errorf("%s: %v allocations, want %v", what, n, want)
		}
	}
	f("a first visit", 1, func() { sc.choose(factsOf(ask(first), sc, "/", ""), 1) })
	f("the next", 0, func() { sc.choose(factsOf(ask(again), sc, "/", ""), 1) })
	f("the cookie", 1, func() { is.setCookie("tg-k", &client{scheme: "http", host: "shop.dev.localhost"}) })
}

// A rule that one script's owner gets wrong, or that a newer control plane knows, keeps
// no other rule away.
func TestRulesWithUnknownMembersAreLeftOut(t *testing.T) {
	var sc deploy.SnapshotScript
	text := `{"account_id": "1", "name": "shop", "affinity": [{"source": "cookie", "name": "a", "dream": true}, {"source": "cookie", "name": "b", "set": {}}]}`
	if err := json.Unmarshal([]byte(text), &sc); err != nil {
		t.Fatal(err)
	}
	var warnings []string
	rules := compileAffinity(&sc, func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) })
	if len(rules) != 1 || rules[0].number != 2 || rules[0].issuer == nil {
		t.Errorf("got %+v", rules)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], `"dream"`) {
		t.Errorf("warnings %q", warnings)
	}
}
