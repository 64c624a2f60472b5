package main

import (
	"io"
	"strings"
	"testing"
)

// Keys that a restore would not look at are refused, before it looks at anything else.
func TestRestoreRefusesKeysWithoutUse(t *testing.T) {
	f := func(want string, flags ...string) {
		t.Helper()
		dir := t.TempDir()
		command := restoreCommand()
		command.SetArgs(append([]string{"--data-dir", dir, dir + "/no.backup"}, flags...))
		command.SetOut(io.Discard)
		command.SetErr(io.Discard)
		if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", flags, err, want)
		}
	}
	f("--secrets-key-file needs --disable-jobs", "--secrets-key-file", "keys")
	f("keys for secrets", "--secrets-key-file", "keys", "--disable-jobs")
	f("no.backup")
}
