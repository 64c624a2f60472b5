package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "../.."

// TestEveryFuzzFunctionIsATarget: what is not in the list is not fuzzed, and nobody notices. The list comes from the
// go command; here the text of all files is looked through, whatever their build tags and folders.
func TestEveryFuzzFunctionIsATarget(t *testing.T) {
	all, err := targets(module)
	if err != nil {
		t.Fatal(err)
	}
	function := regexp.MustCompile(`(?m)^func (Fuzz\w*)\(`)
	var written []string
	walk(t, func(path string, text []byte) {
		for _, match := range function.FindAllSubmatch(text, -1) {
			written = append(written, filepath.ToSlash(filepath.Dir(path))+"/"+string(match[1]))
		}
	})
	slices.Sort(written)
	var listed []string
	for _, target := range all {
		listed = append(listed, target.String())
	}
	if len(listed) < 70 || !slices.Equal(listed, written) {
		t.Errorf("the go command finds %d targets\n%s\nand the files have %d\n%s", len(listed), strings.Join(listed, "\n"), len(written), strings.Join(written, "\n"))
	}
}

// TestKeptInputsBelongToATarget: inputs of a target that was renamed would be run by nobody.
func TestKeptInputsBelongToATarget(t *testing.T) {
	all, err := targets(module)
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob(filepath.Join(module, "*", "testdata", "fuzz", "*"))
	for depth := "*/*"; err == nil && strings.Count(depth, "/") < 5; depth += "/*" {
		var deeper []string
		deeper, err = filepath.Glob(filepath.Join(module, depth, "testdata", "fuzz", "*"))
		folders = append(folders, deeper...)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		dir, name := filepath.Dir(filepath.Dir(filepath.Dir(folder))), filepath.Base(folder)
		if relative, err := filepath.Rel(module, dir); err != nil || !slices.Contains(all, target{filepath.ToSlash(relative), name}) {
			t.Errorf("%s belongs to no target", folder)
		}
	}
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

// walk calls f with each test file of the module, by its path in it.
func walk(t *testing.T, f func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(module, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != module):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path) // #nosec G304 -- a source of this module
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(module, path)
		if err != nil {
			return err
		}
		f(relative, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
