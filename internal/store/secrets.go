package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"tidegate/internal/seal"
)

// A secretColumn is sealed in every row that has something in it.
type secretColumn struct {
	table, column string
	row           []string // the columns that name a row
}

// secretColumns are all of them. What is only compared is a hash and stays one: tokens,
// sessions and their links, and what opens the WebSockets of tails and instant logs.
var secretColumns = []secretColumn{
	{"jobs", "settings_json", []string{"account_id", "id"}},                           // the destination's credentials
	{"versions", "worker_json", []string{"account_id", "id"}},                         // bindings of the type secret_text
	{"policy_revisions", "policy_json", []string{"account_id", "script", "revision"}}, // targets of notifications
	{"notifications", "target_json", []string{"account_id", "id"}},
	{"logpush_alerts", "url", []string{"account_id"}}, // chat services put the secret there
	{"logpush_alerts", "secret", []string{"account_id"}},
	{"signing_keys", "secret", []string{"name"}},
	{"tails", "sealed", []string{"account_id", "id"}},
	{"instant_logs", "sealed", []string{"account_id", "id"}},
}

// placeOf names a column and a row, the latter by the values of secretColumn.row, which
// ties what is sealed to them.
func placeOf(table, column string, row ...any) string {
	place := table + "." + column
	for _, value := range row {
		place += "/" + fmt.Sprint(value)
	}
	return place
}

// sealJSON is toJSON of what is secret.
func sealJSON(keys *seal.Keys, v any, place string) (string, error) {
	text, err := toJSON(v)
	if err != nil {
		return "", err
	}
	return keys.Seal(text, place)
}

// openJSON is fromJSON of what sealJSON wrote, or an older release in clear text.
func openJSON(keys *seal.Keys, text string, v any, place string) error {
	plain, err := keys.Open(text, place)
	if err != nil {
		return err
	}
	return fromJSON(plain, v)
}

// hashOf is how a secret is kept that is only compared. One of ours is long and random,
// so that a plain hash does.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// useKeys refuses keys that are not those of the database, and seals with the primary one
// what is not sealed with it yet: what an older release left in clear text, or what was
// sealed before the keys were rotated. Any number of processes may do so at once.
func (s *Store) useKeys(ctx context.Context) error {
	if err := s.registerKeys(ctx); err != nil {
		return err
	}
	if s.keys == nil {
		return nil
	}
	sealed := 0
	for _, c := range secretColumns {
		n, err := s.sealColumn(ctx, c)
		if err != nil {
			return fmt.Errorf("seal what is secret in %s.%s: %w", c.table, c.column, err)
		}
		sealed += n
	}
	if sealed > 0 {
		s.log.InfoContext(ctx, "sealed the secrets of the database", "values", sealed, "key", s.keys.Primary())
	}
	return s.forgetReplaced(ctx)
}

