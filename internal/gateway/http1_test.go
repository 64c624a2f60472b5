package gateway_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/schema"
)

// sendRaw writes bytes to a gateway and returns the status of each response until
// the connection ends.
func sendRaw(t *testing.T, addr string, overTLS bool, bytes string) (statuses []int) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if overTLS {
		secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // the names are made up
		c = secure
		if err := secure.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.WriteString(c, bytes) // the server may have refused it half-way
	for r := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		statuses = append(statuses, resp.StatusCode)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// Requests that two parsers could read in two ways are refused, and what follows
// them on the connection is not looked at.
func TestMalformedHTTP1(t *testing.T) {
	var reached atomic.Int64
	h := func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		_, _ = io.Copy(w, r.Body)
	}
	const host, smuggled = "Host: shop.dev.localhost\r\n", "GET /smuggled HTTP/1.1\r\nHost: shop.dev.localhost\r\n\r\n"
	for _, secure := range []bool{false, true} {
		e := start(t, snapshot(1, script([]string{origin(t, h)}, 100_000)))
		addr := e.addr
		if secure {
			addr = overTLS(t, e)
		}
		reached.Store(0)
		f := func(status int, head, body string) {
			t.Helper()
			if got := sendRaw(t, addr, secure, head+"\r\n"+body+smuggled); len(got) != 1 || got[0] != status {
				t.Errorf("%q got %v, want %d alone", head, got, status)
			}
		}
		f(400, "GET / HTTP/1.1\r\n", "")
		f(400, "GET / HTTP/1.1\r\n"+host+host, "")
		f(400, "GET / HTTP/1.1\r\nHost: shop dev\r\n", "")
		f(400, "GET / HTTP/1.1\r\nHost : shop.dev.localhost\r\n", "")
		f(400, "GET / HTTP/1.1\r\n"+host+"X y: 1\r\n", "")
		f(400, "GET / HTTP/1.1\r\n"+host+"X: a\x00b\r\n", "")
		f(400, "GET / HTTP/1.1\r\n"+host+"no colon\r\n", "")
		f(400, "GE(T / HTTP/1.1\r\n"+host, "")
		f(400, "GET /a b HTTP/1.1\r\n"+host, "")
		f(505, "GET / HTTP/2.0\r\n"+host, "")
		f(400, "POST / HTTP/1.1\r\n"+host+"Content-Length: 3\r\nContent-Length: 4\r\n", "abcd")
		f(400, "POST / HTTP/1.1\r\n"+host+"Content-Length: +3\r\n", "abc")
		f(400, "POST / HTTP/1.1\r\n"+host+"Content-Length: -3\r\n", "abc")
		f(400, "POST / HTTP/1.1\r\n"+host+"Content-Length: 3, 4\r\n", "abc")
		f(501, "POST / HTTP/1.1\r\n"+host+"Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")
		f(501, "POST / HTTP/1.1\r\n"+host+"Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")
		f(501, "POST / HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")
		f(431, "GET / HTTP/1.1\r\n"+host+"X: "+strings.Repeat("x", 140<<10)+"\r\n", "")
		f(501, "CONNECT shop.dev.localhost:443 HTTP/1.1\r\n"+host+"Connection: close\r\n", "")
		if n, events := reached.Load(), len(e.events.all()); n != 0 || events != 0 {
			t.Errorf("%d requests reached the origin, with %d events", n, events)
		}

		// Of a body that breaks its own framing nothing is taken for a request, and
		// its request ends as one whose client has left.
		for i, body := range []string{"zz\r\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n", "3;" + strings.Repeat("x", 64<<10) + "\r\nabc\r\n0\r\n\r\n"} {
			got := sendRaw(t, addr, secure, "POST / HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n"+body+smuggled)
			if len(got) > 1 || len(got) == 1 && got[0] == http.StatusOK {
				t.Errorf("the chunks %.20q got %v", body, got)
			}
			if ev := e.events.nth(i + 1); ev.Outcome != schema.OutcomeCanceled {
				t.Errorf("the chunks %.20q have the outcome %q", body, ev.Outcome)
			}
		}

		// Good ones, one after the other.
		before := len(e.events.all())
		if got := sendRaw(t, addr, secure, "POST / HTTP/1.1\r\n"+host+"Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n"+host+"Connection: close\r\n\r\n"); len(got) != 2 || got[0] != 200 || got[1] != 200 {
			t.Errorf("two requests got %v", got)
		}
		e.events.nth(before + 2)
	}
}
