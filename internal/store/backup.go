package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"github.com/pressly/goose/v3"
)

// A backup is lines of JSON, compressed with zstd: a BackupInfo, then for each table a line
// with its columns and one for each row, an array; last an ending, which holds the
// SHA-256 of all lines before it.
const (
	backupFormat        = "tidegate-backup"
	backupFormatVersion = 1
	// backupLineMax is above the largest row, a Worker's module or a dead letter in base64.
	backupLineMax = 512 << 20
)

// BackupInfo says what a backup is of.
type BackupInfo struct {
	Format        string    `json:"format"`
	FormatVersion int       `json:"format_version"`
	Schema        int64     `json:"schema"` // number of the last migration
	Database      string    `json:"database"`
	Tidegate      string    `json:"tidegate"` // version of the build that took it
	TakenOn       time.Time `json:"taken_on"`
	Rows          int64     `json:"-"`
}

// ending of a backup. One without is not whole.
type ending struct {
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"`
}

// Backup writes the control state of a database to w, as it is at one moment. The database
// may be in use, is not changed, and its schema need not be this version's, unless it is
// a newer one. What it holds encrypted stays so; the rest, hashes of tokens and
// credentials of jobs among it, can be read by whoever has the backup.
func Backup(ctx context.Context, databaseURL, version string, w io.Writer) (info BackupInfo, err error) {
	s, dialect, err := connect(databaseURL)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, s.closePools()) }()
	compressed, err := zstd.NewWriter(w)
	if err != nil {
		return info, err
	}
	info = BackupInfo{
		Format: backupFormat, FormatVersion: backupFormatVersion,
		Database: databaseKind(dialect), Tidegate: version, TakenOn: s.now().UTC(),
	}
	b := backupWriter{w: compressed, sum: sha256.New()}
	err = s.read(ctx, "back the database up", func(q *sql.Tx) error {
		tables, err := readTables(ctx, q, dialect)
		if err != nil {
			return err
		}
		if info.Schema, err = schemaOf(ctx, q, tables); err != nil {
			return err
		}
		switch newest := newestSchema(); {
		case info.Schema == 0:
			return errors.New("it has no control state: no control plane has run on it")
		case info.Schema > newest:
			return fmt.Errorf("its schema is %d, and this version knows those up to %d: take the backup with the version that runs on it", info.Schema, newest)
		}
		list, err := tablesToBackUp(ctx, q, dialect, info.Schema)
		if err != nil {
			return err
		}
		return b.write(ctx, q, &info, list)
	})
	info.Rows = b.rows
	return info, errors.Join(err, compressed.Close())
}

// connect opens a database as it stands: it makes no file, and runs no migration.
func connect(databaseURL string) (*Store, goose.Dialect, error) {
	s := &Store{now: time.Now}
	if isPostgres(databaseURL) {
		return s, goose.DialectPostgres, s.connectPostgres(databaseURL)
	}
	path, err := sqlitePath(databaseURL)
	if err != nil {
		return nil, "", err
	}
	return s, goose.DialectSQLite3, s.connectSQLite(path)
}

func databaseKind(dialect goose.Dialect) string {
	if dialect == goose.DialectPostgres {
		return "PostgreSQL"
	}
	return "SQLite"
}

type backupWriter struct {
	w    io.Writer
	sum  hash.Hash // of the lines so far
	rows int64
}

func (b *backupWriter) write(ctx context.Context, q querier, info *BackupInfo, tables []*table) error {
	if err := b.line(info); err != nil {
		return err
	}
	for _, t := range tables {
		if err := b.line(t); err != nil {
			return err
		}
		if err := readRows(ctx, q, t, b.row); err != nil {
			return err
		}
	}
	return b.line(ending{b.rows, hex.EncodeToString(b.sum.Sum(nil))})
}

func (b *backupWriter) row(row []any) error {
	b.rows++
	for i, v := range row {
		// JSON has no text that is not UTF-8; SQLite does.
		if text, ok := v.(string); ok && !utf8.ValidString(text) {
			row[i] = odd{[]byte(text)}
		}
	}
	return b.line(row)
}

// odd is text that is not UTF-8.
type odd struct {
	Bytes []byte `json:"bytes"`
}

func (b *backupWriter) line(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	b.sum.Write(text)
	_, err = b.w.Write(text)
	return err
}

// backupReader reads what backupWriter wrote. Nothing that it returned is certain before
// read has returned nil.
type backupReader struct {
	lines *bufio.Scanner
	sum   hash.Hash
	rows  int64
	close func()
}

