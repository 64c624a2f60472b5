package runtime

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// A request that may have been acted on is not sent twice; one that was not sent is,
// whatever it is, with its whole body.
func TestWhatIsRepeated(t *testing.T) {
	f := func(name, method, body, mood string, wantRepeated bool) {
		try := func(t *testing.T, bound time.Duration) error {
			a, b := newMoodyServer(t, "a"), newMoodyServer(t, "b")
			o := originOf(a, b)
			o.Timeouts = &deploy.OriginTimeouts{FirstByteMS: bound.Milliseconds()}
			cfg := quickConfig()
			cfg.Ejection, cfg.EjectionMax = time.Hour, time.Hour
			backend := openOrigin(t, cfg, o)
			if a.mood.Store(mood); mood == "" {
				a.kill()
			}
			failed := 0
			for outOf(t, backend) == "" {
				var before, after int32
				before = a.requests.Load() + b.requests.Load()
				req := request(t, method, "/", body)
				closes := &closeCounter{ReadCloser: req.Body}
				req.Body = closes
				resp, err := backend.RoundTrip(req)
				after = a.requests.Load() + b.requests.Load()
				if err != nil {
					failed++
					if body != "" && closes.n.Load() == 0 {
						t.Error("the body was not closed")
					}
					if after-before > 1 && !wantRepeated {
						t.Errorf("a request that must not be repeated was seen %d times", after-before)
					}
					continue
				}
				if got := readAll(t, resp, nil); got != "b"+body {
					t.Errorf("got %q, want %q", got, "b"+body)
				}
			}
			if (failed == 0) != wantRepeated {
				return fmt.Errorf("%d requests failed; repeated should be %v", failed, wantRepeated)
			}
			return nil
		}
		t.Run(name, func(t *testing.T) {
			inTime(t, firstByteMS*time.Millisecond, func(bound time.Duration) error { return try(t, bound) })
		})
	}
	f("GET, reset", http.MethodGet, "", moodReset, true)
	f("DELETE, timeout", http.MethodDelete, "", moodHang, true)
	f("POST, reset", http.MethodPost, "", moodReset, false)
	f("POST with a body, timeout", http.MethodPost, "hello", moodHang, false)
	f("PUT with a body, reset", http.MethodPut, "hello", moodReset, false)
	f("POST with a body, refused", http.MethodPost, "hello", "", true)
	f("POST, refused", http.MethodPost, "", "", true)
}

type closeCounter struct {
	io.ReadCloser
	n atomic.Int32
}

func (c *closeCounter) Close() error { c.n.Add(1); return c.ReadCloser.Close() }

