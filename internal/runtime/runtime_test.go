package runtime

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const versionID = "11111111-1111-4111-8111-111111111111"

// shortConfig has time-outs that a test can wait for; those that must not fire
// keep their defaults.
func shortConfig() Config {
	cfg := DefaultConfig()
	cfg.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	return cfg
}

// open returns the backend of one origin.
func open(t *testing.T, cfg Config, origin string) http.RoundTripper {
	t.Helper()
	b, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.Update(snapshotOf(origin))[versionID]
}

// putInForce serves a snapshot that waits for nothing.
func putInForce(b *Backends, s *deploy.Snapshot) map[string]http.RoundTripper {
	all := b.Update(s)
	b.Release(func(id string) bool {
		return slices.ContainsFunc(s.Scripts, func(sc deploy.SnapshotScript) bool { return deployed(&sc, id) })
	})
	return all
}

func snapshotOf(origin string) *deploy.Snapshot {
	return &deploy.Snapshot{Revision: 1, Scripts: []deploy.SnapshotScript{{
		AccountID: "a", Subdomain: "dev", Name: "shop",
		Versions: []deploy.SnapshotVersion{{ID: versionID, Origin: &deploy.Origin{URL: origin}}},
	}}}
}

// request returns a request as the gateway hands one over.
func request(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequestWithContext(t.Context(), method, target, r)
	req.Host = "shop.example.com"
	return req
}

func readAll(t *testing.T, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantKind checks that an error names its kind the way the gateway asks for it.
func wantKind(t *testing.T, resp *http.Response, err error, kind string) {
	t.Helper()
	if err == nil {
		_ = resp.Body.Close()
		t.Fatalf("got status %d, want an error of kind %s", resp.StatusCode, kind)
	}
	e, ok := errors.AsType[interface {
		error
		ErrorKind() string
	}](err)
	if !ok || e.ErrorKind() != kind {
		t.Fatalf("got %v (%T), want an error of kind %s", err, err, kind)
	}
}

// each runs a test over every kind of origin.
func each(t *testing.T, handler http.HandlerFunc, test func(t *testing.T, s *httptest.Server, cfg Config)) {
	t.Helper()
	for _, protocol := range []string{"http", "https", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			s := httptest.NewUnstartedServer(handler)
			s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			switch protocol {
			case "https":
				s.EnableHTTP2 = true
				s.StartTLS()
			case "h2c":
				s.Config.Protocols = new(http.Protocols)
				s.Config.Protocols.SetHTTP1(true)
				s.Config.Protocols.SetUnencryptedHTTP2(true)
				s.Start()
				s.URL = "h2c://" + s.Listener.Addr().String()
			default:
				s.Start()
			}
			t.Cleanup(s.Close)
			test(t, s, shortConfig())
		})
	}
}

func TestRequestArrivesAsItWas(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Seen", r.Method+" "+r.RequestURI+" "+r.Host+" "+r.Header.Get("X-Twice")+" ua="+r.Header.Get("User-Agent")+";")
		_, _ = w.Write(body)
	}, func(t *testing.T, s *httptest.Server, cfg Config) {
		backend := open(t, cfg, s.URL+"/base/")
		req := request(t, "POST", "/a%2Fb/../c|d//?q=%zz&x", "hello")
		req.Header.Set("X-Twice", "yes")
		req.Header["User-Agent"] = []string{""}
		resp, err := backend.RoundTrip(req)
		if got := readAll(t, resp, err); got != "hello" {
			t.Errorf("the body came back as %q", got)
		}
		want := "POST /base/a%2Fb/../c|d//?q=%zz&x shop.example.com yes ua=;"
		if got := resp.Header.Get("X-Seen"); got != want {
			t.Errorf("the backend saw %q, want %q", got, want)
		}
		proto := "HTTP/2.0"
		if strings.HasPrefix(s.URL, "http:") {
			proto = "HTTP/1.1"
		}
		if got := resp.Header.Get("X-Proto"); got != proto {
			t.Errorf("the backend was spoken to in %s, want %s", got, proto)
		}
	})
}

func TestOriginHost(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) },
		func(t *testing.T, s *httptest.Server, cfg Config) {
			cfg.OriginHost = true
			resp, err := open(t, cfg, s.URL).RoundTrip(request(t, "GET", "/", ""))
			if got := readAll(t, resp, err); got != s.Listener.Addr().String() {
				t.Errorf("Host was %s, want the origin's %s", got, s.Listener.Addr())
			}
		})
}

