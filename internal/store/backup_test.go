package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/pressly/goose/v3"

	"tidegate/schema/control"
)

// newDatabases makes an empty one of each kind that is at hand.
func newDatabases(t *testing.T) map[string]string {
	t.Helper()
	urls := map[string]string{"sqlite": filepath.Join(t.TempDir(), "dir", "control.db")}
	if server := os.Getenv(postgresEnv); server != "" {
		urls["postgres"] = newPostgresSchema(t, server)
	}
	return urls
}

func opened(t *testing.T, databaseURL string) *Store {
	t.Helper()
	s, err := Open(t.Context(), databaseURL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// asItIs opens a database without a look at its keys.
func asItIs(t *testing.T, databaseURL string) *Store {
	t.Helper()
	s, _, err := connect(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.closePools(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dialectOf(databaseURL string) goose.Dialect {
	if isPostgres(databaseURL) {
		return goose.DialectPostgres
	}
	return goose.DialectSQLite3
}

func backup(t *testing.T, databaseURL string) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Backup(t.Context(), databaseURL, "v1", &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restore(t *testing.T, databaseURL string, backup []byte, replace bool) (Restored, error) {
	t.Helper()
	return Restore(t.Context(), databaseURL, bytes.NewReader(backup), RestoreOptions{Replace: replace})
}

// contents are the rows of every table that a backup has, as text, sorted.
func contents(t *testing.T, s *Store, dialect goose.Dialect) map[string][]string {
	t.Helper()
	tables, err := tablesToBackUp(t.Context(), s.reader, dialect, newestSchema())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, table := range tables {
		slices.SortFunc(table.Columns, func(a, b column) int { return strings.Compare(a.Name, b.Name) })
		err := readRows(t.Context(), s.reader, table, func(row []any) error {
			all[table.Name] = append(all[table.Name], fmt.Sprintf("%#v", row))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(all[table.Name])
	}
	return all
}

// fillEveryTable gives each table of a store a row without nulls, beside what Bootstrap writes.
func fillEveryTable(t *testing.T, s *Store) {
	t.Helper()
	tables, err := readTables(t.Context(), s.reader, goose.DialectSQLite3)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]map[string]any{}
	for _, name := range append(slices.Clone(backedUp), slices.Sorted(maps.Keys(leftOut))...) {
		if name == "goose_db_version" {
			continue
		}
		row := map[string]any{}
		for _, c := range tables[name].Columns {
			row[c.Name] = map[kind]any{
				kindText: name + " " + c.Name + " é \u2028 \"'\\ <&>", kindInteger: int64(1)<<53 + 1, kindReal: 0.1, kindBoolean: true, kindBytes: []byte{0, 255, '\n'},
			}[c.Kind]
		}
		err := each(t.Context(), s.reader, func(r scanner) error {
			var parent, from, to string
			err := r.Scan(&parent, &from, &to)
			row[from] = rows[parent][to]
			return err
		}, `SELECT "table", "from", "to" FROM pragma_foreign_key_list('`+name+`')`)
		if err != nil {
			t.Fatal(err)
		}
		rows[name] = row
		var values []any
		for _, c := range tables[name].Columns {
			values = append(values, row[c.Name])
		}
		err = s.write(t.Context(), "fill", func(q *tx) error {
			insert, end, err := rowInserter(t.Context(), q.Tx, tables[name])
			if err != nil {
				return err
			}
			return errors.Join(insert(values), end())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryTableIsBackedUpOrLeftOutByName(t *testing.T) {
	for name, url := range newDatabases(t) {
		s := opened(t, url)
		tables, err := readTables(t.Context(), s.reader, dialectOf(url))
		if err != nil {
			t.Fatal(err)
		}
		want := append(slices.Collect(maps.Keys(leftOut)), backedUp...)
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(tables))); diff != "" {
			t.Errorf("%s: tables in backedUp and leftOut (-) and in the schema (+): add a new one to either, in tables.go\n%s", name, diff)
		}
		if _, err := tablesToBackUp(t.Context(), s.reader, dialectOf(url), newestSchema()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, reason := range leftOut {
		if reason == "" {
			t.Errorf("%s is left out without a reason", name)
		}
	}
}

func TestTablesComeAfterThoseThatTheyReferTo(t *testing.T) {
	s := opened(t, newDatabases(t)["sqlite"])
	for i, name := range backedUp {
		err := each(t.Context(), s.reader, func(r scanner) error {
			var parent string
			err := r.Scan(&parent)
			if !slices.Contains(backedUp[:i], parent) {
				t.Errorf("%s refers to %s, which does not come before it", name, parent)
			}
			return err
		}, `SELECT "table" FROM pragma_foreign_key_list('`+name+`')`)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func count(t *testing.T, s *Store, from string) (n int) {
	t.Helper()
	if err := s.reader.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+from).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// SQLite keeps text that is no text.
func TestBackupOfTextThatIsNotUTF8(t *testing.T) {
	urls := newDatabases(t)
	s := opened(t, urls["sqlite"])
	if _, err := s.Bootstrap(t.Context(), control.Account{}, forget); err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.ExecContext(t.Context(), `UPDATE accounts SET name = CAST(x'6180ff' AS TEXT)`); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "control.db")
	if _, err := restore(t, target, backup(t, urls["sqlite"]), false); err != nil {
		t.Fatal(err)
	}
	accounts, err := opened(t, target).Accounts(t.Context())
	if err != nil || len(accounts) != 1 || accounts[0].Name != "a\x80\xff" {
		t.Errorf("the accounts are %+v, %v", accounts, err)
	}
	for _, odd := range []string{"6180ff", "610062"} {
		if _, err := s.writer.ExecContext(t.Context(), `UPDATE accounts SET name = CAST(x'`+odd+`' AS TEXT)`); err != nil {
			t.Fatal(err)
		}
		postgres := urls["postgres"]
		if postgres == "" {
			continue
		}
		_, err := restore(t, postgres, backup(t, urls["sqlite"]), false)
		if err == nil || !strings.Contains(err.Error(), `row 1 of table accounts, "`+control.FirstAccountID+`", has text in the column name that PostgreSQL cannot hold`) {
			t.Errorf("the error for %s is %v", odd, err)
		}
	}
}

// FuzzBackup: what was written is read back, value by value, and whatever byte of it is
// another, too many or missing, it is refused.
func FuzzBackup(f *testing.F) {
	f.Add("accounts", "a\x80\n", int64(-1), 0.1, true, []byte{0, 255}, uint16(0), byte(0), "", "")
	f.Add("jobs", "<\u2028>", int64(1)<<62, 1e300, false, []byte{}, uint16(90), byte('R'^'r'), "", "\n")
	f.Add("\"", "", int64(0), math.Copysign(0, -1), false, []byte(nil), uint16(0xffff), byte('\n'^'\r'), "\r", "")
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, text string, n int64, real float64, flag bool, blob []byte, at uint16, flip byte, inserted, tail string) {
		var b bytes.Buffer
		w := backupWriter{w: &b, sum: sha256.New()}
		columns := []column{{"t", kindText}, {name, kindInteger}, {"r", kindReal}, {"b", kindBoolean}, {"x", kindBytes}, {"null", kindText}}
		rows := [][]any{{text, n, real, flag, blob, nil}, {"", int64(0), 0.0, false, []byte{}, nil}}
		err := errors.Join(w.line(BackupInfo{Format: backupFormat, FormatVersion: backupFormatVersion, Tidegate: text}), w.line(table{name, columns}))
		for _, row := range rows {
			err = errors.Join(err, w.row(slices.Clone(row)))
		}
		err = errors.Join(err, w.line(table{"empty", columns[:1]}), w.line(ending{w.rows, hex.EncodeToString(w.sum.Sum(nil))}))
		if err != nil || !utf8.ValidString(name) {
			return // no number of JSON's, no name of a column
		}
		var got [][]any
		read := func(text []byte) error {
			r, _, err := openBackup(bytes.NewReader(encoder.EncodeAll(text, nil)))
			if err != nil {
				return err
			}
			defer r.close()
			return r.read(func(t *table, next func() ([]any, error)) error {
				for {
					row, err := next()
					if err != nil || row == nil {
						return err
					}
					got = append(got, row)
				}
			})
		}
		if err := read(b.Bytes()); err != nil {
			t.Fatalf("%q is refused: %v", b.Bytes(), err)
		}
		if blob == nil {
			rows[0][4] = nil
		}
		if !reflect.DeepEqual(got, rows) {
			t.Fatalf("%#v was read as %#v", rows, got)
		}
		place := int(at) % b.Len()
		harmed := append(slices.Insert(bytes.Clone(b.Bytes()), place, []byte(inserted)...), tail...)
		harmed[place+len(inserted)] ^= flip
		if bytes.Equal(harmed, b.Bytes()) {
			harmed = slices.Delete(harmed, place, place+1)
		}
		if read(harmed) == nil && !bytes.Equal(harmed, b.Bytes()) {
			t.Fatalf("%q is read as if it were %q", harmed, b.Bytes())
		}
	})
}

// A backup has no half of a change: each account comes with the audit entry of its making.
func TestBackupIsOfOneMoment(t *testing.T) {
	for name, url := range newDatabases(t) {
		s := opened(t, url)
		if _, err := s.Bootstrap(t.Context(), control.Account{}, forget); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			for i := 0; ; i++ {
				_, err := s.CreateAccount(ctx, fmt.Sprintf("a%d", i))
				if err != nil {
					ended <- err
					return
				}
			}
		}()
		var taken [][]byte
		for range 5 {
			taken = append(taken, backup(t, url))
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for _, b := range taken {
			target := filepath.Join(t.TempDir(), "control.db")
			if _, err := restore(t, target, b, false); err != nil {
				t.Fatal(err)
			}
			r := opened(t, target)
			// The first account is nobody's doing.
			if accounts, entries := count(t, r, "accounts"), count(t, r, "audit_log WHERE action = 'account.create'"); accounts != entries+1 {
				t.Errorf("%s: %d accounts, and %d entries of their making", name, accounts, entries)
			}
		}
	}
}

func TestInspect(t *testing.T) {
	absent, err := Inspect(t.Context(), filepath.Join(t.TempDir(), "none.db"))
	if err != nil || !absent.Absent || absent.Newest != newestSchema() {
		t.Errorf("of a file that is not there: %+v, %v", absent, err)
	}
	for name, url := range newDatabases(t) {
		if isPostgres(url) {
			if i, err := Inspect(t.Context(), url); err != nil || i.Schema != 0 {
				t.Errorf("%s: before the first start: %+v, %v", name, i, err)
			}
		}
		opened(t, url)
		i, err := Inspect(t.Context(), url)
		if err != nil || i.Schema != i.Newest || i.Damage != "" || i.Absent || (i.Version > 0) != isPostgres(url) || i.Skew.Abs() > i.Within+time.Minute {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
}
