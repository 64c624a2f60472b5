package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "../.."

// listed asks the go command once: it looks at every package.
var listed = sync.OnceValues(func() ([]target, error) { return targets(module) })

// TestEveryFuzzFunctionIsATarget: what is not in the list is not fuzzed, and nobody notices. The list comes from the
// go command; here the text of all files is looked through, whatever their build tags and folders.
func TestEveryFuzzFunctionIsATarget(t *testing.T) {
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	function := regexp.MustCompile(`(?m)^func (Fuzz\w*)\(`)
	var written []string
	walk(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(module, path)) // #nosec G304 -- a source of this module
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range function.FindAllSubmatch(text, -1) {
			written = append(written, filepath.Dir(path)+"/"+string(match[1]))
		}
	})
	slices.Sort(written)
	var names []string
	for _, target := range all {
		names = append(names, target.String())
	}
	if len(names) < 70 || !slices.Equal(names, written) {
		t.Errorf("the go command finds %d targets\n%s\nand the files have %d\n%s", len(names), strings.Join(names, "\n"), len(written), strings.Join(written, "\n"))
	}
}

// TestKeptInputsBelongToATarget: inputs of a target that was renamed would be run by nobody.
func TestKeptInputsBelongToATarget(t *testing.T) {
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	walk(t, func(path string) {
		if dir, name := filepath.Split(filepath.Dir(path)); strings.HasSuffix(dir, "/testdata/fuzz/") {
			if owner := (target{strings.TrimSuffix(dir, "/testdata/fuzz/"), name}); !slices.Contains(all, owner) {
				t.Errorf("%s belongs to no target", path)
			}
		}
	})
}

func TestCoverTakesAsFewAsItCan(t *testing.T) {
	found := []input{{name: "small"}, {name: "same"}, {name: "much"}, {name: "nothing"}}
	set := func(blocks ...string) map[string]bool {
		s := map[string]bool{}
		for _, b := range blocks {
			s[b] = true
		}
		return s
	}
	fresh := map[string]map[string]bool{"small": set("a"), "same": set("d"), "much": set("a", "b", "c"), "nothing": set()}
	var names []string
	for _, in := range cover(found, fresh) {
		names = append(names, in.name)
	}
	if got := strings.Join(names, " "); got != "much same" {
		t.Errorf("picked %q", got)
	}
}

// walk calls f with each file of the module, by its path in it with slashes.
func walk(t *testing.T, f func(path string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(module), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "bin" || strings.HasPrefix(d.Name(), ".") && path != "."):
			return fs.SkipDir
		case !d.IsDir():
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
