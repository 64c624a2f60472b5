package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
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

// overEach runs a test by each protocol that the public has, on a gateway of its
// own before the same origin.
func overEach(t *testing.T, h http.HandlerFunc, test func(t *testing.T, s speaker)) {
	t.Helper()
	for _, protocol := range []string{"HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2 over TLS", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			e := start(t, snapshot(1, script([]string{origin(t, h)}, 100_000)))
			test(t, speak(t, e, protocol))
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

// overTLS serves e over TLS too and returns the address.
func overTLS(t *testing.T, e *env) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = gateway.NewServer(e)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.Listener.Addr().String()
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

// A body is asked for only when the backend wants it.
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

// Each event reaches the client before the next one is made.
func TestStreamsByEachProtocol(t *testing.T) {
	next := make(chan struct{})
	h := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n", i)
			flush(w)
			<-next
		}
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		resp, err := s.client.Do(s.request(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for i := range 3 {
			if line, err := r.ReadString('\n'); line != fmt.Sprintf("data: %d\n", i) || err != nil {
				t.Fatalf("got %q, %v", line, err)
			}
			next <- struct{}{}
		}
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		wantEvent(t, s.events.nth(1), schema.OutcomeOK, "", 200)
	})
}

// Both directions at once, and more than any buffer on the way holds.
func TestLargeBodiesByEachProtocol(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		flush(w)
		_, _ = io.Copy(w, r.Body)
	}
	content := make([]byte, 16<<20)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		for i, body := range []io.Reader{bytes.NewReader(content), io.MultiReader(bytes.NewReader(content))} {
			resp, err := s.client.Do(s.request(t, "PUT", "/", body))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.New()
			n, err := io.Copy(sum, resp.Body)
			_ = resp.Body.Close()
			if want := sha256.Sum256(content); err != nil || !bytes.Equal(sum.Sum(nil), want[:]) {
				t.Errorf("%d of %d bytes came back, %v", n, len(content), err)
			}
			wantEvent(t, s.events.nth(i+1), schema.OutcomeOK, "", 200)
		}
	})
}

// A backend that answers before the body is there is heard, and the next request
// gets its own answer.
func TestEarlyAnswerByEachProtocol(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.WriteString(w, "early")
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		for i := range 3 {
			pr, pw := io.Pipe()
			resp, err := s.client.Do(s.request(t, "POST", "/", pr))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_, _ = resp.Body.Close(), pw.Close()
			if string(body) != "early" || err != nil {
				t.Errorf("got %q, %v", body, err)
			}
			wantEvent(t, s.events.nth(i+1), schema.OutcomeOK, "", 200)
		}
	})
}

func TestClientLeavesByEachProtocol(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/during" {
			_, _ = io.WriteString(w, "first")
			flush(w)
		}
		arrived <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		for i, want := range []int{0, http.StatusOK} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			path := []string{"/before", "/during"}[i]
			if path == "/before" {
				go func() { <-arrived; cancel() }()
			}
			resp, err := s.client.Do(s.request(t, "GET", path, nil).WithContext(ctx))
			if path == "/during" {
				if err != nil {
					t.Fatal(err)
				}
				<-arrived
				cancel()
				_ = resp.Body.Close()
			} else if err == nil {
				t.Fatal("the request succeeded")
			}
			<-gone // the backend is told
			wantEvent(t, s.events.nth(i+1), schema.OutcomeCanceled, "", want)
		}
	})
}

// A response that breaks off must not look whole, and over HTTP/2 takes no other
// one with it.
func TestBrokenResponseByEachProtocol(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole" {
			_, _ = io.WriteString(w, "who")
			flush(w)
			close(arrived)
			<-release
			_, _ = io.WriteString(w, "le")
			return
		}
		_, _ = io.WriteString(w, "half")
		flush(w)
		panic(http.ErrAbortHandler)
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		arrived, release = make(chan struct{}), make(chan struct{})
		whole := make(chan string, 1)
		go func() {
			resp, err := s.client.Do(s.request(t, "GET", "/whole", nil))
			if err != nil {
				whole <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			whole <- fmt.Sprint(string(body), err)
		}()
		<-arrived
		resp, err := s.client.Do(s.request(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if _ = resp.Body.Close(); string(body) != "half" || err == nil {
			t.Errorf("got %q, %v, want half and an error", body, err)
		}
		wantEvent(t, s.events.nth(1), schema.OutcomeResponseStreamDisconnected, "reset", 200)
		close(release)
		if got := <-whole; got != "whole<nil>" {
			t.Errorf("the other response was %q", got)
		}
		wantEvent(t, s.events.nth(2), schema.OutcomeOK, "", 200)
	})
}

// A WebSocket is HTTP/1.1's, in clear text and over TLS.
func TestWebSocketOverHTTP1(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/1.1 over TLS"} {
		t.Run(protocol, func(t *testing.T) {
			s := speak(t, start(t, snapshot(1, script([]string{origin(t, echoSwitch)}, 100_000))), protocol)
			resp, err := s.client.Do(s.request(t, "GET", "/", nil, "Connection", "Upgrade", "Upgrade", "websocket"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			c, ok := resp.Body.(io.ReadWriter)
			if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("got %d", resp.StatusCode)
			}
			for _, text := range []string{"first", "second"} {
				if _, err := io.WriteString(c, text); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(text))
				if _, err := io.ReadFull(c, got); string(got) != text || err != nil {
					t.Fatalf("got %q, %v, want %q", got, err, text)
				}
			}
			_ = resp.Body.Close()
			wantEvent(t, s.events.nth(1), schema.OutcomeOK, "", http.StatusSwitchingProtocols)
		})
	}
}
