package app

import (
	"os"
	"path/filepath"
	"testing"
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
