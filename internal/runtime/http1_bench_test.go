package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// byteOrigin answers each request with the same bytes. It looks for the end of a
// request by its length only, and allocates nothing, so that what a benchmark or a
// test counts is the client's.
func byteOrigin(tb testing.TB, requestBytes int, response []byte) (addr string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				in := make([]byte, 64<<10)
				for n := 0; ; {
					k, err := c.Read(in)
					if err != nil {
						return
					}
					for n += k; n >= requestBytes; n -= requestBytes {
						if _, err := c.Write(response); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// benchExchange is one kind of request and response.
type benchExchange struct {
	name     string
	method   string
	body     []byte
	response []byte
	atHand   bool // the body says that it can be read without waiting
	allocs   float64
}

// heldBody is a body that is there already, and says so if held is set.
type heldBody struct {
	bytes.Reader
	held bool
}

func (b *heldBody) Close() error { return nil }

func (b *heldBody) Buffered() int {
	if b.held {
		return b.Len()
	}
	return 0
}

// apiHeader is what a service behind frameworks of our day answers with.
const apiHeader = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 26 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n" +
	"Cache-Control: no-store\r\nVary: Accept-Encoding\r\nX-Request-Id: 0123456789abcdef\r\n"

func benchExchanges() []benchExchange {
	small, page, large := strings.Repeat("s", 256), strings.Repeat("p", 6<<10), strings.Repeat("l", 1<<20)
	fixed := func(body string) []byte {
		return fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n%s", apiHeader, len(body), body)
	}
	chunked := func(body string, piece int) []byte {
		b := []byte(apiHeader + "Transfer-Encoding: chunked\r\n\r\n")
		for ; len(body) > 0; body = body[min(piece, len(body)):] {
			b = fmt.Appendf(b, "%x\r\n%s\r\n", min(piece, len(body)), body[:min(piece, len(body))])
		}
		return append(b, "0\r\n\r\n"...)
	}
	// A response, its header's text, and two for the map; of a reader of chunks one more.
	// An upload has a goroutine, its closure, and what the two share.
	return []benchExchange{
		{"get", http.MethodGet, nil, fixed(small), false, 4},
		{"get chunked", http.MethodGet, nil, chunked(small, 256), false, 5},
		{"get 304", http.MethodGet, nil, []byte(strings.Replace(apiHeader, "200 OK", "304 Not Modified", 1) + "\r\n"), false, 4},
		{"post", http.MethodPost, []byte(small), fixed(small), false, 7},
		{"post at hand", http.MethodPost, []byte(small), fixed(small), true, 4},
		{"get 6 kB", http.MethodGet, nil, fixed(page), false, 4},
		{"get 1 MB", http.MethodGet, nil, fixed(large), false, 4},
		{"get 1 MB chunked", http.MethodGet, nil, chunked(large, 16<<10), false, 5},
		{"post 1 MB", http.MethodPost, []byte(large), fixed(small), false, 7},
	}
}

// apiRequest is what the gateway sends for a browser's call of an API.
func apiRequest(ctx context.Context, method string) *http.Request {
	req := httptest.NewRequestWithContext(ctx, method, "/api/items/12345?view=full", nil)
	req.Host = "shop.example.com"
	for name, value := range map[string]string{
		"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0", "Accept": "application/json",
		"Accept-Encoding": "gzip, deflate, br", "Accept-Language": "en", "Referer": "http://shop.example.com/items?page=2",
		"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example.com",
		"Cf-Connecting-Ip": "192.0.2.1", "Cf-Ray": "0123456789abcdef", "Cdn-Loop": "example.com",
	} {
		req.Header[name] = []string{value}
	}
	return req
}

// repeatExchange returns a function that has x once more on one connection.
func repeatExchange(tb testing.TB, x *benchExchange) (once func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	tb.Cleanup(cancel)
	req, body := apiRequest(ctx, x.method), &heldBody{held: x.atHand}
	if x.body != nil {
		req.Body, req.ContentLength = body, int64(len(x.body))
	}
	head, err := appendHead(nil, req, &http1{})
	if err != nil {
		tb.Fatal(err)
	}
	t := newHTTP1(DefaultConfig(), &url.URL{Scheme: "http", Host: byteOrigin(tb, len(head)+len(x.body), x.response)})
	tb.Cleanup(t.close)
	buf := make([]byte, copyBufferBytes)
	return func() {
		body.Reset(x.body)
		resp, err := t.RoundTrip(req)
		if err != nil {
			tb.Fatal(err)
		}
		for err == nil {
			_, err = resp.Body.Read(buf)
		}
		if err != io.EOF { //nolint:errorlint // by itself, as io.Reader has it
			tb.Fatal(err)
		}
		_ = resp.Body.Close()
	}
}

// BenchmarkHTTP1 is one request after the other on one connection; the origin's part
// is in the time, but not in the allocations.
func BenchmarkHTTP1(b *testing.B) {
	for _, x := range benchExchanges() {
		b.Run(x.name, func(b *testing.B) {
			once := repeatExchange(b, &x)
			b.ReportAllocs()
			b.SetBytes(int64(len(x.body) + len(x.response)))
			for b.Loop() {
				once()
			}
		})
	}
}

// What is allocated for a request is the caller's to keep; whatever else came back
// would come back for each of some ten thousand a second.
func TestAllocationsOfARequest(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates by itself")
	}
	for _, x := range benchExchanges() {
		once := repeatExchange(t, &x)
		once() // dials
		got := testing.AllocsPerRun(100, once)
		for tries := 1; got > x.allocs && tries < 10; tries++ { // an exchange that takes long, on a busy machine, is watched, which allocates
			got = min(got, testing.AllocsPerRun(100, once))
		}
		if got > x.allocs {
			t.Errorf("%s: %v allocations, want %v", x.name, got, x.allocs)
		}
	}
}