// registerKeys notes the primary key, so that a process with others is refused also before
// anything was sealed. The list may be shorter than what the values need: a backup may have
// been taken, or tables copied, without it.
func (s *Store) registerKeys(ctx context.Context) error {
	return s.write(ctx, "check the keys for secrets", func(t *tx) error {
		// The row's lock keeps other processes, which may have other keys, away.
		if _, err := t.ExecContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'secret_keys'`); err != nil {
			return err
		}
		if err := each(ctx, t, func(row scanner) error {
			var id, proof string
			if err := row.Scan(&id, &proof); err != nil {
				return err
			}
			if proof == retired {
				if id == s.keys.Primary() {
					return errRetired(id)
				}
				return nil
			}
			return checkKey(s.keys, id, proof)
		}, `SELECT id, proof FROM secret_keys ORDER BY created_on, id`); err != nil {
			return err
		}
		counts, err := countSealed(ctx, t)
		if err != nil {
			return err
		}
		for _, c := range counts {
			if c.Key != "" && !s.keys.Has(c.Key) {
				return errOtherKeys(s.keys, c.Key)
			}
		}
		if s.keys == nil {
			return nil
		}
		return t.notePrimary(ctx)
	})
}

// notePrimary puts the key that seals on the list, unless it was there already.
func (t *tx) notePrimary(ctx context.Context) error {
	primary := t.keys.Primary()
	proof, err := t.keys.Seal(primary, placeOf("secret_keys", "proof", primary))
	if err != nil {
		return err
	}
	n, err := changed(ctx, t, `INSERT INTO secret_keys (id, proof, created_on) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING`,
		primary, proof, t.now.UnixMicro())
	if err != nil || n == 0 {
		return err
	}
	return t.audit(ctx, "", "secret_key.create", primary, nil, secretKey{primary})
}

// secretKey is what the audit log has of a key: which one it is. The file of keys is elsewhere, and
// a database learns of one when a process begins to seal with it.
type secretKey struct {
	ID string `json:"id"`
}

// retired is the proof of a key that is done with. Its row stays, so that a process which
// still has it as its primary key seals nothing more.
const retired = ""

// checkPrimary keeps what was sealed with a key that was retired meanwhile from being
// committed. It is the last statement of a transaction, until whose end Forget waits, and
// then counts what was sealed.
func (t *tx) checkPrimary(ctx context.Context, rowLocks bool) error {
	query := `SELECT proof FROM secret_keys WHERE id = $1 AND proof <> $2`
	if rowLocks {
		query += ` FOR SHARE` // SQLite has one writer at a time
	}
	var proof string
	err := t.QueryRowContext(ctx, query, t.keys.Primary(), retired).Scan(&proof)
	if errors.Is(err, sql.ErrNoRows) {
		return errRetired(t.keys.Primary())
	}
	return err
}

func errRetired(id string) error {
	return fmt.Errorf("the key %s, with which this process seals secrets, was retired, or the database was restored: give the process the keys that the others have, and start it again", id)
}

// checkKey is nil if the keys have the one of this id.
func checkKey(keys *seal.Keys, id, proof string) error {
	if !keys.Has(id) {
		return errOtherKeys(keys, id)
	}
	if _, err := keys.Open(proof, placeOf("secret_keys", "proof", id)); err != nil {
		return fmt.Errorf("the key %s is not the one of this id that the database was made with: %w", id, err)
	}
	return nil
}

func errOtherKeys(keys *seal.Keys, id string) error {
	have := "no keys"
	if keys != nil {
		have = "the keys " + strings.Join(keys.IDs(), ", ")
	}
	return fmt.Errorf("secrets of this database are sealed with the key %s, and this process has %s: start it with the keys that the database was made with, "+
		"from --secrets-key-file or TIDEGATE_SECRETS_KEY. If the key is lost, so are the secrets: docs/operations/README.md says what to do then", id, have)
}

// sealedAtOnce is how many values are read, and on SQLite written, at once.
const sealedAtOnce = 100

// sealedValue is a value of a secretColumn that the primary key has not sealed.
type sealedValue struct {
	row  []any
	text string
}

func (s *Store) sealColumn(ctx context.Context, c secretColumn) (sealed int, err error) {
	// PostgreSQL: one row a transaction, which so never holds one and waits for another.
	// SQLite has no locks of rows, and every commit waits for the disk.
	together := 1
	if s.reader != s.writer {
		together = sealedAtOnce
	}
	var after []any
	for {
		page, err := s.unsealed(ctx, c, after)
		if err != nil || len(page) == 0 {
			return sealed, err
		}
		after = page[len(page)-1].row // a single pass, whatever others write meanwhile
		for len(page) > 0 {
			n := min(together, len(page))
			if err := s.write(ctx, "seal secrets", func(t *tx) error { return t.sealValues(ctx, c, page[:n]) }); err != nil {
				return sealed, err
			}
			page, sealed = page[n:], sealed+n
		}
	}
}

// unsealed returns the next values, in the order of their rows.
func (s *Store) unsealed(ctx context.Context, c secretColumn, after []any) (page []sealedValue, err error) {
	row := strings.Join(c.row, ", ")
	query := fmt.Sprintf(`SELECT %s, %s FROM %s WHERE %s <> '' AND %s NOT LIKE $1`, row, c.column, c.table, c.column, c.column)
	args := []any{seal.Mark(s.keys.Primary()) + "%"}
	if after != nil {
		query += fmt.Sprintf(` AND (%s) > (%s)`, row, marks(2, len(after)))
		args = append(args, after...)
	}
	query += fmt.Sprintf(` ORDER BY %s LIMIT %d`, row, sealedAtOnce)
	err = each(ctx, s.reader, func(r scanner) error {
		value := sealedValue{row: make([]any, len(c.row))}
		dest := make([]any, 0, len(c.row)+1)
		for i := range value.row {
			dest = append(dest, &value.row[i])
		}
		err := r.Scan(append(dest, &value.text)...)
		page = append(page, value)
		return err
	}, query, args...)
	return page, err
}

// marks are n marks of parameters, beginning with $first.
func marks(first, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("$%d", first+i)
	}
	return strings.Join(list, ", ")
}

// sealValues leaves alone what somebody has changed since it was read: they have sealed it.
func (t *tx) sealValues(ctx context.Context, c secretColumn, values []sealedValue) error {
	if _, err := t.ExecContext(ctx, `UPDATE counters SET value = 1 WHERE name = 'secrets_left'`); err != nil {
		return err
	}
	query := fmt.Sprintf(`UPDATE %s SET %s = $1 WHERE %s = $2 AND (%s) = (%s)`,
		c.table, c.column, c.column, strings.Join(c.row, ", "), marks(3, len(c.row)))
	for _, v := range values {
		place := placeOf(c.table, c.column, v.row...)
		plain, err := t.keys.Open(v.text, place)
		if err != nil {
			return err
		}
		sealed, err := t.keys.Seal(plain, place)
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, query, append([]any{sealed, v.text}, v.row...)...); err != nil {
			return err
		}
	}
	return nil
}

// forgetReplaced rewrites an SQLite file, whose free pages still hold what was there before
// it was sealed. Where another process or a full disk is in the way, or the last start ended
// before this, it is left to the next start. PostgreSQL's own vacuum does as much in time.
func (s *Store) forgetReplaced(ctx context.Context) error {
	if s.reader == s.writer {
		return nil
	}
	var left bool
	if err := s.reader.QueryRowContext(ctx, `SELECT value = 1 FROM counters WHERE name = 'secrets_left'`).Scan(&left); err != nil {
		return fmt.Errorf("look whether replaced secrets are left in the database's file: %w", err)
	}
	if !left {
		return nil
	}
	busy, frames, moved := true, 0, 0
	_, err := s.writer.ExecContext(ctx, `VACUUM`)
	if err == nil {
		err = s.writer.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
	}
	if err == nil && busy {
		err = errors.New("other processes read it")
	}
	if err != nil {
		s.log.WarnContext(ctx, "could not rewrite the database's file, in whose free pages secrets from before they were sealed may be left: the next start tries again", "error", err)
		return nil
	}
	_, err = s.writer.ExecContext(ctx, `UPDATE counters SET value = 0 WHERE name = 'secrets_left'`)
	if err != nil {
		return fmt.Errorf("note that no replaced secrets are left: %w", err)
	}
	return nil
}

// Secrets looks at how a database is sealed, without keys and without changing its schema.
type Secrets struct {
	db       *sql.DB
	postgres bool
}

// SecretCount is how many values of a column a key has sealed.
type SecretCount struct {
	Column string // such as jobs.settings_json
	Key    string // empty: they are in clear text, by an older release
	Values int64
}

// OpenSecrets opens a database that exists.
func OpenSecrets(ctx context.Context, databaseURL string) (*Secrets, error) {
	s := &Secrets{postgres: isPostgres(databaseURL)}
	var err error
	if s.postgres {
		s.db, err = sql.Open("pgx", databaseURL)
	} else {
		path := strings.TrimPrefix(databaseURL, "sqlite://")
		if _, err := os.Stat(path); err != nil { // to open it would make it
			return nil, fmt.Errorf("open database: %w", err)
		}
		s.db, err = sql.Open("sqlite", sqliteDSN(path))
	}
	if err == nil {
		err = s.db.PingContext(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", redactURL(databaseURL), err)
	}
	return s, nil
}

// Close closes the database.
func (s *Secrets) Close() error { return s.db.Close() }

// Keys returns the ids of the keys that a process on the database must have, oldest first, and
// then those that have sealed something but are not listed; none for a database that is empty
// or was last used by an older release.
func (s *Secrets) Keys(ctx context.Context) (ids []string, err error) {
	tables := `SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'secret_keys'`
	if s.postgres {
		tables = `SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'secret_keys'`
	}
	var found int
	if err := s.db.QueryRowContext(ctx, tables).Scan(&found); err != nil {
		return nil, fmt.Errorf("look for the keys of secrets: %w", err)
	}
	if found == 0 {
		return nil, nil
	}
	err = each(ctx, s.db, func(row scanner) error {
		var id string
		err := row.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT id FROM secret_keys WHERE proof <> $1 ORDER BY created_on, id`, retired)
	if err != nil {
		return nil, fmt.Errorf("list the keys of secrets: %w", err)
	}
	counts, err := s.Counts(ctx)
	for _, c := range counts {
		if c.Key != "" && !slices.Contains(ids, c.Key) {
			ids = append(ids, c.Key)
		}
	}
	return ids, err
}

// Counts returns what each key has sealed, where that is anything.
func (s *Secrets) Counts(ctx context.Context) ([]SecretCount, error) {
	return countSealed(ctx, s.db)
}

func countSealed(ctx context.Context, q querier) (counts []SecretCount, err error) {
	for _, c := range secretColumns {
		name := c.table + "." + c.column
		err := each(ctx, q, func(row scanner) error {
			count := SecretCount{Column: name}
			var mark string
			err := row.Scan(&mark, &count.Values)
			count.Key, _ = seal.KeyOf(mark)
			counts = append(counts, count)
			return err
		}, fmt.Sprintf(`SELECT CASE WHEN %[1]s LIKE 'sealed:%%' THEN substr(%[1]s, 1, %[3]d) ELSE '' END AS mark, COUNT(*) FROM %[2]s
			WHERE %[1]s <> '' GROUP BY 1 ORDER BY 1`, c.column, c.table, len(seal.Mark("00000000"))))
		if err != nil {
			return nil, fmt.Errorf("count what is sealed in %s: %w", name, err)
		}
	}
	return counts, nil
}

// Forget takes keys off the list of those that every process must have, all or none. It
// refuses one that has sealed anything which is still there, and from then on every
// process that would seal with one of them is refused.
func (s *Secrets) Forget(ctx context.Context, keys ...string) (err error) {
	begun, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("forget the keys %s: %w", strings.Join(keys, ", "), err)
	}
	t := &tx{Tx: begun, now: time.Now().UTC().Truncate(time.Microsecond)}
	if err := forgetKeys(ctx, t, keys); err != nil {
		return errors.Join(fmt.Errorf("forget the keys %s: %w", strings.Join(keys, ", "), err), t.Rollback())
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("forget the keys %s: %w", strings.Join(keys, ", "), err)
	}
	return nil
}

func forgetKeys(ctx context.Context, t *tx, keys []string) error {
	// As registerKeys does.
	if _, err := t.ExecContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'secret_keys'`); err != nil {
		return err
	}
	for _, key := range keys {
		n, err := changed(ctx, t, `INSERT INTO secret_keys (id, proof, created_on) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET proof = excluded.proof WHERE secret_keys.proof <> excluded.proof`, key, retired, t.now.UnixMicro())
		if err == nil && n > 0 { // else it was retired before, and the file was not written then
			err = t.audit(ctx, "", "secret_key.retire", key, secretKey{key}, nil)
		}
		if err != nil {
			return err
		}
	}
	// Only now: the rows' locks are had when nobody is about to commit what they sealed.
	counts, err := countSealed(ctx, t)
	if err != nil {
		return err
	}
	for _, c := range counts {
		if slices.Contains(keys, c.Key) {
			return fmt.Errorf("the key %s is still needed: it has sealed %d values of %s. Start a process of the control plane with the new primary key, which seals them anew", c.Key, c.Values, c.Column)
		}
	}
	return nil
}
