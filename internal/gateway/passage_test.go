package gateway_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
)

// keeper is a backend that keeps the requests that it was given, as http.Transport may for a
// while.
type keeper struct {
	mu   sync.Mutex
	kept []*http.Request
}

func (k *keeper) RoundTrip(r *http.Request) (*http.Response, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, r)
	return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Length": {"0"}}, Body: http.NoBody}, nil
}

// lettingKeeper promises to keep nothing, and breaks it to show what the promise is about.
type lettingKeeper struct{ keeper }

func (*lettingKeeper) LetsGo() bool { return true }

type oneBackend struct{ http.RoundTripper }

func (b oneBackend) Update(s *deploy.Snapshot) map[string]http.RoundTripper {
	all := map[string]http.RoundTripper{}
	for _, v := range s.Scripts[0].Versions {
		all[v.ID] = b.RoundTripper
	}
	return all
}

func (oneBackend) Release(func(string) bool) {}

// The memory of a request goes to the next one only if its backend has promised to have let
// go of it, and never if it had a body.
func TestBackendsMayKeepRequests(t *testing.T) {
	f := func(name string, backend http.RoundTripper, k *keeper, body string, same bool) {
		t.Run(name, func(t *testing.T) {
			e := start(t, snapshot(1, script([]string{"http://a"}, 100_000)), func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) {
				d.Backends = oneBackend{backend}
			})
			for i := range 20 {
				if _, err := e.try(t.Context(), "POST", fmt.Sprintf("%s/%d", shop, i), strings.NewReader(body), "X-N", fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			changed := 0
			for i, r := range k.kept {
				if r.RequestURI != fmt.Sprintf("/%d", i) || r.Header.Get("X-N") != fmt.Sprint(i) || r.URL.Path != r.RequestURI {
					changed++
				}
			}
			if len(k.kept) != 20 || (changed > 0) == same {
				t.Errorf("%d of %d requests have changed", changed, len(k.kept))
			}
		})
	}
	var plain, withBody keeper
	var letting, lettingWithBody lettingKeeper
	f("kept", &plain, &plain, "", true)
	f("kept with a body", &withBody, &withBody, "body", true)
	f("let go with a body", &lettingWithBody, &lettingWithBody.keeper, "body", true)
	if !byNetHTTP && !raceDetector { // which has pools forget things
		f("let go", &letting, &letting.keeper, "", false)
	}
}

type userKey struct{}

// contextual is a backend that lets go, and notes what it found in the contexts.
type contextual struct{ keeper }

func (*contextual) LetsGo() bool { return true }

func (c *contextual) RoundTrip(r *http.Request) (*http.Response, error) {
	user, _ := r.Context().Value(userKey{}).(string)
	resp, err := c.keeper.RoundTrip(&http.Request{RequestURI: user})
	return resp, err
}

// Whoever stands before the gateway may give each request a context of its own, also
// those of one connection.
func TestRequestsOfAConnectionHaveTheirContexts(t *testing.T) {
	var backend contextual
	e := start(t, snapshot(1, script([]string{"http://a"}, 100_000)), func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) {
		d.Backends = oneBackend{&backend}
	})
	server := gateway.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, r.URL.Path)))
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }() // ends with Close
	defer func() { _ = server.Close() }()
	sendRaw(t, l.Addr().String(), false, strings.Repeat("GET /a HTTP/1.1\r\nHost: shop.dev.localhost\r\n\r\n", 2)+
		"GET /b HTTP/1.1\r\nHost: shop.dev.localhost\r\nConnection: close\r\n\r\n")
	backend.mu.Lock()
	defer backend.mu.Unlock()
	var got []string
	for _, r := range backend.kept {
		got = append(got, r.RequestURI)
	}
	if fmt.Sprint(got) != "[/a /a /b]" {
		t.Errorf("the contexts are those of %v", got)
	}
}
