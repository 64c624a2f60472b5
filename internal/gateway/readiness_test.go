package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

const v3 = "cccccccc-3333-4333-8333-333333333333"

// A new deployment waits for its versions; the old one serves until then, and
// nobody else's change waits with it.
func TestDeploymentWaitsForItsVersions(t *testing.T) {
	w := newWorkers(v1, v2, v3)
	e := start(t, snapshot(1, workerScript("shop", []string{v1}, 100_000)), w.use)
	e.wantBody(t, shop+"/", "a")

	w.become(deploy.BackendStarting, v2)
	// v1 is not among the versions any more.
	e.control.set(snapshot(2, workerScript("shop", []string{v2}, 100_000), workerScript("blog", []string{v3}, 100_000)), nil)
	waitFor(t, "the other script", func() bool { return e.Revision() == 2 })
	w.wantInForce(t, v1, v3)
	e.wantBody(t, "http://blog.dev.localhost/", "c")
	e.wantBody(t, shop+"/", "a")
	e.wantBody(t, "http://aaaaaaaa-shop.dev.localhost/", "a") // the old one's preview
	e.wantBody(t, shop+"/", "a", "Cloudflare-Workers-Version-Overrides", `shop="`+v2+`"`)

	// The held-back deployment is replaced by another one that waits too.
	w.become(deploy.BackendStarting, v3)
	e.control.set(snapshot(3, workerScript("shop", []string{v2, v3}, 100_000, 0)), nil)
	waitFor(t, "the third snapshot", func() bool { return e.Revision() == 3 })
	w.become(deploy.BackendReady, v2)
	e.wantBody(t, "http://bbbbbbbb-shop.dev.localhost/", "b") // it serves, yet v3 is starting
	e.wantBody(t, shop+"/", "a")
	w.become(deploy.BackendReady, v3)
	waitFor(t, "the new deployment", func() bool { return e.get(t, shop+"/").body == "b" })
	w.wantInForce(t, v2, v3)
	if a := e.get(t, "http://aaaaaaaa-shop.dev.localhost/"); a.StatusCode != http.StatusNotFound {
		t.Errorf("the preview of the version that has gone answered %d", a.StatusCode)
	}
}

// A version that cannot start gets nothing that another can serve. An override
// still finds it, and shows how it fails.
func TestFailedVersionGetsNoShare(t *testing.T) {
	w := newWorkers(v1, v2)
	e := start(t, snapshot(1, workerScript("shop", []string{v1}, 100_000)), w.use)
	w.become(deploy.BackendStarting, v2)
	e.control.set(snapshot(2, workerScript("shop", []string{v1, v2}, 1, 99_999)), nil)
	waitFor(t, "the second snapshot", func() bool { return e.Revision() == 2 })
	w.become(deploy.BackendFailed, v2)
	// In force now: the override of a version outside the deployment would be ignored.
	override := []string{"Cloudflare-Workers-Version-Overrides", `shop="` + v2 + `"`}
	waitFor(t, "the deployment", func() bool { return e.get(t, shop+"/", override...).StatusCode == http.StatusBadGateway })
	before := w.seen(v2)
	for range 100 {
		e.wantBody(t, shop+"/", "a")
	}
	if n := w.seen(v2); n != before {
		t.Errorf("the failed version got %d requests", n-before)
	}
	w.become(deploy.BackendReady, v2)
	waitFor(t, "its share to come back", func() bool { return e.get(t, shop+"/").body == "b" })
	w.become(deploy.BackendFailed, v1, v2)
	waitFor(t, "the failure of all", func() bool { return e.get(t, shop+"/").StatusCode == http.StatusBadGateway })
}

// Where there was nothing before, a request waits for the start.
func TestFirstRequestWaitsForTheStart(t *testing.T) {
	w := newWorkers(v1)
	w.become(deploy.BackendStarting, v1)
	e := start(t, snapshot(1, workerScript("shop", []string{v1}, 100_000)), w.use, func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) { c.StartWait = time.Minute })
	var arrived atomic.Int32
	_, e.addr = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		e.ServeHTTP(w, r)
	}))
	got := make(chan answer, 1)
	go func() {
		a, err := e.try(t.Context(), http.MethodGet, shop+"/", nil)
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	// A client that has no patience leaves; that is no failure of the version.
	waitFor(t, "the first client", func() bool { return arrived.Load() == 1 })
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := e.try(ctx, http.MethodGet, shop+"/", nil)
		left <- err
	}()
	waitFor(t, "the second client", func() bool { return arrived.Load() == 2 })
	leave()
	if err := <-left; err == nil {
		t.Error("the version answered before it was ready")
	}
	wantEvent(t, e.events.nth(1), schema.OutcomeCanceled, "", 0)
	w.become(deploy.BackendReady, v1)
	if a := <-got; a.body != "a" {
		t.Errorf("got %d %q", a.StatusCode, a.body)
	}
	if w.seen(v1) != 1 {
		t.Errorf("the version got %d requests, want 1", w.seen(v1))
	}
}

func TestStartThatTakesTooLong(t *testing.T) {
	w := newWorkers(v1)
	w.become(deploy.BackendStarting, v1)
	impatient := func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) { c.StartWait = 20 * time.Millisecond }
	e := start(t, snapshot(1, workerScript("shop", []string{v1}, 100_000)), w.use, impatient)
	a := e.get(t, shop+"/")
	if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || !strings.Contains(a.body, "starting") {
		t.Errorf("got %d %q, Retry-After %q", a.StatusCode, a.body, a.Header.Get("Retry-After"))
	}
	wantEvent(t, e.events.nth(1), schema.OutcomeInternalError, "connect", http.StatusServiceUnavailable)
}