// After a byte of a response there is no second attempt, at the same endpoint or another. The
// story: over TLS there was, because the transport's errors do not tell.
func TestBrokenResponseIsNotRepeated(t *testing.T) {
	f := func(name string, endpoints int, server func(t *testing.T, serve func(c net.Conn, r *bufio.Reader)) (origin string), text string) {
		t.Run(name, func(t *testing.T) {
			var seen atomic.Int32
			o := &deploy.Origin{}
			for range endpoints {
				o.Endpoints = append(o.Endpoints, deploy.Endpoint{Weight: 1, URL: server(t, func(c net.Conn, r *bufio.Reader) {
					skipHead(r)
					seen.Add(1)
					_, _ = io.WriteString(c, text)
				})})
			}
			resp, err := openOrigin(t, quickConfig(), o).RoundTrip(request(t, http.MethodGet, "/", ""))
			wantKind(t, resp, err, schema.ErrorKindReset)
			if seen.Load() != 1 {
				t.Errorf("the request was sent %d times", seen.Load())
			}
		})
	}
	for n := 1; n <= 2; n++ {
		for scheme, server := range map[string]func(*testing.T, func(net.Conn, *bufio.Reader)) string{"http": rawOrigin, "https": rawTLSOrigin} {
			f(scheme+", half a header", n, server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
			f(scheme+", hints alone", n, server, "HTTP/1.1 103 Early Hints\r\n\r\n")
		}
	}
	f("https, a new connection without a word", 1, rawTLSOrigin, "") // as over http, where only a kept one may have ended before
}

func rawOrigin(t *testing.T, serve func(c net.Conn, r *bufio.Reader)) (origin string) {
	t.Helper()
	return "http://" + rawServer(t, serve)
}

// rawTLSOrigin speaks HTTP/1.1 over TLS, in the words of serve.
func rawTLSOrigin(t *testing.T, serve func(c net.Conn, r *bufio.Reader)) (origin string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	certificates := s.TLS.Certificates
	s.Close()
	return "https://" + rawServer(t, func(c net.Conn, _ *bufio.Reader) {
		secure := tls.Server(c, &tls.Config{Certificates: certificates})
		defer secure.Close()
		serve(secure, bufio.NewReader(secure))
	})
}

// A request is sent as often as the origin says, and no more.
func TestRetriesAreBounded(t *testing.T) {
	for n := range 4 {
		servers := []*moodyServer{newMoodyServer(t, "a"), newMoodyServer(t, "b"), newMoodyServer(t, "c")}
		for _, s := range servers {
			s.mood.Store(moodReset)
		}
		o := originOf(servers...)
		o.Retries = retries(n)
		resp, err := openOrigin(t, quickConfig(), o).RoundTrip(request(t, http.MethodGet, "/", ""))
		wantKind(t, resp, err, schema.ErrorKindReset)
		seen := int32(0)
		for _, s := range servers {
			seen += s.requests.Load()
			if s.requests.Load() > 1 {
				t.Errorf("%d retries: one endpoint got the request %d times", n, s.requests.Load())
			}
		}
		if want := int32(min(n+1, 3)); seen != want {
			t.Errorf("%d retries: the request was sent %d times, want %d", n, seen, want)
		}
	}
}

// fickleServer is an origin that answers until it is armed, and from then on ends each
// connection as soon as it has seen a request.
func fickleServer(t *testing.T, protocol string) (origin string, armed *atomic.Bool, seen *atomic.Int32) {
	t.Helper()
	armed, seen = new(atomic.Bool), new(atomic.Int32)
	if protocol == "h2c" {
		return h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
			seen.Add(1)
			return !armed.Load() && respond(fr, stream)
		}), armed, seen
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		seen.Add(1)
		if armed.Load() {
			panic(http.ErrAbortHandler)
		}
	}))
	if protocol == "https" {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.URL, armed, seen
}

// The story: a request whose kept connection ended under it was sent once more by what has
// the connections, to the same server, however often the origin lets requests be repeated.
func TestRetriesAreBoundedOnKeptConnections(t *testing.T) {
	for _, protocol := range []string{"http", "https", "h2c"} { // https is HTTP/1.1 here
		for n := range 3 {
			o := &deploy.Origin{Retries: retries(n)}
			var arms []*atomic.Bool
			var counts []*atomic.Int32
			for range 3 {
				origin, armed, seen := fickleServer(t, protocol)
				o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: origin, Weight: 1})
				arms, counts = append(arms, armed), append(counts, seen)
			}
			backend := openOrigin(t, quickConfig(), o)
			all := func(f func(i int) bool) bool { return f(0) && f(1) && f(2) }
			waitFor(t, "each endpoint to have a connection", func() bool {
				ask(t, backend)
				return all(func(i int) bool { return counts[i].Load() > 0 })
			})
			all(func(i int) bool { arms[i].Store(true); counts[i].Store(0); return true })
			resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
			wantKind(t, resp, err, schema.ErrorKindReset)
			sum := int32(0)
			all(func(i int) bool { sum += counts[i].Load(); return true })
			if want := int32(n + 1); sum != want || !all(func(i int) bool { return counts[i].Load() <= 1 }) {
				t.Errorf("%s, %d retries: the request was sent %d times, want %d at as many endpoints", protocol, n, sum, want)
			}
		}
	}
}

