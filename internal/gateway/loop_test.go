package gateway_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// An origin that leads back to the gateway used to turn one request into as many
// as the process had file descriptors for.
func TestLoopEndsAtItsSecondPass(t *testing.T) {
	e := start(t, nil)
	e.control.set(snapshot(1, script([]string{"http://" + e.addr}, 100_000)), nil)
	waitFor(t, "the snapshot", func() bool { return e.Ready() == nil })
	for i, method := range []string{http.MethodGet, http.MethodPost} {
		a, err := e.try(t.Context(), method, shop+"/", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if a.StatusCode != http.StatusLoopDetected || !strings.Contains(a.body, "leads back") {
			t.Errorf("%s got %d %q", method, a.StatusCode, a.body)
		}
		// The first pass; the second one reached no script.
		wantEvent(t, e.events.nth(i+1), schema.OutcomeOK, "", http.StatusLoopDetected)
	}
}

// One installation behind another is no loop, and each adds its name.
func TestInstallationsInAChain(t *testing.T) {
	var seen http.Request
	var mu sync.Mutex
	inner := start(t, snapshot(1, script([]string{origin(t, echoHeaders(&seen, &mu))}, 100_000)))
	outer := start(t, snapshot(1, script([]string{"http://" + inner.addr}, 100_000)), func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) {
		c.LoopID = "outer.example"
	})
	f := func(status int, want string, headers ...string) {
		t.Helper()
		if a := outer.get(t, shop+"/", headers...); a.StatusCode != status {
			t.Errorf("%v: got %d %q, want %d", headers, a.StatusCode, a.body, status)
		}
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(seen.Header["Cdn-Loop"], ", "); got != want {
			t.Errorf("%v: the backend saw %q, want %q", headers, got, want)
		}
	}
	f(http.StatusOK, "outer.example, localhost")
	f(http.StatusOK, "first; a=b, outer.example, localhost", "CDN-Loop", "first; a=b")
	// A client cannot have the header taken off, and refuses only itself.
	f(http.StatusOK, "first, outer.example, localhost", "CDN-Loop", "first", "Connection", "cdn-loop")
	f(http.StatusLoopDetected, "first, outer.example, localhost", "CDN-Loop", "x, OUTER.example ;v=1")
}
