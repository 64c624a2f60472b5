package intake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"tidegate/internal/signature"
	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestTheRequest(t *testing.T) {
	r := receive(t)
	conf := r.URL + "/in?b=2&header_Authorization=Bearer%20a%2Bb&a=x%20y&header_X-Team=red"
	if err := open(t, conf, loopback).Put(t.Context(), sinktest.Object("a.log.gz", "a")); err != nil {
		t.Fatal(err)
	}
	q := r.requests[0]
	if q.Method != http.MethodPost || q.URL.RawQuery != "b=2&a=x%20y" {
		t.Errorf("%s with the parameters %q", q.Method, q.URL.RawQuery)
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer a+b", "X-Team": "red",
		"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson", "User-Agent": "Tidegate-Logpush/1.0",
		HeaderBatchID: "7-0-a.log.gz", HeaderJobID: "7", HeaderDataset: "workers_trace_events", HeaderRecords: "1",
	} {
		if got := q.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
}

// A path stays as it was written also where {DATE} is in it: %2F became a slash.
func TestPathsStayAsTheyWereWritten(t *testing.T) {
	for _, path := range []string{"/a%2Fb/{DATE}/c%20d", "/a%2Fb/%7BDATE%7d/c%20d", "/a%2Fb/20261009/c%20d"} {
		r := receive(t)
		if err := open(t, r.URL+path, loopback).Put(t.Context(), sinktest.Object("a.log.gz", "a")); err != nil {
			t.Fatal(err)
		}
		if got, want := r.requests[0].URL.EscapedPath(), "/a%2Fb/20261009/c%20d"; got != want {
			t.Errorf("%s: the path is %s, want %s", path, got, want)
		}
	}
}

func TestTheOwnerMayChooseTheContentType(t *testing.T) {
	r := receive(t)
	if err := open(t, r.URL+"/?header_Content-Type=application%2Fjson", loopback).Put(t.Context(), sinktest.Object("a", "a")); err != nil {
		t.Fatal(err)
	}
	if got := r.requests[0].Header.Values("Content-Type"); len(got) != 1 || got[0] != "application/json" {
		t.Errorf("Content-Type is %q", got)
	}
}

func TestAnswers(t *testing.T) {
	f := func(status int, header, body string, want *logpush.UploadError) {
		t.Helper()
		r := receive(t)
		r.answer = func(w http.ResponseWriter) {
			if name, value, found := strings.Cut(header, ": "); found {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body) // the client may have gone
		}
		err := open(t, r.URL, loopback).Put(t.Context(), sinktest.Object("a", "a"))
		if want == nil {
			if err != nil {
				t.Errorf("status %d gave %v", status, err)
			}
			return
		}
		if e, ok := errors.AsType[*logpush.UploadError](err); !ok || !reflect.DeepEqual(e, want) {
			t.Errorf("status %d gave %+v, want %+v", status, err, want)
		}
	}
	refused := func(status int, text string) *logpush.UploadError {
		return &logpush.UploadError{Status: status, Text: text, Permanent: true}
	}
	passing := func(status int, after time.Duration) *logpush.UploadError {
		return &logpush.UploadError{Status: status, RetryAfter: after}
	}
	f(200, "", "ok", nil)
	f(202, "", "", nil)
	f(204, "", "", nil)
	f(301, "Location: http://example.com/", "", refused(301, ""))
	f(400, "", "", refused(400, ""))
	f(401, "", "", refused(401, ""))
	f(403, "", "", refused(403, ""))
	f(404, "", "", refused(404, ""))
	f(413, "", "", refused(413, ""))
	f(415, "", "{\n \"message\": \"wrong\"\n}", refused(415, `{ "message": "wrong" }`))
	f(408, "", "", passing(408, 0))
	f(425, "", "", passing(425, 0))
	f(429, "Retry-After: 7", "", passing(429, 7*time.Second))
	f(500, "", "", passing(500, 0))
	f(502, "", "", passing(502, 0))
	f(503, "Retry-After: soon", "", passing(503, 0))
	f(503, "Retry-After: -3", "", passing(503, 0))
	f(503, "Retry-After: 99999999999999999999", "", passing(503, 1<<30*time.Second))
	f(599, "", strings.Repeat("x", 300), &logpush.UploadError{Status: 599, Text: strings.Repeat("x", 300)})
}

func TestSlowButSteadyIsFine(t *testing.T) {
	options := loopback
	for options.Egress.NoProgress = 1500 * time.Millisecond; ; options.Egress.NoProgress *= 5 { // for a machine that stands still for longer
		pause := options.Egress.NoProgress / 5
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			w.WriteHeader(http.StatusInternalServerError)
			for range 6 { // longer than the limit in all, never still for as long
				fmt.Fprint(w, "x")
				_ = http.NewResponseController(w).Flush()
				<-time.After(pause)
			}
		}))
		t.Cleanup(server.Close)
		err := open(t, server.URL, options).Put(t.Context(), sinktest.Object("a", "a"))
		if e, ok := errors.AsType[*logpush.UploadError](err); ok && e.Status == 500 && e.Text == "xxxxxx" {
			return
		}
		if t.Logf("a slow destination gave %+v", err); options.Egress.NoProgress > 5*time.Second {
			t.Fatal("it was given up")
		}
	}
}

