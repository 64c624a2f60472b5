package app

import (
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"

	"tidegate/internal/store"
	"tidegate/schema/control"
)

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("the error is %v, want one with %q", err, word)
		}
	}
}

func TestAFileOfKeysIsPrivateAndStays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets-key")
	id, err := MakeKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file has the mode %v, error %v", info.Mode(), err)
	}
	_, err = MakeKeys(file)
	wantError(t, err, file, "is there already")
	keys, err := ReadKeys(file)
	if err != nil || keys.Primary() != id {
		t.Errorf("the key is %s, was made as %s, error %v", keys.Primary(), id, err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, error %v", left, err)
	}
}

// The file of keys stays readable for who could read it: docs/operations/install.md has it
// belong to root, and to a group that the processes are of.
func TestAFileOfKeysKeepsItsReaders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets-key")
	if _, err := MakeKeys(file); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = 4711, 4712
	}
	if err := errors.Join(os.Chown(file, uid, gid), os.Chmod(file, 0o640)); err != nil {
		t.Fatal(err)
	}
	same := func(did string) {
		t.Helper()
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || int(owner.Uid) != uid || int(owner.Gid) != gid {
			t.Errorf("after %s the file has the mode %v and belongs to %d:%d, want %d:%d as before", did, info.Mode(), owner.Uid, owner.Gid, uid, gid)
		}
	}
	if _, err := AddKey(file); err != nil {
		t.Fatal(err)
	}
	same("add")
	if _, err := RotateKeys(file, false); err != nil {
		t.Fatal(err)
	}
	same("rotate")
}

func TestProcessesWithADatabaseNeedKeys(t *testing.T) {
	read := func(flags ...string) error {
		c := DefaultConfig(RoleLogpush)
		set := pflag.NewFlagSet("ingest", pflag.ContinueOnError)
		c.Bind(set)
		if err := set.Parse(append([]string{"--kafka", "127.0.0.1:9092", "--database", "postgres://127.0.0.1/x"}, flags...)); err != nil {
			return err
		}
		return c.Validate()
	}
	wantError(t, read(), "--secrets-key-file is not set", "tidegate secrets key", secretsKeyVariable)
	if err := read("--secrets-key-file", "f"); err != nil {
		t.Error(err)
	}
	t.Setenv(secretsKeyVariable, "x")
	if err := read(); err != nil {
		t.Error(err)
	}
	wantError(t, read("--secrets-key-file", "f"), "both")
	if _, err := parsedIngest(t); err != nil { // it has no database
		t.Error(err)
	}
}

func TestKeysComeFromAFileOrTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets-key")
	c := Config{SecretsKeyFile: file}
	var logged strings.Builder
	log := slog.New(slog.NewTextHandler(&logged, nil))
	_, err := c.secretsKeys(t.Context(), log)
	wantError(t, err, file, "there is no file")
	id, err := MakeKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := c.secretsKeys(t.Context(), log); err != nil || keys.Primary() != id || logged.Len() > 0 {
		t.Errorf("read %v, error %v, logged %s", keys.IDs(), err, &logged)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.secretsKeys(t.Context(), log); err != nil || !strings.Contains(logged.String(), "everybody on this machine") {
		t.Errorf("error %v, logged %q", err, &logged)
	}
	t.Setenv(secretsKeyVariable, string(text))
	if keys, err := (&Config{}).secretsKeys(t.Context(), log); err != nil || keys.Primary() != id {
		t.Errorf("read %v, error %v", keys.IDs(), err)
	}
	t.Setenv(secretsKeyVariable, "hunter2")
	_, err = (&Config{}).secretsKeys(t.Context(), log)
	wantError(t, err, secretsKeyVariable, "is not a keyset")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error tells the key: %v", err)
	}
}

