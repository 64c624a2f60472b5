package compose

import (
	"encoding/json"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// board is what these tests read of a Grafana board.
type board struct {
	UID    string
	Panels []struct {
		ID      int
		Title   string
		Targets []target
	}
	Templating struct {
		List []struct {
			Datasource source
			Query      string
		}
	}
}

type source struct{ UID string }

type target struct {
	Datasource                 source
	RawSQL, Expr, LegendFormat string
}

func boards(t *testing.T) map[string]board {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "dashboards", "grafana", "*.json"))
	if err != nil || len(paths) < 2 {
		t.Fatalf("found the boards %v (%v)", paths, err)
	}
	list := map[string]board{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		var read board
		if err == nil {
			err = json.Unmarshal(b, &read)
		}
		if err != nil || read.UID == "" || len(read.Panels) == 0 {
			t.Errorf("%s: %v; uid %q, %d panels", path, err, read.UID, len(read.Panels))
		}
		list[filepath.Base(path)] = read
	}
	return list
}

// The folder that the provider reads is the one that holds the boards.
func TestGrafanaLoadsTheBoards(t *testing.T) {
	path := regexp.MustCompile(`path: (\S+)`).FindStringSubmatch(readFile(t, "deploy/grafana/provisioning/dashboards/tidegate.yaml"))
	if path == nil {
		t.Fatal("the provider of boards names no folder")
	}
	folder, err := filepath.Abs(filepath.Join(root, "dashboards", "grafana"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range loaded(t).Services["grafana"].Volumes {
		if v.Target == path[1] && v.Source == folder {
			return
		}
	}
	t.Errorf("nothing mounts %s at %s", folder, path[1])
}

// Grafana shows an empty panel, and no error, for a source or a table that does
// not exist.
func TestGrafanaBoardsReadWhatExists(t *testing.T) {
	sources := map[string]bool{}
	for _, match := range regexp.MustCompile(`uid: (\S+)`).FindAllStringSubmatch(readFile(t, "deploy/grafana/provisioning/datasources/tidegate.yaml"), -1) {
		sources[match[1]] = true
	}
	tables := []string{"version_rates_1s", "version_rates_1m", "version_rates_1h", "trace_events"}
	uids := map[string]string{}
	for name, b := range boards(t) {
		if other, taken := uids[b.UID]; taken {
			t.Errorf("%s and %s both have the uid %s", name, other, b.UID)
		}
		uids[b.UID] = name
		check := func(what, uid, query string) {
			if !sources[uid] {
				t.Errorf("%s: %s reads from %q, which is not provisioned", name, what, uid)
			}
			table := regexp.MustCompile(`FROM (\w+)`).FindStringSubmatch(query)
			if table == nil || !slices.Contains(tables, table[1]) {
				t.Errorf("%s: %s asks no table of ours: %s", name, what, query)
			}
		}
		seen := map[int]bool{}
		for _, panel := range b.Panels {
			if seen[panel.ID] {
				t.Errorf("%s: two panels have the id %d", name, panel.ID)
			}
			seen[panel.ID] = true
			for _, target := range panel.Targets {
				if target.Expr == "" {
					check(panel.Title, target.Datasource.UID, target.RawSQL)
				} else if target.Datasource.UID != "tidegate-prometheus" || target.RawSQL != "" {
					t.Errorf("%s: %s asks %q in PromQL", name, panel.Title, target.Datasource.UID)
				}
			}
		}
		for i, variable := range b.Templating.List {
			check(fmt.Sprintf("variable %d", i), variable.Datasource.UID, variable.Query)
		}
	}
}

// Nor does it show an error for a metric or a label that nothing has.
func TestGrafanaBoardsNameMetricsThatExist(t *testing.T) {
	known := metrics(t)
	asked := map[string]bool{}
	for name, b := range boards(t) {
		for _, panel := range b.Panels {
			for _, target := range panel.Targets {
				if target.Expr == "" {
					continue
				}
				for metric, err := range check(target, known) {
					asked[metric] = true
					if err != nil {
						t.Errorf("%s: %s: %s: %v", name, panel.Title, target.Expr, err)
					}
				}
			}
		}
	}
	if len(asked) < 20 {
		t.Errorf("the boards ask for %d metrics, want at least 20: %v", len(asked), asked)
	}
}

// check parses the expression of a target, and says of each metric in it whether it
// is there with the labels that the expression and its legend name.
func check(target target, known map[string][]string) map[string]error {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
	if err != nil {
		return map[string]error{"": err}
	}
	found := map[string]error{}
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		found[selector.Name] = checkSelector(selector, path, target.LegendFormat, known)
		return nil
	})
	return found
}

