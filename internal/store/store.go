// Package store keeps the control plane in SQL: accounts, tokens, scripts,
// versions, deployments, jobs, policies, leases and the audit log. SQLite and
// PostgreSQL serve the same statements; what differs between them is in Open.
//
// Every write is one transaction, and is on disk when the method returns. The
// methods are safe for concurrent use, also by several processes on one database.
package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"go.opentelemetry.io/otel/metric"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"tidegate/internal/patient"
	"tidegate/internal/seal"
	"tidegate/schema/control"
)

const (
	// readersMax connections; a control plane answers a few dozen requests a second.
	readersMax = 8
	// busyTimeoutMS is how long SQLite waits for another process's write.
	busyTimeoutMS = 5000
	// lockRetry between two looks at a lock that another process holds.
	lockRetry = 20 * time.Millisecond
	// snapshotWaitDefault is the longest wait that the API promises.
	snapshotWaitDefault = 30 * time.Second
)

// Options of Open; but for Keys, the zero value is what production uses.
type Options struct {
	Now          func() time.Time // nil: time.Now
	Logger       *slog.Logger     // nil: nothing is logged
	SnapshotWait time.Duration    // how long Snapshot waits for something newer; 0: 30 s
	// Keys seal what is secret. With nil it is kept in clear text, which is for tests; a
	// database that has been given keys is refused without them.
	Keys *seal.Keys
	// GatewayDomain is what scripts' own hosts are below. Where it is empty, an actor that is
	// bound to accounts gets no host.
	GatewayDomain string
}

// Store is the control plane's database.
type Store struct {
	reader *sql.DB
	writer *sql.DB // SQLite: one connection, so that writers queue here and not in busy loops; PostgreSQL: reader
	now    func() time.Time
	log    *slog.Logger
	watch  *watch
	cache  snapshotCache
	// watched is what Watched remembers.
	watched watchedCache
	wait    time.Duration
	keys    *seal.Keys
	domain  string // Options.GatewayDomain
	leases  sightings
	// dropped counts messages that the outbox had no room for.
	dropped metric.Int64Counter
}

// Open connects to databaseURL, which is postgres://..., sqlite:///path or the
// path of an SQLite file, and brings the schema up to date. An SQLite file and
// its folder are made if they are missing, readable by their owner only. Secrets that
// the primary key has not sealed are sealed with it.
func Open(ctx context.Context, databaseURL string, opts Options) (*Store, error) {
	s := &Store{now: opts.Now, log: opts.Logger, wait: opts.SnapshotWait, keys: opts.Keys, domain: strings.ToLower(opts.GatewayDomain),
		watched: watchedCache{byScript: make(map[scriptKey]*rememberedScript)}}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.wait == 0 {
		s.wait = snapshotWaitDefault
	}
	var err error
	if s.dropped, err = newDropped(); err != nil {
		return nil, fmt.Errorf("declare the store's metrics: %w", err)
	}
	open := s.openSQLite
	if isPostgres(databaseURL) {
		open = s.openPostgres
	}
	if err := open(ctx, databaseURL); err != nil {
		return nil, errors.Join(err, s.closePools())
	}
	if err := s.useKeys(ctx); err != nil {
		return nil, errors.Join(err, s.closePools())
	}
	revision, err := s.revision(ctx)
	if err != nil {
		return nil, errors.Join(err, s.closePools())
	}
	s.watch = startWatch(revision, s.revision, s.log)
	return s, nil
}

func isPostgres(databaseURL string) bool {
	return strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://")
}

// sqlitePath of a database that is not PostgreSQL.
func sqlitePath(databaseURL string) (string, error) {
	path := strings.TrimPrefix(databaseURL, "sqlite://")
	if path == "" || strings.Contains(path, "://") || strings.HasPrefix(path, ":memory:") {
		return "", fmt.Errorf("open database %q: want postgres://..., sqlite:///path or the path of a file", redactURL(databaseURL))
	}
	return path, nil
}

func (s *Store) openSQLite(ctx context.Context, databaseURL string) error {
	path, err := sqlitePath(databaseURL)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	// One process at a time makes the file and its tables. The lock has a file of its
	// own, because to open and close the database's would end SQLite's locks on it.
	unlock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	defer unlock()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("open database: %w", err)
	}
	if err := s.connectSQLite(path); err != nil {
		return err
	}
	return migrate(ctx, goose.DialectSQLite3, s.writer, control.Migrations)
}

// connectSQLite opens the pools of a file that is there.
func (s *Store) connectSQLite(path string) error {
	dsn := sqliteDSN(path)
	var err error
	if s.writer, err = sql.Open("sqlite", dsn); err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	s.writer.SetMaxOpenConns(1)
	if s.reader, err = sql.Open("sqlite", dsn); err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	s.reader.SetMaxOpenConns(readersMax)
	return nil
}

func sqliteDSN(path string) string {
	query := url.Values{
		"mode": {"rw"},
		// FULL syncs the log at every commit; WAL's usual NORMAL could lose the last
		// acknowledged writes with the machine.
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeoutMS), "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
		// A write transaction takes the write lock when it begins: what it read is
		// still true when it writes.
		"_txlock": {"immediate"},
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// lockFile waits for the exclusive lock of a file, which the kernel also ends with
// the process.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // nothing was written
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, ctx.Err()), f.Close())
		case <-time.After(lockRetry):
		}
	}
}

