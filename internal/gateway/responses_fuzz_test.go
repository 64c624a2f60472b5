package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sayingOrigin answers each request with the same bytes and closes.
type sayingOrigin struct {
	mu  sync.Mutex
	raw []byte
}

func (o *sayingOrigin) say(raw []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.raw = raw
}

func (o *sayingOrigin) serve(c net.Conn, r *bufio.Reader) {
	if _, err := http.ReadRequest(r); err != nil {
		return
	}
	o.mu.Lock()
	raw := o.raw
	o.mu.Unlock()
	_, _ = c.Write(raw)
}

// ways are those that a response can take to a client of HTTP/1.1: lists from socket to socket,
// maps on the lean path, and net/http.
var ways = []struct {
	name, header string
	byNetHTTP    bool
}{{name: "lists"}, {name: "maps", header: "Te: trailers\r\n"}, {name: "net/http", byNetHTTP: true}}

// hear sends a request and tells what a client has of the answers to it, and its event.
func hear(t *testing.T, e *env, addr, method, header string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	before := len(e.events.all())
	_, _ = io.WriteString(c, method+" / HTTP/1.1\r\nHost: shop.dev.localhost\r\n"+header+"\r\n")
	var got strings.Builder
	for r := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(r, &http.Request{Method: method}) //nolint:bodyclose // it is read to its end
		if err != nil {
			fmt.Fprintln(&got, err)
			break
		}
		resp.Header.Del("Cf-Ray")
		resp.Header.Del("Date")
		body, err := io.ReadAll(resp.Body)
		if method == "GET" { // net/http measures short bodies
			resp.Header.Del("Content-Length")
		}
		if list := resp.Header["Trailer"]; list != nil {
			names := strings.Split(list[0], ", ")
			slices.Sort(names)
			resp.Header["Trailer"] = names
		}
		fmt.Fprintln(&got, resp.StatusCode, textproto.MIMEHeader(resp.Header), resp.Close, string(body), resp.Trailer, err)
		if resp.StatusCode >= 200 {
			if resp.Close || err != nil {
				rest, err := io.ReadAll(r)
				fmt.Fprintf(&got, "and then %q %v", rest, err)
			}
			break
		}
	}
	waitFor(t, "the event", func() bool { return len(e.events.all()) > before })
	ev := e.events.all()[before]
	_, response, _ := strings.Cut(string(ev.Event), `"Response"`)
	fmt.Fprintln(&got, "\nthe event:", ev.Outcome, ev.ErrorKind, response)
	return got.String()
}

// However an origin answers, the client has the same of it by each way, and the event tells the same.
func FuzzResponsesByEachWay(f *testing.F) {
	for _, c := range corpus(f, "testdata/responses.txt") {
		if len(c.raw) < 1<<12 {
			f.Add([]byte(strings.TrimSuffix(c.raw, "CLOSE")))
		}
	}
	for _, head := range []string{
		"200 OK\r\nContent-Length: 2\r\nConnection: close", "200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, x-a\r\nX-A: 1", "204 No\r\nDate: x",
		"304 No\r\nContent-Length: 2\r\nContent-Type: a", "200 OK\r\nPragma: no-cache\r\nContent-Length: 2", "205 R", "200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: a, b",
		"200 OK\r\nContent-Type: a\r\nContent-Type: b\r\nTrailer: x\r\nContent-Length: 2", "103 E\r\nLink: a\r\n\r\nHTTP/1.0 200 OK\r\nConnection: keep-alive",
		"200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2", "200 OK\r\nCf-Ray: a\r\nCf-Ray: b\r\ndate: a\r\nDate: b\r\nContent-Length: 0", "199 A\r\n\r\nHTTP/1.1 999 Z",
	} {
		for _, body := range []string{"", "hi", "2\r\nhi\r\n0\r\n\r\n", "2\r\nhi\r\n0\r\na: 1\r\nc: 2\r\n\r\n"} {
			f.Add([]byte("HTTP/1.1 " + head + "\r\n\r\n" + body))
		}
	}
	if byNetHTTP {
		f.Skip("covers both")
	}
	o := &sayingOrigin{}
	e := start(f, snapshot(1, script([]string{"http://" + rawOrigin(f, o.serve)}, 100_000)))
	addrs := map[bool]string{false: e.addr, true: withoutLean(f, e)}
	f.Fuzz(func(t *testing.T, raw []byte) {
		o.say(raw)
		for _, method := range []string{"GET", "HEAD"} {
			var first string
			for i, way := range ways {
				e.events.keep(10)
				got := hear(t, e, addrs[way.byNetHTTP], method, way.header)
				if i == 0 {
					first = got
				} else if got != first {
					t.Errorf("%s of %q:\nby lists\n%s\nby %s\n%s", method, raw, first, way.name, got)
				}
			}
		}
	})
}