var inLegend = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

func checkSelector(selector *parser.VectorSelector, path []parser.Node, legend string, known map[string][]string) error {
	own := known[selector.Name]
	series := selector.Name
	for _, suffix := range []string{"_bucket", "_sum", "_count"} { // of a histogram
		if base, cut := strings.CutSuffix(selector.Name, suffix); cut && own == nil {
			own = append(slices.Clone(known[base]), "le")
			series = base
		}
	}
	if known[series] == nil {
		return fmt.Errorf("nothing has the metric %s", selector.Name)
	}
	named := []string{}
	for _, matcher := range selector.LabelMatchers {
		if matcher.Name != model.MetricNameLabel {
			named = append(named, matcher.Name)
		}
	}
	rated, shown := false, own
	for _, node := range slices.Backward(path) {
		switch node := node.(type) {
		case *parser.Call:
			rated = rated || node.Func.Name == "rate" || node.Func.Name == "increase"
		case *parser.AggregateExpr:
			named = append(named, node.Grouping...)
			shown = node.Grouping
		}
	}
	for _, label := range named {
		if !slices.Contains(own, label) {
			return fmt.Errorf("%s has no label %s, but %v", series, label, own)
		}
	}
	for _, match := range inLegend.FindAllStringSubmatch(legend, -1) {
		if !slices.Contains(shown, match[1]) {
			return fmt.Errorf("the legend shows %s, which is not among %v", match[1], shown)
		}
	}
	if counts := strings.HasSuffix(selector.Name, "_total") || series != selector.Name; counts != rated {
		return fmt.Errorf("%s counts up: %v; and its rate is shown: %v", selector.Name, counts, rated)
	}
	return nil
}

// metrics returns the labels of every metric, by its name, as Prometheus stores them:
// all labels that the package of the metric sets, and those of the scrape. A label of ours that is
// called like one of those gets exported_ before its name.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	scraped := []string{"job", "instance"}
	for _, match := range regexp.MustCompile(`labels: \{ (\w+):`).FindAllStringSubmatch(readFile(t, "deploy/prometheus/prometheus.yml"), -1) {
		if !slices.Contains(scraped, match[1]) {
			scraped = append(scraped, match[1])
		}
	}
	named, set := map[string][]string{}, map[string][]string{} // by folder
	for _, top := range []string{"internal", "pipeline"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := goparser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			folder := filepath.Dir(path)
			ast.Inspect(file, func(node ast.Node) bool {
				if name := literal(node); strings.HasPrefix(name, "tidegate_") {
					named[folder] = append(named[folder], name)
				}
				if label := attributeOf(node); label != "" {
					set[folder] = append(set[folder], label)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	known := map[string][]string{"up": scraped} // Prometheus' own
	for folder, names := range named {
		own := slices.Clone(scraped)
		for _, label := range set[folder] {
			if slices.Contains(scraped, label) {
				label = "exported_" + label
			}
			own = append(own, label)
		}
		for _, name := range names {
			known[name] = own
		}
	}
	return known
}

// literal is the value of a string literal.
func literal(node ast.Node) string {
	if text, ok := node.(*ast.BasicLit); ok && text.Kind == token.STRING {
		value, _ := strconv.Unquote(text.Value)
		return value
	}
	return ""
}

// attributeOf is the name in attribute.String("name", ...) and the like.
func attributeOf(node ast.Node) string {
	call, ok := node.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return ""
	}
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if in, ok := function.X.(*ast.Ident); !ok || in.Name != "attribute" {
		return ""
	}
	return literal(call.Args[0])
}
