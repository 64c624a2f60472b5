package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"

	"tidegate/schema/control"
)

// backedUp are the tables of a backup, each after those that it refers to.
var backedUp = []string{
	"counters", "accounts", "tokens", "signing_keys",
	"secret_keys", // ids and proofs; the keys are not in a database
	"scripts", "routes", "domains", "schedules", "affinity",
	"modules", "versions", "version_modules", "deployments",
	"durable_object_namespaces", "deleted_durable_object_namespaces",
	"policies", "policy_revisions", "ramps", "decisions", "notifications",
	"jobs", "logpush_alerts", "logpush_alerts_sent", "logpush_minutes", "logpush_drops", "logpush_failures", "dead_letters", "replays",
	"deletions", "audit_log",
}

// leftOut are the tables that no backup has, and why. A restore empties them.
var leftOut = map[string]string{
	"goose_db_version":   "it tells of the schema, which a restore makes",
	"leases":             "they are held by processes of the time of the backup",
	"sessions":           "whoever is signed in signs in again",
	"person_sessions":    "whoever is signed in signs in again",
	"session_links":      "they are good for ten minutes",
	"tails":              "whoever watches a script is gone, and asks again",
	"instant_logs":       "whoever watches them is gone, and asks again",
	"cron_runs":          "they are kept for an hour, so that of several routers one runs a schedule",
	"version_reports":    "routers tell them again",
	"routers":            "they tell of themselves again",
	"logpush_partitions": "the processes that deliver tell them again",
}

// column of a table, with what a value of it is in Go and in a backup.
type column struct {
	Name string `json:"name"`
	Kind kind   `json:"kind"`
}

type kind string

const (
	kindText    kind = "text"
	kindInteger kind = "integer"
	kindReal    kind = "real"
	kindBoolean kind = "boolean"
	kindBytes   kind = "bytes"
)

// kinds are those of the types that migrations use, as both databases call them.
var kinds = map[string]kind{
	"text": kindText, "bigint": kindInteger, "double precision": kindReal, "boolean": kindBoolean, "bytea": kindBytes,
}

// destination is where a value is read to; value takes it from there.
func (k kind) destination() any {
	switch k {
	case kindInteger:
		return new(sql.Null[int64])
	case kindReal:
		return new(sql.Null[float64])
	case kindBoolean:
		return new(sql.Null[bool])
	case kindBytes:
		return new([]byte)
	default:
		return new(sql.Null[string])
	}
}

func value(destination any) any {
	switch d := destination.(type) {
	case *sql.Null[int64]:
		return orNil(d)
	case *sql.Null[float64]:
		return orNil(d)
	case *sql.Null[bool]:
		return orNil(d)
	case *sql.Null[string]:
		return orNil(d)
	case *[]byte:
		if *d != nil {
			return *d
		}
	}
	return nil
}

func orNil[T any](n *sql.Null[T]) any {
	if !n.Valid {
		return nil
	}
	return n.V
}

// table of a database, or of a backup.
type table struct {
	Name    string   `json:"table"`
	Columns []column `json:"columns"`
}

// takes refuses a backup's table unless it has each column of t, and no other: their names
// become part of statements.
func (t *table) takes(backup *table) error {
	for i, c := range backup.Columns {
		if !slices.Contains(t.Columns, c) || slices.Contains(backup.Columns[:i], c) {
			return fmt.Errorf("the backup has a column %q of kind %q in table %s that its schema does not have, or has once", c.Name, c.Kind, t.Name)
		}
	}
	for _, c := range t.Columns {
		if !slices.Contains(backup.Columns, c) {
			return fmt.Errorf("the backup lacks the column %s of table %s", c.Name, t.Name)
		}
	}
	return nil
}

// columnNames are quoted: one of them is a word of SQL's.
func (t *table) columnNames() string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = `"` + c.Name + `"`
	}
	return strings.Join(names, ", ")
}