// open opens a database as a process would, and closes it.
func openOnce(t *testing.T, c *Config) error {
	t.Helper()
	keys, err := c.secretsKeys(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	s, err := store.Open(t.Context(), c.Database, store.Options{Keys: keys})
	if err != nil {
		return err
	}
	if _, err := s.Bootstrap(t.Context(), control.Account{}, func(string) error { return nil }); err != nil {
		return err
	}
	if _, err := s.SigningKey(t.Context(), "ownership"); err != nil {
		return err
	}
	return s.Close()
}

// A database whose list of keys is empty has sealed values: a new key opens none of them.
func TestNoDefaultKeysBesideSealedValues(t *testing.T) {
	dir := t.TempDir()
	c := Config{DataDir: dir, Database: filepath.Join(dir, "control.db")}
	if err := c.DefaultKeys(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if err := openOnce(t, &c); err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys(c.SecretsKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", c.Database)
	if err == nil {
		_, err = db.ExecContext(t.Context(), `DELETE FROM secret_keys`)
	}
	if err == nil {
		err = errors.Join(db.Close(), os.Remove(c.SecretsKeyFile))
	}
	if err != nil {
		t.Fatal(err)
	}
	c.SecretsKeyFile = ""
	wantError(t, c.DefaultKeys(t.Context(), slog.New(slog.DiscardHandler)), "secrets-key is missing", keys.Primary())
	if _, err := os.Stat(filepath.Join(dir, secretsKeyName)); err == nil {
		t.Error("another key was made")
	}
}

func TestDefaultKeysAreMadeOnce(t *testing.T) {
	dir := t.TempDir()
	c := Config{DataDir: dir, Database: filepath.Join(dir, "control.db")}
	for range 2 {
		c.SecretsKeyFile = ""
		if err := c.DefaultKeys(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if err := openOnce(t, &c); err != nil {
			t.Fatal(err)
		}
	}
	id, err := keysOf(t.Context(), c.Database)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(c.SecretsKeyFile); err != nil {
		t.Fatal(err)
	}
	c.SecretsKeyFile = ""
	wantError(t, c.DefaultKeys(t.Context(), slog.New(slog.DiscardHandler)), "secrets-key is missing", id[0], "put it back")
	if _, err := os.Stat(filepath.Join(dir, secretsKeyName)); err == nil {
		t.Error("another key was made")
	}
	c.SecretsKeyFile = "own"
	if err := c.DefaultKeys(t.Context(), slog.New(slog.DiscardHandler)); err != nil || c.SecretsKeyFile != "own" {
		t.Errorf("keys are in %s, error %v", c.SecretsKeyFile, err)
	}
}

// The commands in the order of docs/operations/README.md, for one process and for several.
func TestKeysAreRotatedByTheCommands(t *testing.T) {
	dir := t.TempDir()
	c := Config{DataDir: dir, Database: filepath.Join(dir, "control.db"), SecretsKeyFile: filepath.Join(dir, secretsKeyName)}
	first, err := MakeKeys(c.SecretsKeyFile)
	if err == nil {
		err = openOnce(t, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	sealedBy := func(want string, ids ...string) {
		t.Helper()
		list, err := SecretsStatus(t.Context(), c.SecretsKeyFile, c.Database)
		var got []string
		for _, k := range list {
			got = append(got, k.ID)
			if k.Primary && k.ID != ids[len(ids)-1] || !k.InFile || (k.Values > 0) != (k.ID == want) {
				t.Errorf("%+v, want all sealed by %s", k, want)
			}
		}
		if err != nil || !slices.Equal(got, ids) {
			t.Errorf("the keys are %v, want %v, error %v", got, ids, err)
		}
	}
	sealedBy(first, first)
	if ids, err := RetireKeys(t.Context(), c.SecretsKeyFile, c.Database); err != nil || len(ids) > 0 {
		t.Errorf("retired %v, error %v", ids, err)
	}
	added, err := AddKey(c.SecretsKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := ReadKeys(c.SecretsKeyFile); err != nil || keys.Primary() != first || !slices.Equal(keys.IDs(), []string{first, added}) {
		t.Errorf("keys are %v, error %v", keys.IDs(), err)
	}
	second, err := RotateKeys(c.SecretsKeyFile, false)
	if err != nil || second != added {
		t.Errorf("rotated to %s, want %s, error %v", second, added, err)
	}
	sealedBy(first, first, second)
	_, err = RetireKeys(t.Context(), c.SecretsKeyFile, c.Database)
	wantError(t, err, first, "still needed")
	if err := openOnce(t, &c); err != nil {
		t.Fatal(err)
	}
	sealedBy(second, first, second)
	if ids, err := RetireKeys(t.Context(), c.SecretsKeyFile, c.Database); err != nil || !slices.Equal(ids, []string{first}) {
		t.Errorf("retired %v, error %v", ids, err)
	}
	sealedBy(second, second)
	_, err = RotateKeys(c.SecretsKeyFile, false)
	wantError(t, err, "secrets add")
	third, err := RotateKeys(c.SecretsKeyFile, true) // one that is not there yet
	if err != nil || third == second {
		t.Errorf("rotated to %s, error %v", third, err)
	}
	if err := openOnce(t, &c); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(c.SecretsKeyFile); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("the file has the mode %v, error %v", info.Mode(), err)
	}
}
