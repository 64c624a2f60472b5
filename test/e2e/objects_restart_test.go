package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// TestObjectsSurviveRestartsInARamp stops and kills the whole platform while objects
// are on their way to the second version. What they had acknowledged is there
// afterwards, and each of them runs the version of its id.
func TestObjectsSurviveRestartsInARamp(t *testing.T) {
	dir := t.TempDir()
	p := start(t, platform.Options{DataDir: dir})
	one, two, c := deployCounters(t, p, "ramp")
	names := counterNames(60)
	shares := func(percent int) []deploy.Split {
		second := deploy.Percentage(percent) * deploy.Full / 100
		return []deploy.Split{{VersionID: one, Percentage: deploy.Full - second}, {VersionID: two, Percentage: second}}
	}
	c.settle(t, names, shares(0)...)

	for _, step := range []struct {
		name    string
		percent int
		clean   bool
		end     func()
	}{
		{"SIGTERM", 30, true, func() {
			if err := p.Stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
		}},
		{"SIGKILL", 70, false, func() { kill(t, p) }},
	} {
		splits := shares(step.percent)
		settled := c.settled(splits)
		load := c.load(t, names, 300)
		if _, err := p.Deploy(t.Context(), "ramp", splits...); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "objects are on their way", func() (bool, error) { return c.settled(splits) >= settled+3, nil })
		moved := c.settled(splits)
		step.end()
		load.stop()
		t.Logf("%s after %d of %d objects had moved; %d calls were answered, %d were not", step.name, moved-settled, len(names)-settled, load.answered, len(load.failures))

		p = start(t, platform.Options{DataDir: dir})
		c.platform = p
		c.settle(t, names, splits...)
		for _, name := range names {
			versions := c.read(t, name)
			answered := c.answered(name)
			if len(versions) < answered || len(versions) > answered+len(load.failures) {
				t.Errorf("after %s %s has counted %d calls; %d were answered", step.name, name, len(versions), answered)
			}
			if ran := slices.Compact(versions); len(ran) > 2 || ran[0] != one {
				t.Errorf("after %s %s has run version after version %v; the versions are %s and %s", step.name, name, ran, one, two)
			}
		}
		if step.clean { // a kill loses the events of the last moment
			c.checkEventsOfAnswers(t, len(load.failures))
		}
	}
	mustNameVersions(t, p, "'ramp'", "logs != '[]'")
}

// checkEventsOfAnswers waits for an event of each call of an object that was answered.
// As many as unanswered may have run nevertheless.
func (c *counters) checkEventsOfAnswers(t *testing.T, unanswered int) {
	t.Helper()
	answers := 0
	c.mu.Lock()
	for _, n := range c.ran {
		answers += n
	}
	c.mu.Unlock()
	eventually(t, time.Minute, "the objects' events are stored", func() (bool, error) {
		n, err := c.platform.Count(t.Context(), "SELECT count() FROM trace_events WHERE entrypoint = 'Counter' AND script_name = '"+c.script+"'")
		if err == nil && (n < int64(answers) || n > int64(answers+unanswered)) {
			err = fmt.Errorf("%d events for %d answers and %d calls without one", n, answers, unanswered)
		}
		return err == nil, err
	})
}
