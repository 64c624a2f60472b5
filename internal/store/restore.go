package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pressly/goose/v3"

	"tidegate/internal/logjob"
	"tidegate/internal/seal"
	"tidegate/schema/control"
)

// idsSkipped at a restore: a backup does not know the ids that were given after it, whose
// consumer groups have offsets in Kafka. It is as many as an account may have jobs.
const idsSkipped = 1000

// RestoreOptions of Restore.
type RestoreOptions struct {
	Replace bool // what the database holds
	// DisableJobs of Logpush, and cancel their replays, so that a copy sends nothing. It needs
	// the Keys that the backup's jobs are sealed with.
	DisableJobs bool
	Keys        *seal.Keys
	Now         func() time.Time // nil: time.Now
}

// Restored says what a restore did.
type Restored struct {
	Backup   BackupInfo
	Revision int64 // of the snapshot, newer than any that a router may have
}

// Restore puts the control state of a backup into a database, which is made or brought up to
// date first: in one transaction, after the backup was read whole, checked, and brought up
// to date on the side. It refuses a database that holds something unless it may replace
// that, one on which somebody holds a lease, and backups of a newer schema.
func Restore(ctx context.Context, databaseURL string, r io.Reader, opts RestoreOptions) (done Restored, err error) {
	b, info, err := openBackup(r)
	if err != nil {
		return done, err
	}
	defer b.close()
	switch newest := newestSchema(); {
	case info.FormatVersion != backupFormatVersion:
		return done, fmt.Errorf("the backup has format %d, written by %s; this version reads %d", info.FormatVersion, info.Tidegate, backupFormatVersion)
	case info.Schema > newest:
		return done, fmt.Errorf("the backup has schema %d, written by %s; this version knows those up to %d: restore it with %[2]s or a later version", info.Schema, info.Tidegate, newest)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if err := lookAtTarget(ctx, databaseURL, opts); err != nil {
		return done, err
	}
	dir, err := os.MkdirTemp("", "tidegate-restore-") // mode 0700
	if err != nil {
		return done, fmt.Errorf("make room to check the backup in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	stage, err := stageBackup(ctx, filepath.Join(dir, "control.db"), b, info, isPostgres(databaseURL))
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, stage.closePools()) }()
	info.Rows = b.rows

	target, err := openUpToDate(ctx, databaseURL, opts.Now)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, target.closePools()) }()
	target.keys = opts.Keys
	revision, err := target.takeOver(ctx, stage, info, opts)
	return Restored{info, revision}, err
}

// openUpToDate is Open without keys, which nothing here needs: a restore copies what is
// sealed as it is. Only its pools are to be closed.
func openUpToDate(ctx context.Context, databaseURL string, now func() time.Time) (*Store, error) {
	s := &Store{now: now}
	open := s.openSQLite
	if isPostgres(databaseURL) {
		open = s.openPostgres
	}
	if err := open(ctx, databaseURL); err != nil {
		return nil, errors.Join(err, s.closePools())
	}
	return s, nil
}

// lookAtTarget refuses a database before anything is done to it, also to its schema.
func lookAtTarget(ctx context.Context, databaseURL string, opts RestoreOptions) (err error) {
	if !isPostgres(databaseURL) {
		path, err := sqlitePath(databaseURL)
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	s, dialect, err := connect(databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.closePools()) }()
	return s.read(ctx, "look at the database", func(q *sql.Tx) error {
		tables, err := readTables(ctx, q, dialect)
		if err != nil || tables["accounts"] == nil {
			return err
		}
		schema, err := schemaOf(ctx, q, tables)
		if err != nil {
			return err
		}
		if newest := newestSchema(); schema > newest {
			return fmt.Errorf("the database has schema %d, and this version knows those up to %d: restore with the version that runs on it", schema, newest)
		}
		if err := refuseInUse(ctx, q, opts.Now()); err != nil || opts.Replace {
			return err
		}
		return errIfFull(ctx, q)
	})
}

