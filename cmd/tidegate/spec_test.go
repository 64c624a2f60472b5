package main

import (
	"errors"
	"math"
	"strings"
	"testing"

	"tidegate/internal/deploy"
)

func TestSpecsAreDivided(t *testing.T) {
	f := func(specs, want string) {
		t.Helper()
		parsed, err := parseSpecs(strings.Fields(specs))
		if err != nil {
			t.Errorf("%q: %v", specs, err)
			return
		}
		splits, err := divide(parsed)
		if err != nil {
			t.Errorf("%q: %v", specs, err)
			return
		}
		var got []string
		for _, split := range splits {
			got = append(got, split.VersionID+" "+split.Percentage.String())
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%q: got %q, want %q", specs, text, want)
		}
	}
	f("v1", "v1 100%")
	f("v1@90 v2@10", "v1 90%, v2 10%")
	f("v1@90% v2@10%", "v1 90%, v2 10%")
	f("v1@87.654% v2@12.346", "v1 87.654%, v2 12.346%")
	f("v1@33.3333 v2@66.6667", "v1 33.333%, v2 66.667%")
	f("v1 v2", "v1 50%, v2 50%")
	f("v1 v2 v3", "v1 33.334%, v2 33.333%, v3 33.333%")
	f("v1@5 v2 v3", "v1 5%, v2 47.5%, v3 47.5%")
	f("v2 v1@10", "v2 90%, v1 10%")
	f("v1@100 v2", "v1 100%, v2 0%") // reachable by override
	f("v1@0 v2@100", "v1 0%, v2 100%")
	f("v1@33.333 v2@66.666", "v1 33.333%, v2 66.666%") // within the API's 0.001
	f("team@v1@100", "team@v1 100%")
	f("spring,team@v1@100", "spring,team@v1 100%")
	f("v1,v2", "v1,v2 100%") // a tag, until the versions say otherwise
}

func TestBadSpecsAreRefused(t *testing.T) {
	f := func(specs, want string) {
		t.Helper()
		parsed, err := parseSpecs(strings.Fields(specs))
		if err == nil {
			_, err = divide(parsed)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", specs, err, want)
		}
	}
	f("@50", "names no version")
	f("v1@90,v2@10", "separate versions by spaces: v1@90 v2@10")
	f("v1@90,v2", "separate versions by spaces: v1@90 v2")
	f("v1@90%, v2@10%", "separate versions by spaces")
	f("v1@", "not a percentage")
	f("v1@ten", "not a percentage")
	f("v1@-1", "not a percentage")
	f("v1@101", "not a percentage")
	f("v1@1e1", "not a percentage")
	f("v1@0x1", "not a percentage")
	f("v1@NaN", "not a percentage")
	f("v1@50%%", "not a percentage")
	f("v1@90 v2@20", "sum to 110%")
	f("v1@90", "sum to 90%")
	f("v1@60 v2@50 v3", `nothing is left for "v3"`)
	f("v1 v1", "repeated")
	f("", "at least one version")
}

func TestResolve(t *testing.T) {
	const one, two = "1a2b3c4d-0000-4000-8000-000000000001", "1a2b3c4d-1111-4000-8000-000000000002"
	versions := []deploy.Version{
		{ID: one, Annotations: deploy.Annotations{Tag: "v1"}},
		{ID: two, Annotations: deploy.Annotations{Tag: "v2"}},
		{ID: "deadbeef-0000-4000-8000-000000000003", Annotations: deploy.Annotations{Tag: "v2"}},
		{ID: "0badcafe-0000-4000-8000-000000000004", Annotations: deploy.Annotations{Tag: "deadbeef"}},
	}
	f := func(ref, want string) {
		t.Helper()
		if got, err := resolve(versions, ref); got != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", ref, got, err, want)
		}
	}
	f("v1", one)
	f(one, one)
	f(strings.ToUpper(one), one)
	f("1a2b3c4d-1", two)
	f("0badcafe", "0badcafe-0000-4000-8000-000000000004")
	f("ffffffff-0000-4000-8000-000000000009", "ffffffff-0000-4000-8000-000000000009") // the API knows why not

	bad := func(ref, want string) {
		t.Helper()
		if got, err := resolve(versions, ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %q, %v, want an error with %q", ref, got, err, want)
		}
	}
	bad("1a2b3c4d", "means 2 versions")
	bad("v2", "means 2 versions")
	bad("deadbeef", "means 2 versions") // the tag of one, the id of another
	bad("1a2b3c4", "neither the tag")   // too short
	bad("", "neither the tag")
	if id, err := resolve([]deploy.Version{{ID: one}}, ""); err == nil {
		t.Errorf("no ref means %s, which has no tag", id)
	}
	if _, err := resolve(nil, "v1"); !errors.Is(err, errNoVersion) {
		t.Errorf("without versions: got %v", err)
	}
}

