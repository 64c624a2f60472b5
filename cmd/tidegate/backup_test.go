package main

import (
	"io"
	"os"
	"regexp"
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

// A number of backups has a meaning for a folder alone.
func TestBackupRefusesToKeepWhatIsNoFolder(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		dir := t.TempDir()
		command := backupCommand()
		command.SetArgs(append([]string{"--database", dir + "/control.db"}, args...))
		command.SetOut(io.Discard)
		command.SetErr(io.Discard)
		if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", args, err, want)
		}
	}
	f("--keep is 3", "--keep", "3", "-")
	f("--keep is -1", "--keep", "-1", ".")
}

// What runs backups every night, a unit of systemd and a job of Kubernetes, passes arguments that the command takes.
func TestNightlyBackupsPassFlagsThatExist(t *testing.T) {
	f := func(path, pattern string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s has no backup", path)
		}
		command := backupCommand()
		err = command.ParseFlags(strings.Fields(strings.ReplaceAll(string(found[1]), "\n                - ", " ")))
		if err == nil {
			err = command.Args(command, command.Flags().Args())
		}
		if keep, keepErr := command.Flags().GetInt("keep"); err != nil || keepErr != nil || keep < 1 {
			t.Errorf("%s: %q keeps %d (%v, %v)", path, found[1], keep, err, keepErr)
		}
	}
	f("../../deploy/systemd/tidegate-backup.service", `(?m)^ExecStart=/usr/local/bin/tidegate backup (.*)$`)
	f("../../test/deploy/testdata/full.golden.yaml", `- backup((?:\n +- .*)+)`)
}
