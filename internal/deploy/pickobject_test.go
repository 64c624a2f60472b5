package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// objectID returns 64 hex digits, as ids of Durable Objects have.
func objectID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func objectIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = objectID(fmt.Sprint("object-", i))
	}
	return ids
}

// Every router and every process must find the same version for an object, or two
// versions of it would run. Change these values only with a major release.
func TestPickObjectGolden(t *testing.T) {
	f := func(splits []Split, want string) {
		t.Helper()
		got := ""
		for _, id := range objectIDs(64) {
			got += fmt.Sprint(PickObject(splits, id))
		}
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	f([]Split{{v1, 50_000}, {v2, 50_000}}, "1100111111110010000001010000010011110001000010011000011010011000")
	f([]Split{{v1, 60_000}, {v2, 30_000}, {v3, 10_000}}, "2102101202010000000002010000000001110001000010212000010020001002")
	f([]Split{{v1, 0}, {v2, 100_000}}, strings.Repeat("1", 64))
}

// TestPickObjectFollowsTheTable plays the example of Cloudflare's documentation
// (reference/deployments.md, section 10): three objects and four deployments.
func TestPickObjectFollowsTheTable(t *testing.T) {
	deployments := [][]Split{
		{{v1, 100_000}},
		{{v2, 20_000}, {v1, 80_000}},
		{{v2, 50_000}, {v1, 50_000}},
		{{v2, 100_000}},
	}
	rows := make(map[string]int)
	for _, id := range objectIDs(10_000) {
		row := ""
		for _, splits := range deployments {
			row += map[string]string{v1: "A", v2: "B"}[splits[PickObject(splits, id)].VersionID]
		}
		rows[row]++
	}
	// foo, bar and baz, in the shares of the steps: 20 %, 30 % and 50 %.
	for row, want := range map[string]int{"ABBB": 2000, "AABB": 3000, "AAAB": 5000} {
		if got := rows[row]; got < want-150 || got > want+150 { // three standard deviations and more
			t.Errorf("%d objects of 10,000 go the way %s, want about %d", got, row, want)
		}
		delete(rows, row)
	}
	if len(rows) > 0 {
		t.Errorf("objects went other ways: %v", rows)
	}
}

// While one version grows and no other does, no object leaves it, whatever the order
// that a deployment lists its versions in; and one at 0 % has none.
func TestPickObjectGrowsMonotonically(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	ids := objectIDs(500)
	for range 200 {
		// The shares of the others, which each step lowers, and that of the growing version.
		others := make([]Percentage, 1+random.IntN(3))
		on := make(map[string]bool)
		left := Full
		for i := range others {
			others[i] = left / Percentage(len(others)-i)
			left -= others[i]
		}
		for left < Full {
			splits := []Split{{VersionID: v3, Percentage: left}}
			for i, share := range others {
				splits = append(splits, Split{fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), share})
			}
			random.Shuffle(len(splits), func(i, j int) { splits[i], splits[j] = splits[j], splits[i] })
			if err := ValidateSplits(splits, len(splits)); err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				picked := splits[PickObject(splits, id)]
				switch {
				case picked.Percentage == 0:
					t.Fatalf("%v: object %s runs version %s, which has no share", splits, id, picked.VersionID)
				case on[id] && picked.VersionID != v3:
					t.Fatalf("%v: object %s left the growing version for %s", splits, id, picked.VersionID)
				}
				on[id] = picked.VersionID == v3
			}
			for i := range others {
				step := min(others[i], Percentage(random.Int64N(20_000)))
				others[i] -= step
				left += step
			}
		}
	}
}

// Shares of objects follow the percentages: the bound is the 99.9 % quantile of
// chi-square, as in TestPickShares.
func TestPickObjectShares(t *testing.T) {
	const n = 100_000
	ids := objectIDs(n)
	f := func(chi2Max float64, splits ...Split) {
		t.Helper()
		counts := make([]int, len(splits))
		for _, id := range ids {
			counts[PickObject(splits, id)]++
		}
		chi2 := 0.0
		for i, got := range counts {
			want := n * float64(splits[i].Percentage) / float64(Full)
			if want == 0 {
				if got != 0 {
					t.Errorf("%v: %d objects run a version at 0%%", splits, got)
				}
				continue
			}
			chi2 += (float64(got) - want) * (float64(got) - want) / want
		}
		if chi2 > chi2Max {
			t.Errorf("%v: counts %v, chi-square %.1f > %.1f", splits, counts, chi2, chi2Max)
		}
	}
	f(10.83, Split{v1, 99_000}, Split{v2, 1_000})
	f(10.83, Split{v1, 87_654}, Split{v2, 12_346})
	f(10.83, Split{v1, 50_000}, Split{v3, 0}, Split{v2, 50_000})
	f(13.82, Split{v1, 70_000}, Split{v2, 20_000}, Split{v3, 10_000})
}

// Objects move only when a share does: the order of the list is no part of the choice.
func TestPickObjectIgnoresOrder(t *testing.T) {
	a := []Split{{v1, 60_000}, {v2, 30_000}, {v3, 10_000}}
	b := slices.Clone(a)
	slices.Reverse(b)
	for _, id := range objectIDs(10_000) {
		if x, y := a[PickObject(a, id)].VersionID, b[PickObject(b, id)].VersionID; x != y {
			t.Fatalf("object %s: %s in one order, %s in the other", id, x, y)
		}
	}
}

func TestPickObjectAllocatesNothing(t *testing.T) {
	splits, id := []Split{{v1, 90_000}, {v2, 10_000}}, objectID("one")
	if n := testing.AllocsPerRun(100, func() { PickObject(splits, id) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
