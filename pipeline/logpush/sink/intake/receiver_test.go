package intake

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/sinktest"
)

var loopback = Options{Egress: egress.Policy{AllowHTTP: true, AllowLoopback: true}}

// receiver is an HTTP destination that keeps what it gets by path and batch.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	bodies   map[string][]byte
	requests []*http.Request
	answer   func(http.ResponseWriter) // instead of 200
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{bodies: map[string][]byte{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answer != nil {
		r.answer(w)
		return
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.bodies[q.URL.Path+" "+q.Header.Get(HeaderBatchID)] = body
	r.requests = append(r.requests, q)
	if strings.HasSuffix(q.URL.Path, "/_bulk") {
		records, err := strconv.Atoi(q.Header.Get(HeaderRecords))
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(w, bulkAnswer(slices.Repeat([]string{`{"create":{"status":201}}`}, records)...))
	}
}

func (r *receiver) fail(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = func(w http.ResponseWriter) { w.WriteHeader(status) }
}

// only returns the one request and the body that came.
func (r *receiver) only(t *testing.T) (*http.Request, []byte) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.requests) != 1 {
		t.Fatalf("%d requests came, want 1", len(r.requests))
	}
	return r.requests[0], slices.Collect(maps.Values(r.bodies))[0]
}

func open(t *testing.T, conf string, options Options) logpush.Sink {
	t.Helper()
	u, err := url.Parse(conf)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(u, options)
	if err != nil {
		t.Fatalf("%s: %v", conf, err)
	}
	return s
}

func unzip(t *testing.T, body []byte) []byte {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// object returns an object in the form that a sink wants.
func object(s logpush.Sink, content string) logpush.Object {
	if logpush.TraitsOf(s).Records {
		return sinktest.Items("a.log.gz", content)
	}
	return sinktest.Object("a.log.gz", content)
}

func uploadError(t *testing.T, err error) *logpush.UploadError {
	t.Helper()
	e, ok := errors.AsType[*logpush.UploadError](err)
	if !ok {
		t.Fatalf("the error is %v, want an *UploadError", err)
	}
	return e
}

// services is one destination_conf of each scheme for a receiver at host, the path
// at which its requests come, and what makes records of a request's body again.
var services = map[string]struct {
	conf, path string
	texts      func(t *testing.T, body []byte) []byte
}{
	"http":        {"http://HOST/in/{DATE}", "/in/20261009", nil},
	"splunk":      {"splunk://HOST/services/collector/raw?insecure=true&insecure-skip-verify=true&channel=0c5c5d2f-5b4f-4b26-8c21-6f7d5a0f3c11&sourcetype=x&header_Authorization=Splunk%20t0k3n", "/services/collector/raw", nil},
	"sentinelone": {"sentinelone://HOST?insecure=true&header_Authorization=Bearer%20t0k3n", "/services/collector/raw", nil},
	"sumo":        {"sumo://HOST/receiver/v1/http/c0de?insecure=true", "/receiver/v1/http/c0de", nil},
	"datadog":     {"datadog://HOST?insecure=true&header_DD-API-KEY=k3y", "/api/v2/logs", textsOfDatadog},
	"ibmcl":       {"ibmcl://HOST?insecure=true&ibm_api_key=k3y", "/logs/v1/singles", textsOfIBM},
	"loki":        {"loki://HOST?insecure=true&tenant=red", "/loki/api/v1/push", textsOfLoki},
	"otlp":        {"otlp://HOST?insecure=true", "/v1/logs", textsOfOTLP},
	"elastic":     {"elastic://HOST/logs-{DATE}?insecure=true&header_Authorization=ApiKey%20k3y", "/logs-20261009/_bulk", textsOfElastic},
}

// openService opens the sink of a scheme for a receiver at host.
func openService(t *testing.T, scheme, host string, options Options) logpush.Sink {
	t.Helper()
	options.iam = ibmTokens(t)
	return open(t, strings.Replace(services[scheme].conf, "HOST", host, 1), options)
}

func TestEverySchemeIsTested(t *testing.T) {
	tested := append(slices.Collect(maps.Keys(services)), "https") // as http
	if slices.Sort(tested); !slices.Equal(tested, Schemes()) {
		t.Errorf("tests know %v, the table of schemes has %v", tested, Schemes())
	}
}

func TestContract(t *testing.T) {
	for scheme, service := range services {
		t.Run(scheme, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Subject {
				r := receive(t)
				return sinktest.Subject{
					Sink: openService(t, scheme, r.Listener.Addr().String(), loopback),
					Stored: func(o logpush.Object) ([]byte, bool) {
						r.mu.Lock()
						defer r.mu.Unlock()
						body, ok := r.bodies[service.path+" "+o.BatchID]
						if ok && service.texts != nil {
							body = service.texts(t, unzip(t, body))
						}
						return body, ok
					},
					Count: func() int {
						r.mu.Lock()
						defer r.mu.Unlock()
						return len(r.bodies)
					},
					Break: func() { r.fail(http.StatusServiceUnavailable) },
				}
			})
		})
	}
}
