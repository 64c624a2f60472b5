package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/schema"
)

// strictOrigin reads HTTP/1.1 as narrowly as RFC 9112 allows, and keeps what it read.
type strictOrigin struct {
	t    testing.TB
	mu   sync.Mutex
	seen []string // "METHOD target body-in-quotes", of whole requests
	rays []string // of the same; the gateway gives each request one
	bad  []string // what no sender should send
}

func newStrictOrigin(t testing.TB) (*strictOrigin, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &strictOrigin{t: t}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go o.serve(c) // ends with the gateway's connection
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return o, "http://" + l.Addr().String()
}

func (o *strictOrigin) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		method, target, body, ray, err := readStrict(r)
		if err == nil {
			o.mu.Lock()
			o.seen = append(o.seen, fmt.Sprintf("%s %s %q", method, target, body))
			o.rays = append(o.rays, ray)
			o.mu.Unlock()
			_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Target: %s\r\nContent-Length: 0\r\n\r\n", target)
		}
		if err == nil {
			continue
		}
		if wrong, ok := errors.AsType[strictError](err); ok {
			o.mu.Lock()
			o.bad = append(o.bad, string(wrong))
			o.mu.Unlock()
		}
		return // a request that was broken off is none
	}
}

// take returns what was seen since it was called last. All of it must be well formed,
// and each request must be the only one of an event.
func (o *strictOrigin) take(t *testing.T, e *events) (seen []string) {
	t.Helper()
	o.mu.Lock()
	seen, rays, bad := o.seen, o.rays, o.bad
	o.seen, o.rays, o.bad = nil, nil, nil
	o.mu.Unlock()
	if len(bad) > 0 {
		t.Fatalf("the origin got %q", bad)
	}
	for i, ray := range rays {
		if slices.Contains(rays[:i], ray) {
			t.Fatalf("two requests have the ray of one: %q", seen)
		}
		waitFor(t, "the event of "+seen[i], func() bool {
			return slices.ContainsFunc(e.all(), func(ev schema.TraceEvent) bool { return ev.Gateway.RayID == ray })
		})
	}
	return seen
}

type strictError string

func (e strictError) Error() string { return string(e) }

// readLine reads up to CR LF and refuses every other use of the two, and NUL.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(text, "\r\x00") {
		return "", strictError(fmt.Sprintf("the line %q", line))
	}
	return text, nil
}

func isToken(s string) bool {
	return s != "" && strings.Trim(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// readFields reads header or trailer fields and the line that ends them.
func readFields(r *bufio.Reader) (map[string][]string, error) {
	fields := map[string][]string{}
	for {
		line, err := readLine(r)
		if err != nil || line == "" {
			return fields, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) {
			return nil, strictError(fmt.Sprintf("the field %q", line))
		}
		name = strings.ToLower(name)
		fields[name] = append(fields[name], strings.Trim(value, " \t"))
	}
}

func readStrict(r *bufio.Reader) (method, target, body, ray string, err error) {
	line, err := readLine(r)
	if err != nil {
		return "", "", "", "", err
	}
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) || !strings.HasPrefix(parts[1], "/") || parts[2] != "HTTP/1.1" {
		return "", "", "", "", strictError(fmt.Sprintf("the request line %q", line))
	}
	h, err := readFields(r)
	if err != nil {
		return "", "", "", "", err
	}
	lengths, codings := h["content-length"], h["transfer-encoding"]
	switch {
	case len(h["host"]) != 1 || len(h["cf-ray"]) != 1 || len(lengths) > 1 || len(codings) > 1 || len(lengths)+len(codings) > 1:
		err = strictError(fmt.Sprintf("the header %q", h))
	case len(codings) == 1 && codings[0] != "chunked":
		err = strictError("the coding " + codings[0])
	case len(codings) == 1:
		body, err = readChunks(r)
	case len(lengths) == 1:
		n, convErr := strconv.ParseUint(lengths[0], 10, 63)
		if convErr != nil || lengths[0] != strconv.FormatUint(n, 10) {
			return "", "", "", "", strictError("the length " + lengths[0])
		}
		var text strings.Builder // grows with what comes, not with what is announced
		_, err = io.CopyN(&text, r, int64(n))
		body = text.String()
	}
	return parts[0], parts[1], body, strings.Join(h["cf-ray"], ""), err
}

func readChunks(r *bufio.Reader) (string, error) {
	var body strings.Builder
	for {
		line, err := readLine(r)
		if err != nil {
			return "", err
		}
		n, err := strconv.ParseUint(line, 16, 63)
		if err != nil || line[0] == '+' {
			return "", strictError(fmt.Sprintf("the chunk size %q", line))
		}
		if n == 0 {
			break
		}
		if _, err := io.CopyN(&body, r, int64(n)); err != nil {
			return "", err
		}
		if end, err := readLine(r); err != nil || end != "" {
			return "", errors.Join(err, strictError("no end of a chunk"))
		}
	}
	trailer, err := readFields(r)
	if err != nil {
		return "", err
	}
	for name := range trailer {
		if slices.Contains([]string{"content-length", "transfer-encoding", "host", "x-forwarded-for", "cf-connecting-ip", "connection"}, name) {
			return "", strictError("the trailer " + name)
		}
	}
	return body.String(), nil
}

// corpus reads blocks of a name after "-- ", a message in Go's quotes, and lines of
// what is to come of it.
func corpus(t testing.TB, path string) (list []corpusCase) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "-- "); ok {
			list = append(list, corpusCase{name: name})
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		c := &list[len(list)-1]
		if c.raw != "" {
			c.want = append(c.want, strings.ReplaceAll(line, "HALF", half))
			continue
		}
		raw, err := strconv.Unquote(line)
		if err != nil {
			t.Fatalf("%s: line %d: %v", path, i+1, err)
		}
		raw = strings.ReplaceAll(raw, "LONG", strings.Repeat("x", 200<<10))
		raw = strings.ReplaceAll(raw, "FULL", strings.Repeat("x", 127<<10))
		raw = strings.ReplaceAll(raw, "HALF", half)
		c.raw = strings.ReplaceAll(raw, "MANY", strings.Repeat("X-N: 1\r\n", 30_000))
	}
	return list
}

