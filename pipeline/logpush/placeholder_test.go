package logpush

import (
	"net/url"
	"strings"
	"testing"
)

func TestPlaceholdersStandInThePath(t *testing.T) {
	for _, conf := range []string{"s3://b", "s3://b/logs/{DATE}/{HOUR}", "file:///srv/{SCRIPT}/{VERSION}/{JOB}-{DATE}", "s3://b/%7BDATE%7D?region=r"} {
		u, err := url.Parse(conf)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckPlaceholders(u); err != nil {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func TestOtherPlaceholdersAreRefused(t *testing.T) {
	f := func(conf, want string) {
		t.Helper()
		u, err := url.Parse(conf)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckPlaceholders(u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave %v, want an error with %q", conf, err, want)
		}
	}
	f("s3://b/{MINUTE}", "{MINUTE}, which is not a placeholder: possible are {DATE}")
	f("s3://b/{date}", "{date}")
	f("s3://b/{DATE", "{DATE")
	f("s3://b/DATE}", "}")
	f("s3://b/{{DATE}}", "{,")
	f("s3://b/p?region={DATE}", "not in the parameter region")
	f("s3://b/p?{JOB}=1", "in the path only")
}

// Whatever passes leaves no brace in a key, unless a name brings its own.
func FuzzCheckPlaceholders(f *testing.F) {
	f.Add("/a/{DATE}/{JOB}")
	f.Add("/{{DATE}")
	f.Fuzz(func(t *testing.T, path string) {
		if CheckPlaceholders(&url.URL{Path: path}) != nil {
			return
		}
		o := Object{Name: "n", JobID: 1}
		if key := o.Key(path); strings.ContainsAny(key, "{}") {
			t.Errorf("%q became %q", path, key)
		}
	})
}
