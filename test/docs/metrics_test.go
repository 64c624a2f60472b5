package docs

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/operations/metrics.md instead of comparing")

// The page of metrics is what the code says of each where it declares it.
func TestMetricsPageIsThatOfTheCode(t *testing.T) {
	const path = "docs/operations/metrics.md"
	page := metricsPage(t)
	if *update {
		if err := os.WriteFile(filepath.Join(root, path), []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if read(t, path) != page {
		t.Errorf("%s is not what the code says: go test ./test/docs -update", path)
	}
}

// areas are the first words of the names, in the order of the page.
var areas = []struct{ prefix, title, text string }{
	{"tidegate_gateway_", "Gateway", "Of routers: requests, connections, certificates, snapshots."},
	{"tidegate_runtime_", "Backends", "Of routers: endpoints of origins and processes of Workers."},
	{"tidegate_stream_", "Kafka", "Of routers what becomes of events on their way to Kafka, and of every process that reads from it."},
	{"tidegate_ingest_", "Ingest", "From Kafka to ClickHouse."},
	{"tidegate_clickhouse_", "ClickHouse", "Of every process that asks it."},
	{"tidegate_logpush_", "Logpush", "From Kafka to the destinations of jobs."},
	{"tidegate_rollback_", "Rollback", "Of control planes."},
	{"tidegate_api_", "API", "Of control planes."},
	{"tidegate_", "Others", "Of whatever process has them."},
}

func metricsPage(t *testing.T) string {
	t.Helper()
	help := declared(t)
	var b strings.Builder
	b.WriteString("# Metrics\n\n<!-- Made of the code by go test ./test/docs -update. -->\n\nEvery metric of every process, with what the code says of it; beside these there are `go_...` and `process_...` of each. Which of them deserve an alarm: [README.md](README.md#watching-it); the\nrules are in [deploy/prometheus/alerts.yml](../../deploy/prometheus/alerts.yml). Names that end in `_total` are counters, those in `_seconds`, `_bytes` or `_rows` may be histograms, which have\n`_bucket`, `_sum` and `_count` behind them. Where they are served: [ports](README.md#processes-and-ports).\n")
	left := make([]string, 0, len(help))
	for name := range help {
		left = append(left, name)
	}
	slices.Sort(left)
	for _, area := range areas {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| Metric | What |\n|---|---|\n", area.title, area.text)
		left = slices.DeleteFunc(left, func(name string) bool {
			if !strings.HasPrefix(name, area.prefix) {
				return false
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", name, strings.ReplaceAll(help[name], "|", "\\|"))
			return true
		})
	}
	return b.String()
}

// declared finds what declares a metric: a call with a name, and behind it its description, itself or in
// WithDescription; or a member of certs.Metrics, which a constant describes that is called like it.
func declared(t *testing.T) map[string]string {
	t.Helper()
	var files []*ast.File
	for _, folder := range []string{"internal", "pipeline", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			files = append(files, file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	known := constants{}
	help := map[string]string{}
	each := func(visit func(n ast.Node)) {
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				visit(n)
				return true
			})
		}
	}
	each(known.add)
	each(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.CallExpr:
			if name, text := known.declaration(n); name != "" {
				help[name] = text
			}
		case *ast.KeyValueExpr:
			key, ok := n.Key.(*ast.Ident)
			if name := known.text(n.Value); ok && strings.HasPrefix(name, "tidegate_") {
				help[name] = known[key.Name+"Help"]
			}
		}
	})
	for name, text := range help {
		if text == "" {
			t.Errorf("%s has no description", name)
		}
	}
	return help
}

// constants are those that name metrics or describe them.
type constants map[string]string

func (c constants) add(n ast.Node) {
	spec, ok := n.(*ast.ValueSpec)
	if !ok || len(spec.Values) != 1 {
		return
	}
	name, text := spec.Names[0].Name, c.text(spec.Values[0])
	if strings.HasPrefix(text, "tidegate_") && strings.HasSuffix(name, "Name") || strings.HasSuffix(name, "Help") {
		c[name] = text
	}
}

func (c constants) declaration(call *ast.CallExpr) (name, help string) {
	for _, arg := range call.Args {
		switch text := c.text(arg); {
		case strings.HasPrefix(text, "tidegate_") && name == "":
			name = text
		case name != "" && help == "":
			help = text
		}
	}
	if name == "" || !isDeclaration(call) && help == "" {
		return "", ""
	}
	return name, help
}

// isDeclaration tells the meter's own calls, such as Int64Counter.
func isDeclaration(call *ast.CallExpr) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	return ok && (strings.HasPrefix(f.Sel.Name, "Int64") || strings.HasPrefix(f.Sel.Name, "Float64"))
}

// text is that of a string, of several that are added, of a constant, or of the description that an option holds.
func (c constants) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil || e.Kind != token.STRING {
			return ""
		}
		return text
	case *ast.BinaryExpr:
		return c.text(e.X) + c.text(e.Y)
	case *ast.Ident:
		return c[e.Name]
	case *ast.SelectorExpr:
		return c[e.Sel.Name]
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "WithDescription" {
			return c.text(e.Args[0])
		}
	}
	return ""
}