var half = strings.Repeat("x", 64<<10)

type corpusCase struct {
	name, raw string
	want      []string
}

// exchange sends raw bytes and returns the status of each final response, with
// X-Target where the origin answered. The server must end the connection in the end.
func (e *env) exchange(t testing.TB, raw string, halfClose bool) (got []string) {
	t.Helper()
	c, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	var writing sync.WaitGroup
	writing.Go(func() {
		_, _ = io.WriteString(c, raw) // the other side may have seen enough
		if halfClose {
			_ = c.(*net.TCPConn).CloseWrite()
		}
	})
	defer writing.Wait()
	for r := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				t.Errorf("the connection was still open after %q", got)
			}
			return got
		}
		if resp.StatusCode < 200 {
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil && resp.StatusCode < 400 {
			return append(got, fmt.Sprint(resp.StatusCode, " and ", err))
		} // a refusal may be cut by what the server did not care to read
		_ = resp.Body.Close()
		got = append(got, strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("X-Target"))))
	}
}

const sentinel = "GET /end HTTP/1.1\r\nHost: shop.dev.localhost\r\nConnection: close\r\n\r\n"

// Every request of the corpus is refused or reaches the origin as exactly one
// request, and what follows it on the connection is neither swallowed nor made up.
func TestRequestSmuggling(t *testing.T) {
	o, origin := newStrictOrigin(t)
	e := start(t, snapshot(1, script([]string{origin}, 100_000)))
	for _, c := range corpus(t, "testdata/requests.txt") {
		t.Run(c.name, func(t *testing.T) {
			want := expect(c)
			got := e.exchange(t, c.raw+sentinel, false)
			seen := o.take(t, e.events)
			goesOn := len(got) > 0 && got[len(got)-1] == "200 /end"
			if goesOn {
				got, seen = got[:len(got)-1], seen[:len(seen)-1]
			}
			if len(got) == 1 && got[0] == want.or && len(seen) == 0 {
				return
			}
			if !slices.Equal(got, want.answers) || !slices.Equal(seen, want.requests) {
				t.Errorf("answers %q and requests %q, want %q and %q", got, seen, want.answers, want.requests)
			}
			if !want.mayClose && len(got) > 0 && got[len(got)-1] < "400" && goesOn == want.closed {
				t.Errorf("the connection goes on: %t", goesOn)
			}
		})
	}
}

// expectation is what is to come of a case of requests.txt; its head says how it is written.
type expectation struct {
	answers  []string // statuses, with the target where the origin answered
	requests []string // that the origin reads
	closed   bool
	mayClose bool
	or       string
}

func expect(c corpusCase) (want expectation) {
	for _, line := range c.want {
		status, request, forwarded := strings.Cut(line, " ")
		switch {
		case line == "closed":
			want.closed = true
			continue
		case line == "may close":
			want.mayClose = true
			continue
		case status == "or":
			want.or = request
			continue
		case forwarded:
			want.requests = append(want.requests, request)
			status += " " + strings.Fields(request)[1]
		}
		want.answers = append(want.answers, status)
	}
	return want
}

// However the bytes are, each whole request that the origin reads has an event of its own.
func FuzzRequestBytes(f *testing.F) {
	for _, c := range corpus(f, "testdata/requests.txt") {
		if len(c.raw) < 1<<12 {
			f.Add([]byte(c.raw))
		}
	}
	o, origin := newStrictOrigin(f)
	e := start(f, snapshot(1, script([]string{origin}, 100_000)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e.events.keep(100)
		e.exchange(t, string(raw), true)
		o.take(t, e.events) // also what is late from the bytes before
	})
}
