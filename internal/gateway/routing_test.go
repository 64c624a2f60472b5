package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

func showVersion(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) { c.ShowVersion = true }

func TestChoosingAVersion(t *testing.T) {
	sc := script([]string{origin(t, says("one")), origin(t, says("two"))}, 100_000, 0)
	e := start(t, snapshot(1, sc), showVersion)
	n := 0
	f := func(want, decision, url string, headers ...string) {
		t.Helper()
		n++
		a := e.get(t, url, headers...)
		ev := e.events.nth(n)
		version := map[string]string{"one": v1, "two": v2}[want]
		if a.body != want || ev.Gateway.Decision != decision || ev.ScriptVersion.ID != version {
			t.Errorf("%s %v: got %q, decision %s, version %s, want %q, %s", url, headers, a.body, ev.Gateway.Decision, ev.ScriptVersion.ID, want, decision)
		}
		if a.Header.Get("Tidegate-Version") != version || a.Header.Get("Tidegate-Decision") != decision {
			t.Errorf("the response shows %v", a.Header)
		}
	}
	const overrides, key = "Cloudflare-Workers-Version-Overrides", "Cloudflare-Workers-Version-Key"
	f("one", schema.DecisionOnly, shop+"/")
	f("two", schema.DecisionOverride, shop+"/", overrides, `shop="`+v2+`"`)
	f("two", schema.DecisionOverride, shop+"/", overrides, `2nd="x", shop="`+v2+`"`)
	f("one", schema.DecisionOnly, shop+"/", overrides, `other="`+v2+`"`)
	f("one", schema.DecisionOnly, shop+"/", overrides, `shop="cccccccc-3333-4333-8333-333333333333"`)
	f("two", schema.DecisionPreview, "http://bbbbbbbb-shop.dev.localhost/")

	sc.Splits = []deploy.Split{{VersionID: v1, Percentage: 50_000}, {VersionID: v2, Percentage: 50_000}}
	e.control.set(snapshot(2, sc), nil)
	waitFor(t, "the new split", func() bool { return e.Revision() == 2 })
	first := e.get(t, shop+"/", key, "user-1").body
	n++
	for range 10 {
		f(first, schema.DecisionAffinity, shop+"/", key, "user-1")
	}
	seen := map[string]int{}
	for range 200 {
		seen[e.get(t, shop+"/").body]++
	}
	// A fair coin misses this once in 10^12.
	if seen["one"] < 50 || seen["two"] < 50 {
		t.Errorf("a split in halves gave %v", seen)
	}
}

func TestHostsAndRoutes(t *testing.T) {
	one := script([]string{origin(t, says("shop"))}, 100_000)
	one.Routes = []string{"shop.example.com/*", "*.example.com/api/*", "shop.dev.localhost/never/*", "not a route:1"}
	one.Versions[0].Alias = "staging"
	other := script([]string{origin(t, says("blog"))}, 100_000)
	other.Name, other.Routes = "blog", []string{"shop.example.com/blog/*", "*example.org/*"}
	other.Versions[0].ID, other.Splits[0].VersionID = v2, v2
	empty := deploy.SnapshotScript{AccountID: account, Subdomain: "dev", Name: "empty"}
	e := start(t, snapshot(1, one, other, empty))
	f := func(host, path string, status int, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://placeholder"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := e.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != status || !strings.HasPrefix(string(got), body) || len(resp.Header.Get("Cf-Ray")) != 16 {
			t.Errorf("%s%s: got %d %q, want %d %q", host, path, resp.StatusCode, got, status, body)
		}
	}
	f("shop.dev.localhost", "/", 200, "shop")
	f("SHOP.Dev.localhost.:8080", "/", 200, "shop")
	f("aaaaaaaa-shop.dev.localhost", "/", 200, "shop")
	f("staging-shop.dev.localhost", "/", 200, "shop")
	f("bbbbbbbb-blog.dev.localhost", "/", 200, "blog")
	f("shop.example.com", "/x", 200, "shop")
	f("shop.example.com:443", "/blog/post", 200, "blog")
	f("www.example.com", "/api/v1", 200, "shop")
	f("a.b.example.com", "/api/", 200, "shop")
	f("example.org", "/", 200, "blog")
	f("www.example.org", "/", 200, "blog")
	f("www.example.com", "/", 404, "Nothing is served")
	f("example.com", "/api/", 404, "Nothing is served")
	f("myexample.org", "/", 404, "Nothing is served")
	f("shop.dev.localhost.evil.com", "/", 404, "Nothing is served")
	f("unknown.dev.localhost", "/", 404, "Nothing is served")
	f("empty.dev.localhost", "/", 404, "This script has no deployment")
	served := len(e.events.all())
	waitFor(t, "eleven events", func() bool { return len(e.events.all()) >= 11 })
	if served > 11 {
		t.Errorf("%d events, want one for each request that reached a script", served)
	}
}

func TestNoForwardProxy(t *testing.T) {
	e := start(t, snapshot(1, script([]string{origin(t, says("x"))}, 100_000)))
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "CONNECT shop.dev.localhost:443 HTTP/1.1\r\nHost: shop.dev.localhost:443\r\n\r\n")
	answer := make([]byte, len("HTTP/1.1 501"))
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 501" {
		t.Errorf("got %q, %v", answer, err)
	}
}

