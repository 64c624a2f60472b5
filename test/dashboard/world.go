package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// Scripts of the world. storefront does not exist until a test makes it, but has visitors.
const (
	shop       = "shop"     // two versions, of which the new one fails more; nothing acts on it
	catalog    = "catalog"  // asked by shop through a service binding; two versions
	checkout   = "checkout" // had a release that was rolled back
	search     = "search"   // on a ramp that waits for an hour at its first step
	stock      = "stock"    // an HTTP origin
	storefront = "storefront"
)

const (
	tenth    = deploy.Full / 10
	pollRest = 200 * time.Millisecond
)

// world is a platform with something on every page. One goroutine fills and closes it.
type world struct {
	p         *platform.Platform
	visitors  *visitors
	collector *collector
	origin    *httptest.Server
}

func newWorld(p *platform.Platform) *world {
	return &world{
		p: p, visitors: newVisitors(p), collector: newCollector(),
		origin: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "42\n") })),
	}
}

func (w *world) close() {
	w.visitors.close()
	w.collector.server.Close()
	w.origin.Close()
}

func (w *world) environment() []string {
	return []string{
		"TIDEGATE_DASHBOARD=" + w.p.Ready.API, "TIDEGATE_TOKEN=" + w.p.Token, "TIDEGATE_ACCOUNT=" + w.p.AccountID,
		"TIDEGATE_GATEWAY=" + w.p.Gateway, "TIDEGATE_COLLECTOR=" + w.collector.server.URL,
	}
}