func TestCompressionIsTheOwnersChoice(t *testing.T) {
	f := func(parameter, encoding string, plain func([]byte) []byte) {
		t.Helper()
		r := receive(t)
		o := sinktest.Object("a.log.gz", strings.Repeat(`{"Outcome":"ok"}`+"\n", 10_000))
		if err := open(t, r.URL+"/?a=b&"+parameter, loopback).Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		q, body := r.only(t)
		if q.URL.RawQuery != "a=b" || q.Header.Get("Content-Encoding") != encoding || q.ContentLength != int64(len(body)) {
			t.Errorf("%s: %s with the encoding %q and the length %d", parameter, q.URL, q.Header.Get("Content-Encoding"), q.ContentLength)
		}
		if got, want := plain(body), unzip(t, o.Body); !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came, want %d", parameter, len(got), len(want))
		}
	}
	gunzip := func(body []byte) []byte { return unzip(t, body) }
	f("compression=gzip", "gzip", gunzip)
	f("", "gzip", gunzip)
	f("compression=none", "", func(body []byte) []byte { return body })
	f("compression=zstd", "zstd", func(body []byte) []byte {
		decoder, err := zstd.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer decoder.Close()
		plain, err := io.ReadAll(decoder)
		if err != nil {
			t.Fatal(err)
		}
		return plain
	})
}

func TestAReceiverCanVerifyWhoSent(t *testing.T) {
	const secret = "0123456789 abcdef"
	for _, compression := range []string{"gzip", "zstd", "none"} {
		r := receive(t)
		conf := r.URL + "/?hmac-secret=" + url.QueryEscape(secret) + "&compression=" + compression
		if err := open(t, conf, loopback).Put(t.Context(), sinktest.Object("a.log.gz", "content")); err != nil {
			t.Fatal(err)
		}
		q, body := r.only(t)
		if q.URL.RawQuery != "" {
			t.Errorf("the URL has the parameters %s", q.URL.RawQuery)
		}
		header := q.Header.Get(signature.Header)
		if err := signature.Verify(secret, header, bytes.NewReader(body), time.Now(), time.Minute); err != nil {
			t.Errorf("%s: %q: %v", compression, header, err)
		}
	}
	r := receive(t)
	if err := open(t, r.URL, loopback).Put(t.Context(), sinktest.Object("a.log.gz", "content")); err != nil {
		t.Fatal(err)
	}
	if q, _ := r.only(t); q.Header.Get(signature.Header) != "" {
		t.Error("without a secret there is a signature")
	}
}
