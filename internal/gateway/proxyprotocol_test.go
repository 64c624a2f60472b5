package gateway_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tidegate/internal/gateway"
	"tidegate/internal/gateway/listen"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// proxyV2 is a header of version 2 with the given command and family, and what
// follows its length.
func proxyV2(command, family byte, rest []byte) string {
	h := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20|command, family)
	return string(append(binary.BigEndian.AppendUint16(h, uint16(len(rest))), rest...))
}

// The address in front of a connection goes where the connection's own would, and
// is believed of trusted proxies only.
func TestProxyProtocol(t *testing.T) {
	seen := make(chan http.Header, 1)
	o := origin(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })
	v4 := []byte{203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x67, 0, 80}
	v6 := append(netip.MustParseAddr("2001:db8::9").AsSlice(), append(netip.IPv6Loopback().AsSlice(), 0x12, 0x67, 0, 80)...)
	tlv := append(append([]byte{}, v4...), 0x04, 0, 3, 1, 2, 3) // a no-op
	for _, overTLS := range []bool{false, true} {
		serve := func(trusted ...netip.Prefix) (*env, string) {
			e := start(t, snapshot(1, script([]string{o}, 100_000)), func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) { c.TrustedProxies = trusted })
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l, err := listen.ProxyProtocol(inner, trusted)
			if err != nil {
				t.Fatal(err)
			}
			if overTLS {
				l = tls.NewListener(l, &tls.Config{Certificates: testCertificates()})
			}
			serveOn(t, e, l)
			return e, inner.Addr().String()
		}
		// request sends a header and a request, and returns the response's status, or
		// 0 if there was none.
		request := func(t *testing.T, addr, header string, more ...string) int {
			t.Helper()
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.WriteString(c, header)
			if overTLS {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // the names are made up
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.dev.localhost\r\n"+strings.Join(more, "")+"\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return 0
			}
			_ = resp.Body.Close()
			return resp.StatusCode
		}
		trusted, addr := serve(netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"))
		events := 0
		f := func(name, header, ip, forward string, more ...string) {
			t.Run(name, func(t *testing.T) {
				if got := request(t, addr, header, more...); got != http.StatusOK {
					t.Fatalf("got %d", got)
				}
				h := <-seen
				if h.Get("Cf-Connecting-Ip") != ip || h.Get("X-Forwarded-For") != forward {
					t.Errorf("the origin saw %q, %q, want %q, %q", h.Get("Cf-Connecting-Ip"), h.Get("X-Forwarded-For"), ip, forward)
				}
				events++
				wantEvent(t, trusted.events.nth(events), schema.OutcomeOK, "", 200)
			})
		}
		f("version 1", "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n", "203.0.113.9", "203.0.113.9")
		f("version 1, IPv6", "PROXY TCP6 2001:db8::9 ::1 4711 80\r\n", "2001:db8::9", "2001:db8::9")
		f("version 2", proxyV2(1, 0x11, v4), "203.0.113.9", "203.0.113.9")
		f("version 2, IPv6", proxyV2(1, 0x21, v6), "2001:db8::9", "2001:db8::9")
		f("version 2 with more", proxyV2(1, 0x11, tlv), "203.0.113.9", "203.0.113.9")
		f("the proxy's own", proxyV2(0, 0, nil), "127.0.0.1", "127.0.0.1")
		// Of a connection whose client it does not know, a balancer tells nothing: it is the
		// balancer's own, as if there were no header, whatever follows the word.
		f("unknown", "PROXY UNKNOWN\r\n", "127.0.0.1", "127.0.0.1")
		f("unknown, with addresses", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "127.0.0.1", "127.0.0.1")
		f("unknown, with a client's address", "PROXY UNKNOWN 203.0.113.9 127.0.0.1 4711 80\r\n", "127.0.0.1", "127.0.0.1")
		f("unknown, behind a proxy", "PROXY UNKNOWN\r\n", "198.51.100.1", "198.51.100.1, 127.0.0.1", "X-Forwarded-For: 198.51.100.1\r\n")
		f("the proxy's own, with addresses", proxyV2(0, 0x11, v4), "127.0.0.1", "127.0.0.1")
		// The client's words are believed no more than they would be without the proxy between.
		f("a client that claims", "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n", "203.0.113.9", "203.0.113.9", "X-Forwarded-For: 6.6.6.6\r\n", "Forwarded: for=6.6.6.7\r\n")
		f("a proxy behind it", "PROXY TCP4 10.0.0.5 127.0.0.1 4711 80\r\n", "198.51.100.1", "198.51.100.1, 10.0.0.5", "X-Forwarded-For: 198.51.100.1\r\n")

		for name, header := range map[string]string{
			"none": "", "another protocol": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not an address": "PROXY TCP4 shop 127.0.0.1 4711 80\r\n",
			"too long": "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", "version 3": "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c" + string(v4),
			"short": proxyV2(1, 0x11, v4[:8]), "a Unix socket": proxyV2(1, 0x31, make([]byte, 216)), "UDP": proxyV2(1, 0x12, v4),
			"version 2 of an unknown client": proxyV2(1, 0, nil), "the same, with addresses": proxyV2(1, 0, v4),
		} {
			if got := request(t, addr, header); got != 0 && got != http.StatusBadRequest {
				t.Errorf("%s: got %d", name, got)
			}
		}
		if n := len(trusted.events.all()); n != events {
			t.Errorf("%d events of %d requests", n, events)
		}

		// Nobody else is asked for a header, or believed one.
		other, addr := serve(netip.MustParsePrefix("10.0.0.0/8"))
		if got := request(t, addr, "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n"); got == http.StatusOK {
			t.Errorf("a header from anybody got %d", got)
		}
		if got := request(t, addr, ""); got != http.StatusOK {
			t.Errorf("anybody's request got %d", got)
		}
		if h := <-seen; h.Get("Cf-Connecting-Ip") != "127.0.0.1" {
			t.Errorf("the origin saw %q", h.Get("Cf-Connecting-Ip"))
		}
		other.events.nth(1)
	}
}
