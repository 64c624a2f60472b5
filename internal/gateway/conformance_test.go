package gateway_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/gateway"
	"tidegate/schema"
)

// A speaker reaches a gateway by one protocol.
type speaker struct {
	*env
	client *http.Client
	base   string // of the script's URLs
	major  int
}

// protocols are those that the public has.
var protocols = []string{"HTTP/1.1", "HTTP/1.1 by net/http", "HTTP/1.1 over TLS", "HTTP/2 over TLS", "h2c"}

// overEach runs a test by each protocol that the public has, on a gateway of its
// own before the same origin.
func overEach(t *testing.T, h http.HandlerFunc, test func(t *testing.T, s speaker), settings ...setting) {
	t.Helper()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			e := start(t, snapshot(1, script([]string{origin(t, h)}, 100_000)), settings...)
			s := speak(t, e, protocol)
			test(t, s)
			s.tookPath(t, protocol)
		})
	}
}

func speak(t *testing.T, e *env, protocol string) speaker {
	t.Helper()
	s := speaker{env: e, base: shop, major: 1}
	addr := e.addr
	transport := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	switch protocol {
	case "HTTP/1.1":
		transport.Protocols.SetHTTP1(true)
	case "HTTP/1.1 by net/http":
		transport.Protocols.SetHTTP1(true)
		addr = withoutLean(t, e)
	case "HTTP/1.1 over TLS":
		transport.Protocols.SetHTTP1(true)
		s.base, addr = "https"+strings.TrimPrefix(shop, "http"), overTLS(t, e)
	case "HTTP/2 over TLS":
		transport.Protocols.SetHTTP2(true)
		s.base, addr, s.major = "https"+strings.TrimPrefix(shop, "http"), overTLS(t, e), 2
	case "h2c":
		transport.Protocols.SetUnencryptedHTTP2(true)
		s.major = 2
	}
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // the names are made up
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport}
	return s
}

// withoutLean serves e by net/http alone and returns the address.
func withoutLean(t testing.TB, e *env) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = gateway.NewServer(e).HTTP
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.Listener.Addr().String()
}

// overTLS serves e over TLS too and returns the address.
func overTLS(t *testing.T, e *env) string {
	t.Helper()
	l := loopback(t)
	serveOn(t, e, tls.NewListener(l, &tls.Config{Certificates: testCertificates(), NextProtos: []string{"h2", "http/1.1"}}))
	return l.Addr().String()
}

// testCertificates are for any name.
func testCertificates() []tls.Certificate {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return server.TLS.Certificates
}

// do sends a request and reads the response to its end.
func (s speaker) do(t *testing.T, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	req := s.request(t, method, path, body, headers...)
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.ProtoMajor != s.major {
		t.Errorf("answered by %s", resp.Proto)
	}
	return answer{resp, string(text)}
}

func (s speaker) request(t *testing.T, method, path string, body io.Reader, headers ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.base+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return req
}

// urlOf returns the URL in an event.
func urlOf(t *testing.T, ev schema.TraceEvent) string {
	t.Helper()
	var fetch struct{ Request struct{ URL string } }
	if err := json.Unmarshal(ev.Event, &fetch); err != nil {
		t.Fatal(err)
	}
	return fetch.Request.URL
}

