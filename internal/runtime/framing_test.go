package runtime

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/schema"
)

// A backend that answers before it has read the body: the answer arrives, and
// the connection is not used again.
func TestEarlyResponse(t *testing.T) {
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		skipHead(r)
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno\n")
		_, _ = io.Copy(io.Discard, r) // until the client closes
	})
	pr, pw := io.Pipe()
	backend := open(t, shortConfig(), "http://"+addr)
	req := request(t, "POST", "/", "")
	req.Body, req.ContentLength = pr, -1
	resp, err := backend.RoundTrip(req)
	if got := readAll(t, resp, err); got != "no\n" || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d %q", resp.StatusCode, got)
	}
	_ = pw.CloseWithError(errors.New("the handler has ended"))
	resp, err = backend.RoundTrip(request(t, "GET", "/", "")) // on a connection of its own
	if got := readAll(t, resp, err); got != "no\n" {
		t.Errorf("got %q", got)
	}
}

// zeros is a body without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A backend that answered before the body was sent, and then neither read on nor
// closed, used to keep the upload's goroutine and its connection for ever.
func TestEarlyResponseEndsTheUpload(t *testing.T) {
	letGo := make(chan struct{})
	var closed atomic.Int32
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		skipHead(r)
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno\n")
		<-letGo
		_, _ = io.Copy(io.Discard, r) // for ever on an open connection, as the body has no end
		closed.Add(1)
	})
	backend := open(t, shortConfig(), "http://"+addr)
	for range 5 {
		req := request(t, "POST", "/", "")
		req.Body, req.ContentLength = io.NopCloser(zeros{}), -1
		resp, err := backend.RoundTrip(req)
		if got := readAll(t, resp, err); got != "no\n" {
			t.Errorf("got %q", got)
		}
	}
	close(letGo)
	waitFor(t, "the connections to be closed", func() bool { return closed.Load() == 5 })
	waitFor(t, "the goroutines of the uploads to end", func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:goruntime.Stack(stacks, true)]), "runtime.writeBody")
	})
}

// An upload that ends just after the response leaves a good connection behind:
// the bound on its end is not one on what follows.
func TestLateEndOfAnUploadLeavesNoDeadline(t *testing.T) {
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		for body := "late"; skipHead(r); body = "" {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if _, err := io.ReadFull(r, make([]byte, len(body))); err != nil {
				return
			}
		}
	})
	backend := open(t, shortConfig(), "http://"+addr)
	pr, pw := io.Pipe()
	req := request(t, "POST", "/", "")
	req.Body, req.ContentLength = io.NopCloser(pr), int64(len("late"))
	resp, err := backend.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "ok" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
	_, _ = io.WriteString(pw, "late")
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	for began := time.Now(); time.Since(began) < 2*uploadGrace; {
		resp, err := backend.RoundTrip(request(t, "POST", "/", "")) // which is sent once only
		if got := readAll(t, resp, err); got != "ok" {
			t.Fatalf("got %q", got)
		}
	}
}

// Half of a request's body must not reach the backend as a whole request.
func TestBrokenRequestBody(t *testing.T) {
	seen := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		seen <- err
	}))
	t.Cleanup(s.Close)
	for _, length := range []int64{-1, 100} {
		req := request(t, "POST", "/", "")
		req.Body, req.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader("half"), failingReader{})), length
		_, err := open(t, shortConfig(), s.URL).RoundTrip(req) //nolint:bodyclose // there is none
		if !errors.Is(err, errClientGone) {
			t.Errorf("got %v, want the body's own error", err)
		}
		if err := <-seen; err == nil {
			t.Error("the backend took half a body for a whole one")
		}
	}
}

var errClientGone = errors.New("client gone")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errClientGone }

func TestBodyUntilClose(t *testing.T) {
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		skipHead(r)
		_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nold but true")
	})
	backend := open(t, shortConfig(), "http://"+addr)
	for range 3 {
		resp, err := backend.RoundTrip(request(t, "GET", "/", ""))
		if got := readAll(t, resp, err); got != "old but true" {
			t.Errorf("got %q", got)
		}
	}
}

// Bytes after a response belong to no request: the connection that has them is
// not used again, or one client would get what another one was meant to.
func TestUnaskedBytesEndTheConnection(t *testing.T) {
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		for skipHead(r) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers")
		}
	})
	backend := open(t, shortConfig(), "http://"+addr)
	for range 5 {
		resp, err := backend.RoundTrip(request(t, "GET", "/", ""))
		if got := readAll(t, resp, err); got != "mine" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestRefusesSplittingLines(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	backend := open(t, shortConfig(), s.URL)
	f := func(change func(req *http.Request)) {
		t.Helper()
		req := request(t, "GET", "/", "")
		change(req)
		resp, err := backend.RoundTrip(req)
		wantKind(t, resp, err, schema.ErrorKindProtocol)
	}
	f(func(req *http.Request) { req.Header["X-A"] = []string{"1\r\nX-B: 2"} })
	f(func(req *http.Request) { req.Header["X A"] = []string{"1"} })
	f(func(req *http.Request) { req.RequestURI = "/ HTTP/1.1\r\nX-B: 2" })
	f(func(req *http.Request) { req.RequestURI = "no-slash" })
	f(func(req *http.Request) { req.Host = "a\r\nb" })
	f(func(req *http.Request) { req.Method = "GET /x HTTP/1.1\r\n" })
}

// What a header says about the framing is ignored: ContentLength alone decides.
func TestFramingIsOurs(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	req := request(t, "POST", "/", "five!")
	req.Header.Set("Content-Length", "0")
	req.Header.Set("Transfer-Encoding", "chunked")
	resp, err := open(t, shortConfig(), s.URL).RoundTrip(req)
	if got := readAll(t, resp, err); got != "five!" {
		t.Errorf("got %q", got)
	}
}

// Whoever does not speak HTTP, and waits, is not waited for.
func TestWhatIsNoHeadEndsTheWaitForIt(t *testing.T) {
	for _, said := range []string{"SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n"} {
		over := make(chan struct{})
		addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
			skipHead(r)
			_, _ = io.WriteString(c, said)
			<-over
		})
		t.Cleanup(func() { close(over) })
		resp, err := open(t, shortConfig(), "http://"+addr).RoundTrip(request(t, "GET", "/", ""))
		wantKind(t, resp, err, schema.ErrorKindProtocol)
	}
}
