package intake

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
)

// secure removes plain HTTP from a destination_conf.
func secure(conf string) string {
	conf = strings.Replace(conf, "http://", "https://", 1)
	return strings.NewReplacer("insecure=true&", "", "insecure=true", "", "insecure-skip-verify=true&", "").Replace(conf)
}

// Whatever a destination does, each sink of the family says the same of it.
func TestMisbehavingDestinations(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "because")
		}
	}
	stopped := make(chan struct{})
	defer close(stopped)
	hang := func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		select {
		case <-stopped:
		case <-q.Context().Done():
		}
	}
	cases := []struct {
		name    string
		handler http.HandlerFunc
		want    *logpush.UploadError // nil where the batch is taken; Text is a part of it
	}{
		{"takes it and talks on and on", endless(http.StatusOK), nil},
		{"fails and talks on and on", endless(http.StatusBadGateway), &logpush.UploadError{Status: 502, Text: "xxx"}},
		{"hanging", hang, &logpush.UploadError{Status: logpush.StatusTimeout, Text: "no progress"}},
		{"resetting", reset, &logpush.UploadError{Text: "the connection broke"}},
		{"answers what is not HTTP", garbage, &logpush.UploadError{Text: "the connection broke"}},
		{"204", status(204), nil},
		{"400", status(400), &logpush.UploadError{Status: 400, Text: "because", Permanent: true}},
		{"403", status(403), &logpush.UploadError{Status: 403, Text: "because", Permanent: true}},
		{"404", status(404), &logpush.UploadError{Status: 404, Text: "because", Permanent: true}},
		{"408", status(408), &logpush.UploadError{Status: 408, Text: "because"}},
		{"413", status(413), &logpush.UploadError{Status: 413, Text: "because", Permanent: true}},
		{"429", status(429, "Retry-After", "7"), &logpush.UploadError{Status: 429, Text: "because", RetryAfter: 7 * time.Second}},
		{"500", status(500), &logpush.UploadError{Status: 500, Text: "because"}},
		{"503", status(503, "Retry-After", "3600"), &logpush.UploadError{Status: 503, Text: "because", RetryAfter: time.Hour}},
		{"redirect", status(307, "Location", elsewhere.URL), &logpush.UploadError{Status: 307, Text: "because", Permanent: true}},
	}
	var puts sync.WaitGroup
	defer puts.Wait()
	for scheme := range services {
		for _, c := range cases {
			server := httptest.NewServer(c.handler)
			t.Cleanup(server.Close)
			options := loopback
			if c.name == "hanging" {
				options.Egress.NoProgress = 100 * time.Millisecond
			}
			s := openService(t, scheme, server.Listener.Addr().String(), options)
			if scheme == "elastic" && c.want == nil { // whose 2xx is not enough
				c.want = &logpush.UploadError{Text: "not one of the bulk API"}
			}
			puts.Go(func() { // all at once: most of them wait
				check(t, scheme+", "+c.name, s.Put(t.Context(), object(s, "a\nb\n")), c.want)
			})
		}
	}
}

// The same for destinations to which no connection comes about.
func TestUnreachableDestinations(t *testing.T) {
	server := httptest.NewTLSServer(receive(t))
	defer server.Close()
	address := server.Listener.Addr().String()
	closed := httptest.NewServer(nil)
	closed.Close()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	inside := Options{Egress: egress.Policy{AllowHTTP: true}}
	own := loopback
	if own.Egress.Own, err = egress.NewPlatform([]string{closed.Listener.Addr().String()}, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for scheme, service := range services {
		f := func(name, host string, options Options, want *logpush.UploadError) {
			t.Helper()
			options.iam = ibmTokens(t)
			s := open(t, secure(strings.Replace(service.conf, "HOST", host, 1)), options)
			if ibm, ok := s.(*ibm); ok { // its token is there; the policy is for where batches go
				ibm.token, ibm.until = "t0k3n", time.Now().Add(time.Hour)
			}
			err := s.Put(t.Context(), object(s, "a\nb\n"))
			for tries := 3; tries > 0 && ranOut(err); tries-- { // a look-up or a handshake, where the machine stood still
				err = s.Put(t.Context(), object(s, "a\nb\n"))
			}
			check(t, scheme+", "+name, err, want)
		}
		f("certificate of nobody known", address, loopback, &logpush.UploadError{Text: "the certificate is not trusted"})
		f("no such name", "name.invalid", loopback, &logpush.UploadError{Status: logpush.StatusNameUnresolved, Text: "name.invalid cannot be resolved"})
		f("nobody listens", closed.Listener.Addr().String(), loopback, &logpush.UploadError{Text: "connection failed: " + closed.Listener.Addr().String() + ": connection refused"})
		f("loopback", address, inside, &logpush.UploadError{Text: "not allowed", Permanent: true})
		f("loopback by name", "localhost:"+port, inside, &logpush.UploadError{Text: "not allowed", Permanent: true})
		f("the platform itself", closed.Listener.Addr().String(), own, &logpush.UploadError{Text: "the platform's own", Permanent: true})
	}
}

// ranOut says whether an upload ran out of time.
func ranOut(err error) bool {
	e, ok := errors.AsType[*logpush.UploadError](err)
	return ok && (e.Status == logpush.StatusConnectTimeout || e.Status == logpush.StatusTimeout)
}

func check(t *testing.T, name string, err error, want *logpush.UploadError) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("%s gave %v", name, err)
		}
		return
	}
	e, ok := errors.AsType[*logpush.UploadError](err)
	if !ok || e.Status != want.Status || e.Permanent != want.Permanent || e.RetryAfter != want.RetryAfter || e.Records != nil || !strings.Contains(e.Text, want.Text) {
		t.Errorf("%s gave %+v, want %+v", name, err, want)
	}
}

func endless(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.WriteHeader(status)
		for q.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
				return
			}
		}
	}
}

func reset(w http.ResponseWriter, q *http.Request) {
	_, _ = io.CopyN(io.Discard, q.Body, 1)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // a reset instead of an orderly end
	_ = conn.Close()
}

func garbage(w http.ResponseWriter, q *http.Request) {
	_, _ = io.Copy(io.Discard, q.Body)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n")
	_ = conn.Close()
}

// An answer whose header, or body, drips in makes progress for ever.
func TestAnAnswerThatNeverEndsIsGivenUp(t *testing.T) {
	var lines atomic.Int32
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, err := conn.Read(make([]byte, 4096)) // of the request
				for _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"); err == nil; {
					<-time.After(5 * time.Millisecond)
					lines.Add(1)
					_, err = io.WriteString(conn, "X-More: to come\r\n")
				}
			}()
		}
	}()
	options := loopback
	options.Egress.NoProgress = 50 * time.Millisecond
	err = open(t, "http://"+listener.Addr().String(), options).Put(t.Context(), object(nil, "a"))
	if e := uploadError(t, err); e.Status != logpush.StatusTimeout || e.Permanent {
		t.Errorf("it gave %+v after %d lines", e, lines.Load())
	}
}
