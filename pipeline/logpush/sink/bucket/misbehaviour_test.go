package bucket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/sinktest"
)

// confs make a destination of each kind at an endpoint.
var confs = map[string]func(endpoint string) string{
	"s3": func(endpoint string) string {
		return "s3://b/p?region=r&access-key-id=k&secret-access-key=s&endpoint=" + url.QueryEscape(endpoint)
	},
	"gs":    func(endpoint string) string { return googleConf("b")(endpoint, "p") },
	"azure": func(endpoint string) string { return azureConf("logs", "account", signature)(endpoint, "p") },
}

func putError(t *testing.T, s logpush.Sink) *logpush.UploadError {
	t.Helper()
	err := s.Put(t.Context(), sinktest.Object("a.log.gz", "a"))
	e, ok := errors.AsType[*logpush.UploadError](err)
	if !ok {
		t.Fatalf("put returned %v, want an *UploadError", err)
	}
	return e
}

func TestMisbehavingStores(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	answer := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
		}
	}
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	reset := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset instead of an orderly end
		_ = conn.Close()
	}
	endless := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			for babble := bytes.Repeat([]byte("x"), 4096); r.Context().Err() == nil; {
				if _, err := w.Write(babble); err != nil {
					return
				}
			}
		}
	}
	cases := []struct {
		name    string
		handler http.HandlerFunc
		want    logpush.UploadError // Text is a part of it
	}{
		{"hanging", hang, logpush.UploadError{Status: logpush.StatusTimeout, Text: "no progress"}},
		{"resetting", reset, logpush.UploadError{Text: "the connection broke"}},
		{"credentials revoked", answer(401), logpush.UploadError{Status: 401, Permanent: true}},
		{"access denied", answer(403), logpush.UploadError{Status: 403, Permanent: true}},
		{"bucket gone", answer(404), logpush.UploadError{Status: 404, Permanent: true}},
		{"being deleted", answer(409), logpush.UploadError{Status: 409}},
		{"too many", answer(429, "Retry-After", "7"), logpush.UploadError{Status: 429, RetryAfter: 7 * time.Second}},
		{"failing", answer(500), logpush.UploadError{Status: 500}},
		{"slow down", answer(503, "Retry-After", "3600"), logpush.UploadError{Status: 503, RetryAfter: time.Hour}},
		{"fails and talks on and on", endless(502), logpush.UploadError{Status: 502}},
		{"the page of a proxy", says(200, "<html>Log in</html>"), logpush.UploadError{Text: "the answer is not one of a store"}},
		{"another's JSON", says(200, `{"status":"ok"}`), logpush.UploadError{Text: "the answer is not one of a store"}},
		{"another's that is created", says(201, ""), logpush.UploadError{Text: "the answer is not one of a store"}},
		{"no content", says(204, ""), logpush.UploadError{Text: "the answer is not one of a store"}},
		{"redirect", answer(307, "Location", elsewhere.URL), logpush.UploadError{Status: 307, Permanent: true}},
	}
	for scheme, conf := range confs {
		for _, c := range cases {
			t.Run(scheme+" "+c.name, func(t *testing.T) {
				t.Parallel()
				var requests atomic.Int32
				options := local
				switch c.name {
				case "hanging":
					options.Egress.NoProgress = 500 * time.Millisecond
				case "fails and talks on and on":
					options.Egress.NoProgress = time.Minute // to read what is kept of it takes the race detector seconds
				}
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					c.handler(w, r)
				}))
				defer server.Close()
				e := putError(t, open(t, conf(server.URL), options))
				if e.Status != c.want.Status || e.Permanent != c.want.Permanent || e.RetryAfter != c.want.RetryAfter || !strings.Contains(e.Text, c.want.Text) {
					t.Errorf("it gave %+v, want %+v", e, c.want)
				}
				if requests.Load() != 1 {
					t.Errorf("%d requests: something repeats", requests.Load())
				}
				for _, secret := range []string{"c2lnbmF0dXJl", "127.0.0.1", "Bearer"} {
					if strings.Contains(fmt.Sprintf("%+v", e), secret) {
						t.Errorf("the error has %q in it: %+v", secret, e)
					}
				}
			})
		}
	}
}

func TestUnreachableStores(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer server.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	inside := Options{Egress: egress.Policy{AllowHTTP: true}}
	own := local
	var err error
	if own.Egress.Own, err = egress.NewPlatform([]string{closed.Listener.Addr().String()}, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for scheme, conf := range confs {
		f := func(name, endpoint string, options Options, want logpush.UploadError) {
			t.Helper()
			s := open(t, conf(endpoint), options)
			e := putError(t, s)
			for tries := 3; tries > 0 && (e.Status == logpush.StatusConnectTimeout || e.Status == logpush.StatusTimeout); tries-- {
				e = putError(t, s) // a look-up or a handshake, where the machine stood still
			}
			if e.Status != want.Status || e.Permanent != want.Permanent || !strings.Contains(e.Text, want.Text) {
				t.Errorf("%s, %s gave %+v, want %+v", scheme, name, e, want)
			}
		}
		f("certificate of nobody known", server.URL, local, logpush.UploadError{Text: "the certificate is not trusted"})
		f("no such name", "https://name.invalid", local, logpush.UploadError{Status: logpush.StatusNameUnresolved, Text: "name.invalid cannot be resolved"})
		f("nobody listens", closed.URL, local, logpush.UploadError{Text: "connection failed: " + closed.Listener.Addr().String() + ": connection refused"})
		f("loopback", server.URL, inside, logpush.UploadError{Text: "not allowed", Permanent: true})
		f("the platform itself", closed.URL, own, logpush.UploadError{Text: "the platform's own", Permanent: true})
	}
}

// Stores that say little of an object that they took are stores all the same.
func TestWhatAnS3StoreSays(t *testing.T) {
	for _, name := range []string{"ETag", "X-Amz-Request-Id"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set(name, `"1"`)
		}))
		defer server.Close()
		if err := open(t, confs["s3"](server.URL), local).Put(t.Context(), sinktest.Object("a.log.gz", "a")); err != nil {
			t.Errorf("with %s: %v", name, err)
		}
	}
}
