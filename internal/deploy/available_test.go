package deploy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tidegate/schema"
)

func failedSet(ids ...string) func(string) bool {
	return func(id string) bool {
		for _, f := range ids {
			if f == id {
				return true
			}
		}
		return false
	}
}

func TestAvailable(t *testing.T) {
	f := func(splits []Split, failed []string, want ...Percentage) {
		t.Helper()
		before := append([]Split(nil), splits...)
		got := Available(splits, failedSet(failed...))
		for i := range splits {
			if splits[i] != before[i] {
				t.Errorf("the splits were changed to %v", splits)
			}
			if got[i].VersionID != splits[i].VersionID || got[i].Percentage != want[i] {
				t.Errorf("without %v: got %v, want shares %v", failed, got, want)
			}
		}
	}
	three := []Split{{"a", 60_000}, {"b", 30_000}, {"c", 10_000}}
	f(three, nil, 60_000, 30_000, 10_000)
	f(three, []string{"b"}, 60_000, 0, 10_000)
	f(three, []string{"a", "b"}, 0, 0, 10_000)
	f(three, []string{"a", "b", "c"}, 60_000, 30_000, 10_000)
	f(three, []string{"elsewhere"}, 60_000, 30_000, 10_000)
	// A version at 0 % is for overrides, also when the only other one has failed.
	f([]Split{{"a", 100_000}, {"b", 0}}, []string{"a"}, 100_000, 0)
	f([]Split{{"a", 100_000}, {"b", 0}}, []string{"b"}, 100_000, 0)
}

// A bad version must not shift the others' proportions: whatever the shares and
// whichever versions fail, each of the others is drawn in proportion to its share,
// no failed one is drawn, and a key that was not on a failed version stays.
func TestFailedVersionsKeepProportions(t *testing.T) {
	const draws = 40_000
	for round := range 40 {
		random := rand.New(rand.NewPCG(uint64(round), 7))
		splits := make([]Split, 2+random.IntN(4))
		left := Full
		for i := range splits {
			splits[i] = Split{fmt.Sprintf("version-%d", i), 1 + Percentage(random.IntN(int(left)/2))}
			left -= splits[i].Percentage
		}
		splits[0].Percentage += left
		bad := map[string]bool{}
		for _, i := range random.Perm(len(splits))[:1+random.IntN(len(splits)-1)] {
			bad[splits[i].VersionID] = true
		}
		whole := &SnapshotScript{Name: "s", Splits: splits}
		some := &SnapshotScript{Name: "s", Splits: Available(splits, func(id string) bool { return bad[id] })}

		var healthy Percentage
		for _, s := range splits {
			if !bad[s.VersionID] {
				healthy += s.Percentage
			}
		}
		got := make([]int, len(splits))
		for n := range draws {
			got[Pick(some, Facts{}, random.Uint64()).Index]++
			key := Facts{Key: fmt.Sprint(round, n)}
			before, after := Pick(whole, key, 0).Index, Pick(some, key, 0).Index
			if bad[splits[after].VersionID] || !bad[splits[before].VersionID] && after != before {
				t.Fatalf("round %d: key %d moved from %d to %d; failed are %v", round, n, before, after, bad)
			}
		}
		for i, s := range splits {
			want := float64(s.Percentage) / float64(healthy)
			if bad[s.VersionID] {
				want = 0
			}
			// Six standard deviations: one false alarm in hundreds of millions.
			slack := 6*math.Sqrt(want*(1-want)/draws) + 1e-9
			if share := float64(got[i]) / draws; math.Abs(share-want) > slack {
				t.Errorf("round %d: version %d of %v without %v got %.4f, want %.4f", round, i, splits, bad, share, want)
			}
			if choice := Pick(some, Facts{Override: s.VersionID}, 0); choice != (Choice{i, schema.DecisionOverride}) {
				t.Errorf("an override to %s gave %+v", s.VersionID, choice)
			}
		}
	}
}
