package lean

import (
	"bufio"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// read gives bytes to the parser as they would come, split at a place, and makes the
// request of them.
func read(raw string, split int) (*http.Request, reason, bool) {
	c := &conn{server: &Server{}, base: new(http.Request), work: works.New().(*work)}
	w := c.work
	w.in, w.head = append([]byte(nil), raw...), head{}
	for _, n := range []int{split, len(raw)} {
		w.w = n
		done, why := w.head.advance(w.in[:n])
		if done && !c.prepare() {
			why = reasonLine
		}
		if done && why == reasonNone {
			return c.http(), why, true
		}
		if why != reasonNone {
			return nil, why, false
		}
	}
	return nil, reasonNone, false
}

func TestAccepted(t *testing.T) {
	f := func(raw string) {
		t.Helper()
		for split := range len(raw) + 1 {
			got, why, ok := read(raw, split)
			if !ok {
				t.Fatalf("%q, split at %d: refused as %s", raw, split, reasonNames[why])
			}
			sameAsNetHTTP(t, raw, got)
		}
	}
	f("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	f("GET /a/b.c?d=e&f HTTP/1.1\r\nHost: shop.dev.localhost:8080\r\nAccept: */*\r\naccept-language:en\r\nX-A: 1\r\nX-A: 2\r\nX-B: \t one two\t \r\n\r\n")
	f("DELETE //a/../b;c?%41%zz? HTTP/1.1\r\nhost: [::1]:80\r\nConnection: Close\r\n\r\n")
	f("HEAD /%41%2f'(a)! HTTP/1.1\r\nHOST: a_b\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\nTE: trailers\r\n\r\n")
	f("POST /? HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nPragma: no-cache\r\n\r\nabcGET")
	f("PUT /a HTTP/1.1\r\nContent-Length: 0\r\nHost: a\r\nPragma: no-cache\r\nCache-Control: max-age=0\r\n\r\n")
	f("OPTIONS /a HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n") // other names
}

// Whatever another reader could take for something else goes to net/http, and as soon
// as that would answer.
func TestNotAccepted(t *testing.T) {
	const host = "Host: a\r\n"
	f := func(want reason, raw string) {
		t.Helper()
		for split := range len(raw) + 1 {
			if _, why, ok := read(raw, split); ok || why != want {
				t.Fatalf("%q, split at %d: accepted %t, reason %q", raw, split, ok, reasonNames[why])
			}
		}
	}
	for _, line := range []string{
		"\r\n", "\n", " ", "get / HTTP/1.1\r\n", "\x16\x03\x01", "\x00", "GET /\r\n", "GET / HTTP/1.0\r\n", "GET / http/1.1\r\n", "GET / HTTP/1.1 \r\n", "GET / HTTP/1.10\r\n",
		"GET  / HTTP/1.1\r\n", "GET /  HTTP/1.1\r\n", "GET\t/ HTTP/1.1\r\n", "GET /a b HTTP/1.1\r\n", "GET * HTTP/1.1\r\n", "GET http://a/ HTTP/1.1\r\n", "GET a HTTP/1.1\r\n",
		"GET /#a HTTP/1.1\r\n", "GET /\x80 HTTP/1.1\r\n", "GET /\x00 HTTP/1.1\r\n", "GET /\\a HTTP/1.1\r\n", "GET /\"a HTTP/1.1\r\n", "CONNECT /a HTTP/1.1\r\n", "CONNECT a:80 HTTP/1.1\r\n",
		"G-T / HTTP/1.1\r\n", "GET / HTTP/1.1\rHTTP/1.1\r\n", "GET HTTP/1.1\r\n", "\r\nGET / HTTP/1.1\r\n",
	} {
		f(reasonLine, line)
	}
	f(reasonLine, "GET /%zz HTTP/1.1\r\n"+host+"\r\n")
	f(reasonField, "GET / HTTP/1.1\n")
	f(reasonHTTP2, "PRI * HTTP/2.0\r\n")
	for _, field := range []string{
		"A : 1\r\n", " A: 1\r\n", "\tA: 1\r\n", "A\r\n", ": 1\r\n", "A: 1\n", "A: 1\rB: 2\r\n", "A: \x00\r\n", "A: \x7f\r\n", "A: \xe4\r\n", "A:\r\n", "A: \t\r\n", "A\x00: 1\r\n", "(A): 1\r\n",
		"Host: b\r\n", "host: a\r\n", "A: 1\r\r\n",
	} {
		f(reasonField, "GET / HTTP/1.1\r\n"+host+field)
		f(reasonField, "GET / HTTP/1.1\r\n"+host+"X: 1\r\n"+field)
	}
	f(reasonField, "GET / HTTP/1.1\r\n\r\n")
	f(reasonField, "GET / HTTP/1.1\r\nX: 1\r\n\r\n")
	for _, bad := range []string{"a/b", "a b", "a,b", "a@b", "a?b", "a#b", "%41"} {
		f(reasonField, "GET / HTTP/1.1\r\nHost: "+bad+"\r\n")
	}
	for _, field := range []string{
		"Transfer-Encoding: chunked", "transfer-ENCODING: x", "Expect: 100-continue", "Trailer: X", "Content-Length: +1", "Content-Length: -1", "Content-Length: 01", "Content-Length: 00",
		"Content-Length: 1, 1", "Content-Length: 0x1", "Content-Length: 1 1", "Content-Length: 1\r\ncontent-length: 1", "Content-Length: 1\r\nContent-Length: 2", "Content-Length: 1111111111111111111", "Content-Length: a",
	} {
		f(reasonFraming, "GET / HTTP/1.1\r\n"+host+field+"\r\n")
	}
	for _, field := range []string{
		"Upgrade: websocket", "Connection: Upgrade", "Connection: close, x", "Connection: keep-alive, close", "Connection: close\r\nConnection: close", "Connection: Host", "HTTP2-Settings: AAMAAABk",
	} {
		f(reasonUpgrade, "GET / HTTP/1.1\r\n"+host+field+"\r\n")
	}
}

func sameAsNetHTTP(t *testing.T, raw string, got *http.Request) {
	t.Helper()
	want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatalf("%q: net/http refuses it: %v", raw, err)
	}
	if len(want.Header["Host"]) > 1 || len(want.TransferEncoding) > 0 || want.Trailer != nil {
		t.Fatalf("%q: net/http reads %v", raw, want)
	}
	want.Header.Del("Host") // as its server does
	if got.Method != want.Method || got.RequestURI != want.RequestURI || got.Host != want.Host || got.Proto != want.Proto || got.ProtoMajor != 1 || got.ProtoMinor != 1 ||
		got.Close != want.Close || got.ContentLength != want.ContentLength || !reflect.DeepEqual(got.URL, want.URL) || !reflect.DeepEqual(got.Header, want.Header) ||
		(got.Body == http.NoBody) != (want.Body == http.NoBody) {
		t.Fatalf("%q: read as %+v, by net/http as %+v", raw, got, want)
	}
}

// What is accepted at all net/http accepts, and reads as the same request of the same length.
func FuzzHead(f *testing.F) {
	f.Add("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 3)
	f.Add("POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nConnection: close\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello", 40)
	f.Add("GET /%41 HTTP/1.1\r\nHost: [::1]\r\nPragma: no-cache\r\nA: b\r\n c\r\n\r\n", 50)
	f.Fuzz(func(t *testing.T, raw string, split int) {
		got, _, ok := read(raw, min(max(split, 0), len(raw)))
		if !ok {
			return
		}
		sameAsNetHTTP(t, raw, got)
		r := bufio.NewReaderSize(strings.NewReader(raw), len(raw)+16)
		if _, err := http.ReadRequest(r); err != nil {
			t.Fatal(err)
		}
		if end := strings.Index(raw, "\r\n\r\n") + 4; len(raw)-r.Buffered() != end {
			t.Fatalf("%q: the header ends at %d, for net/http at %d", raw, end, len(raw)-r.Buffered())
		}
	})
}
