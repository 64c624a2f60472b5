package runtime

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidegate/internal/lines"
)

// scripted is a connection whose other side has said all it will say: first one
// piece, then the rest.
type scripted struct {
	net.Conn // nil: nothing else is called
	pieces   [][]byte
	closed   bool
}

func (s *scripted) Read(p []byte) (int, error) {
	for len(s.pieces) > 0 && len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	s.pieces[0] = s.pieces[0][n:]
	return n, nil
}

func (s *scripted) Close() error                    { s.closed = true; return nil }
func (s *scripted) SetReadDeadline(time.Time) error { return nil }

// reading is all that a reader of responses makes of some bytes.
type reading struct {
	status, proto string
	code          int
	major, minor  int
	header        http.Header
	coding        []string
	length        int64
	close         bool
	announced     []string // trailers
	body          string
	bodyErr       bool
	trailer       http.Header
	rest          string
	failed        bool // the header could not be read; nothing else is known
}

func readingOf(resp *http.Response, err error, br *bufio.Reader) (r reading) {
	if err != nil {
		return reading{failed: true}
	}
	r = reading{
		status: resp.Status, proto: resp.Proto, code: resp.StatusCode, major: resp.ProtoMajor, minor: resp.ProtoMinor,
		header: resp.Header, coding: resp.TransferEncoding, length: resp.ContentLength, close: resp.Close,
		announced: slices.Sorted(maps.Keys(resp.Trailer)),
	}
	body, err := io.ReadAll(resp.Body)
	r.body, r.bodyErr, r.trailer = string(body), err != nil, resp.Trailer
	if !r.bodyErr { // where a broken body stops reading is no reader's promise
		rest, _ := io.ReadAll(br)
		r.rest = string(rest)
	}
	return r
}

// responseReaders reads raw, of which a first piece comes before the rest, with
// net/http and with a connection of ours. kept is the connection, if another request
// may follow on it, and lean that parseHead took the header.
func responseReaders(raw []byte, split int, method string) (theirs, ours reading, kept *conn, lean bool) {
	pieces := func() [][]byte { return [][]byte{raw[:split:split], raw[split:]} }
	req := &http.Request{Method: method}
	br := bufio.NewReaderSize(&scripted{pieces: pieces()}, readBufferBytes)
	resp, err := http.ReadResponse(br, req) //nolint:bodyclose // it is read to its end
	if err == nil {
		err = checkHead(resp)
	}
	theirs = readingOf(resp, err, br)

	pool := newHTTP1(DefaultConfig(), &url.URL{Scheme: "http", Host: "origin"})
	c := newConn(pool, &scripted{pieces: pieces()})
	c.watch.begin(req.Context())
	c.headLeft = -1
	buf := new([]byte)
	resp, err = c.readHead(req, buf) //nolint:bodyclose // it is read to its end
	if err == nil {
		_, lean = resp.Body.(*responseBody)
		if resp.StatusCode >= 200 {
			c.attachBody(req, resp, false)
		} else {
			resp.Body = http.NoBody
		}
	}
	ours = readingOf(resp, err, c.br)
	if pool.idle != nil {
		kept = pool.idle[0]
	}
	pool.close()
	return theirs, ours, kept, lean
}

// listed is ours of responseReaders with the header as a list, and then as the map that it
// would have been: what concerns the connection alone is in neither.
func listed(t *testing.T, raw []byte, split int, method string) (reading, *conn) {
	t.Helper()
	x := &lines.Exchange{}
	req := (&http.Request{Method: method}).WithContext(lines.With(t.Context(), x))
	pool := newHTTP1(DefaultConfig(), &url.URL{Scheme: "http", Host: "origin"})
	defer pool.close()
	c := newConn(pool, &scripted{pieces: [][]byte{raw[:split:split], raw[split:]}})
	c.watch.begin(req.Context())
	c.headLeft = -1
	resp, err := c.readHead(req, new([]byte)) //nolint:bodyclose // it is read to its end
	if err == nil && resp.StatusCode >= 200 {
		c.attachBody(req, resp, false)
	} else if err == nil {
		resp.Body = http.NoBody
	}
	if err == nil && resp.Header == nil {
		for i, v := range x.Response.Values {
			if name := x.Response.Names[i]; !lines.ValidName(name) || http.CanonicalHeaderKey(name) != name || !lines.ValidValue([]byte(v)) || strings.Trim(v, " \t") != v {
				t.Errorf("%s, then %q: the list has %q: %q", method, raw, name, v)
			}
		}
		resp.Header = headerOf(&x.Response)
	}
	got := readingOf(resp, err, c.br)
	if pool.idle == nil {
		return got, nil
	}
	return got, pool.idle[0]
}

