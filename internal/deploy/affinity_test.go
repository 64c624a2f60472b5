package deploy

import (
	"errors"
	"strings"
	"testing"

	"tidegate/internal/errs"
)

func TestGoodAffinityIsValid(t *testing.T) {
	a := Affinity{Rules: []AffinityRule{
		{Source: AffinityHeader, Name: "X-User-Id"},
		{Source: AffinityCookie, Name: "__Host-session.id"},
		{Source: AffinityQuery, Name: "user[id] ü"},
		{Source: AffinityClientIP},
		{Source: AffinityPath, Segment: 1},
		{Source: AffinityPath, Segment: affinitySegmentMax},
		{Source: AffinityPath, Prefix: "/"},
		{Source: AffinityPath, Prefix: "/api/v1/rooms/"},
		{Source: AffinityCookie, Name: "X-User-Id"},                         // the name of a header, but no header
		{Source: AffinityQuery, Name: strings.Repeat("a", affinityTextMax)}, // the longest
	}}
	if len(a.Rules) != AffinityRulesMax {
		t.Fatalf("%d rules, want the most that may be", len(a.Rules))
	}
	if err := a.Validate(); err != nil {
		t.Error(err)
	}
}

func TestAffinityRefusesBadValues(t *testing.T) {
	good := AffinityRule{Source: AffinityClientIP}
	f := func(pointer, words string, rules ...AffinityRule) {
		t.Helper()
		a := Affinity{Rules: rules}
		err := a.Validate()
		e, ok := errors.AsType[*errs.Error](err)
		if !ok || e.Kind != errs.Invalid || e.Pointer != pointer || !strings.Contains(e.Message, words) {
			t.Errorf("%+v: got %#v, want %s and %q", rules, err, pointer, words)
		}
	}
	rule := func(pointer, words string, r AffinityRule) {
		t.Helper()
		f("/rules/1"+pointer, words, good, r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v alone: got %v, want %q", r, err, words)
		}
	}
	f("/rules", "0 entries")
	f("/rules", "11 entries", make([]AffinityRule, 11)...)
	f("/rules/1", "rules[0]", good, good)
	f("/rules/1", "rules[0]", AffinityRule{Source: AffinityHeader, Name: "X-A"}, AffinityRule{Source: AffinityHeader, Name: "x-a"})
	rule("/source", `""`, AffinityRule{})
	rule("/source", `"Cookie"`, AffinityRule{Source: "Cookie", Name: "a"})
	rule("/name", "missing", AffinityRule{Source: AffinityCookie})
	rule("/name", "257 bytes", AffinityRule{Source: AffinityQuery, Name: strings.Repeat("a", affinityTextMax+1)})
	rule("/name", `"a=b"`, AffinityRule{Source: AffinityCookie, Name: "a=b"})
	rule("/name", `"a b"`, AffinityRule{Source: AffinityHeader, Name: "a b"})
	rule("/name", `"ü"`, AffinityRule{Source: AffinityHeader, Name: "ü"})
	rule("/name", "control", AffinityRule{Source: AffinityQuery, Name: "a\n"})
	rule("/name", "tells no clients apart", AffinityRule{Source: AffinityHeader, Name: "HOST"})
	rule("/name", `source "cookie"`, AffinityRule{Source: AffinityHeader, Name: "cookie"})
	rule("/name", "before any rule", AffinityRule{Source: AffinityHeader, Name: "Cloudflare-Workers-Version-Key"})
	rule("/name", "does not go", AffinityRule{Source: AffinityClientIP, Name: "a"})
	rule("/name", "does not go", AffinityRule{Source: AffinityPath, Name: "a", Segment: 1})
	rule("/segment", "does not go", AffinityRule{Source: AffinityCookie, Name: "a", Segment: 1})
	rule("/prefix", "does not go", AffinityRule{Source: AffinityQuery, Name: "a", Prefix: "/a/"})
	rule("/segment", "missing", AffinityRule{Source: AffinityPath})
	rule("/prefix", "one of the two", AffinityRule{Source: AffinityPath, Segment: 1, Prefix: "/a/"})
	rule("/segment", "-1", AffinityRule{Source: AffinityPath, Segment: -1})
	rule("/segment", "101", AffinityRule{Source: AffinityPath, Segment: affinitySegmentMax + 1})
	for _, prefix := range []string{"a", "a/", "/a", "/" + strings.Repeat("a", affinityTextMax), "/a?/", "/a%20b/", "/*/", "/a\x00/"} {
		rule("/prefix", "", AffinityRule{Source: AffinityPath, Prefix: prefix})
	}
}
