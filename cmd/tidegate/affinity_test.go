package main

import (
	"strings"
	"testing"

	"tidegate/internal/deploy"
)

func TestParseAffinityRule(t *testing.T) {
	f := func(text string, want deploy.AffinityRule) {
		t.Helper()
		got, err := parseAffinityRule(text)
		if got != want || err != nil {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
		if again := formatAffinityRule(got); again != text {
			t.Errorf("%q is written as %q", text, again)
		}
	}
	f("cookie:user_id", deploy.AffinityRule{Source: "cookie", Name: "user_id"})
	f("header:X-User", deploy.AffinityRule{Source: "header", Name: "X-User"})
	f("query:a:b", deploy.AffinityRule{Source: "query", Name: "a:b"})
	f("client_ip", deploy.AffinityRule{Source: "client_ip"})
	f("path:2", deploy.AffinityRule{Source: "path", Segment: 2})
	f("path:/rooms/", deploy.AffinityRule{Source: "path", Prefix: "/rooms/"})
}

func TestBadAffinityRulesAreRefused(t *testing.T) {
	f := func(want string, texts ...string) {
		t.Helper()
		if got, err := parseAffinity(texts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want an error with %q", texts, got, err, want)
		}
	}
	f("source is", "")
	f("source is", "moon:x")
	f("name is missing", "cookie")
	f("nothing comes after", "client_ip:1")
	f("number of a segment", "path")
	f("number of a segment", "path:two")
	f("segment is missing", "path:0")
	f("segment is -1", "path:-1")
	f("end with a slash", "path:/rooms")
	f("same as rules[0]", "cookie:a", "cookie:a")
}

// A rule that is accepted is written so that it reads back the same.
func FuzzParseAffinityRule(f *testing.F) {
	for _, seed := range []string{"cookie:a", "header:X-A", "query: ", "client_ip", "client_ip:", "path:02", "path:/a/b/", "path:+1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := parseAffinityRule(text)
		if err != nil {
			return
		}
		if again, err := parseAffinityRule(formatAffinityRule(rule)); err != nil || again != rule {
			t.Fatalf("%q is %+v, then %+v, %v", text, rule, again, err)
		}
	})
}
