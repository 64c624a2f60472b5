package runtime

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	objectSuffix = ".sqlite"
	// alarmsDir holds a file for each object that was taken from one scheduler of
	// alarms and not yet given to another.
	alarmsDir = "alarms"
	// schedule is the runtime's own file, of the alarms of a namespace.
	schedule = "metadata" + objectSuffix
)

var objectPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// objectName is an object of a namespace.
type objectName struct{ namespace, id string }

// file is the storage of an object in the folder of a version. Where the object was
// before, a folder has its name: then no process, whatever it believes, can make
// another object in its place.
func (s *objectStorage) file(version string, o objectName) string {
	return filepath.Join(s.dir, version, o.namespace, o.id+objectSuffix)
}

// home finds the version that has the object; "" if none has, so that it is new.
func (s *objectStorage) home(o objectName) (string, error) {
	versions, err := s.versions()
	if err != nil {
		return "", err
	}
	found := ""
	for _, v := range versions {
		info, err := os.Lstat(s.file(v, o))
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir():
		case err != nil:
			return "", err
		case found != "":
			return "", fmt.Errorf("the object %s has storage in the folders of versions %s and %s: remove the one that is not to count from %s", o.id, found, v, s.dir)
		default:
			found = v
		}
	}
	return found, nil
}

// create makes the empty file of an object that is new, so that home finds it.
func (s *objectStorage) create(o objectName, version string) error {
	path := s.file(version, o)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the storage of a Durable Object: %w", err)
	}
	return f.Close()
}

// move gives the file to another version, in one step. Nobody may have it open:
// closeLog has said so, and nothing can open it since.
func (s *objectStorage) move(o objectName, from, to string) error {
	source, target := s.file(from, o), s.file(to, o)
	if _, err := os.Lstat(strings.TrimSuffix(source, objectSuffix) + ".facets"); err == nil {
		return fmt.Errorf("the object %s has facets, which do not move", o.id)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Lstat(target); err != nil || !info.IsDir() {
		return errors.Join(fmt.Errorf("move the object %s: version %s has storage of it already", o.id, to), err)
	}
	return exchange(source, target)
}

// errOpen is that somebody has the file open.
var errOpen = errors.New("its storage is open")

// closeLog makes sure that nobody has the file open and that all of it is in it, not in
// the log beside it. It returns the alarm that is set, in milliseconds; 0 for none.
func closeLog(ctx context.Context, path string) (alarm int64, err error) {
	err = withDatabase(path, func(db *sql.DB) error {
		// Leaving the mode with a log needs the file alone. The runtime sets it anew.
		var mode string
		if err := db.QueryRowContext(ctx, `PRAGMA journal_mode = DELETE`).Scan(&mode); err != nil {
			return err
		}
		if mode != "delete" {
			return errOpen
		}
		var at sql.NullInt64 // nanoseconds; workerd's ActorSqlite keeps it under this key
		err := db.QueryRowContext(ctx, `SELECT value FROM _cf_METADATA WHERE key = 1`).Scan(&at)
		if err == nil && at.Valid {
			alarm = max(1, at.Int64/int64(time.Millisecond))
		}
		return unlessMissing(err)
	})
	return alarm, err
}

// unschedule takes an object out of the alarms of a version that has no process.
func (s *objectStorage) unschedule(ctx context.Context, version string, o objectName) error {
	path := filepath.Join(s.dir, version, o.namespace, schedule)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return withDatabase(path, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, `DELETE FROM _cf_ALARM WHERE actor_id = ?`, o.id)
		return unlessMissing(err)
	})
}

// unlessMissing drops the error of a table or a row that the runtime had no need for yet.
func unlessMissing(err error) error {
	if errors.Is(err, sql.ErrNoRows) || err != nil && strings.Contains(err.Error(), "no such table") {
		return nil
	}
	return err
}

func withDatabase(path string, use func(*sql.DB) error) error {
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "mode=rw&_pragma=busy_timeout(0)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	err = use(db)
	if e, ok := errors.AsType[*sqlite.Error](err); ok && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED) {
		err = errOpen
	}
	return errors.Join(err, db.Close())
}

// owe notes the alarm of an object, in milliseconds, before it is taken from the
// scheduler of its old home. It is on disk when owe returns.
func (s *objectStorage) owe(o objectName, alarm int64) error {
	path := s.alarmFile(o)
	if err := os.WriteFile(path+".new", strconv.AppendInt(nil, alarm, 10), 0o600); err != nil {
		return err
	}
	if err := syncFile(path + ".new"); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncFile(filepath.Dir(path))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (s *objectStorage) alarmFile(o objectName) string {
	return filepath.Join(s.dir, alarmsDir, o.namespace+"-"+o.id)
}

// paid is for an alarm that a scheduler has, or that its object keeps.
func (s *objectStorage) paid(o objectName) error { return remove(s.alarmFile(o)) }

// owed lists the alarms of a namespace that no scheduler may have.
func (s *objectStorage) owed(namespace string) (map[string]int64, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, alarmsDir))
	if err != nil {
		return nil, err
	}
	owed := map[string]int64{}
	for _, e := range entries {
		id, ok := strings.CutPrefix(e.Name(), namespace+"-")
		if !ok || !objectPattern.MatchString(id) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(s.dir, alarmsDir, e.Name()))
		if err != nil {
			return nil, err
		}
		at, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the alarm of the object %s: %w", id, err)
		}
		owed[id] = at
	}
	return owed, nil
}

func (s *objectStorage) forgetAlarms(namespace string) error {
	owed, err := s.owed(namespace)
	for id := range owed {
		err = errors.Join(err, s.paid(objectName{namespace, id}))
	}
	return err
}

// each calls do for every object that the version has of the namespace, until do
// returns false.
func (s *objectStorage) each(version, namespace string, do func(id string) bool) (err error) {
	dir, err := os.Open(filepath.Join(s.dir, version, namespace))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for {
		entries, err := dir.ReadDir(1000)
		for _, e := range entries {
			id, ok := strings.CutSuffix(e.Name(), objectSuffix)
			if ok && !e.IsDir() && objectPattern.MatchString(id) && !do(id) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// dropFolder removes what is left of a namespace in the folder of a version that has
// neither a process nor an object of it: the schedule, and what stands for objects that
// went. Anything else stays.
func (s *objectStorage) dropFolder(version, namespace string) error {
	dir := filepath.Join(s.dir, version)
	entries, err := os.ReadDir(filepath.Join(dir, namespace))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), schedule) || e.IsDir() {
			continue
		}
		return nil
	}
	return errors.Join(os.RemoveAll(filepath.Join(dir, namespace)), s.unlist(version, namespace))
}

// unlist removes the lock of a folder that is gone, and the version's if it was the last.
func (s *objectStorage) unlist(version, namespace string) error {
	dir := filepath.Join(s.dir, version)
	if err := remove(filepath.Join(dir, namespace+".lock")); err != nil {
		return err
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		return nil
	}
	return remove(dir)
}