// readTables lists the tables of a database by name.
func readTables(ctx context.Context, q querier, dialect goose.Dialect) (map[string]*table, error) {
	query := `SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name, c.cid`
	if dialect == goose.DialectPostgres {
		query = `SELECT t.table_name, c.column_name, c.data_type FROM information_schema.tables t
			JOIN information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name
			WHERE t.table_schema = current_schema() AND t.table_type = 'BASE TABLE' ORDER BY t.table_name, c.ordinal_position`
	}
	tables := map[string]*table{}
	err := each(ctx, q, func(row scanner) error {
		var name, columnName, declared string
		if err := row.Scan(&name, &columnName, &declared); err != nil {
			return err
		}
		t := tables[name]
		if t == nil {
			t = &table{Name: name}
			tables[name] = t
		}
		t.Columns = append(t.Columns, column{columnName, kinds[strings.ToLower(declared)]})
		return nil
	}, query)
	return tables, err
}

// tablesToBackUp picks those of a backup. Tables that are nobody's are other people's,
// unless the schema is older than ours: then it may have had more.
func tablesToBackUp(ctx context.Context, q querier, dialect goose.Dialect, schema int64) ([]*table, error) {
	all, err := readTables(ctx, q, dialect)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	var list []*table
	for _, name := range backedUp {
		t := all[name]
		if t == nil {
			continue // of a newer schema
		}
		if i := slices.IndexFunc(t.Columns, func(c column) bool { return c.Kind == "" }); i >= 0 {
			return nil, fmt.Errorf("column %s of table %s has a type that no backup can hold", t.Columns[i].Name, name)
		}
		list = append(list, t)
	}
	for name := range all {
		if _, known := leftOut[name]; !known && !slices.Contains(backedUp, name) && schema < newestSchema() {
			return nil, fmt.Errorf("the database has schema %d with a table %s that this version does not know: take the backup with the version that runs on it", schema, name)
		}
	}
	return list, nil
}

// readRows calls fn with each row of a table; it must not keep the slice.
func readRows(ctx context.Context, q querier, t *table, fn func(row []any) error) error {
	destinations, row := make([]any, len(t.Columns)), make([]any, len(t.Columns))
	err := each(ctx, q, func(scan scanner) error {
		for i, c := range t.Columns {
			destinations[i] = c.Kind.destination()
		}
		if err := scan.Scan(destinations...); err != nil {
			return err
		}
		for i, d := range destinations {
			row[i] = value(d)
		}
		return fn(row)
	}, fmt.Sprintf(`SELECT %s FROM "%s"`, t.columnNames(), t.Name))
	if err != nil {
		return fmt.Errorf("read table %s: %w", t.Name, err)
	}
	return nil
}

// rowInserter returns what inserts rows of a table, and what to call after the last.
func rowInserter(ctx context.Context, q *sql.Tx, t *table) (insert func(row []any) error, end func() error, err error) {
	places := make([]string, len(t.Columns))
	for i := range places {
		places[i] = fmt.Sprintf("$%d", i+1)
	}
	statement, err := q.PrepareContext(ctx, fmt.Sprintf(`INSERT INTO "%s" (%s) VALUES (%s)`, t.Name, t.columnNames(), strings.Join(places, ", "))) //nolint:sqlclosecheck // the names are of our own schema, and end closes it
	if err != nil {
		return nil, nil, fmt.Errorf("write table %s: %w", t.Name, err)
	}
	insert = func(row []any) error {
		if _, err := statement.ExecContext(ctx, row...); err != nil {
			return fmt.Errorf("write table %s: %w", t.Name, err)
		}
		return nil
	}
	return insert, statement.Close, nil
}

// newestSchema is the number of our last migration.
func newestSchema() int64 {
	files, err := fs.Glob(control.Migrations, "*.sql")
	newest := int64(0)
	for _, name := range files {
		number, parse := goose.NumericComponent(name)
		newest, err = max(newest, number), errors.Join(err, parse)
	}
	if err != nil {
		panic(err) // the names are fixed when this is built
	}
	return newest
}

// schemaOf a database that is being looked at; 0 of one that has no tables of ours.
func schemaOf(ctx context.Context, q querier, tables map[string]*table) (schema int64, err error) {
	if tables["goose_db_version"] == nil {
		return 0, nil
	}
	err = q.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&schema)
	if err != nil {
		return 0, fmt.Errorf("read the number of the schema: %w", err)
	}
	return schema, nil
}
