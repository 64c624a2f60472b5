package clickhouse

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	tables "tidegate/schema/clickhouse"
)

// Migrate makes the database, applies the migrations that are not yet recorded
// in schema_migrations, and sets the tables' retention. It may be called by any
// number of processes at once, and again after one was killed: every statement
// is harmless when repeated.
func (db *DB) Migrate(ctx context.Context) error {
	l := layout{db.cfg.Database, db.cfg.Cluster}
	create := "CREATE DATABASE IF NOT EXISTS `" + l.database + "`" + l.onCluster()
	if err := db.define(ctx, db.root.Exec, create); err != nil {
		return fmt.Errorf("create database %s: %w", l.database, err)
	}
	for _, statement := range l.history() {
		if err := db.define(ctx, db.conn.Exec, statement); err != nil {
			return fmt.Errorf("create schema_migrations: %w", err)
		}
	}
	applied, err := db.migrations(ctx)
	if err != nil {
		return err
	}
	names, err := fs.Glob(tables.Migrations, "*.sql")
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	for _, name := range names {
		number, err := migrationNumber(name)
		if err != nil {
			return err
		}
		if applied[number] {
			continue
		}
		if err := db.apply(ctx, l, number, name); err != nil {
			return err
		}
	}
	return db.setRetention(ctx, l)
}

// history makes the table of applied migrations.
func (l layout) history() []string {
	create := fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s%s
(
    number     UInt32,
    name       String,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = %s
ORDER BY number`, l.local("schema_migrations"), l.onCluster(), l.engine("ReplacingMergeTree"))
	if face := l.face("schema_migrations", "number"); face != "" {
		return []string{create, strings.TrimSuffix(face, ";")}
	}
	return []string{create}
}

// migrationNumber reads 12 from "012_name.sql".
func migrationNumber(name string) (uint32, error) {
	digits, _, _ := strings.Cut(name, "_")
	number, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("migration %s: its name must begin with a number and '_': %w", name, err)
	}
	return uint32(number), nil
}

func (db *DB) migrations(ctx context.Context) (map[uint32]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := db.conn.Query(ctx, "SELECT DISTINCT number FROM schema_migrations")
	if err != nil {
		return nil, failed("read schema_migrations", err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	applied := map[uint32]bool{}
	for rows.Next() {
		var number uint32
		if err := rows.Scan(&number); err != nil {
			return nil, failed("read schema_migrations", err)
		}
		applied[number] = true
	}
	return applied, failed("read schema_migrations", rows.Err())
}

func (db *DB) apply(ctx context.Context, l layout, number uint32, name string) error {
	statements, err := l.statements(name)
	if err != nil {
		return err
	}
	for i, statement := range statements {
		if err := db.define(ctx, db.conn.Exec, statement); err != nil {
			return fmt.Errorf("apply migration %s, statement %d: %w", name, i+1, err)
		}
	}
	record := fmt.Sprintf("INSERT INTO schema_migrations SETTINGS distributed_foreground_insert = 1 SELECT %d, '%s', now64(3)", number, name)
	if err := db.define(ctx, db.conn.Exec, record); err != nil {
		return fmt.Errorf("record migration %s: %w", name, err)
	}
	return nil
}

// define runs one statement of data definition.
func (db *DB) define(ctx context.Context, exec func(context.Context, string, ...any) error, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	return failed("run "+firstLine(statement), exec(ctx, statement))
}

func firstLine(statement string) string {
	for line := range strings.SplitSeq(statement, "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			return line
		}
	}
	return ""
}

// setRetention changes the TTL of the tables whose rows are kept for another
// number of days than the configuration says. It is not a migration because it
// can change at any start. ClickHouse applies a new TTL to what is there already,
// in the background.
func (db *DB) setRetention(ctx context.Context, l layout) error {
	for _, t := range db.cfg.Retention.byTable() {
		table := l.local(t.table)
		current, err := db.retentionDays(ctx, table)
		if err != nil {
			return err
		}
		if current == t.days {
			continue
		}
		statement := l.retention(t)
		if err := db.define(ctx, db.conn.Exec, statement); err != nil {
			return fmt.Errorf("set the retention of %s to %d days: %w", table, t.days, err)
		}
	}
	return nil
}

// retention is the statement that sets it.
func (l layout) retention(t tableRetention) string {
	if t.days == 0 {
		return fmt.Sprintf("ALTER TABLE %s%s REMOVE TTL", l.local(t.table), l.onCluster())
	}
	return fmt.Sprintf("ALTER TABLE %s%s MODIFY TTL toDateTime(%s) + INTERVAL %d DAY", l.local(t.table), l.onCluster(), t.column, t.days)
}

// retentionDays reads a table's TTL as setRetention wrote it; 0 is none.
func (db *DB) retentionDays(ctx context.Context, table string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var days uint32
	err := db.conn.QueryRow(ctx, `SELECT toUInt32OrZero(extract(engine_full, 'toIntervalDay\\((\\d+)\\)'))
		FROM system.tables WHERE database = {database:String} AND name = {table:String}`,
		ch.Named("database", db.cfg.Database), ch.Named("table", table)).Scan(&days)
	return int(days), failed("read the retention of "+table, err)
}
