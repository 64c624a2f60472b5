package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The release of Go that builds us is one that can be given another clock; one that reads it elsewhere is refused.
func TestOnlyAKnownClockIsChanged(t *testing.T) {
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	changed, err := change(string(original))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Replace(changed, moved, reads, 1) != string(original) || !strings.Contains(changed, "func Now() Time {\n"+moved) {
		t.Error("more was changed than time.Now, or something else")
	}
	for _, other := range []string{"", changed + "\nfunc other() { _, _, _ = runtimeNow() }\n", strings.Replace(string(original), reads, "\tsec, nsec, mono := now()\n", 1)} {
		if _, err := change(other); err == nil {
			t.Error("a time.go that is not known was changed")
		}
	}
}
