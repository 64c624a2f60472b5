package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// borrowing sets the project up as one that calls the objects of another script.
func (s *release) borrowing(t *testing.T, owner string) {
	t.Helper()
	s.configure(t, map[string]any{
		"version_metadata": map[string]string{"binding": "VERSION"},
		"durable_objects": map[string]any{"bindings": []map[string]string{
			{"name": "COUNTER", "class_name": "Counter", "script_name": owner},
		}},
	})
	s.write(t, "src/index.js", counterCalls)
}

// objectsOfOthers has three scripts call the same objects. They are the first one's,
// whose deployment is split, and then the third one's, until it is deleted.
func objectsOfOthers(t *testing.T, first, second, third *release) {
	names := counterNames(12)
	first.counting(t)
	first.v1 = versionID(t, first.run(t, "deploy"))
	own := first.counters(t)
	first.v2 = versionID(t, first.run(t, "versions", "upload"))
	if _, err := first.platform.Deploy(t.Context(), first.name, first.shares(50)...); err != nil {
		t.Fatal(err)
	}
	second.borrowing(t, first.name)
	second.run(t, "deploy")
	borrowed := second.counters(t)
	borrowed.settle(t, names, first.shares(50)...)
	own.settle(t, names, first.shares(50)...)
	before := map[string]counted{}
	for _, name := range names {
		got, again := own.mustAdd(t, name), borrowed.mustAdd(t, name)
		if got.ID != again.ID || again.N != got.N+1 {
			t.Errorf("%s counted %+v for its own script, and then %+v for another", name, got, again)
		}
		before[name] = again
	}

	third.configure(t, map[string]any{
		"version_metadata": map[string]string{"binding": "VERSION"},
		"durable_objects":  map[string]any{"bindings": []map[string]string{{"name": "COUNTER", "class_name": "Counter"}}},
		"migrations": []map[string]any{{"tag": "v1", "transferred_classes": []map[string]string{
			{"from": "Counter", "from_script": first.name, "to": "Counter"},
		}}},
	})
	third.write(t, "src/index.js", counterClass+counterCalls)
	if out := third.refused(t, "deploy"); !strings.Contains(out, "split between 2 versions") {
		t.Errorf("a transfer from a split is refused with\n%s", out)
	}
	all := deploy.Split{VersionID: first.v1, Percentage: deploy.Full}
	if _, err := first.platform.Deploy(t.Context(), first.name, all); err != nil {
		t.Fatal(err)
	}
	borrowed.settle(t, names, all)
	load := borrowed.load(t, names, 20)
	third.v1 = versionID(t, third.run(t, "deploy"))
	taken := third.counters(t)
	all.VersionID = third.v1
	taken.settle(t, names, all)
	load.mustStop(t)
	for _, name := range names {
		got, again := taken.mustAdd(t, name), borrowed.mustAdd(t, name)
		if got.ID != before[name].ID || got.N <= before[name].N || again.N != got.N+1 || again.Version != third.v1 {
			t.Errorf("%s counted %+v before the transfer, %+v after it, and %+v for another script", name, before[name], got, again)
		}
	}
	first.movesOut(t, own, third)
	checkEvents(t, own, borrowed, taken)
	third.isMissed(t, borrowed, first, second)
}

// movesOut deploys a script whose class was transferred: as it was it is refused, with a
// binding to the new home it calls the same objects.
func (s *release) movesOut(t *testing.T, c *counters, home *release) {
	t.Helper()
	if out := s.refused(t, "deploy"); !strings.Contains(out, "10061") || !strings.Contains(out, "script_name") {
		t.Errorf("a binding to a class that was transferred is refused with\n%s", out)
	}
	was := c.mustAdd(t, "first")
	s.borrowing(t, home.name)
	s.v2 = versionID(t, s.run(t, "deploy"))
	s.answers(t, s.v2)
	if got := c.mustAdd(t, "first"); got.ID != was.ID || got.N != was.N+1 || got.Version != home.v1 {
		t.Errorf("after its next deploy %s counts %+v, and before %+v", s.name, got, was)
	}
}

// isMissed deletes a script that others are bound to, which wrangler warns of.
func (s *release) isMissed(t *testing.T, c *counters, others ...*release) {
	t.Helper()
	err := s.platform.API(t.Context(), http.MethodDelete, "/accounts/{account}/workers/scripts/"+s.name, nil, nil)
	refusal, ok := errors.AsType[*platform.APIError](err)
	if !ok || refusal.Code != 10064 {
		t.Fatalf("to delete %s answers %v", s.name, err)
	}
	out := s.run(t, "delete") // without an input it says yes to itself
	for _, other := range others {
		if want := other.name + ` (production) has a binding to the Durable Object Namespace`; !strings.Contains(out, want) {
			t.Errorf("wrangler does not say that %s:\n%s", want, out)
		}
		if !strings.Contains(refusal.Message, other.name) {
			t.Errorf("the refusal does not name %s: %s", other.name, refusal.Message)
		}
	}
	gone(t, s.platform, s.name)
	for _, method := range []string{"add", "fetch"} {
		eventually(t, 30*time.Second, "calls of the others fail", func() (bool, error) {
			_, err := c.add(t.Context(), method, "first")
			if err == nil || !strings.Contains(err.Error(), "does not exist any more") {
				return false, fmt.Errorf("%s got %w", method, err)
			}
			return true, nil
		})
	}
}
