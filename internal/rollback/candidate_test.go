package rollback

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
)

// epoch is a whole second, so that windows are easy to read.
var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// at is a moment in a history of deployments, one a minute.
func at(minute int) time.Time { return epoch.Add(time.Duration(minute) * time.Minute) }

type split map[string]float64 // version -> percent

// history builds deployments, newest first; the oldest began at minute 0.
func history(newestFirst ...deploy.Deployment) []deploy.Deployment {
	for i := range newestFirst {
		newestFirst[i].CreatedOn = at(len(newestFirst) - 1 - i)
	}
	return newestFirst
}

func person(s split) deploy.Deployment {
	d := deploy.Deployment{AuthorEmail: "ann@example.com"}
	for _, v := range []string{v1, v2, v3} {
		if percent, ok := s[v]; ok {
			d.Versions = append(d.Versions, deploy.Split{VersionID: v, Percentage: deploy.Percentage(percent * 1000)})
		}
	}
	return d
}

func rolledBackTo(version string) deploy.Deployment {
	d := person(split{version: 100})
	d.AuthorEmail, d.Annotations.TriggeredBy = Author, deploy.TriggeredByRollback
	return d
}

func TestTrialsOf(t *testing.T) {
	f := func(name string, deployments []deploy.Deployment, want ...trial) {
		t.Helper()
		if diff := cmp.Diff(want, trialsOf(deployments), cmp.AllowUnexported(trial{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	first := person(split{v1: 100})

	f("no deployment", nil)
	f("the first deployment", history(first))
	f("the first deployment, divided", history(person(split{v1: 50, v2: 50})))
	f("the same version deployed again", history(first, first))
	f("a new version beside the old",
		history(person(split{v1: 90, v2: 10}), first), trial{v2, v1, at(1), time.Time{}})
	f("a new version at 0 %", history(person(split{v1: 100, v2: 0}), first))
	f("a new version in place of the old",
		history(person(split{v2: 100}), first), trial{v2, v1, at(1), at(1)})
	f("a ramp by hand: the trial began with its first share",
		history(person(split{v2: 100}), person(split{v1: 50, v2: 50}), person(split{v1: 90, v2: 10}), first),
		trial{v2, v1, at(1), at(3)})
	f("a second attempt is a trial of its own",
		history(person(split{v1: 50, v2: 50}), first, person(split{v1: 50, v2: 50}), first), trial{v2, v1, at(3), time.Time{}})
	f("an attempt after a pause at 0 % is a trial of its own",
		history(person(split{v1: 90, v2: 10}), person(split{v1: 100, v2: 0}), person(split{v1: 90, v2: 10}), first),
		trial{v2, v1, at(3), time.Time{}})
	f("deployed again at 100 %, still on trial since the first time",
		history(person(split{v2: 100}), person(split{v2: 100}), first), trial{v2, v1, at(1), at(1)})
	f("at 100 % with another version at 0 %",
		history(person(split{v2: 100, v3: 0}), person(split{v2: 100}), first), trial{v2, v1, at(1), at(1)})
	f("a third version beside the second",
		history(person(split{v2: 90, v3: 10}), person(split{v2: 100}), first), trial{v3, v2, at(2), time.Time{}})
	f("two new versions",
		history(person(split{v1: 80, v2: 10, v3: 10}), person(split{v1: 90, v2: 10}), first),
		trial{v2, v1, at(1), time.Time{}}, trial{v3, v1, at(2), time.Time{}})
	f("never at 100 % before", history(person(split{v1: 80, v2: 20}), person(split{v1: 90, v2: 10})))

	f("step by step back to an earlier version: the baseline is what is left",
		history(person(split{v1: 50, v2: 50}), person(split{v2: 100}), first))
	f("a new version beside one that was returned to",
		history(person(split{v1: 90, v3: 10}), first, person(split{v2: 100}), first), trial{v3, v1, at(3), time.Time{}})
	f("two versions beside the second, one of them earlier",
		history(person(split{v1: 10, v2: 80, v3: 10}), person(split{v2: 100}), first), trial{v3, v2, at(2), time.Time{}})
	f("left by hand and tried again: on trial against what was there first",
		history(person(split{v2: 100}), first, person(split{v2: 100}), first), trial{v2, v1, at(3), at(3)})

	f("rolled back: nothing is judged", history(rolledBackTo(v1), person(split{v2: 100}), first))
	f("rolled back, then deployed again by hand: not against the version that was left",
		history(first, rolledBackTo(v1), person(split{v2: 100}), first))
	f("rolled back, then the left version at 0 %",
		history(person(split{v1: 100, v2: 0}), rolledBackTo(v1), person(split{v2: 100}), first))
	f("rolled back, then a new attempt",
		history(person(split{v1: 90, v2: 10}), rolledBackTo(v1), person(split{v2: 100}), first), trial{v2, v1, at(3), time.Time{}})
	f("rolled back, a new attempt, taken back by hand",
		history(first, person(split{v1: 90, v2: 10}), rolledBackTo(v1), person(split{v2: 100}), first))
}

// The controller rolled forward onto a version that a person had left: after v1,
// v2, and v1 again by hand, it took v2 for the baseline of v1, and put v2 back as
// soon as v1 had a bad minute. A rollback by wrangler is a deployment as any other,
// without the mark of a rollback.
func TestVersionThatAPersonWentBackToIsNotOnTrial(t *testing.T) {
	f := func(name string, deployments ...deploy.Deployment) {
		t.Helper()
		deployments[0].Annotations.TriggeredBy = triggeredByDeployment
		if trials := trialsOf(history(deployments...)); len(trials) > 0 {
			t.Errorf("%s: on trial %+v", name, trials)
		}
	}
	v1Full, v2Full, v3Full := person(split{v1: 100}), person(split{v2: 100}), person(split{v3: 100})
	f("to the one before", v1Full, v2Full, v1Full)
	f("from the middle of a split", v1Full, person(split{v1: 50, v2: 50}), v2Full, v1Full)
	f("by two", v1Full, v3Full, v2Full, v1Full)
	f("to the one before, not against the first either", v2Full, v3Full, v2Full, v1Full)
	f("a second time", v1Full, v2Full, v1Full, v2Full, v1Full)
	f("and deployed once more", v1Full, v1Full, v2Full, v1Full)
	f("with the left one at 0 %", person(split{v1: 100, v2: 0}), v2Full, v1Full)
}

// A version that replaced another stayed at 100 % while its routes were changed and
// deployed again, until the deployment of the other fell out of those that are
// looked at. From then on nothing was judged, and nothing said so.
func TestUnwatched(t *testing.T) {
	f := func(name string, want bool, deployments ...deploy.Deployment) {
		t.Helper()
		if got := unwatched(history(deployments...)); got != want {
			t.Errorf("%s: unwatched %v, want %v", name, got, want)
		}
	}
	first, second := person(split{v1: 100}), person(split{v2: 100})
	f("the baseline fell out", true, slices.Repeat([]deploy.Deployment{second}, deploy.WatchedDeployments)...)
	f("divided since the first deployment", true, person(split{v1: 50, v2: 50}))
	f("never divided otherwise", true, second, person(split{v1: 90, v2: 10}))

	f("on trial", false, second, first)
	f("no deployment", false)
	f("the first version", false, first)
	f("the first version, deployed again beside one at 0 %", false, person(split{v1: 100, v2: 0}), first)
	f("rolled back", false, rolledBackTo(v1), second, first)
	f("rolled back, then deployed again by hand", false, first, rolledBackTo(v1), second, first)
	f("returned to", false, first, second, first)
}

func TestGrowing(t *testing.T) {
	f := func(name string, deployments []deploy.Deployment, wantCandidate, wantBaseline string) {
		t.Helper()
		grown, ok := growing(deployments)
		if !ok {
			grown = trial{}
		}
		if grown.candidate != wantCandidate || grown.baseline != wantBaseline {
			t.Errorf("%s: %q grows against %q, want %q against %q", name, grown.candidate, grown.baseline, wantCandidate, wantBaseline)
		}
	}
	first := person(split{v1: 100})

	f("beside the old", history(person(split{v1: 90, v2: 10}), first), v2, v1)
	f("raised from 0 %", history(person(split{v1: 95, v2: 5}), person(split{v1: 100, v2: 0}), first), v2, v1)
	f("a new attempt after a rollback", history(person(split{v1: 90, v2: 10}), rolledBackTo(v1), person(split{v2: 100}), first), v2, v1)

	f("new at 0 %", history(person(split{v1: 100, v2: 0}), first), "", "")
	f("an earlier version beside the present one", history(person(split{v1: 10, v2: 90}), person(split{v2: 100}), first), "", "")
	f("taken down to 0 %", history(person(split{v1: 100, v2: 0}), person(split{v1: 90, v2: 10}), first), "", "")
	f("at 100 % with the old at 0 %", history(person(split{v1: 0, v2: 100}), person(split{v1: 50, v2: 50}), first), "", "")
	f("the same once more", history(person(split{v1: 0, v2: 100}), person(split{v1: 0, v2: 100}), first), "", "")
	f("alone", history(person(split{v2: 100}), first), "", "")
	f("two new versions", history(person(split{v2: 50, v3: 50}), first), "", "")
	f("three versions", history(person(split{v1: 80, v2: 10, v3: 10}), first), "", "")
	f("nothing before", history(person(split{v1: 90, v2: 10})), "", "")
}

func TestStepsFrom(t *testing.T) {
	policy := []deploy.RampStep{
		{Percentage: 5_000, BakeSeconds: 1}, {Percentage: 25_000, BakeSeconds: 2}, {Percentage: deploy.Full, BakeSeconds: 3},
	}
	before := slices.Clone(policy)
	f := func(steps []deploy.RampStep, share deploy.Percentage, want string) {
		t.Helper()
		from, standing := stepsFrom(steps, share)
		var got []string
		for i, step := range from {
			mark := ""
			if i == standing {
				mark = "*"
			}
			got = append(got, fmt.Sprintf("%s%s:%d", mark, step.Percentage, step.BakeSeconds))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("from %s: %q, want %q", share, text, want)
		}
	}
	f(policy, 1, "*0.001%:1 5%:1 25%:2 100%:3")
	f(policy, 5_000, "*5%:1 25%:2 100%:3")
	f(policy, 5_001, "5%:1 *5.001%:1 25%:2 100%:3")
	f(policy, 25_000, "5%:1 *25%:2 100%:3")
	f(policy, 70_000, "5%:1 25%:2 *70%:2 100%:3")
	f(policy[:2], 10_000, "5%:1 *10%:1 25%:2")
	f(policy[2:], 10_000, "*10%:3 100%:3")
	f(policy[:2], 25_000, "")
	f(policy[:2], 30_000, "")
	f(nil, 5_000, "")
	if diff := cmp.Diff(before, policy); diff != "" {
		t.Errorf("the policy was changed (-before +after):\n%s", diff)
	}
}

// What docs/rollback.md tells operators of v2, which replaced v1, and was put back when v3 failed
// before v2 had had all traffic for a look-back time.
func TestAfterAVersionWasPutBackThatWasOnTrial(t *testing.T) {
	v1Full, v2Full, v3Full := person(split{v1: 100}), person(split{v2: 100}), person(split{v3: 100})
	f := func(name string, counted bool, since []deploy.Deployment, want ...trial) {
		t.Helper()
		deployments := history(append(since, rolledBackTo(v2), v3Full, v2Full, v1Full)...)
		if diff := cmp.Diff(want, trialsOf(deployments), cmp.AllowUnexported(trial{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := untried(deployments, limits(0.2, 1)) || unwatched(deployments); got != counted {
			t.Errorf("%s: counted %v, want %v", name, got, counted)
		}
	}
	f("nothing since", true, nil)
	f("deployed again", true, []deploy.Deployment{v2Full})
	f("deployed again twice", true, []deploy.Deployment{v2Full, v2Full})
	f("the version before", false, []deploy.Deployment{v1Full})
	f("the version before beside it", false, []deploy.Deployment{person(split{v1: 10, v2: 90})})
	f("a new version beside it", false, []deploy.Deployment{person(split{v2: 90, v3: 10})}, trial{v3, v2, at(4), time.Time{}})
	f("a new version in its place", false, []deploy.Deployment{v3Full}, trial{v3, v2, at(4), at(4)})
	f("beside the version before, which had all traffic again", false, []deploy.Deployment{person(split{v1: 90, v2: 10}), v1Full}, trial{v2, v1, at(5), time.Time{}})
	f("in the place of the version before", false, []deploy.Deployment{v2Full, v1Full}, trial{v2, v1, at(5), at(5)})
}
