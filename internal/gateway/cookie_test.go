package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
)

// visitorRule sets the cookie visitor.
var visitorRule = deploy.AffinityRule{Source: deploy.AffinityCookie, Name: "visitor", Set: &deploy.AffinityCookieAttributes{MaxAge: 3600}}

// visitor is a client with cookies of its own.
func (e *env) visitor(t testing.TB, transport http.RoundTripper) *env {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &env{Gateway: e.Gateway, client: &http.Client{Transport: transport, Jar: jar}}
}

// setCookies are the cookies of the name that a response sets.
func setCookies(a answer, name string) (list []*http.Cookie) {
	for _, c := range a.Cookies() {
		if c.Name == name {
			list = append(list, c)
		}
	}
	return list
}

// A first visitor's page, its script and its calls are on one version, without a word
// from the client but the cookie, over HTTP/1.1 and HTTP/2; and while a version grows, a
// visitor moves once, and to it.
func TestVisitorsStayOnOneVersion(t *testing.T) {
	const visitors = 200
	name := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name+" "+r.Header.Get(key)) }
	}
	sc := script([]string{origin(t, name("one")), origin(t, name("two"))})
	sc.Affinity = []deploy.AffinityRule{visitorRule}
	e := start(t, nil)
	h2 := e.h2Client(t).Transport
	all, was, keys := make([]*env, visitors), make([]string, visitors), make([]string, visitors)
	for i := range all {
		transport := e.client.Transport
		if i%2 == 1 {
			transport = h2
		}
		all[i] = e.visitor(t, transport)
	}
	moved, seen := 0, map[string]int{}
	for step, share := range []deploy.Percentage{5_000, 25_000, 50_000, 75_000, deploy.Full} {
		sc.Splits = []deploy.Split{{VersionID: v1, Percentage: deploy.Full - share}, {VersionID: v2, Percentage: share}}
		e.control.set(snapshot(int64(step+1), sc), nil)
		waitFor(t, "the share", func() bool { return e.Revision() == int64(step+1) })
		for i, visitor := range all {
			var first string
			for n, path := range []string{"/", "/app.js", "/api/cart?x=1"} {
				a := visitor.get(t, shop+path)
				version, forwarded, _ := strings.Cut(a.body, " ")
				cookies := setCookies(a, "visitor")
				if given := step == 0 && n == 0; len(cookies) != 0 != given {
					t.Fatalf("%s is answered with the cookies %v at step %d", path, cookies, step)
				} else if given {
					keys[i] = cookies[0].Value
				}
				if forwarded != keys[i] {
					t.Fatalf("the version gets the key %q of the visitor %q", forwarded, keys[i])
				}
				if n == 0 {
					first = version
				}
				if version != first || was[i] == "two" && version != "two" {
					t.Fatalf("at %s the visitor %d is on %s and on %s, and was on %q", share, i, first, version, was[i])
				}
			}
			if was[i] == "one" && first == "two" {
				moved++
			}
			was[i] = first
			seen[first]++
		}
	}
	if seen["one"] == 0 || moved == 0 || seen["two"] < visitors {
		t.Errorf("the visitors were on %v, and %d moved", seen, moved)
	}
}