// Deployments change all the time while requests run: none fails, each goes to a
// version that was in force, and each has its event.
func TestHotSwapUnderLoad(t *testing.T) {
	origins := []string{origin(t, says("one")), origin(t, says("two"))}
	e := start(t, snapshot(1, script(origins, 100_000, 0)))
	var stop atomic.Bool
	var sent atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				a, err := e.try(t.Context(), http.MethodGet, shop+"/", nil)
				if err != nil || a.StatusCode != http.StatusOK || a.body != "one" && a.body != "two" {
					t.Errorf("got %+v, %v", a, err)
					return
				}
				sent.Add(1)
			}
		})
	}
	for revision := int64(2); revision <= 40; revision++ {
		sc := script(origins, deploy.Percentage(revision%5)*25_000, deploy.Full-deploy.Percentage(revision%5)*25_000)
		if revision%4 == 0 { // a version goes away with its backend
			sc = script(origins[:1], 100_000)
		}
		e.control.set(snapshot(revision, sc), nil)
		waitFor(t, "the snapshot", func() bool { return e.Revision() == revision })
	}
	stop.Store(true)
	clients.Wait()
	waitFor(t, "the last events", func() bool { return int64(len(e.events.all())) >= sent.Load() })
	if n := int64(len(e.events.all())); n != sent.Load() {
		t.Errorf("%d events of %d requests", n, sent.Load())
	}
	for _, ev := range e.events.all() {
		if ev.Outcome != schema.OutcomeOK {
			t.Fatalf("an event says %s %s", ev.Outcome, ev.ErrorKind)
		}
	}
}

func keepIn(file string) setting {
	return func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) { c.SnapshotFile = file }
}

func TestStartWithoutTheControlPlane(t *testing.T) {
	file := filepath.Join(t.TempDir(), "snapshot.json")
	s := snapshot(7, script([]string{origin(t, says("still here"))}, 100_000))
	first := start(t, s, keepIn(file))
	waitFor(t, "the file", func() bool { _, err := os.Stat(file); return err == nil })
	first.stop()
	if left, _ := filepath.Glob(file + ".*"); len(left) != 0 {
		t.Errorf("scratch files were left: %v", left)
	}

	away := errors.New("the control plane is away")
	e := start(t, nil, keepIn(file))
	e.control.set(nil, away)
	if err := e.Ready(); err != nil || e.Revision() != 7 {
		t.Fatalf("revision %d, %v", e.Revision(), err)
	}
	if a := e.get(t, shop+"/"); a.body != "still here" {
		t.Errorf("got %q", a.body)
	}
	waitFor(t, "the error to show", func() bool { return errors.Is(e.Status().SyncError, away) })
	if e.Status().Confirmed.IsZero() {
		t.Error("the age of the snapshot is unknown")
	}
	if note := e.Note(); !strings.Contains(note, "serves snapshot 7") || !strings.Contains(note, away.Error()) {
		t.Errorf("the note is %q", note)
	}
	e.control.set(snapshot(8, s.Scripts...), nil) // it comes back
	waitFor(t, "the news", func() bool { return e.Revision() == 8 && e.Status().SyncError == nil })
	if note := e.Note(); note != "" {
		t.Errorf("the note is %q", note)
	}
}

func TestNothingToServe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "snapshot.json")
	if err := os.WriteFile(file, []byte(`{"revision": 3, "scripts": [{`), 0o600); err != nil {
		t.Fatal(err)
	}
	e := start(t, nil, keepIn(file))
	if e.Ready() == nil || e.Revision() != 0 {
		t.Error("a damaged file passed for a snapshot")
	}
	if a := e.get(t, shop+"/"); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Cf-Ray") == "" {
		t.Errorf("got %d", a.StatusCode)
	}
	e.control.set(snapshot(1, script([]string{origin(t, says("up"))}, 100_000)), nil)
	waitFor(t, "the control plane", func() bool { return e.Ready() == nil })
	if a := e.get(t, shop+"/"); a.body != "up" {
		t.Errorf("got %q", a.body)
	}
}

// Whatever is wrong with a snapshot, the good one before it goes on serving, on
// disk too.
func TestBadSnapshotIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "snapshot.json")
	good := script([]string{origin(t, says("good"))}, 100_000)
	e := start(t, snapshot(5, good), keepIn(file))
	waitFor(t, "the file", func() bool { _, err := os.Stat(file); return err == nil })
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	half, unknown := script([]string{"http://127.0.0.1:1"}, 50_000), good
	unknown.Splits = []deploy.Split{{VersionID: v2, Percentage: deploy.Full}}
	for i, bad := range []*deploy.Snapshot{snapshot(6, half), snapshot(7, unknown), snapshot(8, good, good)} {
		e.control.set(bad, nil)
		waitFor(t, fmt.Sprintf("refusal %d", i), func() bool {
			err := e.Status().SyncError
			return err != nil && strings.Contains(err.Error(), fmt.Sprintf("snapshot %d", bad.Revision))
		})
		if a := e.get(t, shop+"/"); a.body != "good" || e.Revision() != 5 {
			t.Errorf("got %q at revision %d", a.body, e.Revision())
		}
	}
	if after, _ := os.ReadFile(file); string(after) != string(before) {
		t.Error("a refused snapshot was kept on disk")
	}
	e.control.set(snapshot(9, good), nil)
	waitFor(t, "the next good one", func() bool { return e.Revision() == 9 })
}
