package app

import (
	"os"
	"runtime/debug"
)

// collectorPercent is how much garbage may pile up before it is collected, in percent of
// what is in use. A gateway has little in use and makes some ten megabytes of garbage a
// second at full load; Go's default of 100 would collect it many times a second, which
// takes about a twentieth of the CPU and shows in the p99.
const collectorPercent = 400

// TuneCollector sets the garbage collector of a process that serves traffic, unless GOGC
// is set in the environment. The heap may then be five times as large as what is in
// use, instead of twice; GOMEMLIMIT bounds it as ever.
func TuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectorPercent)
	}
}
