package clickhouse

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tables "tidegate/schema/clickhouse"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// allStatements is every statement of a fresh start but retention.
func allStatements(t *testing.T, l layout) []string {
	t.Helper()
	statements := l.history()
	names, err := fs.Glob(tables.Migrations, "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("migrations: %v, %v", names, err)
	}
	for _, name := range names {
		s, err := l.statements(name)
		if err != nil {
			t.Fatal(err)
		}
		statements = append(statements, s...)
	}
	return statements
}

func TestLayoutGolden(t *testing.T) {
	f := func(file string, l layout) {
		t.Helper()
		file = filepath.Join("testdata", file)
		got := strings.Join(allStatements(t, l), ";\n\n") + ";\n"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the SQL differs from %s; if that is meant, run the test with -update and read the difference", file)
		}
	}
	f("single.golden.sql", layout{database: "tidegate"})
	f("cluster.golden.sql", layout{database: "tidegate", cluster: "main"})
}

// There is no cluster to try the statements on here, but the engine knows the
// language they are in.
func TestClusterStatementsParse(t *testing.T) {
	db := migrated(t)
	for _, statement := range allStatements(t, layout{database: "tidegate", cluster: "main"}) {
		scalar(t, db, "SELECT formatQuery("+quoted(statement)+")")
	}
}

func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// Two processes and a crash repeat statements, so each must be harmless then.
func TestMigrationsAreHarmlessWhenRepeated(t *testing.T) {
	for _, statement := range allStatements(t, layout{database: "tidegate", cluster: "main"}) {
		first := firstLine(statement)
		if strings.HasPrefix(first, "ALTER TABLE ") {
			if adds := strings.Count(statement, " ADD "); adds == 0 || adds != strings.Count(statement, " IF NOT EXISTS ") {
				t.Errorf("statement %q adds nothing, or does so without IF NOT EXISTS", statement)
			}
			continue
		}
		if !strings.Contains(first, " IF NOT EXISTS ") && !strings.Contains(first, " IF EXISTS ") {
			t.Errorf("statement %q has no IF NOT EXISTS", first)
		}
	}
}