// openBackup reads the first line.
func openBackup(r io.Reader) (*backupReader, BackupInfo, error) {
	var info BackupInfo
	compressed, err := zstd.NewReader(r)
	if err != nil {
		return nil, info, fmt.Errorf("read the backup: %w", err)
	}
	b := &backupReader{lines: bufio.NewScanner(compressed), sum: sha256.New(), close: compressed.Close}
	b.lines.Buffer(nil, backupLineMax)
	b.lines.Split(splitLines)
	text, err := b.next()
	if err == nil {
		err = json.Unmarshal(text, &info)
	}
	if err == nil && info.Format != backupFormat {
		err = errors.New("something else is in it")
	}
	if err != nil {
		b.close()
		return nil, info, fmt.Errorf("it is no backup of Tidegate's, or not whole: %w", err)
	}
	b.add(text)
	return b, info, nil
}

// splitLines is bufio.ScanLines for lines that all have an end, and keep a \r before it: the
// SHA-256 is of that, too.
func splitLines(data []byte, atEOF bool) (advance int, line []byte, err error) {
	end := bytes.IndexByte(data, '\n')
	switch {
	case end >= 0:
		return end + 1, data[:end], nil
	case atEOF && len(data) > 0:
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

func (b *backupReader) next() ([]byte, error) {
	if b.lines.Scan() {
		return b.lines.Bytes(), nil
	}
	if err := b.lines.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}

func (b *backupReader) add(line []byte) {
	b.sum.Write(line)
	b.sum.Write([]byte{'\n'})
}

// read calls fn for each table, with a function that gives its rows one by one, and nil
// after the last. It returns nil if the backup is whole and unchanged.
func (b *backupReader) read(fn func(t *table, next func() ([]any, error)) error) error {
	line, err := b.next()
	for {
		if err != nil {
			return fmt.Errorf("the backup is damaged or not whole: %w", err)
		}
		var head struct {
			table
			ending
		}
		if err := json.Unmarshal(line, &head); err != nil {
			return fmt.Errorf("the backup is damaged: %w", err)
		}
		if head.SHA256 != "" {
			return b.check(line, head.ending)
		}
		b.add(line)
		failed := fn(&head.table, func() ([]any, error) {
			if line, err = b.next(); err != nil {
				return nil, fmt.Errorf("the backup is damaged or not whole: %w", err)
			}
			if len(line) == 0 || line[0] != '[' {
				return nil, nil
			}
			b.rows++
			b.add(line)
			return parseRow(&head.table, line)
		})
		if failed != nil {
			return failed
		}
	}
}

// check looks at the last line, and whether it is.
func (b *backupReader) check(line []byte, end ending) error {
	found := ending{b.rows, hex.EncodeToString(b.sum.Sum(nil))}
	if found != end {
		return fmt.Errorf("the backup is damaged: its %d rows have the SHA-256 %s, and it says %d with %s", found.Rows, found.SHA256, end.Rows, end.SHA256)
	}
	if want, err := json.Marshal(found); err != nil || !bytes.Equal(line, want) {
		return fmt.Errorf("the backup is damaged: it ends with %.200q, not with %q", line, want)
	}
	if b.lines.Scan() || b.lines.Err() != nil {
		return errors.Join(errors.New("the backup is damaged: it goes on after its end"), b.lines.Err())
	}
	return nil
}

func parseRow(t *table, line []byte) ([]any, error) {
	var texts []json.RawMessage
	err := json.Unmarshal(line, &texts)
	if err == nil && len(texts) != len(t.Columns) {
		err = fmt.Errorf("a row has %d values for %d columns", len(texts), len(t.Columns))
	}
	row := make([]any, len(texts))
	for i := 0; i < len(texts) && err == nil; i++ {
		row[i], err = parseValue(t.Columns[i].Kind, texts[i])
	}
	if err != nil {
		return nil, fmt.Errorf("the backup is damaged in table %s: %w", t.Name, err)
	}
	return row, nil
}

func parseValue(k kind, text json.RawMessage) (any, error) {
	switch {
	case string(text) == "null":
		return nil, nil
	case k == kindText && text[0] == '{':
		var v odd
		err := json.Unmarshal(text, &v)
		return string(v.Bytes), err
	case k == kindText:
		return parsed[string](text)
	case k == kindInteger:
		return parsed[int64](text)
	case k == kindReal:
		return parsed[float64](text)
	case k == kindBoolean:
		return parsed[bool](text)
	case k == kindBytes:
		return parsed[[]byte](text)
	}
	return nil, fmt.Errorf("%q is no kind of value", k)
}

func parsed[T any](text json.RawMessage) (any, error) {
	var v T
	err := json.Unmarshal(text, &v)
	return v, err
}
