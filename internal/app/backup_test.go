package app

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tidegate/internal/store"
)

// A backup that fails leaves the one before, and nothing beside it.
func TestABackupThatFailsLeavesTheOneBefore(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "control.backup")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(t.Context(), "postgres://user@127.0.0.1:1/none?connect_timeout=2", file); err == nil {
		t.Error("a backup of nothing succeeded")
	}
	text, err := os.ReadFile(file)
	list, listErr := os.ReadDir(dir)
	if err != nil || listErr != nil || string(text) != "before" || len(list) != 1 {
		t.Errorf("the file has %q, the folder %v; %v, %v", text, list, err, listErr)
	}
}

// Backups that are kept by number take nothing away but older ones of their own names, and those only after they are whole, and what a killed one left.
func TestBackupsAreRotated(t *testing.T) {
	database, dir := filepath.Join(t.TempDir(), "control.db"), t.TempDir()
	db, err := store.Open(t.Context(), database, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	foreign := []string{"control.backup", "tidegate-20200101T000000Z.backup.age", "tidegate-2020.backup", "xtidegate-20200101T000000Z.backup", ".tidegate-20200101T000000Z.backup-1"}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "tidegate-20200101T000000Z.backup"), 0o700); err != nil {
		t.Fatal(err)
	}
	foreign = append(foreign, "tidegate-20200101T000000Z.backup")
	killed := filepath.Join(dir, ".tidegate-20260101T000000Z.backup-2") // which goes, having been there for more than a day
	if err := os.WriteFile(killed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(killed, time.Time{}, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	f := func(when string, want ...string) {
		t.Helper()
		now, err := time.Parse(time.RFC3339, when)
		if err != nil {
			t.Fatal(err)
		}
		file, info, err := BackupKeeping(t.Context(), database, dir, 2, now)
		if err != nil || info.Schema == 0 {
			t.Fatalf("%s: %+v, %v", file, info, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			if !slices.Contains(foreign, e.Name()) {
				got = append(got, e.Name())
			}
		}
		if !slices.Equal(got, want) || len(entries) != len(got)+len(foreign) {
			t.Errorf("at %s: %v are left among %d, want %v", when, got, len(entries), want)
		}
	}
	f("2026-03-01T02:00:00Z", "tidegate-20260301T020000Z.backup")
	f("2026-03-02T03:00:00+01:00", "tidegate-20260301T020000Z.backup", "tidegate-20260302T020000Z.backup")
	f("2026-03-03T02:00:00Z", "tidegate-20260302T020000Z.backup", "tidegate-20260303T020000Z.backup")
	f("2026-02-01T02:00:00Z", "tidegate-20260201T020000Z.backup", "tidegate-20260303T020000Z.backup") // the clock was set back

	if _, _, err := BackupKeeping(t.Context(), "postgres://user@127.0.0.1:1/none?connect_timeout=2", dir, 1, time.Now()); err == nil {
		t.Error("a backup of nothing succeeded")
	}
	if list, err := filepath.Glob(filepath.Join(dir, "tidegate-20260*.backup")); err != nil || len(list) != 2 {
		t.Errorf("a backup that failed left %v, %v", list, err)
	}
}
