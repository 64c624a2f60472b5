package app

import (
	"cmp"
	"runtime/debug"
	"sync"
	"time"

	"tidegate/schema/control"
)

// Version, Commit and Date (of the commit, RFC 3339) are set by the linker: see the
// Makefile. A build by the go command alone has what that noted of the source.
var Version, Commit, Date string

// VersionTemplate is what --version prints, from ThisBuild.
const VersionTemplate = "{{.Name}} {{.Version}}\n"

// ThisBuild is what is known of this binary.
var ThisBuild = sync.OnceValue(func() control.Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return buildOf(info, Version, Commit, Date)
})

// buildOf takes what the linker was told, and the rest from what the go command noted.
func buildOf(info *debug.BuildInfo, version, commit, date string) control.Build {
	noted := map[string]string{}
	for _, s := range info.Settings {
		noted[s.Key] = s.Value
	}
	if version == "" && info.Main.Version != "(devel)" {
		version = info.Main.Version
	}
	b := control.Build{Version: cmp.Or(version, "dev"), Commit: cmp.Or(commit, noted["vcs.revision"]), Go: info.GoVersion}
	b.Date, _ = time.Parse(time.RFC3339, cmp.Or(date, noted["vcs.time"])) // zero says that it is not known
	return b
}
