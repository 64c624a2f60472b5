package bucket

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

// TestOnlyAmbientCredentialsNeedAChallenge: with those of the job's owner, nothing
// has to be proved.
func TestOnlyAmbientCredentialsNeedAChallenge(t *testing.T) {
	f := func(conf string, want bool) {
		t.Helper()
		u, err := url.Parse(conf)
		if err != nil {
			t.Fatal(err)
		}
		options := local
		options.GoogleAmbient = true
		s, err := New(u, options)
		if err != nil {
			t.Fatal(err)
		}
		if got := logpush.TraitsOf(s).Challenge; got != want {
			t.Errorf("%s needs a challenge: %t, want %t", conf, got, want)
		}
	}
	f("gs://lake/workers", true)
	f("gs://lake/workers?endpoint=http://127.0.0.1:1", false)
	f("s3://lake/workers?region=eu-west-1&access-key-id=a&secret-access-key=b", false)
}

// TestAChallengeIsPlainText: a person reads it, with whatever shows a bucket's files.
func TestAChallengeIsPlainText(t *testing.T) {
	var upload string
	google := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what arrived is looked at below
		upload = string(body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"name": "x", "bucket": "lake"}`) // to a client of ours
	}))
	t.Cleanup(google.Close)
	s, err := New(&url.URL{Scheme: "gs", Host: "lake", Path: "/workers", RawQuery: "endpoint=" + google.URL}, local)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), sinktest.Object("a.log.gz", "{}\n")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(upload, "gzip") {
		t.Fatalf("a batch was uploaded as %q", upload)
	}
	if err := s.Put(t.Context(), logpush.Object{Name: "ownership-challenge-00000000.txt", Body: []byte("the challenge"), Plain: true, ContentType: "text/plain"}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(upload, "gzip") || !strings.Contains(upload, "the challenge") || !strings.Contains(upload, "workers/ownership-challenge-00000000.txt") {
		t.Errorf("it was uploaded as %q", upload)
	}
}
