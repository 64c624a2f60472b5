package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseForwarded(t *testing.T) {
	f := func(line string, want ...hop) {
		t.Helper()
		got, ok := parseForwarded(line)
		if !ok {
			t.Errorf("%q was refused", line)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(hop{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
	// The examples of RFC 7239, section 4.
	f(`for="_gazonk"`, hop{node: "_gazonk"})
	f(`For="[2001:db8:cafe::17]:4711"`, hop{node: "[2001:db8:cafe::17]:4711"})
	f(`for=192.0.2.60;proto=http;by=203.0.113.43`, hop{node: "192.0.2.60", proto: "http", by: "203.0.113.43"})
	f(`for=192.0.2.43, for=198.51.100.17`, hop{node: "192.0.2.43"}, hop{node: "198.51.100.17"})
	f(`for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown`, hop{node: "192.0.2.43"}, hop{node: "[2001:db8:cafe::17]"}, hop{node: "unknown"})
	// What else the grammar allows.
	f("")
	f(` , ;, for=a ; host="a,b;c" ;, `, hop{node: "a", host: "a,b;c"})
	f(`for="a\"b\\c";x-more=1`, hop{node: `a"b\c`})
	f(`for=192.0.2.60:4711`, hop{node: "192.0.2.60:4711"}) // no token, but sent by many
}

func TestParseForwardedRefuses(t *testing.T) {
	f := func(line string) {
		t.Helper()
		if got, ok := parseForwarded(line); ok {
			t.Errorf("%q was read as %+v", line, got)
		}
	}
	f(`for`)
	f(`for=`)
	f(`for=""`)
	f(`=1.2.3.4`)
	f(`for =1.2.3.4`)
	f(`for=1.2.3.4 for=1.2.3.5`)
	f(`for=1.2.3.4;for=1.2.3.5`)
	f(`for="1.2.3.4`)
	f(`for="1.2.3.4\`)
	f(`for="1.2.3.4"x`)
	f(`for=1"2`)
	f(strings.Repeat("for=1.2.3.4,", maxHops+1))
}

// Whom a request with these fields is believed to come from, over 127.0.0.1.
func TestForwardedFromTrustedProxies(t *testing.T) {
	g := &Gateway{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/8")}}}
	f := func(want client, fields ...string) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://own.example/", nil)
		r.RemoteAddr, want.vouched = "127.0.0.1:4711", true
		for i := 0; i < len(fields); i += 2 {
			r.Header.Add(fields[i], fields[i+1])
		}
		if diff := cmp.Diff(want, g.clientOf(r), cmp.AllowUnexported(client{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", fields, diff)
		}
	}
	const fwd = "Forwarded"
	f(client{ip: "9.9.9.9", forward: "9.9.9.9, 127.0.0.1", scheme: "https", host: "shop.example"}, fwd, `for=9.9.9.9;proto=https;host=shop.example`)
	// Left of the first that is not trusted is the client's invention, its scheme and host included.
	f(client{ip: "9.9.9.9", forward: "9.9.9.9, 10.0.0.7, 127.0.0.1", scheme: "https", host: "own.example"},
		fwd, `for=6.6.6.6;proto=http;host=evil.example`, fwd, `for=9.9.9.9;proto=HTTPS, for="10.0.0.7:80";proto=http`)
	f(client{ip: "2001:db8::1", forward: "2001:db8::1, fd00::1, 127.0.0.1", scheme: "http", host: "own.example"}, fwd, `for="[2001:db8::1]:4711", for="[fd00::1]"`)
	// Nodes without an address end the walk; the proxy before them is all that is known.
	f(client{ip: "10.0.0.7", forward: "10.0.0.7, 127.0.0.1", scheme: "https", host: "own.example"}, fwd, `for=1.1.1.1, for=_hidden;proto=https, for=10.0.0.7`)
	f(client{ip: "127.0.0.1", forward: "127.0.0.1", scheme: "http", host: "own.example"}, fwd, `for=unknown;proto=gopher;host="a b"`)
	// A line that the client has spoilt hides its address, and makes up no other.
	f(client{ip: "127.0.0.1", forward: "127.0.0.1", scheme: "http", host: "own.example"}, fwd, `for="1.1.1.1, for=9.9.9.9;proto=https`)
	f(client{ip: "9.9.9.9", forward: "9.9.9.9, 127.0.0.1", scheme: "http", host: "own.example"}, fwd, `for="1.1.1.1`, fwd, `for=9.9.9.9`)
	// The story: a balancer that writes ports was taken for the client of all its requests.
	const list = "X-Forwarded-For"
	f(client{ip: "9.9.9.9", forward: "9.9.9.9:4711, 127.0.0.1", scheme: "http", host: "own.example"}, list, "9.9.9.9:4711")
	f(client{ip: "9.9.9.9", forward: "6.6.6.6, 9.9.9.9:4711, 10.0.0.7:80, 127.0.0.1", scheme: "http", host: "own.example"}, list, "6.6.6.6, 9.9.9.9:4711, 10.0.0.7:80")
	f(client{ip: "2001:db8::1", forward: "[2001:DB8::1]:4711, 127.0.0.1", scheme: "http", host: "own.example"}, list, "[2001:DB8::1]:4711")
	f(client{ip: "127.0.0.1", forward: "1.1.1.1, unknown, 127.0.0.1", scheme: "http", host: "own.example"}, list, "1.1.1.1, unknown")
	// Two spellings of an address are one client.
	f(client{ip: "9.9.9.9", forward: "::ffff:9.9.9.9, 127.0.0.1", scheme: "http", host: "own.example"}, list, "::ffff:9.9.9.9")
	f(client{ip: "9.9.9.9", forward: "9.9.9.9, 127.0.0.1", scheme: "http", host: "own.example"}, fwd, `for="[::ffff:9.9.9.9]:4711"`)
	f(client{ip: "2001:db8::1", forward: "2001:DB8:0::1, 127.0.0.1", scheme: "http", host: "own.example"}, list, "2001:DB8:0::1")
	// X-Forwarded-* goes first, and keeps Forwarded from being read.
	f(client{ip: "8.8.8.8", forward: "8.8.8.8, 127.0.0.1", scheme: "http", host: "own.example"}, fwd, `for=9.9.9.9;proto=https;host=evil.example`, "X-Forwarded-For", "8.8.8.8")
	f(client{ip: "127.0.0.1", forward: "127.0.0.1", scheme: "https", host: "own.example"}, fwd, `for=9.9.9.9;host=evil.example`, "X-Forwarded-Proto", "https")
}

// A balancer on the same link has an address with a zone, by which it was not known as one.
func TestTrustedProxyOnTheLink(t *testing.T) {
	g := &Gateway{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("fe80::/10")}}}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://own.example/", nil)
	r.RemoteAddr = "[fe80::1%eth0]:4711"
	r.Header.Set("X-Forwarded-For", "9.9.9.9")
	if c := g.clientOf(r); !c.vouched || c.ip != "9.9.9.9" {
		t.Errorf("the client is %+v", c)
	}
}

// Whatever is sent, the address is the peer's or one that is written in the header and that
// only trusted proxies stand behind, the scheme is one of two, the host can stand in a header,
// and X-Forwarded-* keeps Forwarded from being read. Nothing is believed of a peer that is not trusted.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{
		`for=192.0.2.60;proto=http;by=203.0.113.43`, `for="[2001:db8:cafe::17]:4711";host="a.example"`, `for=10.0.0.1, for="_x\"y`, `,;=", for=::1`, `for="[fe80::1%25eth0]"`,
	} {
		f.Add(seed, "for=10.0.0.9", "", "", "", true)
	}
	f.Add(`for=1.1.1.1;host=evil.example`, "", "6.6.6.6, 9.9.9.9:4711,10.0.0.7:80", "HTTPS, http", "a.example, b.example", true)
	f.Add("", "", "[2001:DB8::1]:1, ::ffff:10.0.0.9, unknown", "gopher", "a\tb", true)
	f.Add("for=1.1.1.1", "", "1.1.1.1", "https", "evil.example", false)
	g := &Gateway{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	f.Fuzz(func(t *testing.T, first, second, list, proto, host string, trusted bool) {
		peer := map[bool]string{true: "10.0.0.1", false: "192.0.2.1"}[trusted]
		r := &http.Request{RemoteAddr: peer + ":1", Host: "own.example", Header: http.Header{"Forwarded": {first, second}}}
		for name, value := range map[string]string{"X-Forwarded-For": list, "X-Forwarded-Proto": proto, "X-Forwarded-Host": host} {
			if value != "" {
				r.Header[name] = []string{value}
			}
		}
		c := g.clientOf(r)
		if !trusted {
			if want := (client{ip: peer, forward: peer, scheme: "http", host: "own.example"}); c != want {
				t.Errorf("%+v is believed", c)
			}
			return
		}
		if _, err := netip.ParseAddr(c.ip); err != nil {
			t.Errorf("the address is %q", c.ip)
		}
		if c.scheme != "http" && c.scheme != "https" {
			t.Errorf("the scheme is %q", c.scheme)
		}
		if len(r.Header) > 1 {
			r.Header.Del("Forwarded")
			if alone := g.clientOf(r); alone != c {
				t.Errorf("%+v with Forwarded beside X-Forwarded-*, and %+v without", c, alone)
			}
			wantOfList(t, g, c, list, peer)
			return
		}
		if strings.ContainsAny(c.host, "\r\n \"") || c.host == "" {
			t.Errorf("the host is %q", c.host)
		}
		addresses := strings.Split(c.forward, ", ")
		if len(addresses) > maxHops+1 || addresses[len(addresses)-1] != peer {
			t.Errorf("the list is %q", c.forward)
		}
		for i, address := range addresses {
			ip, err := netip.ParseAddr(address)
			if err != nil || i > 0 && !g.trusted(ip.String()) {
				t.Errorf("the list is %q", c.forward)
			}
		}
	})
}

// wantOfList looks for the client in an X-Forwarded-For, from the right.
func wantOfList(t *testing.T, g *Gateway, c client, list, peer string) {
	t.Helper()
	want := peer
	for entries := strings.Split(list, ","); len(entries) > 0; entries = entries[:len(entries)-1] {
		address, ok := nodeAddress(strings.TrimSpace(entries[len(entries)-1]))
		if !ok {
			break
		}
		want = address
		if !g.trusted(address) {
			break
		}
	}
	if c.ip != want || list != "" && c.forward != list+", "+peer {
		t.Errorf("of %q the client is %q, want %q; passed on is %q", list, c.ip, want, c.forward)
	}
}
