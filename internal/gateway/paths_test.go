package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/gateway"
	"tidegate/internal/gateway/lean"
	"tidegate/internal/runtime"
)

// HTTP/1.1 has two paths, the lean one and net/http, and one contract. The whole suite runs
// once over each: directly, where the lean path takes what it can, and here without it.
// Tests of package gateway itself are left out here: they serve nobody, by no path, and
// would do the same work again.
func TestSuiteByNetHTTP(t *testing.T) {
	if byNetHTTP {
		t.Skip("this is the run that the test starts")
	}
	if testing.Short() {
		t.Skip("takes as long as all other tests")
	}
	skip := "-test.skip=^(" + strings.Join(inside(t), "|") + ")$"
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v=test2json", "-test.short", "-test.timeout=10m", skip)
	cmd.Env = append(os.Environ(), "TIDEGATE_TEST_BY_NET_HTTP=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, unpassed(string(out)))
	}
	if passed := strings.Count(string(out), "--- PASS: Test"); passed < 50 {
		t.Errorf("%d tests have run without the lean path:\n%s", passed, out)
	}
}

// unpassed leaves out of the output of a verbose run what is about tests that passed, so
// that a log that keeps only the end of it still holds the failure.
func unpassed(out string) string {
	var kept strings.Builder
	for _, section := range regexp.MustCompile(`(?m)^\x16?=== RUN +[^/\n]+$`).Split(out, -1) {
		if fails := strings.Contains(section, "--- FAIL"); fails || !strings.Contains(section, "--- PASS") && !strings.Contains(section, "--- SKIP") {
			kept.WriteString(section)
		}
	}
	return kept.String()
}

// inside returns the tests of package gateway itself, which cannot reach serve.
func inside(t *testing.T) (names []string) {
	t.Helper()
	paths, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if file.Name.Name != "gateway" {
			continue
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				names = append(names, f.Name.Name)
			}
		}
	}
	if len(names) == 0 {
		t.Fatal("no test of package gateway was found")
	}
	return names
}

// tookPath fails unless the requests of a protocol went by the path that is theirs. From
// the lean one bodies of unknown length go on to the other.
func (s speaker) tookPath(t *testing.T, protocol string) {
	t.Helper()
	stats := s.server.Stats()
	onLean := stats.Requests+stats.HandedOver["framing"] > 0
	if want := protocol == "HTTP/1.1" && !byNetHTTP; onLean != want {
		t.Errorf("on the lean path: %t, want %t; %+v", onLean, want, stats)
	}
}

// What clients usually send is served by the lean path, request for request, and what
// is not for it goes away for a reason that can be seen.
func TestLeanPathServesTheCommonCase(t *testing.T) {
	if byNetHTTP {
		t.Skip("about the lean path")
	}
	e := start(t, snapshot(1, script([]string{origin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			defer w.Header().Set("X-Sum", "1")
		case "/stream":
			_, _ = io.WriteString(w, "first")
			flush(w)
		case "/fails":
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.Copy(w, r.Body)
	})}, 100_000)))
	n := int64(0)
	f := func(method, path, body string, headers ...string) {
		t.Helper()
		var r io.Reader
		if body != "" {
			r = strings.NewReader(body)
		}
		if _, err := e.try(t.Context(), method, shop+path, r, headers...); err != nil {
			t.Fatal(err)
		}
		n++
		if stats := e.server.Stats(); stats.Requests != n {
			t.Errorf("%s %s: %d requests on the lean path, want %d; %v", method, path, stats.Requests, n, stats.HandedOver)
		}
	}
	f("GET", "/", "")
	f("GET", "/a%20b?c=%41&d", "", "Cookie", "a=b; c=d", "Cache-Control", "no-cache", "Pragma", "no-cache")
	f("HEAD", "/", "")
	f("POST", "/", "hello", "Content-Type", "text/plain")
	f("PUT", "/", strings.Repeat("x", 1<<20))
	f("GET", "/hints", "")
	f("GET", "/trailers", "", "Te", "trailers")
	f("GET", "/stream", "")
	f("GET", "/fails", "")
	if got := strings.Join(handedOver(e.server), " "); got != "" {
		t.Errorf("handed over: %s", got)
	}
	if _, err := e.try(t.Context(), "POST", shop+"/", io.MultiReader(strings.NewReader("of unknown length"))); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(handedOver(e.server), " "); got != "framing 1" || e.server.Stats().Requests != n {
		t.Errorf("handed over: %q", got)
	}
}

func handedOver(s *lean.Server) (list []string) {
	for reason, n := range s.Stats().HandedOver {
		if n > 0 {
			list = append(list, fmt.Sprint(reason, " ", n))
		}
	}
	return list
}

// onePath is a gateway that speaks by one of the two paths only.
type onePath struct {
	*env
	addr   string
	origin *strictOrigin
}

// bothPaths returns a gateway on the lean path and one without it, which give a client
// little time.
func bothPaths(t testing.TB) (paths [2]onePath) {
	const patience = time.Second
	for i := range paths {
		o, url := newStrictOrigin(t)
		e := start(t, snapshot(1, script([]string{url}, 100_000)), func(_ *gateway.Config, _ *gateway.Deps, c *runtime.Config) { c.IdleTimeout = time.Minute })
		l := loopback(t)
		server := gateway.NewServer(e)
		server.HTTP.ErrorLog = e.server.HTTP.ErrorLog
		server.ReadHeaderTimeout, server.IdleTimeout, server.HTTP.ReadHeaderTimeout, server.HTTP.IdleTimeout = patience, patience, patience, patience
		serve := server.Serve
		if i == 1 {
			serve = server.HTTP.Serve
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
		})
		t.Cleanup(func() { _ = server.Close(); serving.Wait() })
		e.server = server
		paths[i] = onePath{e, l.Addr().String(), o}
	}
	return paths
}

