package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// objectFlips is how many deployments of a script with Durable Objects follow each
// other under load. Each is a hand-over, which takes some tenths of a second.
const objectFlips = 60

// oneObject has one object that writes down which version ran each of its calls, and
// answers with the id of that version. The path /log is what it wrote, in order.
const oneObject = `import { DurableObject } from "cloudflare:workers";
export class Log extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, version TEXT)");
  }
  add() {
    this.ctx.storage.sql.exec("INSERT INTO calls (version) VALUES (?)", this.env.VERSION.id);
    return this.env.VERSION.id;
  }
  count() { return this.ctx.storage.sql.exec("SELECT COUNT(*) AS n FROM calls").one().n; }
}
export default {
  async fetch(request, env) {
    const log = env.LOG.get(env.LOG.idFromName("one"));
    const version = await log.add();
    if (version !== env.VERSION.id) return new Response("two versions at once: " + version, { status: 500 });
    return new Response(request.headers.has("count") ? String(await log.count()) : version);
  },
};
`

// TestObjectsUnderDeployments deploys two versions of a script with a Durable Object
// by turns while requests come. None may fail, every event names the version that
// answered, and what was acknowledged is there after the platform was killed.
func TestObjectsUnderDeployments(t *testing.T) {
	dir := t.TempDir()
	p := start(t, platform.Options{DataDir: dir})
	worker := platform.JavaScript("one", oneObject)
	worker.Bindings = append(worker.Bindings, map[string]any{"name": "LOG", "type": deploy.BindingDurableObject, "class_name": "Log"})
	worker.Migrations = map[string]any{"new_tag": "v1", "new_sqlite_classes": []string{"Log"}}
	one, err := p.DeployWorker(t.Context(), "objects", worker)
	if err != nil {
		t.Fatal(err)
	}
	worker.Migrations = nil
	two, err := p.UploadWorker(t.Context(), "objects", worker)
	if err != nil {
		t.Fatal(err)
	}
	answersAt(t, p, "objects", one)

	w := witness(t, p, "objects", 200)
	began := time.Now()
	for i := range objectFlips {
		id := one
		if i%2 == 0 {
			id = two
		}
		if _, err := p.Deploy(t.Context(), "objects", deploy.Split{VersionID: id, Percentage: deploy.Full}); err != nil {
			t.Fatalf("deployment %d: %v", i, err)
		}
		// Half of them come while the one before has not changed hands.
		if i%4 == 3 {
			answersAt(t, p, "objects", id)
		}
	}
	answersAt(t, p, "objects", one) // the last deployment is in force in the end
	w.stop()
	t.Logf("%d deployments in %s, %d requests", objectFlips, time.Since(began).Round(time.Millisecond), len(w.seen))
	if len(w.failures) > 0 {
		t.Errorf("%d of %d requests failed, the first: %v", len(w.failures), len(w.failures)+len(w.seen), w.failures[0])
	}
	served := map[string]int{}
	for _, id := range w.seen {
		served[id]++
	}
	if served[one] == 0 || served[two] == 0 || served[one]+served[two] != len(w.seen) {
		t.Errorf("the answers are %v; the versions are %s and %s", served, one, two)
	}
	eventsName(t, p, "objects", w.seen)

	// The whole platform dies at once, and starts again on its disk.
	p.Process().Kill()
	if err := os.Remove(filepath.Join(dir, "ready.json")); err != nil { // it tells of the one that is dead
		t.Fatal(err)
	}
	p = start(t, platform.Options{DataDir: dir})
	eventually(t, 30*time.Second, "the object counts on", func() (bool, error) {
		status, body, err := p.Visit(t.Context(), http.DefaultClient, "objects", http.Header{"Count": {"1"}})
		if err != nil || status != http.StatusOK {
			return false, fmt.Errorf("status %d: %s, %w", status, body, err)
		}
		var n int
		if _, err := fmt.Sscan(body, &n); err != nil || n <= len(w.seen) {
			t.Errorf("the object has %q calls, error %v; %d were answered", body, err, len(w.seen))
		}
		return true, nil
	})
}

// eventsName waits for the event of each request, and holds its version to the one
// that answered.
func eventsName(t *testing.T, p *platform.Platform, script string, seen map[string]string) {
	t.Helper()
	events := map[string]string{} // version id by ray
	eventually(t, time.Minute, "every event is stored", func() (bool, error) {
		rows, err := p.Query(t.Context(), "SELECT ray_id, version_id FROM trace_events WHERE event_type = 'fetch' AND ray_id != '' AND script_name = '"+script+"'")
		if err != nil {
			return false, err
		}
		for row := range strings.Lines(rows) {
			ray, version, _ := strings.Cut(strings.TrimSpace(row), "\t")
			events[ray] = version
		}
		for ray := range seen {
			if events[ray] == "" {
				return false, fmt.Errorf("%d events of %d are stored", len(events), len(seen))
			}
		}
		return true, nil
	})
	for ray, version := range seen {
		if events[ray] != version {
			t.Errorf("request %s was answered by %s; its event says %s", ray, version, events[ray])
		}
	}
}
