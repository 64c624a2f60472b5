package clickhouse

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Each query of each Grafana board, with what Grafana would fill in, is understood by
// the engine and answers. The time of a request that stands for ninety-nine others
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
	filter := regexp.MustCompile(`\$__timeFilter\((\w+)\)`)
	fill := strings.NewReplacer("${account}", account, "${script}", script)
	asked, p50 := 0, false
	for _, path := range paths {
		for _, statement := range statementsOf(t, path) {
			statement = fill.Replace(filter.ReplaceAllString(statement, "$1 >= '"+noon.Add(-time.Hour).Format(time.DateTime)+"' AND $1 <= '"+noon.Add(time.Hour).Format(time.DateTime)+"'"))
			if at := strings.IndexByte(statement, '$'); at >= 0 {
				t.Errorf("%s: nothing is known of %q", path, statement[at:min(at+20, len(statement))])
				continue
			}
			rows, err := db.conn.Query(t.Context(), statement)
			if err != nil {
				t.Errorf("%s: %s: %v", path, statement, err)
				continue
			}
			asked++
			found := 0
			for rows.Next() {
				found++
				for i, column := range rows.Columns() {
					if column != "p50 ms" {
						continue
					}
					values := make([]any, len(rows.Columns()))
					for j, kind := range rows.ColumnTypes() {
						values[j] = reflect.New(kind.ScanType()).Interface()
					}
					if err := rows.Scan(values...); err != nil {
						t.Fatal(err)
					}
					if got, ok := values[i].(*float64); !ok || *got > 100 { // a sketch of four values interpolates
						t.Errorf("%s: p50 is %v, want about the 10 ms of most requests", path, reflect.ValueOf(values[i]).Elem())
					}
					p50 = true
				}
			}
			if err := rows.Err(); err != nil || found == 0 {
				t.Errorf("%s: %s: %d rows, %v", path, statement, found, err)
			}
			_ = rows.Close()
		}
	}
	if asked == 0 || !p50 {
		t.Errorf("%d queries were asked, of p50: %v", asked, p50)
	}
}

// statementsOf finds every query in a board, however deep.
func statementsOf(t *testing.T, path string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(path) // #nosec G304 -- a file of this repository
	if err != nil {
		t.Fatal(err)
	}
	var board any
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			for name, item := range v {
				if statement, ok := item.(string); ok && name == "rawSql" {
					list = append(list, statement)
				}
				walk(item)
			}
		}
	}
	walk(board)
	return list
}
