// Package ci checks what decides about changes.
package ci

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What is run again after a failure is the tests that are known to have failed. Behind a process that was killed, or a
// concurrent write of a map, others had not run; and a TestMain that fails behind them has none to run again.
func TestOnlyWhatTestsFailedByCountsWhenItIsRunAgain(t *testing.T) {
	f := func(name, code string, want bool) {
		t.Helper()
		dir := t.TempDir()
		for file, text := range map[string]string{"go.mod": "module tried\n", "a_test.go": "package tried\n" + code} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run := exec.CommandContext(t.Context(), "go", "test", "-json")
		run.Dir = dir
		said, err := run.Output()
		if err == nil {
			t.Fatalf("%s: the test passed", name)
		}
		check := exec.CommandContext(t.Context(), filepath.Join("..", "..", ".ci", "ended"))
		check.Stdin = bytes.NewReader(said)
		if told, err := check.CombinedOutput(); (err == nil) != want || (len(told) == 0) != want {
			t.Errorf("%s: %v, %s\n%s", name, err, told, said)
		}
	}
	f("a test and a part of one", `import "testing"
		func TestA(t *testing.T) { t.Run("x", func(t *testing.T) { t.Error("\"Action\":\"start\"") }) }
		func TestB(t *testing.T) { t.Error() }
		func TestC(t *testing.T) {}`, true)
	f("a process that is killed", `import ("os"; "testing")
		func TestA(t *testing.T) { t.Error() }
		func TestB(t *testing.T) { p, _ := os.FindProcess(os.Getpid()); p.Kill(); select {} }
		func TestC(t *testing.T) {}`, false)
	f("a process that leaves", `import ("fmt"; "os"; "testing")
		func TestA(t *testing.T) { fmt.Print("FAIL\n"); os.Exit(1) }`, false)
	f("a failure of the runtime", `import ("runtime/debug"; "testing")
		func deeper(n int) int { return deeper(n+1) + n }
		func TestA(t *testing.T) { debug.SetMaxStack(1 << 16); deeper(0) }`, false)
	f("a failure behind the tests", `import ("os"; "testing")
		func TestMain(m *testing.M) { m.Run(); os.Exit(1) }
		func TestA(t *testing.T) {}`, false)
}
