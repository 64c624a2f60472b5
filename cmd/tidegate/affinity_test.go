package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"tidegate/internal/deploy"
)

func TestParseAffinityRule(t *testing.T) {
	f := func(text string, want deploy.AffinityRule) {
		t.Helper()
		got, err := parseAffinityRule(text)
		if !reflect.DeepEqual(got, want) || err != nil {
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

// affinityOf reads what comes after "affinity set SCRIPT".
func affinityOf(args []string) (deploy.Affinity, error) {
	var o affinityOptions
	flags := pflag.NewFlagSet("set", pflag.ContinueOnError)
	o.declare(flags)
	if err := flags.Parse(args); err != nil {
		return deploy.Affinity{}, err
	}
	return o.affinity(flags, flags.Args())
}

// What is read is shown so that it reads back the same.
func TestAffinityOptions(t *testing.T) {
	yes, no := true, false
	f := func(args string, shown []string, want ...deploy.AffinityRule) {
		t.Helper()
		got, err := affinityOf(strings.Fields(args))
		if err != nil || !reflect.DeepEqual(got.Rules, want) {
			t.Errorf("%q: got %+v, %v, want %+v", args, got, err, want)
			return
		}
		for i, r := range got.Rules {
			if text := formatAffinityOptions(r); text != shown[i] {
				t.Errorf("%q: rule %d is shown as %q, want %q", args, i+1, text, shown[i])
			}
		}
		again, err := affinityOf(append(strings.Fields(shown[len(shown)-1]), formatAffinityRule(want[len(want)-1])))
		if err != nil || !reflect.DeepEqual(again.Rules, want[len(want)-1:]) {
			t.Errorf("%q: what is shown reads %+v, %v", args, again, err)
		}
	}
	user := deploy.AffinityRule{Source: "header", Name: "X-User"}
	cookie := func(forward *bool, set *deploy.AffinityCookieAttributes) deploy.AffinityRule {
		return deploy.AffinityRule{Source: "cookie", Name: "visitor", Forward: forward, Set: set}
	}
	f("header:X-User cookie:visitor --set-cookie", []string{"", "--set-cookie"}, user, cookie(nil, &deploy.AffinityCookieAttributes{}))
	f("cookie:visitor --set-cookie --cookie-max-age 30d --cookie-same-site none --cookie-domain example.com --cookie-path /app --cookie-secure always --cookie-partitioned --forward=false",
		[]string{"--set-cookie --cookie-max-age 720h0m0s --cookie-same-site none --cookie-domain example.com --cookie-path /app --cookie-secure always --cookie-partitioned --forward=false"},
		cookie(&no, &deploy.AffinityCookieAttributes{MaxAge: 2_592_000, SameSite: "none", Domain: "example.com", Path: "/app", Secure: "always", Partitioned: true}))
	user.Forward = &yes
	f("--forward header:X-User cookie:visitor", []string{"--forward", "--forward"}, user, cookie(&yes, nil))
}

func TestBadAffinityRulesAreRefused(t *testing.T) {
	f := func(want string, texts ...string) {
		t.Helper()
		if got, err := affinityOf(texts); err == nil || !strings.Contains(err.Error(), want) {
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
	f("goes with --set-cookie", "cookie:a", "--cookie-secure", "always")
	f("cookies only", "header:a", "--set-cookie")
	f("such as 90s or 5m", "cookie:a", "--set-cookie", "--cookie-max-age", "60")
	f("whole number of seconds", "cookie:a", "--set-cookie", "--cookie-max-age", "1ms")
	f("set.max_age", "cookie:a", "--set-cookie", "--cookie-max-age", "-1s")
	f("another site", "cookie:a", "--set-cookie", "--cookie-same-site", "strict")
}

func TestAffinityFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.json")
	f := func(text, want string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := readAffinity(nil, path)
		if want == "" && (err != nil || len(a.Rules) != 1) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %+v, %v, want %q", text, a, err, want)
		}
		if b, again := readAffinity(strings.NewReader(text), "-"); (again == nil) != (err == nil) || err == nil && !reflect.DeepEqual(a, b) {
			t.Errorf("%s: standard input gives %+v, %v", text, b, again)
		}
	}
	f(`{"rules": [{"source": "cookie", "name": "a", "forward": true, "set": {"max_age": 60}}]}`, "")
	f(`{"rules": []}`, "0 entries")
	f(`{"rule": []}`, `unknown field "rule"`)
	f(`{"rules": [{"source": "cookie", "name": "a", "set": {"expires": 1}}]}`, `unknown field "expires"`)
	f(`{"rules": [{"source": "client_ip"}]} {}`, "something follows")
	if _, err := readAffinity(nil, path+"x"); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
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
		if again, err := parseAffinityRule(formatAffinityRule(rule)); err != nil || !reflect.DeepEqual(again, rule) {
			t.Fatalf("%q is %+v, then %+v, %v", text, rule, again, err)
		}
	})
}