// Every kind of response of a version can give the cookie; the gateway's own answers
// do not, so that who tries again is drawn again.
func TestResponsesThatGiveTheCookie(t *testing.T) {
	o := origin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
			for range 3 {
				_, _ = io.WriteString(w, "piece ")
				_ = http.NewResponseController(w).Flush()
			}
		case "/304":
			w.Header().Set("Etag", `"1"`)
			w.WriteHeader(http.StatusNotModified)
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		case "/own":
			w.Header().Add("Set-Cookie", "visitor=mine; Path=/")
		case "/cut":
			panic(http.ErrAbortHandler)
		}
	})
	dead := "http://" + freeAddress(t)
	yes, no := true, false
	rule := visitorRule
	f := func(given bool, status int, forward *bool, share deploy.Percentage, method, url string, headers ...string) {
		t.Helper()
		sc := script([]string{o, o}, share, deploy.Full-share)
		if strings.HasSuffix(url, "/dead") {
			sc = script([]string{dead, dead}, share, deploy.Full-share)
		}
		rule.Forward = forward
		sc.Affinity = []deploy.AffinityRule{rule}
		e := start(t, snapshot(1, sc), showVersion)
		a, err := e.try(t.Context(), method, url, nil, headers...)
		if err != nil {
			t.Fatal(err)
		}
		cookies := setCookies(a, "visitor")
		if a.StatusCode != status || (len(cookies) == 1) != given {
			t.Fatalf("%s %s %q answered %d with %v, want %d and a cookie: %t", method, url, headers, a.StatusCode, a.Header, status, given)
		}
		if !given {
			return
		}
		if c := cookies[0]; c.MaxAge != 3600 || c.Path != "/" || !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteLaxMode || a.Header.Get("Cache-Control") != "private" {
			t.Errorf("%s %s: the cookie is %+v, Cache-Control %q", method, url, c, a.Header.Get("Cache-Control"))
		}
		event := e.events.nth(1)
		if text := string(event.AppendJSON(nil)); strings.Contains(text, cookies[0].Value) {
			t.Errorf("the key is in the event %s", text)
		}
	}
	const half, get = deploy.Full / 2, http.MethodGet
	override := []string{"Cloudflare-Workers-Version-Overrides", `shop="` + v2 + `"`}
	f(true, 200, nil, half, get, shop+"/")
	f(true, 200, nil, half, http.MethodHead, shop+"/")
	f(true, 200, nil, half, http.MethodPost, shop+"/")
	f(true, 200, nil, half, get, shop+"/stream")
	f(true, 304, nil, half, get, shop+"/304", "If-None-Match", `"1"`)
	f(true, 500, nil, half, get, shop+"/500")
	f(false, 502, nil, half, get, shop+"/cut")
	f(false, 502, nil, half, get, shop+"/dead")
	f(false, 404, nil, half, get, "http://other.dev.localhost/")
	f(false, 200, nil, half, get, "http://bbbbbbbb-shop.dev.localhost/")
	f(false, 200, nil, half, get, shop+"/", key, "mine")
	f(false, 200, nil, half, get, shop+"/", "Cookie", "visitor=mine")
	// Where the key decides nothing, it is made only if the version gets it.
	f(true, 200, nil, half, get, shop+"/", override...)
	f(false, 200, &no, half, get, shop+"/", override...)
	f(true, 200, &yes, deploy.Full, get, shop+"/")
	f(false, 200, &no, deploy.Full, get, shop+"/")

	sc := script([]string{o, o}, half, half)
	sc.Affinity = []deploy.AffinityRule{visitorRule}
	e := start(t, snapshot(1, sc))
	if own := setCookies(e.get(t, shop+"/own"), "visitor"); len(own) != 1 || own[0].Value != "mine" {
		t.Errorf("beside the version's own cookie there are %v", own)
	}
	if a := e.get(t, shop+"/", "X-Forwarded-Proto", "https"); setCookies(a, "visitor")[0].Secure {
		t.Error("a client's word on its scheme made the cookie Secure")
	}
}

// freeAddress is one at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Secure follows the client, also behind a proxy that ends TLS.
func TestTheCookieIsSecureWhereTheClientSpeaksHTTPS(t *testing.T) {
	sc := script([]string{origin(t, says("one")), origin(t, says("two"))}, 50_000, 50_000)
	sc.Affinity = []deploy.AffinityRule{visitorRule}
	e := start(t, snapshot(1, sc), trustLoopback)
	for proto, secure := range map[string]bool{"https": true, "http": false} {
		if c := setCookies(e.get(t, shop+"/", "X-Forwarded-Proto", proto), "visitor"); len(c) != 1 || c[0].Secure != secure {
			t.Errorf("over %s: %v", proto, c)
		}
	}
}

