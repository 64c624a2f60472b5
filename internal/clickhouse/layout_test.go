package clickhouse

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

// retentionStatements set every table's retention, and one that has none.
func retentionStatements(l layout) (statements []string) {
	r := DefaultConfig("").Retention
	for _, t := range append(r.byTable(), tableRetention{"version_rates_1h", "time", 0}) {
		statements = append(statements, l.retention(t))
	}
	return statements
}

func TestLayoutGolden(t *testing.T) {
	f := func(file string, l layout) {
		t.Helper()
		file = filepath.Join("testdata", file)
		got := strings.Join(slices.Concat(allStatements(t, l), retentionStatements(l)), ";\n\n") + ";\n"
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
	l := layout{database: "tidegate", cluster: "main"}
	for _, statement := range slices.Concat(allStatements(t, l), retentionStatements(l)) {
		scalar(t, db, "SELECT formatQuery("+quoted(statement)+")")
	}
}

// onlyModifies reports whether all that an ALTER does is to set codecs and settings,
// which a repeat sets to the same.
func onlyModifies(statement string) bool {
	for i, line := range strings.Split(statement[strings.Index(statement, "ALTER TABLE "):], "\n") {
		line = strings.TrimSuffix(strings.TrimSpace(line), ",")
		if _, change, ok := strings.Cut(line, " MODIFY SETTING "); ok && i == 0 {
			return !strings.Contains(change, " ADD ")
		}
		if i > 0 && (!strings.HasPrefix(line, "MODIFY COLUMN ") || !strings.Contains(line, " CODEC(")) {
			return false
		}
	}
	return true
}

func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// Two processes and a crash repeat statements, so each must be harmless then.
func TestMigrationsAreHarmlessWhenRepeated(t *testing.T) {
	for _, statement := range allStatements(t, layout{database: "tidegate", cluster: "main"}) {
		first := firstLine(statement)
		if strings.HasPrefix(first, "ALTER TABLE ") {
			if onlyModifies(statement) {
				continue
			}
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
