package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

const key = "Cloudflare-Workers-Version-Key"

// What clients send today is enough to keep them on one version. The event and the
// response say which rule did it; the key is in neither, nor does a backend get it.
func TestAffinityByRules(t *testing.T) {
	echo := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for name, values := range r.Header {
				if text := fmt.Sprint(name, values); name != "Cookie" && name != "X-User" && strings.Contains(text, "secret-") {
					t.Errorf("the backend got %s", text)
				}
			}
			if _, ok := r.Header[key]; ok && r.Header.Get(key) != "mine" {
				t.Errorf("the backend got %s: %q", key, r.Header.Get(key))
			}
			w.Header().Set("Tidegate-Affinity-Rule", "99") // a backend's word on it is not believed
			_, _ = io.WriteString(w, name)
		}
	}
	sc := script([]string{origin(t, echo("one")), origin(t, echo("two"))}, 50_000, 50_000)
	sc.Affinity = []deploy.AffinityRule{
		{Source: deploy.AffinityHeader, Name: "x-user"},
		{Source: deploy.AffinityCookie, Name: "session"},
		{Source: deploy.AffinityPath, Prefix: "/rooms/"},
	}
	e := start(t, snapshot(1, sc), showVersion)
	n := 0
	f := func(decision string, rule int, url string, headers ...string) (version string) {
		t.Helper()
		a := e.get(t, url, headers...)
		n++
		ev := e.events.nth(n)
		shown := ""
		if rule != 0 {
			shown = strconv.Itoa(rule)
		}
		if ev.Gateway.Decision != decision || ev.Gateway.AffinityRule != rule || a.Header.Get("Tidegate-Decision") != decision || a.Header.Get("Tidegate-Affinity-Rule") != shown {
			t.Errorf("%s %v: the event says %+v, the response %v, want %s, rule %d", url, headers, ev.Gateway, a.Header, decision, rule)
		}
		if strings.Contains(string(ev.AppendJSON(nil)), "secret-") {
			t.Errorf("the key is in the event %s", ev.AppendJSON(nil))
		}
		return a.body
	}
	stays := func(rule int, path string, headers ...string) (version string) {
		t.Helper()
		version = f(schema.DecisionAffinity, rule, shop+path, headers...)
		for range 5 {
			if again := f(schema.DecisionAffinity, rule, shop+path, headers...); again != version {
				t.Errorf("%s %v is on %s and on %s", path, headers, version, again)
			}
		}
		return version
	}
	seen := map[string]bool{}
	for i := range 20 {
		user := fmt.Sprint("secret-", i)
		byCookie := stays(2, "/", "Cookie", "theme=dark; session="+user)
		if byHeader := stays(1, "/", "X-User", user, "Cookie", "session=other"); byHeader != byCookie {
			t.Errorf("one user is on %s by cookie and on %s by header", byCookie, byHeader)
		}
		stays(3, fmt.Sprintf("/rooms/%d/door?x=%d", i, i))
		seen[byCookie] = true
	}
	if len(seen) != 2 {
		t.Errorf("twenty users are on %v", seen)
	}
	stays(0, "/", key, "mine", "Cookie", "session=secret-1")
	f(schema.DecisionSplit, 0, shop+"/")
	f(schema.DecisionOverride, 0, shop+"/", "Cookie", "session=secret-1", "Cloudflare-Workers-Version-Overrides", `shop="`+v2+`"`)
	f(schema.DecisionPreview, 0, "http://bbbbbbbb-shop.dev.localhost/", "Cookie", "session=secret-1")
}

// Rules are no part of a deployment: they hold from the next snapshot on, and so does their end.
func TestAffinityRulesChangeWithTheSnapshot(t *testing.T) {
	sc := script([]string{origin(t, says("one")), origin(t, says("two"))}, 50_000, 50_000)
	e := start(t, snapshot(1, sc), showVersion)
	decision := func(want string) {
		t.Helper()
		if a := e.get(t, shop+"/", "Cookie", "id=7"); a.Header.Get("Tidegate-Decision") != want {
			t.Errorf("decided by %s, want %s", a.Header.Get("Tidegate-Decision"), want)
		}
	}
	decision(schema.DecisionSplit)
	for i, rules := range [][]deploy.AffinityRule{{{Source: deploy.AffinityCookie, Name: "id"}}, nil} {
		sc.Affinity = rules
		e.control.set(snapshot(int64(i+2), sc), nil)
		waitFor(t, "the rules", func() bool { return e.Revision() == int64(i+2) })
		decision([]string{schema.DecisionAffinity, schema.DecisionSplit}[i])
	}
}

