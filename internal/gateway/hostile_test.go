package gateway_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
)

// hostileOrigin answers /hostile with the bytes of the case, and all else well.
func hostileOrigin(t *testing.T, scheme, raw string) string {
	t.Helper()
	raw, closes := strings.CutSuffix(raw, "CLOSE")
	l := loopback(t)
	if scheme == "https" {
		l = tls.NewListener(l, &tls.Config{Certificates: testCertificates()})
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					_, target, _, _, err := readStrict(r)
					if err != nil {
						return
					}
					if target != "/hostile" {
						_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
						continue
					}
					_, _ = io.WriteString(c, raw)
					if closes {
						return
					}
				}
			}()
		}
	}()
	return scheme + "://" + l.Addr().String()
}

// A client gets each response whole, cut so that it shows, or as a 502, and never a
// piece of one as the answer to its next request.
func TestHostileResponses(t *testing.T) {
	f := func(scheme string, c corpusCase) {
		t.Run(scheme+", "+c.name, func(t *testing.T) {
			e := start(t, snapshot(1, script([]string{hostileOrigin(t, scheme, c.raw)}, 100_000)), trusting)
			get := func(target string) string {
				t.Helper()
				conn, err := net.Dial("tcp", e.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				_, _ = io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: shop.dev.localhost\r\nConnection: close\r\n\r\n")
				return readRelayed(t, bufio.NewReader(conn))
			}
			if got := get("/hostile"); got != c.want[0] {
				t.Errorf("got %s, want %s", got, c.want[0])
			}
			for range 3 {
				if got := get("/next"); got != `200 "next"` {
					t.Errorf("the next request got %s", got)
				}
			}
			waitFor(t, "four events", func() bool { return len(e.events.all()) == 4 })
		})
	}
	for _, c := range corpus(t, "testdata/responses.txt") {
		f("http", c)
		if c.name != "an endless row of hints" { // each is bounded there, and the time for all
			f("https", c)
		}
	}
}

// trusting has the gateway believe any origin's certificate.
func trusting(_ *gateway.Config, _ *gateway.Deps, c *runtime.Config) {
	c.TLS = &tls.Config{InsecureSkipVerify: true} // the names are made up
}

// readRelayed reads one response and the end of the connection. It tells the body of
// what the gateway answers by itself as "".
func readRelayed(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	for err == nil && resp.StatusCode < 200 {
		resp, err = http.ReadResponse(r, nil)
	}
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		if strings.ContainsAny(strings.Join(values, ""), "\x00\r\n") {
			return "a header that is none: " + name
		}
	}
	if resp.StatusCode == http.StatusBadGateway {
		return "502"
	}
	body, err := io.ReadAll(resp.Body)
	got := fmt.Sprintf("%d %q", resp.StatusCode, body)
	if err != nil {
		return got + " cut"
	}
	names := make([]string, 0, len(resp.Trailer))
	for name := range resp.Trailer {
		names = append(names, name)
	}
	slices.Sort(names)
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		return fmt.Sprintf("%s and then %q", got, rest)
	}
	return strings.TrimSpace(got + " " + strings.Join(names, " "))
}
