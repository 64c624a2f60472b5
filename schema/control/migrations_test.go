package control

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

// From this migration on a control plane of the release before goes on beside the one
// that migrates: docs/operations/upgrades.md. Those before were not written for that.
const sideBySideFrom = "00019"

// takesAway matches what an older release trips over: it selects, inserts and updates by
// the names of the tables and columns that it knows.
var takesAway = regexp.MustCompile(`(?i)\b(DROP\s+(TABLE|COLUMN)|RENAME\s+(TO|COLUMN)|ALTER\s+COLUMN|SET\s+NOT\s+NULL)\b`)

// addsRequired matches a new column that an older release's INSERT, which does not name
// it, would leave without a value.
var addsRequired = regexp.MustCompile(`(?i)\bADD\s+(COLUMN\s+)?[^;]*\bNOT\s+NULL\b[^;]*;`)

func broken(migration string) string {
	up, _, _ := strings.Cut(migration, "-- +goose Down")
	if taken := takesAway.FindString(up); taken != "" {
		return taken
	}
	for _, added := range addsRequired.FindAllString(up, -1) {
		if !regexp.MustCompile(`(?i)\bDEFAULT\b`).MatchString(added) {
			return added
		}
	}
	return ""
}

// A migration may only add, or an older control plane could not go on beside it. What is
// no longer needed is dropped a release after the last that used it, by name, here.
func TestMigrationsLeaveTheReleaseBeforeAlone(t *testing.T) {
	dropped := map[string]string{} // file: the release that was the last to use what it drops
	files, err := fs.Glob(Migrations, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if path.Base(file) < sideBySideFrom || dropped[file] != "" {
			continue
		}
		text, err := fs.ReadFile(Migrations, file)
		if err != nil {
			t.Fatal(err)
		}
		if what := broken(string(text)); what != "" {
			t.Errorf("%s has %q: a control plane of the release before would fail beside it", file, what)
		}
	}
}

func TestBrokenMigrationsAreFound(t *testing.T) {
	for _, migration := range []string{
		"DROP TABLE policies;", "ALTER TABLE a DROP COLUMN b;", "alter table a rename to b;", "ALTER TABLE a ALTER COLUMN b TYPE BIGINT;",
		"ALTER TABLE a ADD COLUMN b TEXT NOT NULL;", "ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT '';\nALTER TABLE a ADD c TEXT NOT NULL;",
	} {
		if broken("-- +goose Up\n"+migration+"\n-- +goose Down\n") == "" {
			t.Errorf("%q is taken for one that only adds", migration)
		}
	}
	for _, migration := range []string{
		"CREATE TABLE a (b TEXT NOT NULL);\nALTER TABLE a ADD COLUMN c TEXT;", "ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT '';", "-- +goose Down\nDROP TABLE a;",
	} {
		if what := broken("-- +goose Up\n" + migration); what != "" {
			t.Errorf("%q of %q is taken for one that takes away", what, migration)
		}
	}
}