func TestRollbackTarget(t *testing.T) {
	deployment := func(splits ...deploy.Split) deploy.Deployment { return deploy.Deployment{Versions: splits} }
	full := func(id string) deploy.Deployment {
		return deployment(deploy.Split{VersionID: id, Percentage: deploy.Full})
	}
	half := deployment(deploy.Split{VersionID: "a", Percentage: 50_000}, deploy.Split{VersionID: "b", Percentage: 50_000})
	f := func(want string, deployments ...deploy.Deployment) {
		t.Helper()
		if got := rollbackTarget(deployments); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f("")
	f("", full("a"))
	f("", full("a"), half)
	f("b", full("a"), full("b"), full("c"))
	f("c", full("a"), half, full("c"))
	f("b", half, deployment(deploy.Split{VersionID: "a"}, deploy.Split{VersionID: "b", Percentage: deploy.Full}))

	// Deployed twice, a bad version was once its own predecessor.
	f("good", full("bad"), full("bad"), full("good"))
	// A second rollback once brought the bad version back.
	f("", full("good"), full("bad"), full("good"))
	f("old", full("good"), full("bad"), full("good"), full("old"))
}

// Whatever parses has a share from 0 to 100 % and reads back the same.
func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{"v1", "v1@90", "v1@90%", "a@b@12.3456%", "@", "v@", "v@1e1", "v@0x1p4", "v@Inf", "v@00000000000000000000000000001"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSpec(text)
		if err != nil {
			return
		}
		if s.ref == "" || !strings.HasPrefix(text, s.ref) {
			t.Fatalf("%q names %q", text, s.ref)
		}
		if s.share == nil {
			return
		}
		if *s.share < 0 || *s.share > deploy.Full {
			t.Fatalf("%q has the share %s", text, *s.share)
		}
		again, err := parseSpec(s.ref + "@" + s.share.String())
		if err != nil || *again.share != *s.share || again.ref != s.ref {
			t.Fatalf("%q: %+v reads back as %+v, %v", text, s, again, err)
		}
	})
}

// What divide accepts sums to 100 % exactly when it was free to choose, and what a
// person said is never changed.
func FuzzDivide(f *testing.F) {
	f.Add(int64(90_000), int64(10_000), uint8(0))
	f.Add(int64(0), int64(0), uint8(7))
	f.Add(int64(100_000), int64(100_000), uint8(1))
	f.Fuzz(func(t *testing.T, first, second int64, open uint8) {
		a, b := deploy.Percentage(first), deploy.Percentage(second)
		if min(a, b) < 0 || max(a, b) > deploy.Full { // parsePercentage gives no others
			return
		}
		specs := []spec{{"a", &a}, {"b", &b}}
		for i := range int(open) {
			specs = append(specs, spec{ref: "open" + strings.Repeat("x", i)})
		}
		splits, err := divide(specs)
		if err != nil {
			if sum := a + b; sum <= deploy.Full && open > 0 {
				t.Fatalf("%s and %s with %d open: %v", a, b, open, err)
			}
			return
		}
		var sum deploy.Percentage
		least, most := deploy.Percentage(math.MaxInt64), deploy.Percentage(0)
		for i, split := range splits {
			sum += split.Percentage
			if i >= 2 {
				least, most = min(least, split.Percentage), max(most, split.Percentage)
			}
		}
		if splits[0].Percentage != a || splits[1].Percentage != b {
			t.Fatalf("%s and %s became %v", a, b, splits)
		}
		if open > 0 && (sum != deploy.Full || most-least >= deploy.Percentage(open)) {
			t.Fatalf("%s and %s with %d open: sum %s, parts from %s to %s", a, b, open, sum, least, most)
		}
	})
}

// A ref never resolves to a version that it neither names nor begins.
func FuzzResolve(f *testing.F) {
	f.Add("v1", "1a2b3c4d")
	f.Add("1a2b3c4d", "1a2b3c4d")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, tag, ref string) {
		versions := []deploy.Version{
			{ID: "1a2b3c4d-0000-4000-8000-000000000001", Annotations: deploy.Annotations{Tag: tag}},
			{ID: "1a2b3c4d-1111-4000-8000-000000000002"},
		}
		id, err := resolve(versions, ref)
		if err != nil {
			return
		}
		if ref == "" {
			t.Fatalf("nothing, with the tag %q, resolved to %s", tag, id)
		}
		if !strings.HasPrefix(id, strings.ToLower(ref)) && (ref != tag || id != versions[0].ID) {
			t.Fatalf("%q with the tag %q resolved to %s", ref, tag, id)
		}
		if id != versions[0].ID && id != versions[1].ID && id != strings.ToLower(ref) {
			t.Fatalf("%q resolved to %s, which is not there", ref, id)
		}
	})
}
