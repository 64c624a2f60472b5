// Command wrongclock builds a tidegate whose wall clock can be set while it runs, for the soak. Linux has no wall clock
// for one process, but nearly everything in a Go program gets it from time.Now: so the build takes another time.go,
// which adds an offset there, and one more file of ./cmd/tidegate, which reads the offset from a file. The product's own
// sources stay as they are. The monotonic clock, and with it timers, deadlines and time.Since, is not touched, as it is
// not when a machine's clock is set.
package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// offset is the file that joins ./cmd/tidegate. It does not compile without the other time.go.
//
//go:embed testdata/offset.go
var offset string

const (
	// reads is how time.Now gets both clocks. No other line of time.go may read the wall clock.
	reads = "\tsec, nsec, mono := runtimeNow()\n"
	moved = reads + `	if offset := WallOffset.Load(); offset != nil {
		sec += offset.Load()
	}
`
	declaration = `package time

import "sync/atomic"

// WallOffset points to the seconds by which the wall clock is ahead; nil where it is right.
var WallOffset atomic.Pointer[atomic.Int64]
`
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./test/soak/wrongclock OUTPUT, in the module's folder")
		os.Exit(2)
	}
	if err := build(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "wrongclock:", err)
		os.Exit(1)
	}
}

func build(output string) (err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("ask Go for its folder: %w", err)
	}
	standard := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	original, err := os.ReadFile(filepath.Join(standard, "time.go"))
	if err != nil {
		return err
	}
	changed, err := change(string(original))
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(standard, "time.go"), err)
	}
	command, err := filepath.Abs(filepath.Join("cmd", "tidegate"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "wrongclock-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	replace := map[string]string{}
	for place, content := range map[string]string{
		filepath.Join(standard, "time.go"):        changed,
		filepath.Join(standard, "wall_offset.go"): declaration,
		filepath.Join(command, "soak_clock.go"):   offset,
	} {
		file := filepath.Join(dir, filepath.Base(place))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return err
		}
		replace[place] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-overlay", filepath.Join(dir, "overlay.json"), "-o", output, "./cmd/tidegate")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// change returns time.go with an offset, or refuses one that is not as it is known.
func change(original string) (string, error) {
	calls := strings.Count(original, "runtimeNow()") - strings.Count(original, "func runtimeNow()")
	if calls != 1 || strings.Count(original, reads) != 1 {
		return "", fmt.Errorf("it reads the wall clock at %d places, where one is known (%q): this release of Go is not known to wrongclock", calls, strings.TrimSpace(reads))
	}
	return strings.Replace(original, reads, moved, 1), nil
}