// The story: a server died with requests in hand on connections that had been kept, and refused
// the next connection. Each was taken for one that had not been sent, and was repeated elsewhere
// whatever the budget said.
func TestDeathWithARequestInHandIsNoRefusal(t *testing.T) {
	for _, failover := range []bool{false, true} {
		a := newMoodyServer(t, "a")
		cfg := shortConfig()
		cfg.failover = failover
		backend, err := newTransport(cfg, a.url())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(backend.close)
		ask(t, backend)
		a.mood.Store(moodHang)
		req, failed := request(t, http.MethodGet, "/", ""), make(chan error)
		go func() {
			_, err := backend.RoundTrip(req) //nolint:bodyclose // there is none
			failed <- err
		}()
		waitFor(t, "the request", func() bool { return a.requests.Load() == 2 })
		a.kill()
		err = <-failed
		if blame(err) != schema.ErrorKindReset || !errors.Is(err, errUnanswered) {
			t.Errorf("failover %t: got %v, want an error that says that the request was sent", failover, err)
		}
	}
}

// When everything fails, repeats stay a part of the load.
func TestRetryBudget(t *testing.T) {
	u := balancer(t, nil, 1, 1)
	spent := 0
	for u.spend() {
		spent++
	}
	if spent != retryFloor {
		t.Errorf("an idle origin may repeat %d requests at once, want %d", spent, retryFloor)
	}
	for range 100 {
		mustPick(t, u)
	}
	for u.spend() {
		spent++
	}
	if want := retryFloor + 100/retryShare; spent != want {
		t.Errorf("with 100 requests in hand %d may be repeats, want %d", spent, want)
	}
	s := sending{upstream: u, req: request(t, http.MethodGet, "/", ""), left: 1}
	reset := &Error{schema.ErrorKindReset, "test", errUnanswered}
	if _, _, ok := s.next(reset); ok {
		t.Error("a request was repeated beyond the budget")
	}
	u.retrying.Add(-1)
	if _, budgeted, ok := s.next(reset); !ok || !budgeted {
		t.Error("a request was not repeated within the budget")
	}
	if _, budgeted, ok := s.next(&Error{schema.ErrorKindConnect, "test", errors.New("refused")}); !ok || budgeted {
		t.Error("what was not sent is held to the budget")
	}
}

// Over each protocol a dead endpoint costs nobody an answer, whatever was to be sent: what
// found no connection goes to the other one with its whole body.
func TestFailoverOverEachProtocol(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what of it is missing shows in the answer
		_, _ = w.Write(body)
	}
	each(t, echo, func(t *testing.T, alive *httptest.Server, cfg Config) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		scheme, _, _ := strings.Cut(alive.URL, "://")
		backend := openOrigin(t, cfg, &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: alive.URL, Weight: 1}, {URL: scheme + "://" + l.Addr().String(), Weight: 1}}})
		for outOf(t, backend) == "" {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch} {
				body := ""
				if method != http.MethodGet {
					body = strings.Repeat(method, 50_000)
				}
				resp, err := backend.RoundTrip(request(t, method, "/", body))
				if got := readAll(t, resp, err); got != body {
					t.Fatalf("%s: %d bytes came back of %d", method, len(got), len(body))
				}
			}
		}
	})
}

// A stream that an endpoint resets is a failure of it, and is repeated elsewhere.
func TestResetStreamsAreRepeatedElsewhere(t *testing.T) {
	bad := h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
		return fr.WriteRSTStream(stream, h2.ErrCodeInternal) == nil
	})
	good := h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool { return respond(fr, stream) })
	cfg := quickConfig()
	cfg.Ejection, cfg.EjectionMax = time.Hour, time.Hour
	backend := openOrigin(t, cfg, &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: bad, Weight: 1}, {URL: good, Weight: 1}}})
	waitFor(t, "the endpoint to be out", func() bool {
		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		readAll(t, resp, err)
		return strings.Contains(outOf(t, backend), bad+" (reset)")
	})
}

