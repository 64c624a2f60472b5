package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/sinktest"
)

// externalS3 names a server to run the suite on instead of the one in this
// process: http://<access key id>:<secret>@<host>:<port>.
const externalS3 = "TIDEGATE_TEST_S3"

var local = Options{Egress: egress.Policy{AllowHTTP: true, AllowLoopback: true, AllowPrivate: true}}

// server is an S3 with one empty bucket.
type server struct {
	endpoint, bucket, keyID, secret string
	client                          *s3.Client
	broken, revoked                 atomic.Bool
	stalled                         atomic.Pointer[chan struct{}]
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{bucket: fmt.Sprintf("tidegate-%d", time.Now().UnixNano()), keyID: "AKIDEXAMPLE", secret: "secret"}
	done := make(chan struct{})
	behind := gofakes3.New(s3mem.New()).Server()
	if external := os.Getenv(externalS3); external != "" {
		u, err := url.Parse(external)
		if err != nil || u.User == nil {
			t.Fatalf("%s must be http://<access key id>:<secret>@<host>:<port>", externalS3)
		}
		s.keyID = u.User.Username()
		s.secret, _ = u.User.Password()
		behind = forward(u.Host)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if arrived := s.stalled.Load(); arrived != nil && r.Method == http.MethodPut {
			_, _ = io.CopyN(io.Discard, r.Body, 1)
			close(*arrived)
			<-done // a server that does not read does not see the client go
			return
		}
		if s.broken.Load() {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
			return
		}
		if s.revoked.Load() && r.Method == http.MethodPut {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does not exist.</Message></Error>`)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	t.Cleanup(func() { close(done) })
	s.endpoint = front.URL
	s.client = s.sink(t, "", "").client
	if _, err := s.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.bucket}); err != nil {
		t.Fatal(err)
	}
	return s
}

// forward passes requests on as they were signed, for their own Host.
func forward(host string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", host
		answer, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body) // the client may have gone
	})
}

func (s *server) sink(t *testing.T, folder, more string) *s3Sink {
	t.Helper()
	conf := fmt.Sprintf("s3://%s/%s?region=us-east-1&access-key-id=%s&secret-access-key=%s&endpoint=%s%s",
		s.bucket, folder, s.keyID, url.QueryEscape(s.secret), url.QueryEscape(s.endpoint), more)
	u, err := url.Parse(conf)
	if err != nil {
		t.Fatal(err)
	}
	made, err := New(u, local)
	if err != nil {
		t.Fatal(err)
	}
	return made.(*s3Sink)
}

func (s *server) get(ctx context.Context, key string) ([]byte, *s3.GetObjectOutput, error) {
	answer, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key})
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return body, answer, err
}

func TestSink(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Subject {
		s := serve(t)
		name := func(o logpush.Object) string { return "shop/20261009/" + o.Name }
		return sinktest.Subject{
			Sink: s.sink(t, "shop/{DATE}", ""),
			Name: name,
			Stored: func(o logpush.Object) ([]byte, bool) {
				body, _, err := s.get(t.Context(), name(o))
				return body, err == nil
			},
			Count: func() int {
				list, err := s.client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &s.bucket})
				if err != nil {
					t.Fatal(err)
				}
				return len(list.Contents)
			},
			Break: func() { s.broken.Store(true) },
			Stall: func() <-chan struct{} {
				arrived := make(chan struct{})
				s.stalled.Store(&arrived)
				return arrived
			},
			Revoke: func() func() {
				s.revoked.Store(true)
				return func() { s.revoked.Store(false) }
			},
		}
	})
}

func TestObjectsAreLabelled(t *testing.T) {
	s := serve(t)
	if err := s.sink(t, "", "").Put(t.Context(), sinktest.Object("a.log.gz", "a")); err != nil {
		t.Fatal(err)
	}
	_, answer, err := s.get(t.Context(), "a.log.gz")
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(answer.ContentEncoding) != "gzip" || aws.ToString(answer.ContentType) != "application/x-ndjson" {
		t.Errorf("the object has the encoding %q and the type %q", aws.ToString(answer.ContentEncoding), aws.ToString(answer.ContentType))
	}
}

func TestEncryptionAndOwnershipAreAskedFor(t *testing.T) {
	headers := make(chan http.Header, 1)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		headers <- r.Header
		w.Header().Set("ETag", `"x"`)
	}))
	defer front.Close()
	s := &server{endpoint: front.URL, bucket: "b", keyID: "k", secret: "s"}
	f := func(parameters string, want map[string]string) {
		t.Helper()
		if err := s.sink(t, "", parameters).Put(t.Context(), sinktest.Object("a.log.gz", "a")); err != nil {
			t.Fatal(err)
		}
		got := <-headers
		for _, name := range []string{"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "X-Amz-Acl"} {
			if got.Get(name) != want[name] {
				t.Errorf("with %s the request has %s: %q, want %q", parameters, name, got.Get(name), want[name])
			}
		}
	}
	f("", nil)
	f("&sse=AES256", map[string]string{"X-Amz-Server-Side-Encryption": "AES256"})
	f("&sse=aws:kms&sse-kms-key-id=key-1", map[string]string{
		"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "key-1",
	})
	f("&acl=bucket-owner-full-control", map[string]string{"X-Amz-Acl": "bucket-owner-full-control"})
}

func TestAMissingBucketIsPermanent(t *testing.T) {
	s := serve(t)
	s.bucket += "-other"
	err := s.sink(t, "", "").Put(t.Context(), sinktest.Object("a.log.gz", "a"))
	e, ok := errors.AsType[*logpush.UploadError](err)
	if !ok || e.Status != 404 || !e.Permanent || !strings.HasPrefix(e.Text, "NoSuchBucket") {
		t.Errorf("put returned %+v", err)
	}
}

func TestRetryAfterIsPassedOn(t *testing.T) {
	s := serve(t)
	s.broken.Store(true)
	err := s.sink(t, "", "").Put(t.Context(), sinktest.Object("a.log.gz", "a"))
	want := logpush.UploadError{Status: 503, Text: "SlowDown: Please reduce your request rate.", RetryAfter: 3 * time.Second}
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || !reflect.DeepEqual(*e, want) {
		t.Errorf("put returned %+v, want %+v", err, want)
	}
}

func TestPermanent(t *testing.T) {
	f := func(status int, code string, want bool) {
		t.Helper()
		if got := permanent(status, code); got != want {
			t.Errorf("%d %s is permanent: %v, want %v", status, code, got, want)
		}
	}
	f(403, "AccessDenied", true)
	f(403, "SignatureDoesNotMatch", true)
	f(404, "NoSuchBucket", true)
	f(400, "EntityTooLarge", true)
	f(301, "PermanentRedirect", true)
	f(400, "RequestTimeout", false)
	f(403, "RequestTimeTooSkewed", false)
	f(409, "OperationAborted", false)
	f(429, "", false)
	f(500, "InternalError", false)
	f(503, "SlowDown", false)
}

func TestLoopbackIsBlockedUnlessAllowed(t *testing.T) {
	s := serve(t)
	u, err := url.Parse(fmt.Sprintf("s3://b/?region=r&access-key-id=k&secret-access-key=s&endpoint=%s", url.QueryEscape(s.endpoint)))
	if err != nil {
		t.Fatal(err)
	}
	made, err := New(u, Options{Egress: egress.Policy{AllowHTTP: true}})
	if err != nil {
		t.Fatal(err)
	}
	err = made.Put(t.Context(), sinktest.Object("a.log.gz", "a"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || !e.Permanent || !strings.Contains(e.Text, "not allowed") {
		t.Errorf("put returned %+v", err)
	}
}

func TestRefusedDestinations(t *testing.T) {
	const keys = "&access-key-id=k&secret-access-key=s"
	f := func(conf, want string) {
		t.Helper()
		sinktest.Refused(t, func(u *url.URL) (logpush.Sink, error) { return New(u, Options{}) }, conf, want)
	}
	f("s3://b/p", "access-key-id, region, secret-access-key")
	f("s3://b/p?region=r&access-key-id=k", "secret-access-key")
	f("s3:///p?region=r"+keys, "bucket is missing")
	f("s3://b/p?region=r&tagging=x"+keys, `"tagging"`)
	f("s3://b/p?region=r&region=q"+keys, "twice")
	f("s3://b/p?region=r&sse=aws"+keys, "AES256")
	f("s3://b/p?region=r&sse=AES256&sse-kms-key-id=k"+keys, "needs sse=aws:kms")
	f("s3://b/p?region=r&acl=public-read"+keys, "only bucket-owner-full-control")
	f("s3://b:80/p?region=r"+keys, "no port")
	f("s3://b/{MINUTE}?region=r"+keys, "{MINUTE}")
	f("s3://b/p?region=r&endpoint=http://h"+keys, "plain http")
	f("s3://b/p?region=r&endpoint=h/path"+keys, "endpoint must be a host without")
	f("r2://b/p?access-key-id=k&secret-access-key=s", "account-id")
	f("r2://b/p?account-id=evil.example/"+keys, "hexadecimal")
}

func TestR2GoesToItsAccount(t *testing.T) {
	u, err := url.Parse("r2://b/p?account-id=0a1b&access-key-id=k&secret-access-key=s")
	if err != nil {
		t.Fatal(err)
	}
	made, err := New(u, Options{})
	if err != nil {
		t.Fatal(err)
	}
	options := made.(*s3Sink).client.Options()
	if aws.ToString(options.BaseEndpoint) != "https://0a1b.r2.cloudflarestorage.com" || options.Region != "auto" {
		t.Errorf("endpoint %q, region %q", aws.ToString(options.BaseEndpoint), options.Region)
	}
}

func TestTheKeyHasNoLeadingSlash(t *testing.T) {
	o := logpush.Object{Name: "n.log.gz", Date: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	for folder, want := range map[string]string{"": "n.log.gz", "/": "n.log.gz", "/a/{DATE}/": "a/20260102/n.log.gz", "/../a": "a/n.log.gz"} {
		if got := o.Key(folder); got != want {
			t.Errorf("the key in %q is %q, want %q", folder, got, want)
		}
	}
	if bytes.Contains([]byte(o.Key("/{DATE}/{DATE}")), []byte("{")) {
		t.Error("a second {DATE} stays")
	}
}