// errIfFull knows a database with contents by its accounts: everything else belongs to one.
func errIfFull(ctx context.Context, q querier) error {
	var accounts int64
	if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM accounts`).Scan(&accounts); err != nil {
		return err
	}
	if accounts > 0 {
		return fmt.Errorf("the database has a control state (accounts: %d): only --replace puts a backup in its place", accounts)
	}
	return nil
}

// stageBackup reads a backup into a database of the schema that it was taken at, and brings
// that up to date. With toPostgres it refuses what only SQLite can hold.
func stageBackup(ctx context.Context, path string, b *backupReader, info BackupInfo, toPostgres bool) (*Store, error) {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return nil, fmt.Errorf("make room to check the backup in: %w", err)
	}
	s := &Store{now: time.Now}
	err := s.connectSQLite(path)
	if err == nil {
		err = loadBackup(ctx, s, b, info, toPostgres)
	}
	if err := errors.Join(err, s.closePools()); err != nil {
		return nil, err
	}
	return openUpToDate(ctx, path, time.Now)
}

func loadBackup(ctx context.Context, s *Store, b *backupReader, info BackupInfo, toPostgres bool) error {
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.writer, control.Migrations)
	if err != nil {
		return fmt.Errorf("make tables of schema %d: %w", info.Schema, err)
	}
	if _, err := provider.UpTo(ctx, info.Schema); err != nil {
		return fmt.Errorf("make tables of schema %d: %w", info.Schema, err)
	}
	return s.write(ctx, "read the backup", func(t *tx) error {
		if err := t.empty(ctx, "counters"); err != nil { // all that migrations fill
			return err
		}
		known, err := readTables(ctx, t, goose.DialectSQLite3)
		if err != nil {
			return err
		}
		return b.read(func(table *table, next func() ([]any, error)) error {
			if !slices.Contains(backedUp, table.Name) || known[table.Name] == nil {
				return fmt.Errorf("the backup has a table %q that this version does not know", table.Name)
			}
			if err := known[table.Name].takes(table); err != nil {
				return err
			}
			if toPostgres {
				next = refuseOdd(table, next)
			}
			return t.fill(ctx, table, next)
		})
	})
}

// refuseOdd is next for a database whose text is UTF-8 without the character 0.
func refuseOdd(t *table, next func() ([]any, error)) func() ([]any, error) {
	number := 0
	return func() ([]any, error) {
		row, err := next()
		number++
		for i, v := range row {
			if text, ok := v.(string); ok && (!utf8.ValidString(text) || strings.Contains(text, "\x00")) {
				return nil, fmt.Errorf("row %d of table %s, %q, has text in the column %s that PostgreSQL cannot hold: it is not UTF-8, or has the character 0. "+
					"Change it where the backup was taken, or restore into SQLite and change it there", number, t.Name, row[0], t.Columns[i].Name)
			}
		}
		return row, err
	}
}

// takeOver replaces what a database holds by what the staged one does.
func (s *Store) takeOver(ctx context.Context, stage *Store, info BackupInfo, opts RestoreOptions) (revision int64, err error) {
	err = s.write(ctx, "restore the backup", func(t *tx) error {
		if err := refuseInUse(ctx, t, t.now); err != nil {
			return err
		}
		if !opts.Replace {
			if err := errIfFull(ctx, t); err != nil {
				return err
			}
		}
		before, err := counters(ctx, t)
		if err != nil {
			return err
		}
		for name := range leftOut {
			if name == "goose_db_version" {
				continue
			}
			if err := t.empty(ctx, name); err != nil {
				return err
			}
		}
		for _, name := range slices.Backward(backedUp) {
			if err := t.empty(ctx, name); err != nil {
				return err
			}
		}
		if err := t.copyFrom(ctx, stage); err != nil {
			return err
		}
		if revision, err = t.raiseCounters(ctx, before); err != nil {
			return err
		}
		if opts.DisableJobs {
			if err := t.disableJobs(ctx); err != nil {
				return fmt.Errorf("disable the jobs: %w", err)
			}
		}
		return t.auditRestore(ctx, info)
	})
	return revision, err
}

// disableJobs switches off whatever would deliver, as people would do it.
func (t *tx) disableJobs(ctx context.Context) error {
	var jobs []logjob.Job
	if err := each(ctx, t, func(row scanner) error {
		j, err := scanJob(row, t.keys)
		jobs = append(jobs, j)
		return err
	}, `SELECT `+jobColumns+` FROM jobs`); err != nil {
		return err
	}
	jobs = slices.DeleteFunc(jobs, func(j logjob.Job) bool { return !j.Enabled })
	if len(jobs) > 0 {
		if err := t.notePrimary(ctx); err != nil { // which may be younger than the backup
			return err
		}
	}
	for _, j := range jobs {
		if err := t.disableJob(ctx, j); err != nil {
			return err
		}
	}
	_, err := t.ExecContext(ctx, `UPDATE replays SET state = 'canceled', ended_on = $1 WHERE state IN ('queued', 'running')`, t.now.UnixMicro())
	return err
}

// refuseInUse keeps a restore from being mixed with what a control plane writes. It knows
// one by its lease, which those that decide on rollbacks or delete data hold, and no other.
func refuseInUse(ctx context.Context, q querier, now time.Time) error {
	var name, holder string
	var until int64
	err := q.QueryRowContext(ctx, `SELECT name, holder, expires_on FROM leases WHERE expires_on > $1 ORDER BY expires_on DESC LIMIT 1`, now.UnixMicro()).Scan(&name, &holder, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s works on the database (it has the lease %q until %s): stop every jobs-api, ingest with Logpush and \"tidegate up\" that uses it, also those that no lease tells of; routers may go on",
		holder, name, fromMicros(until).Format(time.RFC3339))
}

func (t *tx) empty(ctx context.Context, name string) error {
	if _, err := t.ExecContext(ctx, `DELETE FROM "`+name+`"`); err != nil {
		return fmt.Errorf("empty table %s: %w", name, err)
	}
	return nil
}

func (t *tx) copyFrom(ctx context.Context, stage *Store) error {
	return stage.read(ctx, "read the checked backup", func(q *sql.Tx) error {
		tables, err := tablesToBackUp(ctx, q, goose.DialectSQLite3, newestSchema())
		if err != nil {
			return err
		}
		for _, table := range tables {
			insert, end, err := rowInserter(ctx, t.Tx, table)
			if err != nil {
				return err
			}
			if err := errors.Join(readRows(ctx, q, table, insert), end()); err != nil {
				return err
			}
		}
		return nil
	})
}

// fill inserts rows until next returns nil.
func (t *tx) fill(ctx context.Context, table *table, next func() ([]any, error)) error {
	insert, end, err := rowInserter(ctx, t.Tx, table)
	if err != nil {
		return err
	}
	for {
		row, err := next()
		if err != nil || row == nil {
			return errors.Join(err, end())
		}
		if err := insert(row); err != nil {
			return errors.Join(err, end())
		}
	}
}

func counters(ctx context.Context, q querier) (map[string]int64, error) {
	values := map[string]int64{}
	err := each(ctx, q, func(row scanner) error {
		var name string
		var value int64
		err := row.Scan(&name, &value)
		values[name] = value
		return err
	}, `SELECT name, value FROM counters`)
	return values, err
}

// raiseCounters makes what is counted from here on newer than what was given between the
// backup and now, also by a database that is no more. Routers refuse older snapshots, so
// the revision goes to the time in milliseconds: no control plane makes a thousand
// changes a second for long, so later restores come out higher, too.
func (t *tx) raiseCounters(ctx context.Context, before map[string]int64) (revision int64, err error) {
	restored, err := counters(ctx, t)
	if err != nil {
		return 0, err
	}
	for name, value := range restored {
		value = max(value, before[name]) + idsSkipped
		switch name {
		case "revision":
			value = max(value, t.now.UnixMilli())
			revision = value
		case "secret_keys": // a lock
			continue
		case "secrets_left": // a flag; what was replaced may be in free pages
			value = 1
		}
		if _, err := t.ExecContext(ctx, `UPDATE counters SET value = $1 WHERE name = $2`, value, name); err != nil {
			return 0, err
		}
	}
	return revision, nil
}

func (t *tx) auditRestore(ctx context.Context, info BackupInfo) error {
	var accounts []string
	err := each(ctx, t, func(row scanner) error {
		var id string
		err := row.Scan(&id)
		accounts = append(accounts, id)
		return err
	}, `SELECT id FROM accounts`)
	if err != nil {
		return err
	}
	for _, id := range accounts {
		if err := t.audit(ctx, id, "account.restore", id, nil, info); err != nil {
			return err
		}
	}
	return nil
}
