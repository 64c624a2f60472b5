package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/schema"
	"tidegate/test/platform"
)

// throws fails what it is asked to and says so before.
const throws = `
function price(n) { console.log("no price of", n); throw new TypeError("item " + n + " has no price"); }
export default { fetch(request) {
	const n = new URL(request.url).searchParams.get("fail");
	return n ? price(n) : new Response("ok");
} }`

// TestQuestions asks what a Worker did: while it does, of one request, by kind of
// exception, and in numbers.
func TestQuestions(t *testing.T) {
	p := start(t, platform.Options{})
	version, err := p.DeployWorker(t.Context(), "shop", platform.JavaScript("one", throws))
	if err != nil {
		t.Fatal(err)
	}
	visit := func(query string) (ray string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Ready.Gateway+"/"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = p.Host("shop")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // of which nothing is wanted
		return resp.Header.Get("Cf-Ray")
	}
	eventually(t, 20*time.Second, "shop answers", func() (bool, error) {
		status, _, err := p.Visit(t.Context(), http.DefaultClient, "shop", nil)
		return status == http.StatusOK, err
	})

	live := watch(t, p, "/workers/scripts/shop/events/live?failed=true")
	eventually(t, time.Minute, "the stream has reached the end of the topic", func() (bool, error) {
		visit("?fail=early")
		return len(live) > 0, nil
	})
	var rays []string
	for n := range 3 {
		visit("")
		rays = append(rays, visit(fmt.Sprintf("?fail=%d", n)))
	}
	for _, want := range rays {
		e := <-live
		for len(e.Exceptions) == 1 && e.Exceptions[0].Message == "item early has no price" {
			e = <-live
		}
		if e.Gateway.RayID != want || e.Outcome != schema.OutcomeException || e.ScriptVersion.ID != version {
			t.Errorf("the stream has %+v, want the request %s", e, want)
		}
	}

	const script = "/accounts/{account}/workers/scripts/shop"
	type found struct{ Events []schema.TraceEvent }
	var byRay found
	eventually(t, time.Minute, "the request is stored", func() (bool, error) {
		err := p.API(t.Context(), http.MethodGet, "/accounts/{account}/workers/events/"+rays[2], nil, &byRay)
		return err == nil, err
	})
	if len(byRay.Events) != 1 || len(byRay.Events[0].Exceptions) != 1 || byRay.Events[0].Exceptions[0].Message != "item 2 has no price" || len(byRay.Events[0].Logs) != 1 {
		t.Errorf("ray %s is %+v", rays[2], byRay.Events)
	}
	var failed found
	if err := p.API(t.Context(), http.MethodGet, script+"/events?failed=true&limit=2", nil, &failed); err != nil {
		t.Fatal(err)
	}
	if len(failed.Events) != 2 || failed.Events[0].Gateway.RayID != rays[2] || failed.Events[1].Gateway.RayID != rays[1] {
		t.Errorf("the newest failures are %+v, want %v backwards", failed.Events, rays[1:])
	}
	type kind struct {
		Name, Message, Frame string
		Versions             map[string]int64
	}
	var kinds struct{ Exceptions []kind }
	if err := p.API(t.Context(), http.MethodGet, script+"/exceptions", nil, &kinds); err != nil {
		t.Fatal(err)
	}
	kinds.Exceptions = slices.DeleteFunc(kinds.Exceptions, func(k kind) bool { return k.Message == "item early has no price" })
	if len(kinds.Exceptions) != 1 || kinds.Exceptions[0].Name != "TypeError" || kinds.Exceptions[0].Message != "item # has no price" ||
		!strings.Contains(kinds.Exceptions[0].Frame, "price") || kinds.Exceptions[0].Versions[version] != 3 {
		t.Errorf("the kinds of exceptions are %+v, want one of 3 requests", kinds.Exceptions)
	}
	var metrics struct {
		Versions []struct {
			VersionID          string `json:"version_id"`
			Requests, Failures int64
			Outcomes           map[string]int64
		}
	}
	eventually(t, time.Minute, "the failures are counted", func() (bool, error) { // a rollup comes a moment after its events
		err := p.API(t.Context(), http.MethodGet, script+"/metrics", nil, &metrics)
		return err == nil && len(metrics.Versions) == 1 && metrics.Versions[0].Failures >= 3, err
	})
	if v := metrics.Versions[0]; v.VersionID != version || v.Outcomes["exception"] != v.Failures || v.Requests != v.Failures+v.Outcomes["ok"] {
		t.Errorf("the numbers are %+v", v)
	}
}

