package deploy

import (
	"slices"
	"strings"
	"testing"

	"tidegate/internal/errs"
)

func TestParseRoute(t *testing.T) {
	f := func(pattern string, want Route) {
		t.Helper()
		got, err := ParseRoute(pattern)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", pattern, got, err, want)
		}
	}
	f("shop.example.com/*", Route{Host: "shop.example.com", Apex: true, Path: "/", PathPrefix: true})
	f("Shop.Example.COM/Cart", Route{Host: "shop.example.com", Apex: true, Path: "/Cart"})
	f("shop.example.com", Route{Host: "shop.example.com", Apex: true, Path: "/"})
	f("*.example.com/api/*", Route{Host: "example.com", Subdomains: true, Path: "/api/", PathPrefix: true})
	f("*example.com/*", Route{Host: "example.com", Apex: true, Subdomains: true, Path: "/", PathPrefix: true})
	f("*/*", Route{Apex: true, Subdomains: true, Path: "/", PathPrefix: true})
	f("HTTP://Example.com/", Route{Scheme: "http", Host: "example.com", Apex: true, Path: "/"})
	f("example.com/a://b", Route{Host: "example.com", Apex: true, Path: "/a://b"})
	f("https://example.com/caf%C3%A9*", Route{Scheme: "https", Host: "example.com", Apex: true, Path: "/café", PathPrefix: true})
}

func TestParseRouteRefuses(t *testing.T) {
	for _, pattern := range []string{
		"", "/", "/path", "*./x", "ftp://example.com/*", "ex*mple.com/*", "a.*.example.com/*", "example.com:8080/*",
		"example.com/a*b", "example.com/*/x", "example.com/?q=1", "example.com/#x", "example.com/%zz", "a@b/*", ".example.com/", "a..b/", "example.com./",
	} {
		if r, err := ParseRoute(pattern); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q gave %+v, %v, want an invalid error", pattern, r, err)
		}
	}
}

func TestRouteHasOneSpelling(t *testing.T) {
	f := func(pattern, want string) {
		t.Helper()
		r, err := ParseRoute(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.String(); got != want {
			t.Errorf("%s is written %s, want %s", pattern, got, want)
		}
	}
	f("HTTPS://Shop.Example.COM/Cart*", "https://shop.example.com/Cart*")
	f("shop.example.com", "shop.example.com/")
	f("shop.example.com/%61%2a", "shop.example.com/a%2A")
	f("*.Example.com/é/*", "*.example.com/%C3%A9/*")
	f("*example.com/*", "*example.com/*")
	f("*", "*/")
}

func TestRoutesThatShareAHost(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		x, errX := ParseRoute(a)
		y, errY := ParseRoute(b)
		if errX != nil || errY != nil {
			t.Fatal(errX, errY)
		}
		if x.SharesHost(&y) != want || y.SharesHost(&x) != want {
			t.Errorf("%s and %s: %t and %t, want %t", a, b, x.SharesHost(&y), y.SharesHost(&x), want)
		}
	}
	f("shop.example.com/*", "HTTP://Shop.example.com/admin", true)
	f("shop.example.com/*", "*shop.example.com/*", true)
	f("shop.example.com/*", "*.shop.example.com/*", true)
	f("shop.example.com/*", "*.example.com/*", true)
	f("shop.example.com/*", "*example.com/*", true)
	f("*.eu.example.com/*", "*.example.com/*", true)
	f("a.b.c.example.com/*", "*.example.com/x", true)
	f("shop.example.com/*", "example.com/*", false)
	f("shop.example.com/*", "*.hop.example.com/*", false)
	f("shop.example.com/*", "*.xshop.example.com/*", false)
	f("xexample.com/*", "*.example.com/*", false)
	f("*.a.example.com/*", "*.b.example.com/*", false)
	f("shop.example.com/*", "*/*", false)
	f("*/*", "*/*", false)
}

func TestRouteMatchPath(t *testing.T) {
	f := func(pattern, scheme, path string, want bool) {
		t.Helper()
		r, err := ParseRoute(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.MatchPath(scheme, path); got != want {
			t.Errorf("%s on %s %s: %t, want %t", pattern, scheme, path, got, want)
		}
	}
	f("a.com/*", "http", "/", true)
	f("a.com/*", "http", "", true)
	f("a.com/api*", "http", "/apis", true)
	f("a.com/api/*", "http", "/api", false)
	f("a.com/api", "http", "/api/", false)
	f("a.com/api", "http", "/api", true)
	f("https://a.com/*", "http", "/", false)
	f("https://a.com/*", "https", "/", true)
}

func TestCompareRoutes(t *testing.T) {
	patterns := []string{"a.com/*", "a.com/api/v1/*", "a.com/api/", "https://a.com/api/*", "a.com/api/*"}
	want := "a.com/api/v1/* a.com/api/ https://a.com/api/* a.com/api/* a.com/*"
	slices.SortStableFunc(patterns, func(x, y string) int {
		a, _ := ParseRoute(x)
		b, _ := ParseRoute(y)
		return CompareRoutes(&a, &b)
	})
	if got := strings.Join(patterns, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An accepted pattern has a host that is lower case and free of wildcards, an
// absolute path, matches its own path, and is the same route in its one spelling.
func FuzzParseRoute(f *testing.F) {
	for _, seed := range []string{"shop.example.com/*", "*.example.com/*", "*/*", "https://a.b/c%20d", "a/%2a", "*a/", "a.b/é*", "HTTP://a/x", "a/b%3A//c", "a/%00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, pattern string) {
		r, err := ParseRoute(pattern)
		if err != nil {
			return
		}
		if strings.ContainsAny(r.Host, "*/:") || r.Host != strings.ToLower(r.Host) || !strings.HasPrefix(r.Path, "/") {
			t.Fatalf("%q parsed to %+v", pattern, r)
		}
		if r.Host == "" && !(r.Apex && r.Subdomains) {
			t.Fatalf("%q parsed to a route without a host: %+v", pattern, r)
		}
		if !r.MatchPath(r.Scheme, r.Path) {
			t.Fatalf("%q does not match its own path %q", pattern, r.Path)
		}
		if again, err := ParseRoute(r.String()); err != nil || again != r || again.String() != r.String() {
			t.Fatalf("%q is %+v, but as %q it is %+v, error %v", pattern, r, r.String(), again, err)
		}
	})
}
