package gateway_test

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// instant answers for every version without a network.
type instant struct{}

func (instant) Update(s *deploy.Snapshot) map[string]http.RoundTripper {
	all := map[string]http.RoundTripper{}
	for _, v := range s.Scripts[0].Versions {
		all[v.ID] = instant{}
	}
	return all
}

func (instant) Release(func(string) bool) {}

func (instant) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, ContentLength: 2, Body: io.NopCloser(strings.NewReader("ok"))}, nil
}

// ask sends a request straight to the handler and returns the version that served it,
// and what chose it.
func ask(t *testing.T, e *env, headers ...string) (version, decision string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Host = "shop.dev.localhost"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w.Header().Get("Tidegate-Version"), w.Header().Get("Tidegate-Decision")
}

// sigmas is how far a count may be from its expectation. One of a binomial
// distribution is further off once in a billion times (two-sided, 6.11 of the normal).
// Seven counts of the test are drawn, so that it fails a correct gateway once in 140
// million runs; those by key are the same in every run. Of 8,000 requests it finds a
// share out that is off by 3.4 points at 50 %, or by 0.7 at 1 %.
const sigmas = 6.11

func wantShare(t *testing.T, what string, got, n int, share deploy.Percentage) {
	t.Helper()
	p := float64(share) / float64(deploy.Full)
	if off := math.Abs(float64(got) - float64(n)*p); off > sigmas*math.Sqrt(float64(n)*p*(1-p)) {
		t.Errorf("%s: %d of %d requests are on the new version at %s", what, got, n, share)
	}
}

// While a version ramps up, requests without a key follow the split at every step,
// clients with a key do too, whichever way they bring it, and none of those that have
// arrived at the new version goes back.
func TestSharesUnderARamp(t *testing.T) {
	if byNetHTTP {
		t.Skip("asks the handler itself, by no path")
	}
	const n = 8_000
	sc := script([]string{"http://127.0.0.1:1", "http://127.0.0.1:1"})
	sc.Affinity = []deploy.AffinityRule{{Source: deploy.AffinityCookie, Name: "session"}}
	e := start(t, nil, showVersion, func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) { d.Backends, d.Emitter = instant{}, nil })
	arrived := map[string]bool{}
	for step, share := range []deploy.Percentage{0, 1_000, 5_000, 12_500, 25_000, 50_000, 75_000, 99_000, deploy.Full} {
		sc.Splits = []deploy.Split{{VersionID: v1, Percentage: deploy.Full - share}, {VersionID: v2, Percentage: share}}
		e.control.set(snapshot(int64(step+1), sc), nil)
		waitFor(t, "the share", func() bool { return e.Revision() == int64(step+1) })
		drawn, byKey, byCookie := 0, 0, 0
		split, affinity := schema.DecisionSplit, schema.DecisionAffinity
		if share == 0 || share == deploy.Full {
			split, affinity = schema.DecisionOnly, schema.DecisionOnly
		}
		check := func(wantDecision string, headers ...string) bool {
			version, decision := ask(t, e, headers...)
			if decision != wantDecision || version != v1 && version != v2 {
				t.Fatalf("%q is on %q by %q", headers, version, decision)
			}
			return version == v2
		}
		for i := range n {
			if check(split) {
				drawn++
			}
			client := fmt.Sprint("client-", i)
			keyed := check(affinity, key, client)
			if keyed {
				byKey++
			}
			if arrived[client] && !keyed {
				t.Fatalf("at %s %s is back on the old version", share, client)
			}
			arrived[client] = keyed
			if check(affinity, "Cookie", "a=b; session=cookie-"+client) {
				byCookie++
			}
		}
		wantShare(t, "drawn", drawn, n, share)
		wantShare(t, "by key", byKey, n, share)
		wantShare(t, "by cookie", byCookie, n, share)
		t.Logf("at %s: %d drawn, %d by key, %d by cookie, of %d each", share, drawn, byKey, byCookie, n)
	}
}
