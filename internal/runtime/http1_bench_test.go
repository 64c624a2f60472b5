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

// exchange is one kind of request and response of a benchmark.
type benchExchange struct {
	name     string
	method   string
	body     []byte
	response []byte
}

// apiHeader is what a service behind frameworks of our day answers with.
const apiHeader = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 26 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n" +
	"Cache-Control: no-store\r\nVary: Accept-Encoding\r\nX-Request-Id: 0123456789abcdef\r\n"

func benchExchanges() []benchExchange {
	small, large := strings.Repeat("s", 256), strings.Repeat("l", 1<<20)
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
	return []benchExchange{
		{"get", http.MethodGet, nil, fixed(small)},
		{"get chunked", http.MethodGet, nil, chunked(small, 256)},
		{"get 304", http.MethodGet, nil, []byte(strings.Replace(apiHeader, "200 OK", "304 Not Modified", 1) + "\r\n")},
		{"post", http.MethodPost, []byte(small), fixed(small)},
		{"get 1 MB", http.MethodGet, nil, fixed(large)},
		{"get 1 MB chunked", http.MethodGet, nil, chunked(large, 16<<10)},
		{"post 1 MB", http.MethodPost, []byte(large), fixed(small)},
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

// sentBytes returns the length of req as it is sent.
func sentBytes(tb testing.TB, req *http.Request) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	length := make(chan int, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 64<<10)
		n, _ := c.Read(b)
		length <- bytes.Index(b[:n], []byte("\r\n\r\n")) + 4
	}()
	t := newHTTP1(DefaultConfig(), &url.URL{Scheme: "http", Host: l.Addr().String()})
	defer t.close()
	if resp, err := t.RoundTrip(req); err == nil { // which ends without an answer
		_ = resp.Body.Close()
	}
	return <-length
}

// BenchmarkHTTP1 is one request after the other on one connection; the origin's part
// is in the time, but not in the allocations.
func BenchmarkHTTP1(b *testing.B) {
	for _, x := range benchExchanges() {
		b.Run(x.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			req := apiRequest(ctx, x.method)
			body := bytes.NewReader(x.body)
			if x.body != nil {
				req.Body, req.ContentLength = io.NopCloser(body), int64(len(x.body))
			}
			head := sentBytes(b, req)
			t := newHTTP1(DefaultConfig(), &url.URL{Scheme: "http", Host: byteOrigin(b, head+len(x.body), x.response)})
			b.Cleanup(t.close)
			buf := make([]byte, 32<<10)
			b.ReportAllocs()
			b.SetBytes(int64(len(x.body) + len(x.response)))
			for b.Loop() {
				body.Reset(x.body)
				resp, err := t.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = resp.Body.Read(buf)
				}
				if err != io.EOF {
					b.Fatal(err)
				}
				_ = resp.Body.Close()
			}
		})
	}
}
