// Package clickhouse is the only place that speaks to ClickHouse: it makes the
// tables, stores blocks of events, and answers questions about versions. The
// embedded engine and a server or cluster are the same to it, an address.
package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"tidegate/internal/errs"
)

// DefaultDatabase is used where the address names none.
const DefaultDatabase = "tidegate"

const (
	dialTimeout = 3 * time.Second
	// queryTimeout bounds a question of the dashboard or the rollback controller.
	queryTimeout = 15 * time.Second
	// insertTimeout bounds one block. A repeat is harmless, so it only has to be
	// longer than a healthy server takes for the largest block, views included.
	insertTimeout = 60 * time.Second
	// storedTimeout bounds the look at what is stored, which reads two columns of a whole
	// table where Kafka has forgotten how far ingest was.
	storedTimeout = 5 * time.Minute
	// migrateTimeout bounds one statement, which on a cluster waits for all hosts.
	migrateTimeout = 3 * time.Minute
	// connectionsMax is enough for an insert of each partition of a large topic at
	// once; connectionsIdle are kept.
	connectionsMax  = 64
	connectionsIdle = 8
)

// Config names a ClickHouse server or cluster.
type Config struct {
	// Addr is the HTTP interface, http(s)://[user:password@]host:port[,host:port][/database],
	// with clickhouse-go's parameters, such as ?compress=lz4 for a server that is far away.
	Addr string
	// Database, if set, wins over the one in Addr.
	Database string
	// Cluster is the name of a cluster in the server's configuration. Empty makes
	// tables for a single server; it cannot be changed once tables exist.
	Cluster   string
	Retention Retention
	Access    Access
}

// RetentionDaysMax keeps the end of a row's time within what a DateTime can hold, which is
// up to 2106-02-07: later than that it would begin again in 1970, and the row would go at
// once. Rows of up to 2056 have 50 years until then.
const RetentionDaysMax = 50 * 365

// Retention is how many days each table keeps its rows, at least; whole
// partitions go at once. Zero keeps them for ever. All processes that are given one
// must be given the same: who migrates sets it, and who asks for rates chooses the
// table by it.
type Retention struct {
	EventDays      int // trace_events; partitions of a day
	QuarantineDays int // trace_events_quarantine; rows go one by one
	SecondRateDays int // version_rates_1s, assigned_rates_1s; of a day
	MinuteRateDays int // version_rates_1m; of a month
	HourRateDays   int // version_rates_1h; of a year
}

// DefaultConfig returns the configuration for a single server at addr.
func DefaultConfig(addr string) Config {
	return Config{Addr: addr, Retention: Retention{EventDays: 30, QuarantineDays: 30, SecondRateDays: 7, MinuteRateDays: 180, HourRateDays: 5 * 365}}
}

// Validate names the first number of days that cannot be.
func (r Retention) Validate() error {
	for _, t := range r.byTable() {
		if t.days < 0 || t.days > RetentionDaysMax {
			return fmt.Errorf("the retention of %s is %d: it must be from 1 to %d days, or 0, which keeps rows for ever", t.table, t.days, RetentionDaysMax)
		}
	}
	// Questions about what is long ago are asked of coarser tables, and a replay takes a
	// record that is in neither of the first two for lost.
	t := r.byTable()
	for _, pair := range [][2]tableRetention{{t[0], t[1]}, {t[2], t[3]}, {t[3], t[4]}} {
		short, long := pair[0], pair[1]
		if long.days > 0 && (short.days == 0 || short.days > long.days) {
			return fmt.Errorf("the retention of %s is %d and that of %s %d days (0 is for ever): the second must not be the shorter one", short.table, short.days, long.table, long.days)
		}
	}
	return nil
}

// tableRetention is how many days a table keeps a row after the time in a column.
type tableRetention struct {
	table, column string
	days          int
}

func (r Retention) byTable() []tableRetention {
	return []tableRetention{
		{"trace_events", "time", r.EventDays},
		{"trace_events_quarantine", "inserted_at", r.QuarantineDays},
		{rollups[0].Table, "time", r.SecondRateDays},
		{rollups[1].Table, "time", r.MinuteRateDays},
		{rollups[2].Table, "time", r.HourRateDays},
		{assigned.Table, "time", r.SecondRateDays},
	}
}

// DB is a pool of connections to one database. It is safe for concurrent use.
//
// Its methods return an *errs.Error of kind unavailable where the server could
// not be reached or is too busy, of kind invalid where the question cannot be
// answered, and any other error where the server refused.
type DB struct {
	cfg  Config
	conn driver.Conn
	// root has no database of its own: it can make the one that conn needs.
	root        driver.Conn
	compression *compression // of blocks; nil is none
	// behind is by how much this machine's clock is behind the server's, in nanoseconds;
	// 0 until a difference was in the way.
	behind atomic.Int64
	// assignedAt is when the table of assigned requests was made, in Unix milliseconds; 0
	// until that is known.
	assignedAt atomic.Int64
	oldest     atomic.Pointer[oldestRows] // nil until somebody asked
	metrics    metrics
}

