package app

import (
	"runtime/debug"
	"testing"
)

func TestTuneCollectorLeavesTheOperatorsChoice(t *testing.T) {
	f := func(gogc string, want int) {
		t.Helper()
		t.Setenv("GOGC", gogc)
		before := debug.SetGCPercent(77)
		defer debug.SetGCPercent(before)
		TuneCollector()
		if got := debug.SetGCPercent(before); got != want {
			t.Errorf("with GOGC=%q the collector runs at %d %%, want %d", gogc, got, want)
		}
	}
	f("", collectorPercent)
	f("77", 77) // which the runtime has read by itself
	f("off", 77)
}