// Bodies of known and of unknown length, with trailers both ways, over one connection.
func TestBodiesAndTrailers(t *testing.T) {
	var peers sync.Map
	each(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(body)
		w.Header().Set("X-Sum", "of "+r.Trailer.Get("X-Client"))
		peers.Store(r.RemoteAddr, true)
	}, func(t *testing.T, s *httptest.Server, cfg Config) {
		backend := open(t, cfg, s.URL)
		text := strings.Repeat("tide ", 50_000)
		for range 5 {
			req := request(t, "PUT", "/", text)
			req.ContentLength = -1
			req.Trailer = http.Header{"X-Client": {"client"}}
			resp, err := backend.RoundTrip(req)
			if got := readAll(t, resp, err); got != text {
				t.Fatalf("%d bytes came back of %d", len(got), len(text))
			}
			if got := resp.Trailer.Get("X-Sum"); got != "of client" {
				t.Errorf("the trailer is %q", got)
			}
			resp, err = backend.RoundTrip(request(t, "POST", "/", text))
			if got := readAll(t, resp, err); got != text {
				t.Fatalf("%d bytes came back of %d", len(got), len(text))
			}
		}
		conns := 0
		peers.Range(func(any, any) bool { conns++; return true })
		if conns != 1 {
			t.Errorf("ten requests took %d connections, want one", conns)
		}
		peers.Clear()
	})
}

func TestErrorKinds(t *testing.T) {
	get := func(t *testing.T, cfg Config, origin string) (*http.Response, error) {
		return open(t, cfg, origin).RoundTrip(request(t, "GET", "/", ""))
	}
	t.Run("connect", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		for _, scheme := range []string{"http://", "https://", "h2c://"} {
			resp, err := get(t, shortConfig(), scheme+l.Addr().String())
			wantKind(t, resp, err, schema.ErrorKindConnect)
		}
	})
	t.Run("an origin that cannot be one", func(t *testing.T) {
		resp, err := get(t, shortConfig(), "ftp://127.0.0.1/")
		wantKind(t, resp, err, schema.ErrorKindConnect)
	})
	t.Run("dns", func(t *testing.T) {
		resp, err := get(t, shortConfig(), "http://no-such-host.invalid/")
		wantKind(t, resp, err, schema.ErrorKindDNS)
	})
	t.Run("tls", func(t *testing.T) {
		s := httptest.NewTLSServer(http.NotFoundHandler())
		t.Cleanup(s.Close)
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		resp, err := get(t, DefaultConfig(), s.URL) // which does not trust it
		wantKind(t, resp, err, schema.ErrorKindTLS)
	})
	t.Run("timeout", func(t *testing.T) {
		addr := rawServer(t, func(c net.Conn, _ *bufio.Reader) { _, _ = io.Copy(io.Discard, c) })
		cfg := shortConfig()
		cfg.ResponseHeaderTimeout = 20 * time.Millisecond
		backend := open(t, cfg, "http://"+addr)
		resp, err := backend.RoundTrip(request(t, "GET", "/", ""))
		wantKind(t, resp, err, schema.ErrorKindTimeout)
		resp, err = backend.RoundTrip(request(t, "POST", "/", "body"))
		wantKind(t, resp, err, schema.ErrorKindTimeout)
	})
	t.Run("timeout over TLS", func(t *testing.T) {
		release := make(chan struct{})
		s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		t.Cleanup(s.Close)
		t.Cleanup(func() { close(release) })
		cfg := shortConfig()
		cfg.ResponseHeaderTimeout = 20 * time.Millisecond
		resp, err := get(t, cfg, s.URL)
		wantKind(t, resp, err, schema.ErrorKindTimeout)
	})
	for name, answer := range map[string]string{
		"garbage":          "SSH-2.0-OpenSSH_9.9\r\n\r\n",
		"a status below 1": "HTTP/1.1 099 Odd\r\n\r\n",
		"unasked switch":   "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"endless header":   "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Fill: "+strings.Repeat("y", 1000)+"\r\n", 1100) + "\r\n",
	} {
		t.Run("protocol: "+name, func(t *testing.T) {
			s := rawServer(t, func(c net.Conn, r *bufio.Reader) {
				skipHead(r)
				_, _ = io.WriteString(c, answer)
			})
			resp, err := get(t, shortConfig(), "http://"+s)
			wantKind(t, resp, err, schema.ErrorKindProtocol)
		})
	}
	t.Run("reset before the header", func(t *testing.T) {
		s := rawServer(t, func(_ net.Conn, r *bufio.Reader) { skipHead(r) })
		resp, err := get(t, shortConfig(), "http://"+s)
		wantKind(t, resp, err, schema.ErrorKindReset)
	})
	t.Run("reset in the body", func(t *testing.T) {
		each(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, func(t *testing.T, s *httptest.Server, cfg Config) {
			resp, err := get(t, cfg, s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if string(got) != "half" {
				t.Errorf("got %q before the end", got)
			}
			wantKind(t, resp, err, schema.ErrorKindReset)
		})
	})
}

