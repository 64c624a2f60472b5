package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/api/apitest"
	"tidegate/test/platform"
)

// recorder is a reverse proxy in front of the API, for clients that take an
// address and no transport. It holds every answer against openapi.yaml, keeps
// what was asked, and fails the test for a call that the API has not.
type recorder struct {
	server *httptest.Server

	mu      sync.Mutex
	calls   []string // "METHOD /path status", in the order of the answers
	unknown []string // those that the API does not have
}

// record starts a recorder until the test ends.
func record(t *testing.T, p *platform.Platform) *recorder {
	t.Helper()
	target, err := url.Parse(p.Ready.API)
	if err != nil {
		t.Fatal(err)
	}
	contract, err := apitest.NewValidator(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	proxy := &httputil.ReverseProxy{
		Transport: contract,
		// The Host header stays what the client sent, so that addresses in answers lead back here.
		Rewrite:        func(req *httputil.ProxyRequest) { req.SetURL(target); req.Out.Host = req.In.Host },
		ModifyResponse: r.note,
	}
	r.server = httptest.NewServer(proxy)
	t.Cleanup(func() {
		r.server.Close()
		for _, call := range r.unknown {
			t.Errorf("the API has no such call: %s", call)
		}
		for _, violation := range contract.Violations() {
			t.Errorf("an answer is not as openapi.yaml says: %s", violation)
		}
	})
	return r
}

func (r *recorder) note(res *http.Response) error {
	call := fmt.Sprintf("%s %s %d", res.Request.Method, res.Request.URL.RequestURI(), res.StatusCode)
	unknown := false
	if res.StatusCode == http.StatusNotFound {
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		unknown = bytes.Contains(body, []byte(`"code":7003`))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
	if unknown {
		r.unknown = append(r.unknown, call)
	}
	return nil
}

// baseURL is what a client takes for https://api.cloudflare.com/client/v4.
func (r *recorder) baseURL() string { return r.server.URL + "/client/v4" }

// latest returns the newest calls, for messages.
func (r *recorder) latest(n int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.calls[max(0, len(r.calls)-n):], "\n")
}
