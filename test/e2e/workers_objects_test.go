package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// objectFlips is how many deployments of a script with Durable Objects follow each
// other under load.
const objectFlips = 60

// deployCounters makes two versions of a script with the class, and deploys the first.
func deployCounters(t *testing.T, p *platform.Platform, script string) (one, two string, c *counters) {
	t.Helper()
	worker := platform.JavaScript("one", counterClass+counterCalls)
	worker.Bindings = append(worker.Bindings, map[string]any{"name": "COUNTER", "type": deploy.BindingDurableObject, "class_name": "Counter"})
	worker.Migrations = map[string]any{"new_tag": "v1", "new_sqlite_classes": []string{"Counter"}}
	one, err := p.DeployWorker(t.Context(), script, worker)
	if err != nil {
		t.Fatal(err)
	}
	worker.Migrations = nil
	two, err = p.UploadWorker(t.Context(), script, worker)
	if err != nil {
		t.Fatal(err)
	}
	answersAt(t, p, script, one)
	return one, two, newCounters(t, p, script)
}

// TestObjectsUnderDeployments deploys two versions of a script with a Durable Object
// by turns while calls come. None may fail, every event names the version that ran,
// and what was acknowledged is there after the platform was killed.
func TestObjectsUnderDeployments(t *testing.T) {
	dir := t.TempDir()
	p := start(t, platform.Options{DataDir: dir})
	one, two, c := deployCounters(t, p, "objects")
	name := []string{"one"}
	c.settle(t, name, deploy.Split{VersionID: one, Percentage: deploy.Full})
	load := c.load(t, name, 200)
	began := time.Now()
	for i := range objectFlips {
		split := deploy.Split{VersionID: []string{two, one}[i%2], Percentage: deploy.Full}
		if _, err := p.Deploy(t.Context(), "objects", split); err != nil {
			t.Fatalf("deployment %d: %v", i, err)
		}
		// Others come while the object has not moved yet.
		if i%3 == 0 || i == objectFlips-1 {
			c.settle(t, name, split)
		}
	}
	load.mustStop(t)
	t.Logf("%d deployments in %s, %d calls", objectFlips, time.Since(began).Round(time.Millisecond), load.answered)
	versions := c.read(t, name[0])
	if answered := c.answered(name[0]); len(versions) != answered {
		t.Errorf("the object has counted %d calls; %d were answered", len(versions), answered)
	}
	moves := len(slices.Compact(slices.Clone(versions))) - 1
	if waited := objectFlips / 3; moves < waited || moves > objectFlips {
		t.Errorf("%d deployments moved the object %d times; it was waited for %d times", objectFlips, moves, waited)
	}
	checkEvents(t, c)

	// The whole platform dies at once, and starts again on its disk.
	kill(t, p)
	c.platform = start(t, platform.Options{DataDir: dir})
	c.settle(t, name, deploy.Split{VersionID: one, Percentage: deploy.Full})
	if again := c.read(t, name[0]); len(again) <= len(versions) || !slices.Equal(again[:len(versions)], versions) {
		t.Errorf("after the kill the object has %d calls, and %d before, or others", len(again), len(versions))
	}
}

// kill ends the whole platform at once, and takes away the file that tells of it.
func kill(t *testing.T, p *platform.Platform) {
	t.Helper()
	p.Process().Kill()
	if err := os.Remove(filepath.Join(p.DataDir, "ready.json")); err != nil {
		t.Fatal(err)
	}
}
