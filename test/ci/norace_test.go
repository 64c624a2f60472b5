package ci

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A test that is not built with the race detector is run by a line of its own in the Makefile, or by nobody.
func TestWhatIsNotBuiltWithTheRaceDetectorIsRunWithoutIt(t *testing.T) {
	root := filepath.Join("..", "..")
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	_, recipe, _ := strings.Cut(string(makefile), "\ntest: ")
	recipe, _, _ = strings.Cut(recipe, "\n\n")
	lines := regexp.MustCompile(`(?m)^\tgo test -count=1 (?:-run '(.*?)' )?([^#\n]*)`).FindAllStringSubmatch(recipe, -1)
	names := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	found := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			if err == nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
				return fs.SkipDir
			}
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !regexp.MustCompile(`(?m)^//go:build .*!race`).Match(text) {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, name := range names.FindAllSubmatch(text, -1) {
			found++
			if !slices.ContainsFunc(lines, func(line []string) bool {
				return slices.Contains(strings.Fields(line[2]), "./"+filepath.ToSlash(folder)) && regexp.MustCompile(line[1]).Match(name[1])
			}) {
				t.Errorf("%s: make test runs %s neither with the race detector nor without", path, name[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 8 {
		t.Errorf("%d tests are not built with the race detector, there were eight at least", found)
	}
}
