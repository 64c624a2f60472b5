package main

import (
	"io"
	"os"
	"strings"
	"testing"
)

// Keys that a restore would not look at are refused, before it looks at anything else; a backup that
// is not there, before anybody is waited for.
func TestRestoreRefusesKeysWithoutUse(t *testing.T) {
	f := func(want, backup string, flags ...string) {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/a.backup", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		command := restoreCommand()
		command.SetArgs(append([]string{"--data-dir", dir, dir + backup}, flags...))
		command.SetOut(io.Discard)
		command.SetErr(io.Discard)
		if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", flags, err, want)
		}
	}
	f("--secrets-key-file needs --disable-jobs", "/no.backup", "--secrets-key-file", "keys")
	f("keys for secrets", "/a.backup", "--secrets-key-file", "keys", "--disable-jobs")
	f("no.backup", "/no.backup")
}