// What the backend and the client see of a message does not depend on the
// client's protocol.
func TestRequestsByEachProtocol(t *testing.T) {
	var mu sync.Mutex
	var seen *http.Request
	var seenBody string
	h := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if seen, seenBody = r, string(body); err != nil {
			t.Errorf("the origin reads the body: %v", err)
		}
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/not-modified":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		default:
			w.Header().Add("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
			w.Header().Set("Connection", "X-Hop")
			w.Header().Set("X-Hop", "1")
			w.Header().Set("Keep-Alive", "timeout=5")
			_, _ = io.WriteString(w, "body of "+r.Method)
		}
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		events := 0
		f := func(method, path, body string, status int, want string, headers ...string) answer {
			t.Helper()
			var r io.Reader
			if body != "" {
				r = io.MultiReader(strings.NewReader(body)) // of unknown length
			}
			a := s.do(t, method, path, r, headers...)
			mu.Lock()
			defer mu.Unlock()
			if a.StatusCode != status || a.body != want {
				t.Errorf("%s %s: got %d %q, want %d %q", method, path, a.StatusCode, a.body, status, want)
			}
			if seen.Method != method || seen.RequestURI != path || seen.Host != "shop.dev.localhost" || seenBody != body || seen.ProtoMajor != 1 {
				t.Errorf("the origin saw %s %s at %s with %q by %s", seen.Method, seen.RequestURI, seen.Host, seenBody, seen.Proto)
			}
			if body == "" && (len(seen.TransferEncoding) > 0 || seen.ContentLength != 0) {
				t.Errorf("%s %s: a request without a body reached the origin with %v, length %d", method, path, seen.TransferEncoding, seen.ContentLength)
			}
			scheme, _, _ := strings.Cut(s.base, ":")
			if got := seen.Header.Get("X-Forwarded-Proto"); got != scheme {
				t.Errorf("X-Forwarded-Proto is %q by %s", got, scheme)
			}
			for name := range seen.Header {
				if strings.HasPrefix(name, ":") || name == "Connection" || name == "Keep-Alive" || name == "Http2-Settings" || name == "Upgrade" {
					t.Errorf("the origin saw %s", name)
				}
			}
			events++
			ev := s.events.nth(events)
			wantEvent(t, ev, schema.OutcomeOK, "", status)
			if u := urlOf(t, ev); u != s.base+path {
				t.Errorf("the event's URL is %q", u)
			}
			return a
		}
		a := f("GET", "/a%2Fb?q=%41&c", "", 200, "body of GET")
		if got := strings.Join(a.Header["Set-Cookie"], "|"); got != "a=1|b=2" || a.Header.Get("X-Hop") != "" || a.Header.Get("Keep-Alive") != "" {
			t.Errorf("the client saw %v", a.Header)
		}
		f("HEAD", "/", "", 200, "")
		f("DELETE", "/", "", 200, "body of DELETE")
		f("POST", "/", "sent in chunks", 200, "body of POST")
		f("PROPFIND", "/", "<x/>", 200, "body of PROPFIND")
		f("GET", "/none", "", 204, "")
		f("GET", "/not-modified", "", 304, "")
		f("GET", "/teapot", "", 418, "")

		f("GET", "/cookies", "", 200, "body of GET", "Cookie", "a=1", "Cookie", "b=2")
		if got := strings.Join(seen.Header["Cookie"], "; "); got != "a=1; b=2" {
			t.Errorf("the origin saw the cookies %q", got)
		}
		f("GET", "/te", "", 200, "body of GET", "Te", "trailers")
		if got := seen.Header.Get("Te"); got != "trailers" {
			t.Errorf("the origin saw TE %q", got)
		}
	})
}

func TestTrailersAndHintsByEachProtocol(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Grpc-Status", r.Trailer.Get("X-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "2")
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		req := s.request(t, "POST", "/", io.MultiReader(strings.NewReader("x")))
		req.Trailer = http.Header{"X-Sum": {"7"}}
		var hints []string
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, h.Get("Link")))
				return nil
			},
		}))
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if string(body) != "body" || err != nil || resp.Header.Get("Link") != "" || len(resp.Trailer) != 2 ||
			resp.Trailer.Get("Grpc-Status") != "7" || resp.Trailer.Get("X-Late") != "2" {
			t.Errorf("got %q, %v, header %v, trailer %v", body, err, resp.Header, resp.Trailer)
		}
		if got := strings.Join(hints, "|"); got != "103 </a.css>; rel=preload" && got != "103</a.css>; rel=preload" {
			t.Errorf("the hints were %q", got)
		}
		wantEvent(t, s.events.nth(1), schema.OutcomeOK, "", 200)
	})
}

// Over HTTP/2 net/http hides Expect from handlers, so that the body is asked for
// before the backend has said that it wants it; the answers are the same.
func TestExpectByEachProtocol(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		a := s.do(t, "POST", "/", io.MultiReader(strings.NewReader("wanted")), "Expect", "100-continue")
		if a.StatusCode != http.StatusOK || a.body != "wanted" {
			t.Errorf("got %d %q", a.StatusCode, a.body)
		}
		if a := s.do(t, "POST", "/refused", io.MultiReader(strings.NewReader("unwanted")), "Expect", "100-continue"); a.StatusCode != http.StatusForbidden {
			t.Errorf("got %d", a.StatusCode)
		}
		s.events.nth(2)
	})
}
