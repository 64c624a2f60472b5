// Package clickhouse is the contract of the tables in ClickHouse: the numbered
// migrations that make them, and the columns of a block on its way into them.
// It imports the standard library only.
package clickhouse

import "embed"

// Migrations are text/template files, applied in the order of their names by
// internal/clickhouse, which documents what a template may call. One that has
// been released never changes: add the next number instead.
//
// Two processes may apply the same file at once, and a crash may leave it half
// applied, so every statement must be harmless when repeated: IF NOT EXISTS, or
// its like.
//
//go:embed *.sql
var Migrations embed.FS