func (w *world) fill(ctx context.Context) error {
	steps := []func(context.Context) error{w.token, w.origins, w.workers, w.jobs, w.splits, w.ramp, w.badRelease, w.settled, w.replay}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// token makes a token of the account, beside the operator's.
func (w *world) token(ctx context.Context) error {
	token := map[string]any{"name": "deployments from CI", "scopes": []string{"scripts:edit"}}
	return w.p.API(ctx, http.MethodPost, "/accounts/{account}/tokens", token, nil)
}

// origins deploys the plain HTTP service.
func (w *world) origins(ctx context.Context) error {
	id, err := w.p.UploadOrigin(ctx, stock, w.origin.URL, "v1", "a service in any language")
	if err != nil {
		return err
	}
	_, err = w.p.Deploy(ctx, stock, deploy.Split{VersionID: id, Percentage: deploy.Full})
	return err
}

// source is a Worker that throws in one of failEvery requests, and logs.
func source(failEvery int, answer string) string {
	return fmt.Sprintf(`let requests = 0;

function price(item) {
  if (++requests %% %d === 0) throw new TypeError("item " + item + " has no price");
  return 40 + item %% 10;
}

export default {
  async fetch(request, env) {
    const item = Number(new URL(request.url).pathname.split("/").pop());
    console.log("asked for item", item);
    %s
  },
};
`, failEvery, answer)
}

const plain = `return Response.json({ item, price: price(item) });`

const asking = `const details = await (await env.CATALOG.fetch("http://catalog/items/" + item)).json();
    return Response.json({ ...details, price: price(item) });`

// workers deploys the first version of each Worker, and sends visitors to all.
func (w *world) workers(ctx context.Context) error {
	for _, one := range []struct {
		script string
		worker platform.Worker
	}{
		{catalog, worker("v1", "reads the catalogue", source(1000, `return Response.json({ item, name: "item " + item });`))},
		{checkout, worker("v1", "takes payments", source(500, plain))},
		{search, worker("v1", "finds items", source(500, plain))},
		{shop, bound(worker("v1", "shows items", source(200, asking)))},
	} {
		if _, err := w.p.DeployWorker(ctx, one.script, one.worker); err != nil {
			return fmt.Errorf("deploy %s: %w", one.script, err)
		}
	}
	w.visitors.visit(shop, 30)
	w.visitors.visit(checkout, 60)
	w.visitors.visit(search, 15)
	w.visitors.visit(stock, 5)
	w.visitors.visit(storefront, 60)
	return nil
}

func worker(tag, message, source string) platform.Worker {
	made := platform.JavaScript(tag, source)
	made.Message = message
	return made
}

// bound adds the binding by which shop asks catalog.
func bound(one platform.Worker) platform.Worker {
	one.Bindings = append(one.Bindings, map[string]any{"name": "CATALOG", "type": deploy.BindingService, "service": catalog})
	return one
}

// splits gives shop and catalog a second version beside the first one.
func (w *world) splits(ctx context.Context) error {
	if err := w.split(ctx, shop, bound(worker("v2", "shows items with details", source(20, asking))), 2*tenth); err != nil {
		return err
	}
	return w.split(ctx, catalog, worker("v2", "answers from a cache", source(300, `return Response.json({ item, name: "Item " + item });`)), 5*tenth)
}

// split uploads a version and gives it a share of the traffic.
func (w *world) split(ctx context.Context, script string, fresh platform.Worker, share deploy.Percentage) error {
	deployments, err := w.p.Deployments(ctx, script)
	if err != nil {
		return err
	}
	id, err := w.p.UploadWorker(ctx, script, fresh)
	if err != nil {
		return err
	}
	former := deployments[0].Versions[0].VersionID
	_, err = w.p.Deploy(ctx, script, deploy.Split{VersionID: former, Percentage: deploy.Full - share}, deploy.Split{VersionID: id, Percentage: share})
	return err
}

func (w *world) policy(ctx context.Context, script string, policy map[string]any) error {
	return w.p.API(ctx, http.MethodPut, "/accounts/{account}/workers/scripts/"+script+"/rollback-policy", policy, nil)
}

// ramp lets search's second version begin a ramp that does not end while anybody looks.
func (w *world) ramp(ctx context.Context) error {
	err := w.policy(ctx, search, map[string]any{"enabled": true, "ramp": []map[string]any{
		{"percentage": 10, "bake_seconds": 3600}, {"percentage": 50, "bake_seconds": 3600}, {"percentage": 100, "bake_seconds": 3600},
	}})
	if err != nil {
		return err
	}
	return w.split(ctx, search, worker("v2", "ranks by price", source(500, plain)), tenth)
}

// badRelease waits until the policy has taken checkout's second version out of traffic.
func (w *world) badRelease(ctx context.Context) error {
	if err := w.policy(ctx, checkout, map[string]any{"enabled": true}); err != nil {
		return err
	}
	if err := w.split(ctx, checkout, worker("v2", "takes payments in instalments", source(6, plain)), 3*tenth); err != nil {
		return err
	}
	return w.until(ctx, "checkout is rolled back", func() (bool, error) {
		var decisions []deploy.RollbackDecision
		err := w.p.API(ctx, http.MethodGet, "/accounts/{account}/workers/scripts/checkout/rollback-decisions", nil, &decisions)
		return len(decisions) > 0, err
	})
}

// jobs makes a job that delivers, one that writes files, and one whose destination refuses some records.
func (w *world) jobs(ctx context.Context) error {
	for _, job := range []map[string]any{
		{"name": "everything", "destination_conf": w.collector.server.URL + "/everything"},
		{"name": "to-a-folder", "destination_conf": "file://" + filepath.Join(w.p.DataDir, "logpush", "bucket") + "/{DATE}"},
		{"name": "picky", "destination_conf": w.collector.server.URL + "/picky/shop", "filter": `{"where":{"key":"ScriptName","operator":"eq","value":"shop"}}`},
	} {
		job["dataset"], job["enabled"] = "workers_trace_events", true
		job["output_options"] = map[string]any{"field_names": []string{"EventTimestampMs", "ScriptName", "ScriptVersion", "Outcome"}}
		if err := w.p.API(ctx, http.MethodPost, "/accounts/{account}/logpush/jobs", job, nil); err != nil {
			return fmt.Errorf("make job %s: %w", job["name"], err)
		}
	}
	return nil
}

// settled waits until every page has something to show.
func (w *world) settled(ctx context.Context) error {
	err := w.until(ctx, "both versions of shop are counted", func() (bool, error) {
		var metrics struct {
			Versions []struct{ Failures int64 }
		}
		err := w.p.API(ctx, http.MethodGet, "/accounts/{account}/workers/scripts/shop/metrics", nil, &metrics)
		return len(metrics.Versions) == 2 && metrics.Versions[1].Failures > 0, err
	})
	if err != nil {
		return err
	}
	picky, err := w.jobNamed(ctx, "picky")
	if err != nil {
		return err
	}
	return w.until(ctx, "the picky destination has refused a record", func() (bool, error) {
		var letters []struct{ ID string }
		err := w.p.API(ctx, http.MethodGet, fmt.Sprintf("/accounts/{account}/logpush/jobs/%d/dead-letters", picky), nil, &letters)
		return len(letters) > 0, err
	})
}

// replay sends what there has been once more to the job that takes everything.
func (w *world) replay(ctx context.Context) error {
	id, err := w.jobNamed(ctx, "everything")
	if err != nil {
		return err
	}
	now := time.Now()
	body := map[string]any{"from": now.Add(-10 * time.Minute).Format(time.RFC3339), "to": now.Format(time.RFC3339)}
	return w.p.API(ctx, http.MethodPost, fmt.Sprintf("/accounts/{account}/logpush/jobs/%d/replays", id), body, nil)
}

func (w *world) jobNamed(ctx context.Context, name string) (int64, error) {
	var jobs []struct {
		ID   int64
		Name string
	}
	if err := w.p.API(ctx, http.MethodGet, "/accounts/{account}/logpush/jobs", nil, &jobs); err != nil {
		return 0, err
	}
	for _, job := range jobs {
		if job.Name == name {
			return job.ID, nil
		}
	}
	return 0, fmt.Errorf("the job %s is gone", name)
}

// until asks again and again; what fails once may succeed the next time.
func (w *world) until(ctx context.Context, what string, ask func() (bool, error)) error {
	for {
		ok, err := ask()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited until %s: %w (last answer: %w)", what, ctx.Err(), err)
		case <-time.After(pollRest):
		}
	}
}
