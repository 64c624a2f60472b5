package sinktest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const sinks, suite = "..", "tidegate/pipeline/logpush/sink/sinktest"

// helpers are the folders beside sinks that hold none, and what they are instead.
var helpers = map[string]string{
	"egress":     "connections, for all sinks",
	"parameters": "of a destination_conf, for all sinks",
	"sinktest":   "the suite",
}

// A new sink is one folder and the shared suite passing, of which nobody would notice that it is not called.
func TestEverySinkRunsTheSuite(t *testing.T) {
	entries, err := os.ReadDir(sinks)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, entry := range entries {
		if !entry.IsDir() || helpers[entry.Name()] != "" {
			continue
		}
		found++
		files, err := filepath.Glob(filepath.Join(sinks, entry.Name(), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		runs := false
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runs = runs || callsSuite(t, file, string(source))
		}
		if !runs {
			t.Errorf("no test of the sink %s calls sinktest.Run", entry.Name())
		}
	}
	if found == 0 {
		t.Error("there are no sinks: this tested nothing")
	}
	for name := range helpers {
		if _, err := os.Stat(filepath.Join(sinks, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyACallOfTheSuiteIsOne(t *testing.T) {
	f := func(want bool, source string) {
		t.Helper()
		if got := callsSuite(t, "x_test.go", "package x\n"+source); got != want {
			t.Errorf("calls the suite: %t, want %t:\n%s", got, want, source)
		}
	}
	const imports = `import "` + suite + `"` + "\n"
	f(true, imports+"func TestSink(t *testing.T) { sinktest.Run(t, open) }")
	f(true, imports+`func TestSink(t *testing.T) { t.Run("x", func(t *testing.T) { sinktest.Run(t, open) }) }`)
	f(true, `import contract "`+suite+`"`+"\nfunc TestSink(t *testing.T) { contract.Run(t, open) }")
	f(false, imports+"func TestSink(t *testing.T) { sinktest.Answers(t, open) }")
	f(false, imports+"func sink(t *testing.T) { sinktest.Run(t, open) }")
	f(false, imports+"// TestSink calls sinktest.Run(t, open)\nfunc TestSink(t *testing.T) { _ = `sinktest.Run(t, open)` }")
	f(false, imports+"func TestSink(t *testing.T) { t.Run(name, open); _ = sinktest.Run }")
	f(false, `import "elsewhere/sinktest"`+"\nfunc TestSink(t *testing.T) { sinktest.Run(t, open) }")
}

// callsSuite reports whether a test in a file calls sinktest.Run.
func callsSuite(t *testing.T, name, source string) (calls bool) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	imported := ""
	for _, i := range file.Imports {
		if i.Path.Value == strconv.Quote(suite) {
			if imported = "sinktest"; i.Name != nil {
				imported = i.Name.Name
			}
		}
	}
	if imported == "" {
		return false
	}
	for _, declared := range file.Decls {
		test, ok := declared.(*ast.FuncDecl)
		if !ok || test.Recv != nil || !strings.HasPrefix(test.Name.Name, "Test") {
			continue
		}
		ast.Inspect(test, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if of, ok := call.Fun.(*ast.SelectorExpr); ok && of.Sel.Name == "Run" {
					from, ok := of.X.(*ast.Ident)
					calls = calls || ok && from.Name == imported
				}
			}
			return true
		})
	}
	return calls
}