// agree fails the test where our reader and net/http's part, or a connection is kept
// on which the next response is not certain to be the next request's.
func agree(t *testing.T, raw []byte, split int, method string) (lean bool) {
	t.Helper()
	theirs, ours, kept, lean := responseReaders(raw, split, method)
	if !reflect.DeepEqual(theirs, ours) {
		t.Errorf("%s, then %q:\nnet/http: %+v\nours:     %+v", method, raw, theirs, ours)
	}
	list, keptList := listed(t, raw, split, method)
	for _, r := range []*reading{&theirs, &list} {
		for _, name := range []string{"Connection", "Transfer-Encoding", "Trailer"} {
			r.header.Del(name)
		}
	}
	if !reflect.DeepEqual(theirs, list) || (kept == nil) != (keptList == nil) {
		t.Errorf("%s, then %q:\nnet/http: %+v\nas a list: %+v", method, raw, theirs, list)
	}
	if kept == nil {
		return lean
	}
	seen := split == 0 && len(raw) <= readBufferBytes // what was not read yet shows at the next request
	if theirs.failed || theirs.bodyErr || theirs.close || kept.doubtful || seen && theirs.rest != "" {
		t.Errorf("%s, then %q: the connection is kept after %+v", method, raw, theirs)
	}
	return lean
}

// originResponses are the gateway's corpus of what origins may send.
func originResponses(tb testing.TB) (list []string) {
	tb.Helper()
	text, err := os.ReadFile("../gateway/testdata/responses.txt")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, `"`) {
			continue
		}
		raw, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, strings.TrimSuffix(raw, "CLOSE"))
	}
	if len(list) == 0 {
		tb.Fatal("the corpus is empty")
	}
	return list
}

// leanResponses must be read without net/http: they are what origins send.
var leanResponses = []string{
	apiHeader + "Content-Length: 2\r\n\r\nhi",
	apiHeader + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	apiHeader + "Transfer-Encoding: Chunked\r\nTrailer: X-Sum, x-other\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
	apiHeader + "Connection: close\r\n\r\nuntil the end",
	apiHeader + "connection: keep-alive\r\ncontent-length: 0\r\n\r\n",
	apiHeader + strings.Repeat("Set-Cookie: a=b\r\n", 20) + "Content-Length: 2\r\n\r\nhi",
	apiHeader + "Content-Length:   007\t \r\n\r\n7 bytes",
	"HTTP/1.1 200 OK\r\n\r\n",
	apiHeader + strings.Repeat("Set-Cookie: a=b\r\n", readBufferBytes/10) + "Content-Length: 2\r\n\r\nhi",
	apiHeader + "X-A: " + strings.Repeat("a", readBufferBytes-len(apiHeader)-len("X-A: ")) + "\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200 \r\nX-Empty:\r\nx-UTF-8: \xc3\xa9\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 999 What\tever\r\nPragma: no-cache\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n\r\nhi",
	"HTTP/1.1 204 No Content\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nraw",
}

// oddResponses are for net/http to take or to refuse, and end the connection.
var oddResponses = []string{
	"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi\r\n\r\n",
	"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nhi",
	"HTTP/1.1 200 OK\nContent-Length: 2\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n \r\nX-A: 1\r\n\r\nhi",
	"HTTP/1.1 200 OK\nX-A: " + strings.Repeat("a", 2*readBufferBytes) + "\nContent-Length: 2\n\nhi",
	"HTTP/1.1 200 OK\r\nX-A: 1\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 22\nX-A: 1\r\n\r\nhi",
	"HTTP/1.1 200 OK\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\n folded\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\n: 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nno colon\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nX-A: 1\rContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nX-A: long enough for a word\x00\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nX-\xc3\xa9: 1\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nhi",
	"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nhi",
}

// brokenBodies have a good header.
var brokenBodies = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nno colon\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Long: " + strings.Repeat("x", readBufferBytes) + "\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!!0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n",
}

var readerMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost}

func TestHeadsAreReadAsNetHTTPReadsThem(t *testing.T) {
	f := func(raw string, want bool) {
		t.Helper()
		for _, method := range readerMethods {
			lean := agree(t, []byte(raw), 0, method)
			if method != http.MethodHead && lean != want {
				t.Errorf("%q: is the common reader's: %t, want %t", raw, lean, want)
			}
			for split := 1; split < min(len(raw), 200); split += 7 { // in two pieces
				if lean := agree(t, []byte(raw), split, method); method != http.MethodHead && lean != want {
					t.Errorf("%q, then %q: is the common reader's: %t, want %t", raw[:split], raw[split:], lean, want)
				}
			}
		}
	}
	for _, raw := range slices.Concat(leanResponses, brokenBodies) {
		f(raw, true)
	}
	for _, raw := range oddResponses {
		f(raw, false)
		for _, method := range readerMethods {
			for split := 0; split < len(raw); split += 5 {
				if _, _, kept, lean := responseReaders([]byte(raw), split, method); kept != nil && !lean {
					t.Errorf("%s, then %q and %q: the connection is kept", method, raw[:split], raw[split:])
				}
			}
		}
	}
	for _, raw := range originResponses(t) {
		for _, method := range readerMethods {
			agree(t, []byte(raw), 0, method)
		}
	}
}

// FuzzResponseHead holds our reader to net/http's, on all that it takes and on what it
// leaves: status, header, framing, body, trailers, and where the next response begins.
func FuzzResponseHead(f *testing.F) {
	for _, raw := range slices.Concat(leanResponses, oddResponses, brokenBodies, originResponses(f)) {
		for method := range readerMethods {
			f.Add([]byte(raw), uint(0), uint(method))
		}
		f.Add([]byte(raw), uint(len(raw)/2), uint(0))
	}
	f.Fuzz(func(t *testing.T, raw []byte, split, method uint) {
		agree(t, raw, int(split%uint(len(raw)+1)), readerMethods[method%uint(len(readerMethods))])
	})
}
