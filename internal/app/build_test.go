package app

import (
	"runtime/debug"
	"testing"
)

func TestBuild(t *testing.T) {
	noted := &debug.BuildInfo{
		GoVersion: "go1.26.8", Main: debug.Module{Version: "v0.0.0-20261127180521-4ac8121cc2d7"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "4ac8121"}, {Key: "vcs.time", Value: "2026-11-27T18:05:21Z"}},
	}
	f := func(info *debug.BuildInfo, version, commit, date, want string) {
		t.Helper()
		if got := buildOf(info, version, commit, date).String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	f(noted, "v1.2.0", "909de1e", "2026-11-27T19:00:00+01:00", "v1.2.0\ncommit 909de1e\ndate   2026-11-27T18:00:00Z\ngo     go1.26.8")
	f(noted, "", "", "", "v0.0.0-20261127180521-4ac8121cc2d7\ncommit 4ac8121\ndate   2026-11-27T18:05:21Z\ngo     go1.26.8")
	f(&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "", "", "yesterday", "dev\ncommit unknown\ndate   unknown\ngo     unknown")
}
