package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// target is one fuzz function.
type target struct {
	dir  string // of its package, relative to the module
	name string
}

func (t target) String() string { return t.dir + "/" + t.name }

// targets lists the fuzz functions of the module in the folder, as the go command would find them.
func targets(module string) ([]target, error) {
	list := exec.CommandContext(context.Background(), "go", "list", "-f", `{{$dir := .Dir}}{{range .TestGoFiles}}{{$dir}}/{{.}}
{{end}}{{range .XTestGoFiles}}{{$dir}}/{{.}}
{{end}}`, "./...")
	list.Dir = module
	out, err := list.Output()
	if err != nil {
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("list the packages: %w: %s", err, failed.Stderr)
		}
		return nil, fmt.Errorf("list the packages: %w", err)
	}
	root, err := filepath.Abs(module)
	if err != nil {
		return nil, err
	}
	var all []target
	for name := range strings.FieldsSeq(string(out)) {
		dir, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && isTarget(f) {
				all = append(all, target{dir: dir, name: f.Name.Name})
			}
		}
	}
	slices.SortFunc(all, func(a, b target) int { return cmp.Compare(a.String(), b.String()) })
	return all, nil
}

// isTarget reports whether a function is FuzzX(*testing.F).
func isTarget(f *ast.FuncDecl) bool {
	if f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") || len(f.Type.Params.List) != 1 {
		return false
	}
	pointer, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	name, ok := pointer.X.(*ast.SelectorExpr)
	return ok && name.Sel.Name == "F"
}

// purpose of a compiled test: which instrumentation it has.
type purpose struct{ name, flag string }

var (
	// forFuzzing shows the fuzzer the branches of every package, which are compiled anew for it: minutes, once.
	forFuzzing = purpose{"fuzz", "-fuzz=Fuzz"}
	// forFuzzingAlone shows it those of this module alone.
	forFuzzingAlone = purpose{"fuzz-module", "-gcflags=tidegate/...=-d=libfuzzer"}
	forCoverage     = purpose{"cover", "-cover"}
)

// binaries are the compiled tests of packages, each compiled once.
type binaries struct {
	dir string
	mu  sync.Mutex // one compilation at a time: the go command uses all processors
	had map[string]string
}

func newBinaries(dir string) *binaries { return &binaries{dir: dir, had: map[string]string{}} }

// of returns the absolute path of a package's compiled test.
func (b *binaries) of(ctx context.Context, dir string, p purpose) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	path := filepath.Join(b.dir, strings.ReplaceAll(dir, "/", "_")+"."+p.name+".test")
	if b.had[path] != "" {
		return path, nil
	}
	args := []string{"test", "-c", p.flag, "-o", path}
	out, err := exec.CommandContext(ctx, "go", append(args, "./"+dir)...).CombinedOutput() // #nosec G204 -- a package of this module
	if err != nil {
		return "", fmt.Errorf("compile: %w\n%s", err, out)
	}
	b.had[path] = path
	return path, nil
}
