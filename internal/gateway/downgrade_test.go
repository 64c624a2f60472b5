package gateway_test

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// sendFrames sends one request as it is given, in HTTP/2, and returns its status, or
// how the stream or the connection ended.
func (e *env) sendFrames(t *testing.T, fields [][2]string, body string) string {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory
	}
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&out, c)
	_ = fr.WriteSettings() // these are into memory, too
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: body == ""})
	if body != "" {
		_ = fr.WriteData(1, true, []byte(body))
	}
	if _, err := c.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	decoder := hpack.NewDecoder(4096, nil)
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return "end"
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			header, err := decoder.DecodeFull(f.HeaderBlockFragment())
			if err != nil {
				t.Fatal(err)
			}
			return header[0].Value
		case *http2.RSTStreamFrame:
			return "reset"
		case *http2.GoAwayFrame:
			return "end"
		}
	}
}

// What HTTP/2 can carry and HTTP/1.1 cannot is refused before it is written out as the
// latter, where it could become a second request.
func TestDowngradeSmuggling(t *testing.T) {
	o, origin := newStrictOrigin(t)
	e := start(t, snapshot(1, script([]string{origin}, 100_000)))
	const inside = "GET /x HTTP/1.1\r\nHost: shop.dev.localhost\r\n\r\n"
	request := func(more ...[2]string) [][2]string {
		all := [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "shop.dev.localhost"}, {":path", "/a"}}
		for _, f := range more {
			if i := slices.IndexFunc(all[:4], func(p [2]string) bool { return p[0] == f[0] }); i >= 0 {
				all[i] = f
			} else {
				all = append(all, f)
			}
		}
		return all
	}
	f := func(name string, fields [][2]string, body string, forwarded ...string) {
		t.Run(name, func(t *testing.T) {
			got := e.sendFrames(t, fields, body)
			if ok := len(forwarded) > 0; (got == "200") != ok {
				t.Errorf("the answer is %q", got)
			}
			if seen := o.take(t, e.events); !slices.Equal(seen, forwarded) {
				t.Errorf("the origin saw %q, want %q", seen, forwarded)
			}
		})
	}
	f("plain", request(), "hi", `POST /a "hi"`)
	f("no body", request(), "", `POST /a ""`)
	f("a body that looks like a request", request(), "0\r\n\r\n"+inside, `POST /a "0\r\n\r\nGET /x HTTP/1.1\r\nHost: shop.dev.localhost\r\n\r\n"`)
	f("Content-Length", request([2]string{"content-length", "2"}), "hi", `POST /a "hi"`)
	f("Content-Length too short", request([2]string{"content-length", "1"}), "hi")
	f("Content-Length too long", request([2]string{"content-length", "3"}), "hi")
	f("Content-Length of nothing", request([2]string{"content-length", "3"}), "")
	f("Content-Length 0 of nothing", request([2]string{"content-length", "00"}), "", `POST /a ""`)
	f("Content-Length that is no number", request([2]string{"content-length", "2x"}), "hi")
	f("Content-Length with a sign", request([2]string{"content-length", "+2"}), "hi")
	f("Content-Length list", request([2]string{"content-length", "2, 2"}), "hi")
	f("Content-Length empty", request([2]string{"content-length", ""}), "hi")
	f("Content-Length overflow", request([2]string{"content-length", "18446744073709551618"}), "hi")
	f("Content-Length twice", append(request([2]string{"content-length", "2"}), [2]string{"content-length", "2"}), "hi", `POST /a "hi"`)
	f("two Content-Lengths", append(request([2]string{"content-length", "2"}), [2]string{"content-length", "3"}), "hi")
	f("two Content-Lengths of nothing", append(request([2]string{"content-length", "0"}), [2]string{"content-length", "2"}), "")
	f("Transfer-Encoding", request([2]string{"transfer-encoding", "chunked"}), "0\r\n\r\n"+inside)
	f("Connection", request([2]string{"connection", "content-length"}), "hi")
	f("a line break in a value", request([2]string{"x-a", "1\r\nTransfer-Encoding: chunked"}), "0\r\n\r\n"+inside)
	f("a line break in a name", request([2]string{"x-a: 1\r\ntransfer-encoding", "chunked"}), "0\r\n\r\n"+inside)
	f("a capital in a name", request([2]string{"X-A", "1"}), "hi")
	f("NUL in a value", request([2]string{"x-a", "1\x002"}), "hi")
	f("a line break in the path", request([2]string{":path", "/a HTTP/1.1\r\nX-A: 1"}), "hi")
	f("a blank in the path", request([2]string{":path", "/a HTTP/1.1 b"}), "hi")
	f("a path that is none", request([2]string{":path", "a"}), "hi")
	f("a line break in the method", request([2]string{":method", "GET / HTTP/1.1\r\nX:"}), "hi")
	f("a blank in the method", request([2]string{":method", "GET /x"}), "hi")
	f("a line break in the authority", request([2]string{":authority", "shop.dev.localhost\r\nX-A: 1"}), "hi")
	f("a path in the authority", request([2]string{":authority", "shop.dev.localhost/x"}), "hi")
	f("a fragment in the path", request([2]string{":path", "/a#b"}), "hi")
	f("no port in the authority", request([2]string{":authority", "shop.dev.localhost:x"}), "hi")
	f("another Host", request([2]string{"host", "other.dev.localhost"}), "hi")
	f("two paths", append([][2]string{{":path", "/b"}}, request()...), "hi")
	f("a pseudo-header after the others", append(request([2]string{"x-a", "1"}), [2]string{":path", "/b"}), "hi")
	f("CONNECT", [][2]string{{":method", "CONNECT"}, {":authority", "shop.dev.localhost"}}, "hi")
	f("a long header", request([2]string{"x-a", strings.Repeat("x", 15<<10)}), "hi", `POST /a "hi"`)
}