func (s *Store) connectPostgres(databaseURL string) error {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return fmt.Errorf("open database %s: %w", redactURL(databaseURL), err)
	}
	// Without its bounds a server that is cut off holds every call, and the look for
	// changes, until long after it is back.
	dialer := patient.Dialer()
	config.DialFunc = dialer.DialContext
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, dialer.Timeout)
	s.writer = stdlib.OpenDB(*config)
	s.reader = s.writer
	s.writer.SetMaxOpenConns(2 * readersMax)
	return nil
}

func (s *Store) openPostgres(ctx context.Context, databaseURL string) error {
	if err := s.connectPostgres(databaseURL); err != nil {
		return err
	}
	// Several processes may start at once: one migrates, the others wait.
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return migrate(ctx, goose.DialectPostgres, s.writer, control.Migrations, goose.WithSessionLocker(locker))
}

func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, files fs.FS, opts ...goose.ProviderOption) error {
	provider, err := goose.NewProvider(dialect, db, files, opts...)
	if err != nil {
		return fmt.Errorf("migrate the control plane's database: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the control plane's database: %w", err)
	}
	return nil
}

func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}

// Close stops the watch and closes the connections. Calls in flight fail.
func (s *Store) Close() error {
	s.watch.stop()
	return s.closePools()
}

func (s *Store) closePools() error {
	var failed []error
	if s.writer != nil {
		failed = append(failed, s.writer.Close())
	}
	if s.reader != nil && s.reader != s.writer {
		failed = append(failed, s.reader.Close())
	}
	return errors.Join(failed...)
}

// Ready reports whether the database answers.
func (s *Store) Ready(ctx context.Context) error {
	_, err := s.revision(ctx)
	return err
}

func (s *Store) revision(ctx context.Context) (int64, error) {
	var value int64
	err := s.reader.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'revision'`).Scan(&value)
	if err != nil {
		return 0, fmt.Errorf("read the revision: %w", err)
	}
	return value, nil
}

// tx is a write transaction.
type tx struct {
	*sql.Tx
	keys     *seal.Keys
	domain   string    // Options.GatewayDomain
	sealed   bool      // something, with keys
	now      time.Time // of every row that the transaction writes; whole microseconds, UTC
	revision int64     // set by publish
}

// write runs fn in a transaction and commits it when fn returns nil. what names
// the attempt in errors; an *errs.Error of fn comes back as it is.
func (s *Store) write(ctx context.Context, what string, fn func(*tx) error) error {
	begun, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	t := &tx{Tx: begun, domain: s.domain, now: s.now().UTC().Truncate(time.Microsecond)}
	t.keys = s.keys.Noting(&t.sealed)
	err = fn(t)
	if err == nil && t.sealed {
		err = t.checkPrimary(ctx, s.reader == s.writer)
	}
	if err != nil {
		if rollback := begun.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
			err = errors.Join(err, rollback)
		}
		return fmt.Errorf("%s: %w", what, whyEnded(ctx, err))
	}
	if err := begun.Commit(); err != nil {
		return fmt.Errorf("%s: %w", what, whyEnded(ctx, err))
	}
	if t.revision > 0 {
		s.watch.advance(t.revision)
	}
	return nil
}

// whyEnded is ctx's error in place of the one that a transaction has ended: database/sql takes one back as
// soon as its ctx ends, whoever works in it.
func whyEnded(ctx context.Context, err error) error {
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// publish gives what the transaction did to the gateways. It is the last
// statement of fn: the row stays locked until the commit.
func (t *tx) publish(ctx context.Context) error {
	return t.QueryRowContext(ctx,
		`UPDATE counters SET value = value + 1 WHERE name = 'revision' RETURNING value`).Scan(&t.revision)
}

// read runs fn on one consistent picture of the database.
func (s *Store) read(ctx context.Context, what string, fn func(*sql.Tx) error) error {
	t, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err = fn(t)
	// Nothing was written, so ending the transaction cannot lose anything.
	_ = t.Rollback()
	if err != nil {
		return fmt.Errorf("%s: %w", what, whyEnded(ctx, err))
	}
	return nil
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// accountFilter is the accounts that a query looks at, for account_id =
// COALESCE($1, account_id). No id of an account, not even an empty one, means all.
type accountFilter = sql.NullString

var everyAccount = accountFilter{}

func oneAccount(id string) accountFilter { return accountFilter{String: id, Valid: true} }

// execer is a pool or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// changed runs a statement and returns how many rows it changed.
func changed(ctx context.Context, e execer, statement string, args ...any) (int64, error) {
	result, err := e.ExecContext(ctx, statement, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// each calls scan for every row.
func each(ctx context.Context, q querier, scan func(row scanner) error, query string, args ...any) (err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// scanner is one row.
type scanner interface{ Scan(dest ...any) error }

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// said is what others said, such as a destination that refuses, as PostgreSQL can keep it: it has
// no text that is not UTF-8, and none with a NUL.
func said(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
}

func fromJSON(text string, v any) error { return json.Unmarshal([]byte(text), v) }

// toNullJSON writes nil as SQL's null.
func toNullJSON[T any](v *T) (sql.NullString, error) {
	if v == nil {
		return sql.NullString{}, nil
	}
	text, err := toJSON(v)
	return sql.NullString{String: text, Valid: true}, err
}

// fromNullJSON leaves nil where the column is null.
func fromNullJSON[T any](text sql.NullString, v **T) error {
	if !text.Valid {
		return nil
	}
	return fromJSON(text.String, v)
}

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

func nullMicros(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()}
}

func fromNullMicros(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return fromMicros(n.Int64)
}
