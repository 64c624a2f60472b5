package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// TestWranglerObjects plays gradual deployments of Durable Objects, and objects that
// several scripts call, with each wrangler.
func TestWranglerObjects(t *testing.T) {
	p := start(t, platform.Options{})
	for _, w := range wranglers {
		api := record(t, p)
		newRelease := func(t *testing.T, name string) *release {
			return &release{project: newProject(t, w, p, api, name+w.suffix())}
		}
		t.Run(w.version+" ramp", func(t *testing.T) {
			t.Parallel()
			s := newRelease(t, "ramp")
			rampObjects(t, s)
			if w.codeUpdateMode {
				t.Run("code update modes", func(t *testing.T) { codeUpdateModes(t, s) })
			}
		})
		t.Run(w.version+" other scripts", func(t *testing.T) {
			t.Parallel()
			objectsOfOthers(t, newRelease(t, "has"), newRelease(t, "borrows"), newRelease(t, "takes"))
		})
	}
}

// rampedObjects is how many objects change their versions in rampObjects.
const rampedObjects = 40

// counting sets the project up as one that has the class itself.
func (s *release) counting(t *testing.T) {
	t.Helper()
	s.configure(t, map[string]any{
		"version_metadata": map[string]string{"binding": "VERSION"},
		"durable_objects":  map[string]any{"bindings": []map[string]string{{"name": "COUNTER", "class_name": "Counter"}}},
		"migrations":       []map[string]any{{"tag": "v1", "new_sqlite_classes": []string{"Counter"}}},
	})
	s.write(t, "src/index.js", counterClass+counterCalls)
}

// counters waits until the script counts, and returns its objects.
func (s *release) counters(t *testing.T) *counters {
	t.Helper()
	c := newCounters(t, s.platform, s.name)
	eventually(t, 30*time.Second, s.name+" counts", func() (bool, error) {
		_, err := c.add(t.Context(), "add", "first")
		return err == nil, err
	})
	return c
}

// rampObjects gives a second version more and more of the objects, and takes them back,
// under load: each object runs the version of its id, counts on, and changes its version
// once on the way up.
func rampObjects(t *testing.T, s *release) {
	s.counting(t)
	s.v1 = versionID(t, s.run(t, "deploy"))
	c := s.counters(t)
	names := counterNames(rampedObjects)
	c.settle(t, names, deploy.Split{VersionID: s.v1, Percentage: deploy.Full})
	s.v2 = versionID(t, s.run(t, "versions", "upload"))

	load := c.load(t, names, 50)
	for _, percent := range []int{20, 50} {
		s.run(t, "versions", "deploy", fmt.Sprintf("%s@%d", s.v2, percent), fmt.Sprintf("%s@%d", s.v1, 100-percent), "-y")
		c.settle(t, names, s.shares(percent)...)
	}
	s.run(t, "versions", "deploy", s.v2+"@100", "-y")
	c.settle(t, names, deploy.Split{VersionID: s.v2, Percentage: deploy.Full})
	s.run(t, "rollback", s.v1, "-y", "-m", "back")
	c.settle(t, names, deploy.Split{VersionID: s.v1, Percentage: deploy.Full})
	load.mustStop(t)

	for _, name := range names {
		versions := c.read(t, name)
		if answered := c.answered(name); len(versions) != answered {
			t.Errorf("%s has counted %d calls; %d were answered", name, len(versions), answered)
		}
		if ran := slices.Compact(versions); !slices.Equal(ran, []string{s.v1, s.v2, s.v1}) {
			t.Errorf("%s ran version after version %v; the versions are %s and %s", name, ran, s.v1, s.v2)
		}
	}
	checkEvents(t, c)
}

// shares are the splits that give the second version so many percent.
func (s *release) shares(percent int) []deploy.Split {
	second := deploy.Percentage(percent) * deploy.Full / 100
	return []deploy.Split{{VersionID: s.v2, Percentage: second}, {VersionID: s.v1, Percentage: deploy.Full - second}}
}

// codeUpdateModes lets a busy object finish, and then does not.
func codeUpdateModes(t *testing.T, s *release) {
	c := newCounters(t, s.platform, s.name)
	const name = "busy"
	was := c.mustAdd(t, name)

	answer := c.hold(t, name)
	s.deployWith(t, s.v2, "deferred", "10m")
	c.settle(t, []string{"idle"}, deploy.Split{VersionID: s.v2, Percentage: deploy.Full})
	if got := c.mustAdd(t, name); got.Version != s.v1 {
		t.Errorf("while it is busy the object counts in version %s", got.Version)
	}
	if err := c.ask(t.Context(), "release", name, new(any)); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got.err != nil || got.Version != s.v1 {
		t.Errorf("with a delay of 10 minutes the call got %+v", got)
	}
	c.settle(t, []string{name}, deploy.Split{VersionID: s.v2, Percentage: deploy.Full})

	answer = c.hold(t, name)
	s.deployWith(t, s.v1, "immediate")
	if got := <-answer; got.err == nil || !strings.Contains(got.err.Error(), "Durable Object reset because its code was updated.") {
		t.Errorf("without a delay the call got %+v", got)
	}
	c.settle(t, []string{name}, deploy.Split{VersionID: s.v1, Percentage: deploy.Full})
	if got := c.mustAdd(t, name); got.ID != was.ID || got.N <= was.N {
		t.Errorf("the object counted %+v, and %+v before", got, was)
	}
}

// deployWith deploys a version in a code update mode, which the deployment shows.
func (s *release) deployWith(t *testing.T, id string, mode ...string) {
	t.Helper()
	s.run(t, append([]string{"versions", "deploy", id + "@100", "-y", "--durable-objects-code-update-mode"}, mode...)...)
	want := deploy.CodeUpdate{Mode: mode[0]}
	if len(mode) > 1 {
		delay, err := time.ParseDuration(mode[1])
		if err != nil {
			t.Fatal(err)
		}
		seconds := delay.Seconds()
		want.MaxDelaySeconds = &seconds
	}
	status := decode[deploy.Deployment](t, s.run(t, "deployments", "status", "--json"))
	if got := status.CodeUpdate; got.Mode != want.Mode || got.DelayMS() != want.DelayMS() {
		t.Errorf("the deployment shows %+v, not %+v", got, want)
	}
}

// held is what a call of hold got.
type held struct {
	counted
	err error
}

// hold has an object be busy until it is released. It returns once it is.
func (c *counters) hold(t *testing.T, name string) <-chan held {
	t.Helper()
	answer := make(chan held, 1)
	go func() {
		got, err := c.add(t.Context(), "hold", name)
		answer <- held{got, err}
	}()
	eventually(t, 10*time.Second, name+" is busy", func() (bool, error) {
		var holding bool
		err := c.ask(t.Context(), "held", name, &holding)
		return holding, err
	})
	return answer
}
