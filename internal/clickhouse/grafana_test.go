package clickhouse

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each query of each Grafana board, with what Grafana would fill in, is understood by
// the engine and answers with the columns that its panel uses. The time of a request that stands for ninety-nine others
// counts a hundred times.
func TestGrafanaQueriesAnswer(t *testing.T) {
	db := migrated(t)
	slow := served(time.Second) // a failure, which is always kept
	slow.status, slow.wall = 500, new(int64(800))
	fast := standsFor(100, served(2*time.Second))
	fast.wall = new(int64(10))
	insert(t, db, "sampled", slow, slow, slow, fast)
	paths, err := filepath.Glob(filepath.Join("..", "..", "dashboards", "grafana", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("boards: %v, %v", paths, err)
	}
	asked, named, p50 := 0, 0, false
	for _, path := range paths {
		board := readBoard(t, path)
		for _, variable := range board.Templating.List {
			answer(t, db, path, variable.Query)
			asked++
		}
		for _, panel := range board.Panels {
			columns := map[string]any{}
			for _, target := range panel.Targets {
				if target.RawSQL == "" {
					continue // Prometheus is asked: test/compose looks at that
				}
				asked++
				row := answer(t, db, path, target.RawSQL)
				maps.Copy(columns, row)
				if target.Format == asTimeSeries && !isTimeSeries(row) {
					t.Errorf("%s: %s draws lines, and wants a time and a number: %v", path, panel.Title, row)
				}
			}
			for _, name := range panel.fields(t) {
				named++
				if _, ok := columns[name]; !ok {
					t.Errorf("%s: %s uses %q, which is not among the columns %v", path, panel.Title, name, slices.Sorted(maps.Keys(columns)))
				}
			}
			if got, ok := columns["p50 ms"].(float64); ok {
				p50 = true
				if got > 100 { // a sketch of four values interpolates
					t.Errorf("%s: p50 is %v, want about the 10 ms of most requests", path, got)
				}
			}
		}
	}
	if asked == 0 || named == 0 || !p50 {
		t.Errorf("%d queries were asked, %d columns were named, of p50: %v", asked, named, p50)
	}
}

var timeFilter = regexp.MustCompile(`\$__timeFilter\((\w+)\)`)

// answer asks as Grafana would, and returns the last row by its columns.
func answer(t *testing.T, db *DB, path, statement string) map[string]any {
	t.Helper()
	between := "$1 >= '" + noon.Add(-time.Hour).Format(time.DateTime) + "' AND $1 <= '" + noon.Add(time.Hour).Format(time.DateTime) + "'"
	statement = strings.NewReplacer("${account}", account, "${script}", script).Replace(timeFilter.ReplaceAllString(statement, between))
	if at := strings.IndexByte(statement, '$'); at >= 0 {
		t.Errorf("%s: nothing is known of %q", path, statement[at:min(at+20, len(statement))])
		return nil
	}
	rows, err := db.conn.Query(t.Context(), statement)
	if err != nil {
		t.Errorf("%s: %s: %v", path, statement, err)
		return nil
	}
	defer func() { _ = rows.Close() }()
	var row map[string]any
	for rows.Next() {
		values := make([]any, len(rows.Columns()))
		for i, kind := range rows.ColumnTypes() {
			values[i] = reflect.New(kind.ScanType()).Interface()
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		row = map[string]any{}
		for i, column := range rows.Columns() {
			row[column] = reflect.ValueOf(values[i]).Elem().Interface()
		}
	}
	if err := rows.Err(); err != nil || row == nil {
		t.Errorf("%s: %s: no row, %v", path, statement, err)
	}
	return row
}

// asTimeSeries is the format of a query whose answer is drawn over time.
const asTimeSeries = 0

func isTimeSeries(row map[string]any) bool {
	_, timed := row["time"].(time.Time)
	for name, value := range row {
		if name != "time" && (reflect.ValueOf(value).CanFloat() || reflect.ValueOf(value).CanInt() || reflect.ValueOf(value).CanUint()) {
			return timed
		}
	}
	return false
}

// grafanaBoard is what these tests read of a board.
type grafanaBoard struct {
	Panels     []grafanaPanel
	Templating struct {
		List []struct{ Query string }
	}
}

type grafanaPanel struct {
	Title   string
	Targets []struct {
		RawSQL string
		Format int
	}
	FieldConfig struct {
		Overrides []struct {
			Matcher struct {
				ID      string
				Options json.RawMessage
			}
		}
	}
	Transformations []struct {
		ID      string
		Options struct {
			IndexByName, RenameByName, ExcludeByName map[string]any
		}
	}
}

// fields are the columns that a panel names. What this does not know of fails, so that
// nobody believes it to be tested.
func (p grafanaPanel) fields(t *testing.T) (list []string) {
	t.Helper()
	for _, override := range p.FieldConfig.Overrides {
		var name string
		if err := json.Unmarshal(override.Matcher.Options, &name); err != nil || override.Matcher.ID != "byName" {
			t.Errorf("%s: this test knows no override by %q with %s", p.Title, override.Matcher.ID, override.Matcher.Options)
			continue
		}
		list = append(list, name)
	}
	for _, transformation := range p.Transformations {
		if transformation.ID != "organize" {
			t.Errorf("%s: this test knows no transformation %q", p.Title, transformation.ID)
		}
		o := transformation.Options
		for _, names := range []map[string]any{o.IndexByName, o.RenameByName, o.ExcludeByName} {
			list = slices.AppendSeq(list, maps.Keys(names))
		}
	}
	return list
}

func readBoard(t *testing.T, path string) (board grafanaBoard) {
	t.Helper()
	text, err := os.ReadFile(path) // #nosec G304 -- a file of this repository
	if err == nil {
		err = json.Unmarshal(text, &board)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return board
}
