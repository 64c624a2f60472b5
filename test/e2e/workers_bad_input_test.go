package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/schema"
	"tidegate/test/platform"
)

// TestBadUploads holds what an upload is refused for, and that the words name it.
func TestBadUploads(t *testing.T) {
	p := start(t, platform.Options{})
	many := platform.JavaScript("many", sayVersion)
	for i := range 500 {
		many.Modules = append(many.Modules, platform.Module{Name: fmt.Sprintf("m%d.js", i), Content: "export {}"})
	}
	climbing := platform.JavaScript("climbing", sayVersion)
	climbing.Modules = append(climbing.Modules, platform.Module{Name: "../../admin-token", Content: "export {}"})
	objects := platform.JavaScript("objects", sayVersion)
	objects.Bindings = append(objects.Bindings, map[string]any{"name": "COUNTER", "type": "durable_object_namespace", "class_name": "Counter"})
	namespace := platform.JavaScript("kv", sayVersion)
	namespace.Bindings = append(namespace.Bindings, map[string]any{"name": "CACHE", "type": "kv_namespace", "namespace_id": "0123"})
	for name, test := range map[string]struct {
		worker platform.Worker
		want   []string // parts of the refusal
	}{
		"syntax error":           {platform.JavaScript("", "export default { fetch( }"), []string{"SyntaxError", "10021"}},
		"throw at start":         {platform.JavaScript("", "throw new RangeError('too far out');"), []string{"too far out", "10021"}},
		"start without end":      {platform.JavaScript("", "while (true) {}\nexport default {};"), []string{"10021"}},
		"import of nothing":      {platform.JavaScript("", "import './absent.js';\nexport default {};"), []string{"absent.js", "10021"}},
		"500 modules":            {many, []string{"modules"}},
		"name with ..":           {climbing, []string{"../../admin-token"}},
		"Durable Object binding": {objects, []string{"COUNTER", "Counter", "10061"}},
		"KV binding":             {namespace, []string{"CACHE", "kv_namespace"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.DeployWorker(t.Context(), "refused", test.worker)
			refusal, ok := errors.AsType[*platform.APIError](err)
			if !ok {
				t.Fatalf("the upload is not refused: %v", err)
			}
			if refusal.Status != http.StatusBadRequest {
				t.Errorf("the status is %d", refusal.Status)
			}
			for _, want := range test.want {
				if !strings.Contains(refusal.Error(), want) {
					t.Errorf("the refusal does not say %q: %v", want, refusal)
				}
			}
		})
	}
	t.Run("100 MB", func(t *testing.T) {
		large := platform.JavaScript("large", sayVersion)
		large.Modules = append(large.Modules, platform.Module{Name: "large.txt", Content: strings.Repeat("x", 100<<20), ContentType: "text/plain"})
		if _, err := p.DeployWorker(t.Context(), "refused", large); err == nil {
			t.Error("the upload is not refused")
		}
	})
	gone(t, p, "refused")
}

// hostile does what its path says.
const hostile = `const kept = [];
export default {
  async fetch(request) {
    switch (new URL(request.url).pathname) {
      case "/spin": while (true) {}
      case "/grow": while (true) kept.push(new Array(1 << 20).fill(Math.random()));
      case "/shout": for (let i = 0; i < 100; i++) console.log("x".repeat(1 << 20)); break;
      case "/wait": await new Promise(() => {});
    }
    return new Response("still here");
  },
};
`

// TestHostileWorkers has a version that never returns, one that allocates without
// end and one that logs 100 MB, and expects nothing of it at another script.
func TestHostileWorkers(t *testing.T) {
	p := start(t, platform.Options{})
	calm, err := p.DeployWorker(t.Context(), "calm", platform.JavaScript("calm", sayVersion))
	if err != nil {
		t.Fatal(err)
	}
	answersAt(t, p, "calm", calm)
	for path, outcome := range map[string]string{
		"/spin":  schema.OutcomeExceededCPU,
		"/grow":  schema.OutcomeExceededMemory,
		"/shout": schema.OutcomeOK,
		"/wait":  schema.OutcomeException, // the runtime sees that nothing can wake it
	} {
		t.Run(strings.TrimPrefix(path, "/"), func(t *testing.T) {
			script := "hostile-" + strings.TrimPrefix(path, "/")
			worker := platform.JavaScript("hostile", hostile)
			worker.CPUMs = 1000
			if _, err := p.DeployWorker(t.Context(), script, worker); err != nil {
				t.Fatal(err)
			}
			answersAt(t, p, script, "still here")
			w := witness(t, p, "calm", 50)

			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Gateway+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = p.Host(script)
			client := &http.Client{Timeout: 2 * time.Minute}
			res, err := client.Do(req)
			if err != nil {
				t.Fatalf("the request has no end: %v", err)
			}
			_ = res.Body.Close() // only its status is asked for
			if failed := res.StatusCode >= 500; failed != (path != "/shout") {
				t.Errorf("%s is answered with %s", path, res.Status)
			}
			answersAt(t, p, script, "still here") // it is there again

			w.stop()
			if len(w.failures) > 0 {
				t.Errorf("%d requests to another script failed, the first: %v", len(w.failures), w.failures[0])
			}
			eventually(t, 30*time.Second, "the event of "+path+" is stored", func() (bool, error) {
				got, err := p.Query(t.Context(), "SELECT outcome FROM trace_events WHERE script_name = '"+script+"' AND url LIKE '%"+path+"'")
				if err == nil && got != outcome {
					err = fmt.Errorf("its outcome is %q, not %q", got, outcome)
				}
				return err == nil, err
			})
		})
	}
}
