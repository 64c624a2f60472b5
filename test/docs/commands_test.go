package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Blocks marked sh are commands that a reader runs as they stand, so each page with some
// has a test that runs them. Blocks without a mark are examples: they name somebody's hosts. What they
// run is looked up by the tests of cmd/tidegate.
var runBy = map[string][]string{
	"README.md":                  {"test/e2e.TestReadme", "test/e2e.TestReadmeWrangler"},
	"docs/cli.md":                {"test/e2e.TestCLI"},
	"docs/operations/README.md":  {"test/e2e.TestOperationsTLS"},
	"docs/operations/backup.md":  {"test/e2e.TestBackupOfTheDocumentation"},
	"docs/operations/network.md": {"test/e2e.TestNetworkOfTheDocumentation"},
	"docs/queries.md":            {"test/e2e.TestDocumentedGraphQL"},
	"docs/benchmarks.md":         {"test/docs.TestBenchmarksThatPagesNameAreThere"},
}

func TestEveryShellBlockIsRun(t *testing.T) {
	for _, page := range pages(t) {
		if !strings.Contains(read(t, page), "\n```sh\n") {
			continue
		}
		tests := runBy[page]
		if len(tests) == 0 {
			t.Errorf("%s: no test runs its sh blocks; leave the mark out of what cannot be run", page)
		}
		for _, test := range tests {
			folder, name, _ := strings.Cut(test, ".")
			if !hasTest(t, filepath.Join(root, folder), name) {
				t.Errorf("%s: there is no %s", page, test)
			}
		}
	}
}

// Benchmarks take too long to be run by a test, but the commands lead somewhere.
func TestBenchmarksThatPagesNameAreThere(t *testing.T) {
	text := read(t, "docs/benchmarks.md")
	for _, match := range regexp.MustCompile(`(?m)^go run (\./\S+)`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(root, match[1])); err != nil {
			t.Error(err)
		}
	}
	found := regexp.MustCompile(`(?m)^(?:[A-Z_]+=\S+ )*go test .*-(?:run|bench) (\w+)\b.* (\./\S+)$`).FindAllStringSubmatch(text, -1)
	for _, match := range found {
		if !hasFunction(t, filepath.Join(root, match[2]), match[1]) {
			t.Errorf("no test or benchmark in %s is called %s", match[2], match[1])
		}
	}
	if len(found) == 0 {
		t.Error("the page has no go test")
	}
}

func hasFunction(t *testing.T, folder, part string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	function := regexp.MustCompile(`(?m)^func (?:Test|Benchmark)?\w*` + part)
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && function.Match(text)
	})
}

// A flag that a page names by itself, as `--spool-max-bytes`, is one of a process or of a command.
func TestEveryFlagThatPagesNameIsThere(t *testing.T) {
	var code strings.Builder
	for _, folder := range []string{"internal/app", "cmd"} {
		err := fs.WalkDir(os.DirFS(root), folder, func(path string, _ fs.DirEntry, err error) error {
			if filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
				code.WriteString(read(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	flag := regexp.MustCompile("`--([a-z][a-z0-9-]*[a-z0-9])(?:`| [^`]*`|=[^`]*`)")
	others := []string{"help", "kafka-tls", "kafka-sasl", "durable-objects-code-update-mode"} // beginnings of flags, and one of wrangler's
	found := 0
	for _, page := range pages(t) {
		if page == "CHANGELOG.md" {
			continue // it tells of flags that are gone, too
		}
		for _, match := range flag.FindAllStringSubmatch(codeBlock.ReplaceAllString(read(t, page), ""), -1) {
			found++
			if !strings.Contains(code.String(), `"`+match[1]+`"`) && !slices.Contains(others, match[1]) {
				t.Errorf("%s: no process and no command has the flag --%s", page, match[1])
			}
		}
	}
	if found < 300 {
		t.Errorf("only %d flags were found", found)
	}
}