// rawServer runs serve once for each connection and then closes it.
func rawServer(t *testing.T, serve func(c net.Conn, r *bufio.Reader)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// skipHead reads a request up to its body and reports whether there was one.
func skipHead(r *bufio.Reader) bool {
	_, err := textproto.NewReader(r).ReadLine()
	if err != nil {
		return false
	}
	_, err = textproto.NewReader(r).ReadMIMEHeader()
	return err == nil
}

func TestInformationalResponses(t *testing.T) {
	each(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "done")
	}, func(t *testing.T, s *httptest.Server, cfg Config) {
		var hints []string
		req := request(t, "GET", "/", "")
		req = req.WithContext(traceHints(req.Context(), func(code int, h textproto.MIMEHeader) {
			hints = append(hints, http.StatusText(code)+" "+h.Get("Link"))
		}))
		resp, err := open(t, cfg, s.URL).RoundTrip(req)
		if got := readAll(t, resp, err); got != "done" || resp.StatusCode != http.StatusOK {
			t.Errorf("got %d %q", resp.StatusCode, got)
		}
		if len(hints) != 1 || hints[0] != "Early Hints </style.css>; rel=preload" {
			t.Errorf("got hints %q", hints)
		}
	})
}

// countingBody tells whether anybody has asked for it.
type countingBody struct {
	io.Reader
	reads atomic.Int32
}

func (b *countingBody) Read(p []byte) (int, error) { b.reads.Add(1); return b.Reader.Read(p) }
func (b *countingBody) Close() error               { return nil }

func TestExpectContinue(t *testing.T) {
	expecting := func(t *testing.T) (*http.Request, *countingBody) {
		req := request(t, "POST", "/", "payload")
		body := &countingBody{Reader: strings.NewReader("payload")}
		req.Body = body
		req.Header.Set("Expect", "100-continue")
		return req, body
	}
	t.Run("refused", func(t *testing.T) {
		each(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
			func(t *testing.T, s *httptest.Server, cfg Config) {
				backend := open(t, cfg, s.URL)
				for range 2 { // the second one must not meet a connection that waits for a body
					req, body := expecting(t)
					resp, err := backend.RoundTrip(req)
					readAll(t, resp, err)
					if resp.StatusCode != http.StatusUnauthorized || strings.HasPrefix(s.URL, "http://") && body.reads.Load() != 0 {
						t.Errorf("status %d, %d reads of the body", resp.StatusCode, body.reads.Load())
					}
				}
			})
	})
	t.Run("granted", func(t *testing.T) {
		each(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) },
			func(t *testing.T, s *httptest.Server, cfg Config) {
				req, _ := expecting(t)
				resp, err := open(t, cfg, s.URL).RoundTrip(req)
				if got := readAll(t, resp, err); got != "payload" {
					t.Errorf("got %q", got)
				}
			})
	})
	unheard := func(t *testing.T, first string) {
		addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
			skipHead(r)
			_, _ = io.WriteString(c, first)
			body := make([]byte, len("payload"))
			_, _ = io.ReadFull(r, body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"+string(body))
		})
		cfg := shortConfig()
		cfg.ContinueTimeout = 10 * time.Millisecond
		req, _ := expecting(t)
		resp, err := open(t, cfg, "http://"+addr).RoundTrip(req)
		if got := readAll(t, resp, err); got != "payload" {
			t.Errorf("got %q", got)
		}
	}
	t.Run("unheard", func(t *testing.T) { unheard(t, "") })
	t.Run("other hints", func(t *testing.T) { unheard(t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") })
}

func TestClientLeaves(t *testing.T) {
	gone := make(chan struct{})
	reached := make(chan struct{})
	each(t, func(_ http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}, func(t *testing.T, s *httptest.Server, cfg Config) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-reached; cancel() }()
		_, err := open(t, cfg, s.URL).RoundTrip(request(t, "GET", "/", "").WithContext(ctx)) //nolint:bodyclose // there is none
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		<-gone // the backend is told
	})
}

func TestSwitchingProtocols(t *testing.T) {
	each(t, func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
		_, _ = io.Copy(c, rw)
	}, func(t *testing.T, s *httptest.Server, cfg Config) {
		req := request(t, "GET", "/", "")
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := open(t, cfg, s.URL).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		rw := resp.Body.(io.ReadWriter)
		if _, err := io.WriteString(rw, " world"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len("hello world"))
		if _, err := io.ReadFull(rw, got); err != nil || string(got) != "hello world" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestConfigValidate(t *testing.T) {
	cfg := DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Errorf("the default is not valid: %v", err)
	}
	cfg.DialTimeout = 0
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "dial timeout") {
		t.Errorf("got %v, want an error that names the dial timeout", err)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	b.Cleanup(s.Close)
	backends, err := New(DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(backends.Close)
	backend := backends.Update(snapshotOf(s.URL))[versionID]
	req := httptest.NewRequestWithContext(b.Context(), "GET", "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := backend.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}
