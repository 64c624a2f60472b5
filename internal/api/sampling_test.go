package api_test

import (
	"net/http"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// sampling is a part of TestEveryOperation.
func sampling(t *testing.T, p *platform) {
	ctx := t.Context()
	const path = "/workers/scripts/shop/sampling"
	wantRate := func(what string, want float64) {
		t.Helper()
		if got, err := p.Sampling(ctx, account, "shop"); err != nil || got.HeadSamplingRate != want {
			t.Errorf("%s: the client reads %+v, error %v, want %v", what, got, err, want)
		}
		snapshot, err := p.Snapshot(ctx, account, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range snapshot.Scripts {
			told := 0.0 // nothing is said of scripts that keep everything
			if script.Name == "shop" && want != 1 {
				told = want
			}
			if script.HeadSamplingRate != told {
				t.Errorf("%s: gateways get the rate %v for %s, want %v", what, script.HeadSamplingRate, script.Name, told)
			}
		}
	}
	wantRate("before anybody said anything", 1)
	const body = `{"head_sampling_rate":0.01}`
	for _, a := range []answer{p.call(t, http.MethodPut, path, body), p.call(t, http.MethodGet, path, "")} {
		if a.status != http.StatusOK || string(a.Result) != body {
			t.Errorf("answered %d %s, want %s", a.status, a.text, body)
		}
	}
	wantRate("after a PUT", 0.01)
	for _, rate := range []float64{0.5, 1} {
		if err := p.SaveSampling(ctx, account, "shop", deploy.Sampling{HeadSamplingRate: rate}); err != nil {
			t.Fatal(err)
		}
		wantRate("after the client's call", rate)
	}
	_, err := p.Sampling(ctx, account, "none")
	wantKind(t, err, errs.NotFound)
	wantKind(t, p.SaveSampling(ctx, account, "none", deploy.Sampling{HeadSamplingRate: 0.5}), errs.NotFound)
}