// The story: a request on a connection that was kept got no answer in time, and was
// sent once more, to the same server on a new connection, to wait there as long again.
func TestTimeoutIsNotRepeatedAtTheSameServer(t *testing.T) {
	inTime(t, firstByteMS*time.Millisecond, func(bound time.Duration) error {
		a := newMoodyServer(t, "a")
		backend := openOrigin(t, shortConfig(), &deploy.Origin{URL: a.url(), Timeouts: &deploy.OriginTimeouts{FirstByteMS: bound.Milliseconds()}})
		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", "")) // leaves a connection
		if err != nil {
			return err
		}
		readAll(t, resp, nil)
		a.mood.Store(moodHang)
		resp, err = backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		wantKind(t, resp, err, schema.ErrorKindTimeout)
		waitFor(t, "the request to be read", func() bool { return a.requests.Load() >= 2 })
		if n := a.requests.Load(); n != 2 {
			t.Errorf("the server saw %d requests, want 2", n)
		}
		return nil
	})
}

// The story: the first endpoint refused the connection, the second one answered before
// the body had ended, as a gRPC server does, and the body was closed under the upload
// because the first attempt had wanted it closed.
func TestUploadGoesOnAfterAFailover(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex() // in HTTP/2 it always is
		_, _ = io.CopyN(w, r.Body, 3)
		_ = c.Flush()
		_, _ = io.Copy(w, r.Body) // what of it is missing shows in the answer
	}
	each(t, echo, func(t *testing.T, alive *httptest.Server, cfg Config) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		scheme, _, _ := strings.Cut(alive.URL, "://")
		backend := openOrigin(t, cfg, &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: alive.URL, Weight: 1e-6}, {URL: scheme + "://" + l.Addr().String(), Weight: 1}}})
		for outOf(t, backend) == "" {
			req := request(t, http.MethodPost, "/", "")
			body, send := io.Pipe()
			req.Body, req.ContentLength = body, -1
			go func() { _, _ = io.WriteString(send, "one") }()
			resp, err := backend.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			go func() { // fails if the body was closed
				_, _ = io.WriteString(send, "two")
				_ = send.Close()
			}()
			if got := readAll(t, resp, nil); got != "onetwo" {
				t.Fatalf("got %q", got)
			}
		}
	})
}

// The story: an HTTP/2 server refused every stream, as one does that is overloaded or drains. The
// Transport sent the request there again and again, for a minute, before another endpoint got it.
func TestRefusedStreamsGoElsewhere(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} { // nobody has looked at either
		var refused atomic.Int32
		bad := h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
			refused.Add(1)
			return fr.WriteRSTStream(stream, h2.ErrCodeRefusedStream) == nil
		})
		good := h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool { return respond(fr, stream) })
		cfg := quickConfig()
		cfg.Ejection, cfg.EjectionMax = time.Hour, time.Hour
		backend := openOrigin(t, cfg, &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: bad, Weight: 1}, {URL: good, Weight: 1}}})
		backend.(*upstream).retrying.Store(1000) // the budget is for what may have been acted on
		for refused.Load() == 0 {
			resp, err := backend.RoundTrip(request(t, method, "/", ""))
			readAll(t, resp, err)
		}
		if n := refused.Load(); n > refusalsMax {
			t.Errorf("a %s was sent %d times to the endpoint that refuses it", method, n)
		}
	}
}

// An origin with one server is asked for as long as a response may take, and no longer.
func TestRefusedStreamsAreGivenUp(t *testing.T) {
	origin := h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
		return fr.WriteRSTStream(stream, h2.ErrCodeRefusedStream) == nil
	})
	cfg := shortConfig()
	cfg.ResponseHeaderTimeout = firstByteMS * time.Millisecond
	for _, body := range []string{"", "body"} {
		resp, err := open(t, cfg, origin).RoundTrip(request(t, http.MethodPut, "/", body))
		wantKind(t, resp, err, schema.ErrorKindReset)
	}
}
