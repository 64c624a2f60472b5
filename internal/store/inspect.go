package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"time"

	"github.com/pressly/goose/v3"
)

// PostgresTested is the oldest major version that every release is tested with.
const PostgresTested = 15

// Inspection is what can be known of a database without changing it.
type Inspection struct {
	Kind   string // SQLite or PostgreSQL
	Absent bool   // a SQLite file that the first start will make
	// Version of PostgreSQL, such as 150004; 0 for SQLite.
	Version int
	Schema  int64 // its last migration; 0: none
	Newest  int64 // our last migration
	// Skew is by how much PostgreSQL's clock is ahead of this machine's, Within how far that
	// may be off.
	Skew, Within time.Duration
	Damage       string // what SQLite finds wrong in its file
}

// Inspect looks at a database, which may be in use.
func Inspect(ctx context.Context, databaseURL string) (i Inspection, err error) {
	i.Newest = newestSchema()
	if !isPostgres(databaseURL) {
		path, err := sqlitePath(databaseURL)
		if err != nil {
			return i, err
		}
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			i.Kind, i.Absent = databaseKind(goose.DialectSQLite3), true
			return i, nil
		}
	}
	s, dialect, err := connect(databaseURL)
	if err != nil {
		return i, err
	}
	defer func() { err = errors.Join(err, s.closePools()) }()
	i.Kind = databaseKind(dialect)
	begun := time.Now()
	if dialect == goose.DialectPostgres {
		var us int64
		err := s.reader.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint`).Scan(&i.Version, &us)
		if err != nil {
			return i, err
		}
		i.Within = time.Since(begun) / 2
		i.Skew = time.UnixMicro(us).Sub(begun.Add(i.Within))
	}
	return i, s.read(ctx, "look at the database", func(q *sql.Tx) error {
		tables, err := readTables(ctx, q, dialect)
		if err != nil {
			return err
		}
		if i.Schema, err = schemaOf(ctx, q, tables); err != nil || dialect == goose.DialectPostgres {
			return err
		}
		err = q.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&i.Damage)
		if i.Damage == "ok" {
			i.Damage = ""
		}
		return err
	})
}
