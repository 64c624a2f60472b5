package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// pageWorker has a page and its script, passes /api on as it came, and asks for /items
// by a request of its own, to which it gives the key.
const pageWorker = `const KEY = "Cloudflare-Workers-Version-Key";
export default {
  async fetch(request, env) {
    const name = %q;
    switch (new URL(request.url).pathname) {
      case "/api":
        return new Response(name + " " + await (await env.STOCK.fetch(request)).text());
      case "/items":
        return new Response(name + " " + await (await env.STOCK.fetch("http://stock/", { headers: { [KEY]: request.headers.get(KEY) } })).text());
    }
    return new Response(name);
  },
};`

// calledWorker says who it is.
const calledWorker = `export default { fetch() { return new Response(%q); } };`

// twoVersions uploads two versions of a Worker and returns their ids by name.
func twoVersions(t *testing.T, p *platform.Platform, script, source string, bindings ...map[string]any) (names map[string]string, ids [2]string) {
	t.Helper()
	names = map[string]string{}
	for i, name := range []string{script + "-old", script + "-new"} {
		w := platform.JavaScript(name, fmt.Sprintf(source, name))
		w.Bindings = append(w.Bindings, bindings...)
		upload := p.UploadWorker
		if i == 0 {
			upload = p.DeployWorker // the first one makes the script
		}
		id, err := upload(t.Context(), script, w)
		if err != nil {
			t.Fatal(err)
		}
		ids[i], names[id] = id, name
	}
	return names, ids
}

// visitor is a browser: all it does for affinity is to keep cookies.
type visitor struct {
	p      *platform.Platform
	client *http.Client
	site   *url.URL        // whose cookies the visitor has
	header http.Header     // of each request; nil for none
	moved  map[string]bool // scripts whose new version it has been on
}

func newVisitor(t *testing.T, p *platform.Platform) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{
		p: p, client: &http.Client{Jar: jar},
		site: &url.URL{Scheme: "http", Host: p.Host("front")}, moved: map[string]bool{},
	}
}

// get visits front, and returns the names of the versions that took part. It fails if the
// visitor was moved back to an old one.
func (v *visitor) get(t *testing.T, path string) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.p.Gateway+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = v.site.Host
	for name, values := range v.header {
		req.Header[name] = values
	}
	res, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s answered %d %s, %v", path, res.StatusCode, body, err)
	}
	names := strings.Fields(string(body))
	for _, name := range names {
		script, version, _ := strings.Cut(name, "-")
		if v.moved[script] && version == "old" {
			t.Fatalf("the visitor %s moved back to %s at %s", v.key(), name, path)
		}
		v.moved[script] = version == "new"
	}
	return names
}

// key is the value of the cookie that the visitor was given.
func (v *visitor) key() string {
	for _, c := range v.client.Jar.Cookies(v.site) {
		if c.Name == "visitor" {
			return c.Value
		}
	}
	return ""
}

// TestSkew: a visitor's page, its script, its calls and what these call are each on one
// version, on the real runtime, while two Workers go from their old version to their new
// one step by step, and nobody goes back. The callee has no rules: it is given the key.
func TestSkew(t *testing.T) {
	t.Parallel() // beside one that waits
	const visitors = 200
	p := start(t, platform.Options{DataDir: t.TempDir()})
	names, stock := twoVersions(t, p, "stock", calledWorker)
	frontNames, front := twoVersions(t, p, "front", pageWorker, map[string]any{"name": "STOCK", "type": deploy.BindingService, "service": "stock"})
	for id, name := range frontNames {
		names[id] = name
	}
	rules := deploy.Affinity{Rules: []deploy.AffinityRule{{Source: deploy.AffinityCookie, Name: "visitor", Set: &deploy.AffinityCookieAttributes{}}}}
	if err := p.API(t.Context(), http.MethodPut, "/accounts/{account}/workers/scripts/front/affinity", rules, nil); err != nil {
		t.Fatal(err)
	}
	all := make([]*visitor, visitors)
	for i := range all {
		all[i] = newVisitor(t, p)
	}
	eventually(t, 60*time.Second, "the gateway gives cookies", func() (bool, error) {
		v := newVisitor(t, p)
		v.get(t, "/")
		return v.key() != "", nil
	})
	for _, v := range all {
		v.get(t, "/")
	}
	share := map[string]deploy.Percentage{}
	expected := func(v *visitor) (want [2]string) {
		for i, of := range []struct {
			script string
			ids    [2]string
		}{{"front", front}, {"stock", stock}} {
			sc := deploy.SnapshotScript{Splits: splitOf(of.ids, share[of.script])}
			want[i] = names[sc.Splits[deploy.Pick(&sc, deploy.Facts{Key: v.key()}, 0).Index].VersionID]
		}
		return want
	}
	seen := map[string]int{}
	for _, step := range []struct {
		script string
		ids    [2]string
		share  deploy.Percentage // of the new version
	}{
		{"stock", stock, 20_000}, // the callee alone is split: the key decides nothing but there
		{"front", front, 10_000}, {"front", front, 50_000}, {"stock", stock, 70_000}, {"front", front, deploy.Full}, {"stock", stock, deploy.Full},
	} {
		before := make([][2]string, visitors)
		for i, v := range all {
			before[i] = expected(v)
		}
		share[step.script] = step.share
		if _, err := p.Deploy(t.Context(), step.script, splitOf(step.ids, step.share)...); err != nil {
			t.Fatal(err)
		}
		// One that moves tells that the gateway has the deployment.
		mover := slices.IndexFunc(all, func(v *visitor) bool { return expected(v) != before[slices.Index(all, v)] })
		if mover < 0 { // by chance in less than one of a billion runs
			t.Fatalf("nobody moves at %v", share)
		}
		eventually(t, 60*time.Second, "the gateway has the deployment", func() (bool, error) {
			return [2]string(all[mover].get(t, "/api")) == expected(all[mover]), nil
		})
		for _, v := range all {
			key, want := v.key(), expected(v)
			for _, path := range []string{"/", "/app.js", "/api", "/items"} {
				if got := v.get(t, path); got[0] != want[0] || len(got) > 1 && got[1] != want[1] || v.key() != key {
					t.Errorf("at %v the visitor %s is on %v at %s, want %v", share, key, got, path, want)
				}
			}
			seen[want[0]+" "+want[1]]++
		}
	}
	if len(seen) != 4 || seen["front-new stock-new"] < visitors {
		t.Errorf("the visitors were on %v", seen)
	}
	// One header names versions of both scripts, here those at 0 %, and goes on with the request.
	tester := newVisitor(t, p)
	tester.header = http.Header{"Cloudflare-Workers-Version-Overrides": {fmt.Sprintf("front=%q, stock=%q", front[0], stock[0])}}
	if got := tester.get(t, "/api"); !slices.Equal(got, []string{"front-old", "stock-old"}) {
		t.Errorf("an override of both scripts reached %v", got)
	}
}

func splitOf(ids [2]string, share deploy.Percentage) []deploy.Split {
	return []deploy.Split{{VersionID: ids[0], Percentage: deploy.Full - share}, {VersionID: ids[1], Percentage: share}}
}
