package deploy

import (
	"encoding/json"
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

func pointerTo[T any](v T) *T { return &v }

func TestGoodAffinityCookiesAreValid(t *testing.T) {
	for _, c := range []AffinityCookieAttributes{
		{},
		{MaxAge: 1, SameSite: CookieLax, Path: "/", Secure: CookieSecureAuto},
		{MaxAge: cookieMaxAgeMax, SameSite: CookieNone, Domain: "shop.example-1.com", Path: "/app/v1", Secure: CookieSecureAlways, Partitioned: true},
	} {
		a := Affinity{Rules: []AffinityRule{{Source: AffinityHeader, Name: "X-User", Forward: pointerTo(true)}, {Source: AffinityCookie, Name: "visitor", Set: &c, Forward: pointerTo(false)}}}
		if err := a.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []AffinityCookieAttributes{{Secure: CookieSecureAlways}, {Secure: CookieSecureAlways, Path: "/"}} {
		if err := (&AffinityRule{Source: AffinityCookie, Name: "__Host-visitor", Set: &c}).Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestAffinityCookiesRefuseBadValues(t *testing.T) {
	f := func(pointer, words string, r AffinityRule) {
		t.Helper()
		a := Affinity{Rules: []AffinityRule{{Source: AffinityClientIP}, r}}
		e, ok := errors.AsType[*errs.Error](a.Validate())
		if !ok || e.Kind != errs.Invalid || e.Pointer != "/rules/1/"+pointer || !strings.Contains(e.Message, "rules[1]."+strings.ReplaceAll(pointer, "/", ".")+" ") || !strings.Contains(e.Message, words) {
			t.Errorf("%+v: got %+v, want %s and %q", r, e, pointer, words)
		}
	}
	set := func(member, words string, c AffinityCookieAttributes) {
		t.Helper()
		f("set/"+member, words, AffinityRule{Source: AffinityCookie, Name: "visitor", Set: &c})
	}
	const always, host = CookieSecureAlways, "__host-visitor" // browsers look at the prefix in any case
	set("max_age", "-1", AffinityCookieAttributes{MaxAge: -1})
	set("max_age", "400 days", AffinityCookieAttributes{MaxAge: cookieMaxAgeMax + 1})
	set("same_site", "another key each time", AffinityCookieAttributes{SameSite: "Strict"})
	set("same_site", `"Lax"`, AffinityCookieAttributes{SameSite: "Lax"})
	set("secure", `"never"`, AffinityCookieAttributes{Secure: "never"})
	set("secure", `same_site "none"`, AffinityCookieAttributes{SameSite: CookieNone})
	set("secure", "partitioned", AffinityCookieAttributes{Partitioned: true, Secure: CookieSecureAuto})
	for _, domain := range []string{".example.com", "example.com.", "Example.com", "a b", "-a.com", "a-.com", "a..b", "127.0.0.1:80", "127.0.0.1", "a.1-2", "a;b", "ü.de", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		set("domain", "", AffinityCookieAttributes{Domain: domain})
	}
	for _, path := range []string{"a", "/a;b", "/a b", "/a\r\n", "/ü", "/a?b", "/" + strings.Repeat("a", affinityTextMax)} {
		set("path", "", AffinityCookieAttributes{Path: path})
	}
	f("set/secure", "refuse", AffinityRule{Source: AffinityCookie, Name: host, Set: &AffinityCookieAttributes{}})
	f("set/secure", "refuse", AffinityRule{Source: AffinityCookie, Name: "__Secure-a", Set: &AffinityCookieAttributes{}})
	f("set/domain", "one host", AffinityRule{Source: AffinityCookie, Name: host, Set: &AffinityCookieAttributes{Secure: always, Domain: "example.com"}})
	f("set/path", "all paths", AffinityRule{Source: AffinityCookie, Name: host, Set: &AffinityCookieAttributes{Secure: always, Path: "/a"}})
	f("set", "cookies only", AffinityRule{Source: AffinityHeader, Name: "visitor", Set: &AffinityCookieAttributes{}})

	last := Affinity{Rules: []AffinityRule{{Source: AffinityCookie, Name: "visitor", Set: &AffinityCookieAttributes{}}, {Source: AffinityClientIP}}}
	if e, ok := errors.AsType[*errs.Error](last.Validate()); !ok || e.Pointer != "/rules/0/set" || !strings.Contains(e.Message, "put this one last") {
		t.Errorf("a rule after one that sets a cookie: %+v", e)
	}
	same := Affinity{Rules: []AffinityRule{{Source: AffinityCookie, Name: "visitor"}, {Source: AffinityCookie, Name: "visitor", Set: &AffinityCookieAttributes{}}}}
	if e, ok := errors.AsType[*errs.Error](same.Validate()); !ok || e.Pointer != "/rules/1" {
		t.Errorf("the same cookie twice: %+v", e)
	}
}

// A rule of a newer control plane may say with another member what this program would
// do the opposite of. It is read, so that the rest of a snapshot can be followed, and
// is not valid.
func TestUnknownMembersMakeARuleInvalid(t *testing.T) {
	f := func(valid bool, text string) {
		t.Helper()
		var r AffinityRule
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		err := r.Validate()
		if (err == nil) != valid || !valid && !strings.Contains(err.Error(), `"dream"`) {
			t.Errorf("%s: %v", text, err)
		}
		written, err := json.Marshal([]AffinityRule{r})
		if err != nil {
			t.Fatal(err)
		}
		var again []AffinityRule
		if err := json.Unmarshal(written, &again); err != nil || (again[0].Validate() == nil) != valid || !valid && string(written) != "["+text+"]" {
			t.Errorf("%s is written as %s and then %+v, %v", text, written, again, err)
		}
	}
	f(true, `{"source": "cookie", "name": "a", "set": {"max_age": 60}, "forward": false}`)
	f(false, `{"source":"cookie","name":"a","dream":false}`)
	f(false, `{"source":"cookie","name":"a","set":{"dream":1}}`)
	if err := json.Unmarshal([]byte(`{"source": 1, "dream": 1}`), new(AffinityRule)); err == nil {
		t.Error("a source that is no text was read")
	}
}
