package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// counting has an object that counts its calls in SQLite, and calls another Worker.
const counting = `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, by TEXT)");
  }
  add(by) { return this.ctx.storage.sql.exec("INSERT INTO calls (by) VALUES (?) RETURNING n", by).one().n; }
}
export default {
  async fetch(request, env) {
    const n = await env.COUNTER.get(env.COUNTER.idFromName("one")).add("%[1]s");
    return Response.json({ by: "%[1]s", n, told: await (await env.TELLER.fetch("http://teller/")).text() });
  },
};
`

// calls is one answer of counting.
type calls struct {
	By   string
	N    int
	Told string
}

// counts asks until the Worker that is named by answers, and returns how far it is.
func (s *release) counts(t *testing.T, by string) int {
	t.Helper()
	var c calls
	eventually(t, 30*time.Second, by+" answers", func() (bool, error) {
		text := s.body(t, nil)
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return false, fmt.Errorf("%w in %q", err, text)
		}
		return c.By == by, nil
	})
	if c.Told != "told" {
		t.Errorf("the service binding answered %q", c.Told)
	}
	return c.N
}

// durableObject deploys a project with a Durable Object and a service binding, and
// new versions of it, which find its data. A split across a migration is refused, at 0 %
// too.
func durableObject(t *testing.T, s, teller *release) {
	teller.configure(t, nil)
	teller.write(t, "src/index.js", `export default { fetch() { return new Response("told"); } };`)
	teller.run(t, "deploy")

	config := map[string]any{
		"durable_objects": map[string]any{"bindings": []map[string]string{{"name": "COUNTER", "class_name": "Counter"}}},
		"migrations":      []map[string]any{{"tag": "v1", "new_sqlite_classes": []string{"Counter"}}},
		"services":        []map[string]string{{"binding": "TELLER", "service": teller.name}},
	}
	s.configure(t, config)
	s.write(t, "src/index.js", fmt.Sprintf(counting, "one"))
	s.v1 = versionID(t, s.run(t, "deploy"))
	eventually(t, 30*time.Second, s.name+" answers", func() (bool, error) {
		status, _, err := s.platform.Visit(t.Context(), http.DefaultClient, s.name, nil)
		return status == http.StatusOK, err
	})
	// From here on every request is served.
	n := s.counts(t, "one")
	if n == 0 {
		t.Fatal("nothing was counted")
	}

	s.write(t, "src/index.js", fmt.Sprintf(counting, "two"))
	s.v2 = versionID(t, s.run(t, "deploy")) // its migration has run
	if next := s.counts(t, "two"); next <= n {
		t.Errorf("after the second deploy the count is %d, after %d", next, n)
	} else {
		n = next
	}

	s.write(t, "src/index.js", fmt.Sprintf(counting, "three"))
	out := s.run(t, "versions", "upload")
	third := versionID(t, out)
	if strings.Contains(out, "Preview URL") {
		t.Errorf("a version with Durable Objects has a preview:\n%s", out)
	}
	s.run(t, "versions", "deploy", s.v2+"@100", third+"@0", "-y")
	if next := s.counts(t, "two"); next <= n {
		t.Errorf("beside a version at 0 %% the count is %d, after %d", next, n)
	} else {
		n = next
	}
	s.run(t, "versions", "deploy", third+"@100", "-y")
	if next := s.counts(t, "three"); next <= n {
		t.Errorf("after the third version the count is %d, after %d", next, n)
	} else {
		n = next
	}
	s.run(t, "rollback", s.v1, "-y", "-m", "back")
	if next := s.counts(t, "one"); next <= n {
		t.Errorf("after the rollback the count is %d, after %d", next, n)
	}

	// No way leads back across a migration.
	config["migrations"] = append(config["migrations"].([]map[string]any), map[string]any{"tag": "v2", "renamed_classes": []map[string]string{{"from": "Counter", "to": "Tally"}}})
	config["durable_objects"] = map[string]any{"bindings": []map[string]string{{"name": "COUNTER", "class_name": "Tally"}}}
	s.configure(t, config)
	s.write(t, "src/index.js", strings.ReplaceAll(fmt.Sprintf(counting, "four"), "class Counter", "class Tally"))
	fourth := versionID(t, s.run(t, "deploy"))
	if next := s.counts(t, "four"); next <= n {
		t.Errorf("after the class was renamed the count is %d, after %d", next, n)
	}
	if out := s.refused(t, "rollback", third, "-y", "-m", "back"); !strings.Contains(out, "lifecycle change") {
		t.Errorf("the rollback is refused with\n%s", out)
	}
	// A wrangler that knows the code says what to do instead of printing it.
	out = s.refused(t, "versions", "deploy", third+"@50", fourth+"@50", "-y")
	if !strings.Contains(out, "cannot be part of a split") || !strings.Contains(out, "100405") && !strings.Contains(out, "percentage-split deployment") {
		t.Errorf("a split across the migration is refused with\n%s", out)
	}
	_, err := s.platform.Deploy(t.Context(), s.name,
		deploy.Split{VersionID: third, Percentage: 0}, deploy.Split{VersionID: fourth, Percentage: deploy.Full})
	if refusal, ok := errors.AsType[*platform.APIError](err); !ok || refusal.Code != 100405 {
		t.Errorf("at 0 %% beside a version after the migration it answers %v", err)
	}
	s.run(t, "delete", "--force")
	gone(t, s.platform, s.name)
}