func trustLoopback(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

// A response to a switch of protocols gives the cookie, too: a page may open its
// WebSocket first.
func TestSwitchedConnectionsGiveTheCookie(t *testing.T) {
	o := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		_ = c.Close()
	})
	sc := script([]string{o, o}, 50_000, 50_000)
	sc.Affinity = []deploy.AffinityRule{visitorRule}
	e := start(t, snapshot(1, sc))
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.dev.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if cookies := setCookies(answer{Response: resp}, "visitor"); resp.StatusCode != http.StatusSwitchingProtocols || len(cookies) != 1 {
		t.Errorf("got %d with %v", resp.StatusCode, resp.Header)
	}
}

// What early hints name is asked for before the cookie is there, and would be drawn
// apart from the page.
func TestFirstVisitorsGetNoEarlyHints(t *testing.T) {
	o := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "page")
	})
	sc := script([]string{o, o}, 50_000, 50_000)
	sc.Affinity = []deploy.AffinityRule{visitorRule}
	e := start(t, snapshot(1, sc))
	visitor := e.visitor(t, e.client.Transport)
	for visit := range 3 {
		hints := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
			hints++
			return nil
		}})
		a, err := visitor.try(ctx, http.MethodGet, shop+"/", nil)
		if err != nil || a.body != "page" || a.Header.Get("Link") == "" || (hints == 0) != (visit == 0) {
			t.Errorf("visit %d: %d hints, then %q, %v", visit, hints, a.body, err)
		}
	}
}

// A cookie for subdomains is set by hosts among them; elsewhere it is the host's alone.
func TestTheCookiesDomain(t *testing.T) {
	sc := script([]string{origin(t, says("one")), origin(t, says("two"))}, 50_000, 50_000)
	sc.Routes = []string{"www.example.com/*", "www.example.net/*"}
	rule := visitorRule
	rule.Set = &deploy.AffinityCookieAttributes{Domain: "example.com"}
	sc.Affinity = []deploy.AffinityRule{rule}
	e := start(t, snapshot(1, sc))
	for host, domain := range map[string]string{"WWW.example.com:80": "example.com", "www.example.net": "", "shop.dev.localhost": ""} {
		if c := setCookies(e.get(t, "http://"+host+"/"), "visitor"); len(c) != 1 || c[0].Domain != domain {
			t.Errorf("%s sets %v", host, c)
		}
	}
}

// A call between Workers is given the key that the caller passed on, and no cookie:
// the calling Worker would hand it to its own client.
func TestCallsAreGivenNoCookie(t *testing.T) {
	e, w, socket := bindings(t)
	sc := workerScript("shop", []string{v1, v2}, 50_000, 50_000)
	sc.Affinity = []deploy.AffinityRule{visitorRule}
	e.control.set(snapshot(2, sc, workerScript("blog", []string{v3}, 100_000)), nil)
	waitFor(t, "the rules", func() bool { return e.Revision() == 2 })
	for _, id := range []string{v1, v2} {
		w.versions[id].serve = func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, id+" "+r.Header.Get(key)) }
	}
	target := deploy.ServiceCall{Nonce: nonce, Script: "shop"}.Header()
	if a := call(t, socket, target); len(a.Cookies()) != 0 || !strings.HasSuffix(a.body, " ") {
		t.Errorf("a call without a key got %q with %v", a.body, a.Header)
	}
	seen := map[string]bool{}
	for i := range 20 {
		made := fmt.Sprintf("tg-%032x", i)
		visited := e.get(t, shop+"/", "Cookie", "visitor="+made).body
		for _, header := range [][2]string{{"Cookie", "visitor=" + made}, {key, made}} {
			if called := call(t, socket, target, header[0], header[1]); called.body != visited || !strings.HasSuffix(visited, " "+made) || len(called.Cookies()) != 0 {
				t.Errorf("%v: visited %q, called %q with %v", header, visited, called.body, called.Header)
			}
		}
		seen[visited[:1]] = true
	}
	if len(seen) != 2 {
		t.Errorf("twenty visitors reached %v", seen)
	}
}