// Object routing: every room is on one version at a time, and while the new version
// grows rooms only go to it. Rooms meet the gateway over HTTP, spelled in several ways.
func TestObjectsOfOriginsMoveOneWay(t *testing.T) {
	const rooms = 60
	origins := []string{origin(t, says("one")), origin(t, says("two"))}
	sc := script(origins)
	sc.Affinity = []deploy.AffinityRule{{Source: deploy.AffinityPath, Prefix: "/rooms/"}}
	e := start(t, nil)
	arrived := map[int]bool{}
	for revision, share := range []deploy.Percentage{0, 5_000, 25_000, 50_000, 75_000, deploy.Full} {
		sc.Splits = []deploy.Split{{VersionID: v1, Percentage: deploy.Full - share}, {VersionID: v2, Percentage: share}}
		e.control.set(snapshot(int64(revision+1), sc), nil)
		waitFor(t, "the share", func() bool { return e.Revision() == int64(revision+1) })
		for room := range rooms {
			seen := map[string]bool{}
			for _, path := range []string{"/rooms/room-%d", "/rooms/room%%2d%d/chat?x=1", "/r%%6foms/%%72oom-%d/a/b"} {
				seen[e.get(t, fmt.Sprintf(shop+path, room)).body] = true
			}
			if len(seen) != 1 || arrived[room] && !seen["two"] {
				t.Fatalf("at %s room %d is on %v, and was on the new version: %v", share, room, seen, arrived[room])
			}
			arrived[room] = seen["two"]
		}
	}
	if len(arrived) != rooms || !arrived[0] {
		t.Errorf("at last the new version has %v", arrived)
	}
}

// client_ip is the client's address and not that of the proxy, which has many clients.
func TestAffinityByClientAddress(t *testing.T) {
	sc := script([]string{origin(t, says("one")), origin(t, says("two"))}, 50_000, 50_000)
	sc.Affinity = []deploy.AffinityRule{{Source: deploy.AffinityClientIP}}
	e := start(t, snapshot(1, sc), func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	seen := map[string]bool{}
	for i := range 20 {
		from := fmt.Sprintf("192.0.2.%d", i)
		first := e.get(t, shop+"/", "X-Forwarded-For", from).body
		for range 5 {
			if again := e.get(t, shop+"/", "X-Forwarded-For", "203.0.113.9, "+from).body; again != first {
				t.Errorf("%s is on %s and on %s", from, first, again)
			}
		}
		seen[first] = true
	}
	if len(seen) != 2 {
		t.Errorf("twenty addresses are on %v", seen)
	}
}

// A call through a service binding is asked by the callee's rules: a user whose request
// a Worker passes on is on the version of the callee that a visit there would reach.
func TestAffinityOfServiceBindings(t *testing.T) {
	e, _, socket := bindings(t)
	rules := []deploy.AffinityRule{{Source: deploy.AffinityCookie, Name: "user"}, {Source: deploy.AffinityQuery, Name: "none"}, {Source: deploy.AffinityClientIP}}
	sc := workerScript("shop", []string{v1, v2}, 50_000, 50_000)
	sc.Affinity = rules
	e.control.set(snapshot(2, sc, workerScript("blog", []string{v3}, 100_000)), nil)
	waitFor(t, "the rules", func() bool { return e.Revision() == 2 })
	target := deploy.ServiceCall{Nonce: nonce, Script: "shop"}.Header()
	seen := map[string]bool{}
	for i := range 20 {
		for _, header := range [][2]string{{"Cookie", fmt.Sprint("user=", i)}, {"Cf-Connecting-Ip", fmt.Sprint("192.0.2.", i)}} {
			called := call(t, socket, target, header[0], header[1]).body
			for range 5 {
				if again := call(t, socket, target, header[0], header[1]).body; again != called {
					t.Fatalf("%v calls %s and %s", header, called, again)
				}
			}
			seen[called] = true
			if header[0] == "Cookie" {
				if visited := e.get(t, shop+"/", header[0], header[1]).body; visited != called {
					t.Errorf("%v visits %s and is passed on to %s", header, visited, called)
				}
			}
		}
	}
	if len(seen) != 2 {
		t.Errorf("forty calls reached %v", seen)
	}
}