// TestDocumentedGraphQL runs the example of docs/queries.md, and holds its numbers against
// those of the API.
func TestDocumentedGraphQL(t *testing.T) {
	p := start(t, platform.Options{})
	version, err := p.DeployWorker(t.Context(), "shop", platform.JavaScript("one", throws))
	if err != nil {
		t.Fatal(err)
	}
	const requests, failures = 12, 4
	for n := range requests {
		path := "/"
		if n%(requests/failures) == 0 {
			path += "?fail=1"
		}
		eventually(t, 20*time.Second, "shop answers", func() (bool, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Ready.Gateway+path, nil)
			if err != nil {
				return false, err
			}
			req.Host = p.Host("shop")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return false, err
			}
			return resp.StatusCode < http.StatusNotFound || resp.StatusCode == http.StatusInternalServerError, resp.Body.Close()
		})
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "queries.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(page), "```sh\n")
	example, _, found := strings.Cut(after, "```")
	if !found {
		t.Fatal("docs/queries.md has no example")
	}
	c := cli{dir: t.TempDir(), env: []string{"API=" + p.Ready.API, "TOKEN=" + p.Token, "ACCOUNT=" + p.Ready.AccountID}}
	type group struct {
		Dimensions struct{ ScriptVersion, Status string }
		Sum        struct{ Requests, Errors int64 }
		Quantiles  struct{ WallTimeP50, WallTimeP99 *float64 }
	}
	var groups []group
	eventually(t, time.Minute, "all requests are stored", func() (bool, error) {
		stdout, stderr, status := c.exec(t, "bash", "-euo", "pipefail", "-c", example)
		var answer struct {
			Data struct {
				Viewer struct {
					Accounts []struct{ WorkersInvocationsAdaptive []group }
				}
			}
			Errors []struct{ Message string }
		}
		if err := json.Unmarshal([]byte(stdout), &answer); err != nil || status != 0 || len(answer.Errors) > 0 || len(answer.Data.Viewer.Accounts) != 1 {
			return false, fmt.Errorf("status %d, %w\n%s\n%s", status, err, stdout, stderr)
		}
		groups = answer.Data.Viewer.Accounts[0].WorkersInvocationsAdaptive
		var stored int64
		for _, g := range groups {
			stored += g.Sum.Requests
		}
		return stored >= requests, nil
	})
	if len(groups) != 2 || groups[0].Dimensions.Status != "scriptThrewException" || groups[1].Dimensions.Status != "success" ||
		groups[0].Sum.Errors != failures || groups[0].Sum.Requests != failures || groups[1].Sum.Errors != 0 || groups[1].Sum.Requests != requests-failures {
		t.Fatalf("the example shows %+v, want %d of %d requests to have failed", groups, failures, requests)
	}
	for _, g := range groups {
		if g.Dimensions.ScriptVersion != version || g.Quantiles.WallTimeP50 == nil || *g.Quantiles.WallTimeP50 > *g.Quantiles.WallTimeP99 {
			t.Errorf("%+v", g)
		}
	}
}

// watch opens a stream of events and returns when it has begun.
func watch(t *testing.T, p *platform.Platform, path string) <-chan schema.TraceEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Ready.API+"/client/v4/accounts/"+p.Ready.AccountID+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the stream answers %s, %v", resp.Status, resp.Header)
	}
	begun, events := make(chan struct{}), make(chan schema.TraceEvent, 100)
	go func() {
		defer close(events) // who still waits is given empty ones
		name, begins := "", sync.OnceFunc(func() { close(begun) })
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if text, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = text
			}
			text, ok := strings.CutPrefix(lines.Text(), "data: ")
			switch {
			case !ok:
			case name == "heartbeat":
				begins()
			case name == "event":
				var e schema.TraceEvent
				if err := json.Unmarshal([]byte(text), &e); err != nil {
					t.Errorf("the stream has %q: %v", text, err)
				}
				events <- e
			}
		}
	}()
	select {
	case <-begun:
	case <-ctx.Done():
		t.Fatal("the stream does not begin")
	}
	return events
}
