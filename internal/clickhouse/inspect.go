package clickhouse

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"

	tables "tidegate/schema/clickhouse"
)

// VersionTested is the oldest that every change is tested with.
const VersionTested = "26.7"

// Inspection is what a server tells of itself and of our tables.
type Inspection struct {
	Version string
	// Skew is by how much the server's clock is ahead of this machine's, Within how far
	// that may be off.
	Skew, Within time.Duration
	// Missing are our migrations that were not applied; Unknown are later ones.
	Missing, Unknown int
	// Forgetful are tables that would count a block twice that is sent again: their engine
	// does not remember blocks.
	Forgetful []string
}

// Inspect asks a server how it is. It changes nothing.
func (db *DB) Inspect(ctx context.Context) (i Inspection, err error) {
	begun := time.Now()
	var ms int64
	if err := db.root.QueryRow(ctx, "SELECT version(), toUnixTimestamp64Milli(now64(3))").Scan(&i.Version, &ms); err != nil {
		return i, failed("ask ClickHouse for its version and time", err)
	}
	i.Within = time.Since(begun) / 2
	i.Skew = time.UnixMilli(ms).Sub(begun.Add(i.Within))
	if err := db.inspectMigrations(ctx, &i); err != nil {
		return i, err
	}
	rows, err := db.root.Query(ctx, "SELECT name, create_table_query FROM system.tables WHERE database = ? AND engine LIKE '%MergeTree' AND engine NOT LIKE 'Replicated%' ORDER BY name", db.cfg.Database)
	if err != nil {
		return i, failed("look at ClickHouse's tables", err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	for rows.Next() {
		var name, create string
		if err := rows.Scan(&name, &create); err != nil {
			return i, failed("look at ClickHouse's tables", err)
		}
		if remembers[name] && !strings.Contains(create, "non_replicated_deduplication_window") {
			i.Forgetful = append(i.Forgetful, name)
		}
	}
	return i, failed("look at ClickHouse's tables", rows.Err())
}

// remembers are tables that blocks of events go to.
var remembers = map[string]bool{
	"trace_events": true, "trace_events_quarantine": true,
	rollups[0].Table: true, rollups[1].Table: true, rollups[2].Table: true, assigned.Table: true,
}

func (db *DB) inspectMigrations(ctx context.Context, i *Inspection) error {
	names, err := fs.Glob(tables.Migrations, "*.sql")
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	var there uint64
	err = db.root.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = ? AND name = 'schema_migrations'", db.cfg.Database).Scan(&there)
	if err != nil {
		return failed("look for schema_migrations", err)
	}
	applied := map[uint32]bool{}
	if there > 0 {
		if applied, err = db.migrations(ctx); err != nil {
			return err
		}
	}
	for _, name := range names {
		number, err := migrationNumber(name)
		if err != nil {
			return err
		}
		if !applied[number] {
			i.Missing++
		}
		delete(applied, number)
	}
	i.Unknown = len(applied)
	return nil
}
