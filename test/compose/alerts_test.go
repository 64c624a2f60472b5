package compose

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// code is what the binaries are made of, without tests.
func code(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"internal", "pipeline", "schema"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// A rule about a metric, or a value of a label, that there is not stays quiet for ever. Whether
// rules work, test/deploy checks.
func TestAlertsAreAboutWhatThereIs(t *testing.T) {
	rules, source := readFile(t, "deploy/prometheus/alerts.yml"), code(t)
	metrics := regexp.MustCompile(`\btidegate_[a-z0-9_]+`).FindAllString(rules, -1)
	if len(metrics) < 40 {
		t.Fatalf("the rules name %d metrics", len(metrics))
	}
	slices.Sort(metrics)
	for _, name := range slices.Compact(metrics) {
		base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
		if !strings.Contains(source, `"`+name+`"`) && !strings.Contains(source, `"`+base+`"`) {
			t.Errorf("no code has the metric %s", name)
		}
	}
	for _, match := range regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"([^"]*)"`).FindAllStringSubmatch(rules, -1) {
		if match[1] == "le" || match[1] == "job" {
			continue
		}
		for value := range strings.SplitSeq(match[2], "|") {
			if !strings.Contains(source, `"`+value+`"`) {
				t.Errorf("no code has %q, which the rules look for in %s", value, match[0])
			}
		}
	}
}

// What runbooks look for in logs and metrics is there: each alternative for itself.
func TestRunbooksLookForWhatIsLogged(t *testing.T) {
	source := strings.ToLower(code(t))
	files, err := filepath.Glob(filepath.Join(root, "docs", "operations", "runbooks", "Tidegate*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("found %v (%v)", files, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`grep (?:-i )?"?([^"\n]*)"?`).FindAllStringSubmatch(string(text), -1) {
			for words := range strings.SplitSeq(match[1], `\|`) {
				if strings.Contains(words, ".*") { // of the library for processes
					continue
				}
				if !strings.Contains(source, strings.ToLower(words)) {
					t.Errorf("%s looks for %q, which nobody says", filepath.Base(path), words)
				}
			}
		}
	}
}

// Each alert says what to do, and nothing says what to do about an alert that there is not.
func TestEveryAlertHasARunbook(t *testing.T) {
	rules := readFile(t, "deploy/prometheus/alerts.yml")
	folder := filepath.Join("docs", "operations", "runbooks")
	index := readFile(t, filepath.Join(folder, "README.md"))
	var alerts []string
	for alert := range strings.SplitSeq(rules, "- alert: ") {
		name, rest, _ := strings.Cut(alert, "\n")
		if strings.HasPrefix(name, "#") {
			continue // before the first
		}
		alerts = append(alerts, name+".md")
		severity := regexp.MustCompile(`severity: (critical|warning|info)}`).FindStringSubmatch(rest)
		if severity == nil || !strings.Contains(rest, "runbook_url: "+filepath.Join(folder, name+".md")+"\n") {
			t.Errorf("%s has no severity, or another runbook: %s", name, rest)
			continue
		}
		if !strings.Contains(index, "| ["+name+"]("+name+".md) | "+severity[1]+" |") {
			t.Errorf("the index of runbooks has no %s of severity %s", name, severity[1])
		}
		runbook := readFile(t, filepath.Join(folder, name+".md"))
		for _, part := range []string{"# " + name + "\n", "\nSeverity: " + severity[1], "## What it means", "## What users notice", "## Look here\n\n```\n", "## Do this\n\n1. ", "## It is over when"} {
			if !strings.Contains(runbook, part) {
				t.Errorf("the runbook of %s has no %q", name, part)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(root, folder, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if name := filepath.Base(path); name != "README.md" && !slices.Contains(alerts, name) {
			t.Errorf("%s is for no alert", name)
		}
	}
}

// What the page says that the rules watch they watch, and what they watch it names. The story: it promised an alert about
// scripts that no rollback protects, and there was none.
func TestThePageNamesWhatTheRulesWatch(t *testing.T) {
	page, rules := readFile(t, "docs/operations/README.md"), ""
	for _, line := range strings.Split(readFile(t, "deploy/prometheus/alerts.yml"), "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			rules += line + "\n"
		}
	}
	_, page, _ = strings.Cut(page, "What the rules watch:\n")
	table, rest, ok := strings.Cut(page, "No rule watches these;")
	if !ok {
		t.Fatal("the page has no two tables of metrics")
	}
	rest, _, _ = strings.Cut(rest, "\n\n`tidegate verify`")
	names := func(text string) (found []string) {
		for _, name := range regexp.MustCompile(`\btidegate_[a-z0-9_]+`).FindAllString(text, -1) {
			found = append(found, regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, ""))
		}
		return found
	}
	// One row names the certificates of three listeners: `tidegate_gateway_certificate_...`, `_api_`, `_ops_`.
	all := strings.NewReplacer("tidegate_api_certificate", "tidegate_gateway_certificate", "tidegate_ops_certificate", "tidegate_gateway_certificate").Replace(rules)
	watched, named := names(all), names(table)
	if len(watched) < 40 || len(named) < 40 {
		t.Fatalf("the rules name %d metrics, and the page %d", len(watched), len(named))
	}
	for row := range strings.Lines(table) {
		metrics, _, _ := strings.Cut(row, " | ")
		for _, name := range names(metrics) {
			if !slices.Contains(watched, name) {
				t.Errorf("the page says that a rule watches %s, and none does", name)
			}
		}
	}
	for _, name := range names(rest) {
		if slices.Contains(watched, name) {
			t.Errorf("the page says that no rule watches %s, and one does", name)
		}
	}
	slices.Sort(watched)
	for _, name := range slices.Compact(watched) {
		if !slices.Contains(named, name) {
			t.Errorf("a rule watches %s, of which the page says nothing", name)
		}
	}
}