// talk sends bytes and returns all that a client reads of the answers: the headers less
// what differs by nature, the body, and how the connection ended. A server that waits
// for more is left after a while.
func (p onePath) talk(t testing.TB, raw string, patience time.Duration) (got []string) {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var writing sync.WaitGroup
	writing.Go(func() { _, _ = io.WriteString(c, raw) }) // the other side may have seen enough
	defer writing.Wait()
	for r := bufio.NewReader(c); ; {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			_ = c.Close() // ends the writer
			return got
		}
		for _, name := range []string{"Cf-Ray", "Date"} {
			resp.Header.Del(name)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode >= 400 && (err != nil || resp.Close) {
			err, body = nil, nil // a refusal may be cut by what the server did not care to read
		}
		if resp.StatusCode == http.StatusBadRequest && resp.Close { // net/http's, or the gateway's: in other words
			resp.Header, resp.ContentLength = nil, 0
		}
		got = append(got, fmt.Sprint(resp.StatusCode, textproto.MIMEHeader(resp.Header), resp.ContentLength, resp.TransferEncoding, string(body), err, resp.Close))
	}
}

// comparePaths sends the same bytes by both paths and wants the same answers, and the same
// requests at the origin.
func comparePaths(t *testing.T, paths [2]onePath, raw string) {
	t.Helper()
	var got [2]string
	// A machine that is busy elsewhere may cut an answer short: only what stays different is.
	for patience := time.Second; patience <= 4*time.Second; patience *= 2 {
		for i, p := range paths {
			answers := p.talk(t, raw, patience)
			seen := p.origin.take(t, p.events)
			p.events.keep(100)
			got[i] = strings.Join(answers, "\n") + "\nthe origin saw " + strings.Join(seen, "\n")
		}
		if got[0] == got[1] {
			return
		}
	}
	t.Errorf("%.300q: the lean path has\n%s\nnet/http\n%s", raw, got[0], got[1])
}

// moreRequests are about what the lean path serves, as the corpus is about what is refused.
var moreRequests = []string{
	"GET / HTTP/1.1\r\nHost: shop.dev.localhost\r\n\r\n",
	"HEAD /a?b HTTP/1.1\r\nHost: shop.dev.localhost\r\nConnection: close\r\n\r\n",
	"POST /a HTTP/1.1\r\nHost: shop.dev.localhost\r\nContent-Length: 3\r\n\r\nabcPOST /b HTTP/1.1\r\nhost: shop.dev.localhost\r\ncontent-length: 0\r\n\r\n",
	"POST /a HTTP/1.1\r\nHost: shop.dev.localhost\r\nContent-Length: 3\r\n\r\nabc\r\nGET /b HTTP/1.1\r\nHost: shop.dev.localhost\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: elsewhere\r\n\r\nGET /b HTTP/1.1\r\nHost: shop.dev.localhost:8080\r\n\r\n",
	"POST /a HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 24\r\n\r\nGET /x HTTP/1.1\r\nHost: shop.dev.localhost\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: shop.dev.localhost\r\nCookie: a=b; tidegate-session=c ;d=e\r\nCookie: __Host-tidegate-session=f\r\nCookie:\r\n\r\n",
	"PUT /%2e%2e//a;b?c?d HTTP/1.1\r\nHost: shop.dev.localhost\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\nCookie: a=b\r\nCookie: c=d\r\nContent-Length: 1\r\n\r\n\n",
	"GET /a HTTP/1.1\r\nHost: shop.dev.localhost\r\nCdn-Loop: localhost\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: shop.dev.localhost\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: shop.dev.localhost\r\nContent-Length: 1\r\nX-Y:1\r\n\r\n",
	"TRACE /a HTTP/1.1\r\nHost: shop.dev.localhost\r\nX_Real_IP: 1\r\nForwarded: for=1\r\n\r\n",
}

func TestBothPathsAnswerAlike(t *testing.T) {
	if byNetHTTP {
		t.Skip("covers both")
	}
	paths := bothPaths(t)
	for _, raw := range moreRequests {
		comparePaths(t, paths, raw+sentinel)
	}
	for _, c := range corpus(t, "testdata/requests.txt") {
		comparePaths(t, paths, c.raw+sentinel)
		comparePaths(t, paths, moreRequests[0]+c.raw+sentinel) // after one that was served
	}
	if stats := paths[0].server.Stats(); stats.Requests < 100 || stats.HandedOver["field"] == 0 {
		t.Errorf("%+v", stats)
	}
	if stats := paths[1].server.Stats(); stats.Requests > 0 || slices.Max([]int64{stats.HandedOver["field"], stats.HandedOver["framing"]}) > 0 {
		t.Errorf("without the lean path: %+v", stats)
	}
}

// However the bytes are, both paths give the same answers, and the origin gets the same.
func FuzzBothPaths(f *testing.F) {
	for _, raw := range moreRequests {
		f.Add([]byte(raw))
	}
	for _, c := range corpus(f, "testdata/requests.txt") {
		if len(c.raw) < 1<<12 {
			f.Add([]byte(c.raw))
		}
	}
	if byNetHTTP {
		f.Skip("covers both")
	}
	paths := bothPaths(f)
	f.Fuzz(func(t *testing.T, raw []byte) { comparePaths(t, paths, string(raw)+sentinel) })
}
