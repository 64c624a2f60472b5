package sinktest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
)

// Answers tests what a sink makes of HTTP answers that are not those of its service, but of
// what stands before it, or of none. One answer is for one request: the caller repeats.
func Answers(t *testing.T, open Opener, o logpush.Object) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "because")
		}
	}
	says := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	half := func(code int) http.HandlerFunc { return status(code, "Content-Length", "1000") }
	endless := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
					return
				}
			}
		}
	}
	stops := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    logpush.UploadError // Text is a part of it
	}{
		{"401", status(401), logpush.UploadError{Status: 401, Permanent: true}},
		{"403", status(403), logpush.UploadError{Status: 403, Permanent: true}},
		{"404", status(404), logpush.UploadError{Status: 404, Permanent: true}},
		{"408", status(408), logpush.UploadError{Status: 408}},
		{"429", status(429, "Retry-After", "7"), logpush.UploadError{Status: 429, RetryAfter: 7 * time.Second}},
		{"500", status(500), logpush.UploadError{Status: 500}},
		{"503", status(503, "Retry-After", "3600"), logpush.UploadError{Status: 503, RetryAfter: time.Hour}},
		{"redirect", status(307, "Location", elsewhere.URL), logpush.UploadError{Status: 307, Permanent: true}},
		{"401 with nothing", says(401, ""), logpush.UploadError{Status: 401, Permanent: true}},
		{"403 with another's JSON", says(403, `{"message":"Forbidden"}`), logpush.UploadError{Status: 403, Permanent: true}},
		{"redirect with nothing", says(307, ""), logpush.UploadError{Status: 307, Permanent: true}},
		{"another's JSON", says(200, `{"status":"ok"}`), logpush.UploadError{Text: "the answer is not one of"}},
		{"the page of a proxy", status(200, "Content-Type", "text/html"), logpush.UploadError{Text: "the answer is not one of"}},
		{"half of an answer", half(200), logpush.UploadError{}},
		{"half of a refusal", half(503), logpush.UploadError{Status: 503}},
		{"an answer that stops", stops(200), logpush.UploadError{Status: logpush.StatusTimeout, Text: "no progress"}},
		{"a refusal that stops", stops(503), logpush.UploadError{Status: 503}},
		{"an answer without end", endless(200), logpush.UploadError{Text: "the answer is not one of"}},
		{"a refusal without end", endless(502), logpush.UploadError{Status: 502}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var requests atomic.Int32
			before := runtime.NumGoroutine()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				c.handler(w, r)
			}))
			await(t, "put did not return", func() {
				noProgress := time.Duration(0)
				if strings.HasSuffix(c.name, "stops") {
					noProgress = 200 * time.Millisecond
				}
				err := open(t, server.Listener.Addr().String(), noProgress).Put(t.Context(), o)
				e, ok := errors.AsType[*logpush.UploadError](err)
				if !ok || e.Status != c.want.Status || e.Permanent != c.want.Permanent || e.RetryAfter != c.want.RetryAfter || e.Records != nil ||
					!strings.Contains(e.Text, c.want.Text) || e.Status == 0 && e.Text == "" || len(e.Text) > 65<<10 {
					t.Errorf("put returned %.200q, %+.200v, want %+v", err, e, c.want)
				}
			})
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests came, want 1", n)
			}
			await(t, "a connection is left open", server.Close)
			settle(t, before)
		})
	}
}
