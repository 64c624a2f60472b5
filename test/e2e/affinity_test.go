package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// frontWorker passes the request on to stock, and says who answered.
const frontWorker = `export default {
  async fetch(request, env) { return new Response(%q + " " + await (await env.STOCK.fetch(request)).text()) },
};`

// stockWorker says who it is, and what key it was given.
const stockWorker = `export default {
  fetch(request) { return new Response(%q + " " + request.headers.get("Cloudflare-Workers-Version-Key")) },
};`

// deployHalves deploys two versions of a Worker, each with half of the traffic, and
// gives the script a rule.
func deployHalves(t *testing.T, p *platform.Platform, script, source string, bindings ...map[string]any) {
	t.Helper()
	var splits []deploy.Split
	for _, name := range []string{script + "-old", script + "-new"} {
		w := platform.JavaScript(name, fmt.Sprintf(source, name))
		w.Bindings = append(w.Bindings, bindings...)
		upload := p.UploadWorker
		if splits == nil {
			upload = p.DeployWorker // the first one makes the script
		}
		id, err := upload(t.Context(), script, w)
		if err != nil {
			t.Fatal(err)
		}
		splits = append(splits, deploy.Split{VersionID: id, Percentage: deploy.Full / 2})
	}
	if _, err := p.Deploy(t.Context(), script, splits...); err != nil {
		t.Fatal(err)
	}
	rules := deploy.Affinity{Rules: []deploy.AffinityRule{{Source: deploy.AffinityCookie, Name: "user"}}}
	if err := p.API(t.Context(), http.MethodPut, "/accounts/{account}/workers/scripts/"+script+"/affinity", rules, nil); err != nil {
		t.Fatal(err)
	}
}

// TestAffinityAcrossWorkers: a user stays on one version of a Worker and of the one
// that it calls, by a cookie alone, on the real runtime; what the user is known by is
// not given to the Workers as a key; and the rates count these requests as assigned.
func TestAffinityAcrossWorkers(t *testing.T) {
	const users, visits = 16, 5
	p := start(t, platform.Options{DataDir: t.TempDir()})
	deployHalves(t, p, "stock", stockWorker)
	deployHalves(t, p, "front", frontWorker, map[string]any{"name": "STOCK", "type": deploy.BindingService, "service": "stock"})

	visit := func(script string, user int) (string, error) {
		status, body, err := p.Visit(t.Context(), http.DefaultClient, script, http.Header{"Cookie": {fmt.Sprintf("theme=dark; user=user-%d", user)}})
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%s answered %d %s", script, status, body)
		}
		return body, err
	}
	eventually(t, 60*time.Second, "both scripts have their rules and both versions", func() (bool, error) {
		seen := map[string]bool{}
		for user := range users {
			first, err := visit("front", user)
			again, errAgain := visit("front", user)
			if err != nil || errAgain != nil || first != again {
				return false, err
			}
			for word := range strings.FieldsSeq(first) {
				seen[word] = true
			}
		}
		return seen["front-old"] && seen["front-new"] && seen["stock-old"] && seen["stock-new"], nil
	})
	for user := range users {
		first, err := visit("front", user)
		if err != nil {
			t.Fatal(err)
		}
		direct, err := visit("stock", user)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(first, direct) || !strings.HasSuffix(direct, " null") {
			t.Errorf("user %d is on %q through front and on %q of stock, with its key at the end", user, first, direct)
		}
		for range visits {
			if again, err := visit("front", user); err != nil || again != first {
				t.Errorf("user %d is on %q and on %q, error %v", user, first, again, err)
			}
		}
	}
	for script, least := range map[string]int64{"front": users * (visits + 1), "stock": users * (visits + 2)} {
		eventually(t, 60*time.Second, script+"'s requests by rules are in the rates", func() (bool, error) {
			byRule, err := p.Count(t.Context(), "SELECT countIf(decision = 'affinity') FROM trace_events WHERE script_name = '"+script+"'")
			if err != nil || byRule < least {
				return false, err
			}
			counted, err := p.Count(t.Context(), "SELECT sum(assigned) FROM version_rates_1h WHERE script_name = '"+script+"'")
			return counted >= byRule, err
		})
	}
}
