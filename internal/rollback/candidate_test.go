package rollback

import (
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
	d.AuthorEmail, d.Annotations.TriggeredBy = Author, triggeredByRollback
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

func TestGrowing(t *testing.T) {
	f := func(name string, deployments []deploy.Deployment, wantCandidate, wantBaseline string) {
		t.Helper()
		candidate, baseline, ok := growing(deployments)
		if !ok {
			candidate.VersionID, baseline = "", ""
		}
		if candidate.VersionID != wantCandidate || baseline != wantBaseline {
			t.Errorf("%s: %q grows against %q, want %q against %q", name, candidate.VersionID, baseline, wantCandidate, wantBaseline)
		}
	}
	first := person(split{v1: 100})

	f("beside the old", history(person(split{v1: 90, v2: 10}), first), v2, v1)
	f("new at 0 %", history(person(split{v1: 100, v2: 0}), first), v2, v1)
	f("raised from 0 %", history(person(split{v1: 95, v2: 5}), person(split{v1: 100, v2: 0}), first), v2, v1)
	f("an older version beside the present one", history(person(split{v1: 10, v2: 90}), person(split{v2: 100}), first), v1, v2)

	f("taken down to 0 %", history(person(split{v1: 100, v2: 0}), person(split{v1: 90, v2: 10}), first), "", "")
	f("at 100 % with the old at 0 %", history(person(split{v1: 0, v2: 100}), person(split{v1: 50, v2: 50}), first), "", "")
	f("the same once more", history(person(split{v1: 0, v2: 100}), person(split{v1: 0, v2: 100}), first), "", "")
	f("alone", history(person(split{v2: 100}), first), "", "")
	f("two new versions", history(person(split{v2: 50, v3: 50}), first), "", "")
	f("three versions", history(person(split{v1: 80, v2: 10, v3: 10}), first), "", "")
	f("nothing before", history(person(split{v1: 90, v2: 10})), "", "")
}

func TestFirstStep(t *testing.T) {
	f := func(share deploy.Percentage, want int, steps ...deploy.Percentage) {
		t.Helper()
		var ramp []deploy.RampStep
		for _, p := range steps {
			ramp = append(ramp, deploy.RampStep{Percentage: p})
		}
		if got := firstStep(ramp, share); got != want {
			t.Errorf("from %s in %v: step %d, want %d", share, steps, got, want)
		}
	}
	f(0, 0, 5_000, 25_000, 100_000)
	f(5_000, 0, 5_000, 25_000, 100_000)
	f(5_001, 1, 5_000, 25_000, 100_000)
	f(60_000, 2, 5_000, 25_000, 100_000)
	f(30_000, -1, 5_000, 25_000)
	f(25_000, -1, 5_000, 25_000)
	f(0, -1)
}