// identifier is what may name a database or a cluster, because they end up in SQL.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)

// Open checks cfg and prepares connections; it does not wait for the server.
// The caller ends it with Close.
func Open(cfg Config) (*DB, error) {
	if !strings.HasPrefix(cfg.Addr, "http://") && !strings.HasPrefix(cfg.Addr, "https://") {
		return nil, fmt.Errorf("open ClickHouse: the address is %q: it must begin with http:// or https://", redact(cfg.Addr))
	}
	options, err := ch.ParseDSN(secureAddress(cfg.Addr))
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse at %s: %w", redact(cfg.Addr), err)
	}
	if cfg.Database == "" {
		cfg.Database = options.Auth.Database
	}
	if cfg.Database == "" {
		cfg.Database = DefaultDatabase
	}
	if !identifier.MatchString(cfg.Database) {
		return nil, fmt.Errorf("open ClickHouse: the database is %q: it must be letters, digits, '_', '.' and '-'", cfg.Database)
	}
	if cfg.Cluster != "" && !identifier.MatchString(cfg.Cluster) {
		return nil, fmt.Errorf("open ClickHouse: the cluster is %q: it must be letters, digits, '_', '.' and '-'", cfg.Cluster)
	}
	if err := cfg.Retention.Validate(); err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	if options.DialTimeout == 0 {
		options.DialTimeout = dialTimeout
	}
	options.MaxOpenConns, options.MaxIdleConns = connectionsMax, connectionsIdle
	db := &DB{cfg: cfg, compression: compressionOf(options.Compression), metrics: newMetrics()}
	options.TransportFunc = func(t *http.Transport) (http.RoundTripper, error) { return cfg.Access.transport(t), nil }
	root := *options
	root.Auth.Database = ""
	root.MaxIdleConns = 1
	if db.root, err = ch.Open(&root); err != nil {
		return nil, fmt.Errorf("open ClickHouse at %s: %w", redact(cfg.Addr), err)
	}
	options.Auth.Database = cfg.Database
	if db.compression != nil {
		options.TransportFunc = func(t *http.Transport) (http.RoundTripper, error) { return unpacking{cfg.Access.transport(t)}, nil }
	}
	if db.conn, err = ch.Open(options); err != nil {
		return nil, errors.Join(fmt.Errorf("open ClickHouse at %s: %w", redact(cfg.Addr), err), db.root.Close())
	}
	return db, nil
}

// redact hides a password in an address, also in one that is no URL.
func redact(addr string) string {
	scheme, rest, found := strings.Cut(addr, "://")
	if !found {
		scheme, rest = "", addr
	} else {
		scheme += "://"
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = "***" + rest[at:]
	}
	return scheme + rest
}

// Close ends the connections.
func (db *DB) Close() error { return errors.Join(db.conn.Close(), db.root.Close()) }

// Ping reports whether the server answers queries, whatever tables it has.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var one uint8
	return failed("ping ClickHouse", db.root.QueryRow(ctx, "SELECT 1").Scan(&one))
}

// Error codes of a server that is busy, short of memory or without its replicas:
// the same statement may succeed later.
var busyCodes = map[int32]bool{
	159: true, // TIMEOUT_EXCEEDED
	202: true, // TOO_MANY_SIMULTANEOUS_QUERIES
	209: true, // SOCKET_TIMEOUT
	210: true, // NETWORK_ERROR
	225: true, // NO_ZOOKEEPER
	236: true, // ABORTED
	241: true, // MEMORY_LIMIT_EXCEEDED
	242: true, // TABLE_IS_READ_ONLY: the replica lost its Keeper
	252: true, // TOO_MANY_PARTS: merges are behind
	279: true, // ALL_CONNECTION_TRIES_FAILED
	285: true, // TOO_FEW_LIVE_REPLICAS
	319: true, // UNKNOWN_STATUS_OF_INSERT
	394: true, // QUERY_WAS_CANCELLED
	439: true, // CANNOT_SCHEDULE_TASK
	999: true, // KEEPER_EXCEPTION
}

// failed wraps err with what was attempted and sorts it by what the caller can
// do: errs.Unavailable where trying again may help, a plain error where the
// server understood and refused. It returns nil for nil.
func failed(attempt string, err error) error {
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*ch.Exception](err); ok && !busyCodes[refusal.Code] {
		return fmt.Errorf("%s: %w", attempt, err)
	}
	return fmt.Errorf("%s: %w: %w", attempt, errs.New(errs.Unavailable, 0, "ClickHouse is not available"), err)
}
