package store

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/pressly/goose/v3"

	"tidegate/internal/deploy"
	"tidegate/internal/logjob"
	"tidegate/internal/seal"
	"tidegate/schema/control"
)

// Whatever a backup is taken of, both kinds of database can be made from it, and hold the
// same, value by value.
func TestRestoreHoldsWhatWasBackedUp(t *testing.T) {
	first := filepath.Join(t.TempDir(), "first.db")
	source := opened(t, first)
	if _, err := source.Bootstrap(t.Context(), control.Account{}, forget); err != nil {
		t.Fatal(err)
	}
	fillEveryTable(t, source)
	want := contents(t, source, goose.DialectSQLite3)
	for from, middle := range newDatabases(t) {
		if _, err := restore(t, middle, backup(t, first), false); err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		for to, target := range newDatabases(t) {
			done, err := restore(t, target, backup(t, middle), false)
			if err != nil {
				t.Fatalf("from %s to %s: %v", from, to, err)
			}
			s := asItIs(t, target)
			got := contents(t, s, dialectOf(target))
			for _, name := range backedUp {
				if name == "counters" { // have risen
					continue
				}
				rows := slices.DeleteFunc(got[name], func(row string) bool { return strings.Contains(row, "account.restore") })
				if diff := cmp.Diff(want[name], rows); diff != "" {
					t.Errorf("from %s to %s: table %s (-backed up, +restored)\n%s", from, to, name, diff)
				}
			}
			if done.Backup.Rows == 0 || done.Backup.Schema != newestSchema() || done.Backup.Tidegate != "v1" {
				t.Errorf("from %s to %s: %+v", from, to, done)
			}
			for name := range leftOut {
				if n := count(t, s, name); name != "goose_db_version" && n != 0 {
					t.Errorf("from %s to %s: %d rows in %s", from, to, n, name)
				}
			}
		}
	}
}

// What a database has is kept unless it may be replaced, and whatever fails leaves it as it was.
func TestRestoreIsRefused(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source.db")
	s := opened(t, source)
	if _, err := s.Bootstrap(t.Context(), control.Account{}, forget); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateAccount(t.Context(), "restored"); err != nil {
		t.Fatal(err)
	}
	good := backup(t, source)
	for name, url := range newDatabases(t) {
		target := opened(t, url)
		if _, err := target.Bootstrap(t.Context(), control.Account{}, forget); err != nil {
			t.Fatal(err)
		}
		before := contents(t, target, dialectOf(url))
		f := func(what string, backup []byte, replace bool, want string) {
			t.Helper()
			if _, err := restore(t, url, backup, replace); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: the error is %v, want one with %q", name, what, err, want)
			}
			if diff := cmp.Diff(before, contents(t, target, dialectOf(url))); diff != "" {
				t.Errorf("%s: %s changed\n%s", name, what, diff)
			}
		}
		f("a full database", good, false, "only --replace puts a backup in its place")
		f("half a backup", good[:len(good)/2], true, "not whole")
		f("another file", []byte("PGDMP"), true, "it is no backup of Tidegate's, or")
		f("JSON of something else", compressed(t, `{"format":"x"}`+"\n"), true, "something else is in it")
		text := plain(t, good)
		f("a backup without its end", compressed(t, text[:strings.LastIndex(text, `{"rows"`)]), true, "not whole")
		f("a changed value", compressed(t, strings.Replace(text, `"restored"`, `"altered"`, 1)), true, "it says")
		f("a lost row", compressed(t, cutLine(text, "account.create")), true, "it says")
		f("a newer schema", compressed(t, strings.Replace(text, `"schema":`, `"schema":9`, 1)), true, "written by v1; this version knows those up to")
		f("a newer format", compressed(t, strings.Replace(text, `"format_version":1`, `"format_version":2`, 1)), true, "the backup has format 2")
		f("an unknown table", compressed(t, strings.Replace(text, `{"table":"jobs"`, `{"table":"sqlite_master"`, 1)), true, "does not know")
		// The story: names of columns became a part of statements as they were.
		const id = `{"name":"id","kind":"text"}`
		for what, column := range map[string]string{
			"SQL in a column's name": `{"name":"id\") SELECT token FROM tokens --","kind":"text"}`, "an unknown column": `{"name":"x","kind":"text"}`,
			"another kind": `{"name":"id","kind":"integer"}`, "a column twice": id + "," + id,
		} {
			f(what, compressed(t, strings.Replace(text, `{"table":"accounts","columns":[`+id, `{"table":"accounts","columns":[`+column, 1)), true, "in table accounts that its schema does not have")
		}
		f("a column less", compressed(t, strings.Replace(text, `{"table":"accounts","columns":[`+id+",", `{"table":"accounts","columns":[`, 1)), true, "lacks the column id of table accounts")
		f("something after the end", compressed(t, text+"\n"), true, "goes on after its end")
		f("a second backup after the end", slices.Concat(good, good), true, "goes on after its end")
		f("another end of a line", compressed(t, strings.Replace(text, "\n", "\r\n", 1)), true, "it says")
		f("no end of a line", compressed(t, strings.TrimSuffix(text, "\n")), true, "not whole")
		if _, err := target.AcquireLease(t.Context(), "rollback", "jobs-api-1", time.Minute); err != nil {
			t.Fatal(err)
		}
		f("a database in use", good, true, `jobs-api-1 works on the database`)
		if err := target.ReleaseLease(t.Context(), "rollback", "jobs-api-1"); err != nil {
			t.Fatal(err)
		}
		if _, err := restore(t, url, good, true); err != nil || count(t, target, "accounts") != 2 {
			t.Errorf("%s: at last: %v, %d accounts", name, err, count(t, target, "accounts"))
		}
	}
}

// A restore that is refused has run no migration: some throw away what is of the moment.
func TestRestoreDoesNotMigrateADatabaseInUse(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source.db")
	opened(t, source)
	taken := backup(t, source)
	for name, url := range newDatabases(t) {
		opened(t, url)
		s := asItIs(t, url)
		for _, statement := range []string{
			`DROP TABLE person_sessions`, `DELETE FROM goose_db_version WHERE version_id > 22`,
			`INSERT INTO leases (name, holder, expires_on) VALUES ('rollback', 'jobs-api-1', 9000000000000000)`,
		} {
			if _, err := s.writer.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := restore(t, url, taken, true); err == nil || !strings.Contains(err.Error(), "jobs-api-1 works on the database") {
			t.Errorf("%s: the error is %v", name, err)
		}
		if n := count(t, s, "goose_db_version WHERE version_id > 22"); n != 0 {
			t.Errorf("%s: %d migrations were run", name, n)
		}
	}
}

// cutLine leaves out the first line with a word.
func cutLine(text, word string) string {
	start := strings.LastIndex(text[:strings.Index(text, word)], "\n") + 1
	return text[:start] + text[start+strings.Index(text[start:], "\n")+1:]
}

func plain(t *testing.T, backup []byte) string {
	t.Helper()
	r, err := zstd.NewReader(bytes.NewReader(backup))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func compressed(t *testing.T, text string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll([]byte(text), nil)
}

// The last table of a restore fails, after the others were replaced.
func TestRestoreThatFailsHalfWay(t *testing.T) {
	source, target := filepath.Join(t.TempDir(), "source.db"), filepath.Join(t.TempDir(), "target.db")
	if _, err := opened(t, source).Bootstrap(t.Context(), control.Account{}, forget); err != nil {
		t.Fatal(err)
	}
	s := opened(t, target)
	if _, err := s.CreateAccount(t.Context(), "kept"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.ExecContext(t.Context(), `CREATE TRIGGER full BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`); err != nil {
		t.Fatal(err)
	}
	before := contents(t, s, goose.DialectSQLite3)
	if _, err := restore(t, target, backup(t, source), true); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("the error is %v", err)
	}
	if diff := cmp.Diff(before, contents(t, s, goose.DialectSQLite3)); diff != "" {
		t.Errorf("it left (-before, +after)\n%s", diff)
	}
}

func TestBackupAndRestoreOfANewerSchema(t *testing.T) {
	for name, url := range newDatabases(t) {
		s := opened(t, url)
		good := backup(t, url)
		if _, err := s.writer.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, $1)`, true); err != nil {
			t.Fatal(err)
		}
		if _, err := Backup(t.Context(), url, "v1", io.Discard); err == nil || !strings.Contains(err.Error(), "its schema is 9999, and this version knows") {
			t.Errorf("%s: the error of the backup is %v", name, err)
		}
		if _, err := restore(t, url, good, true); err == nil || !strings.Contains(err.Error(), "the database has schema 9999, and this version knows") {
			t.Errorf("%s: the error of the restore is %v", name, err)
		}
	}
}

// A backup of schema 17, whose policies stood in their own table, comes back as revisions.
func TestRestoreOfAnOlderSchema(t *testing.T) {
	old := filepath.Join(t.TempDir(), "old.db")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Store{}
	if err := s.connectSQLite(old); err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.writer, control.Migrations)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 17); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`INSERT INTO accounts (id, name, subdomain, max_versions, max_jobs, created_on) VALUES ('a', 'a', 'a', 2, 4, 1)`,
		`INSERT INTO scripts (account_id, name, tag, created_on, modified_on, logpush, tags_json, last_version, last_deployment) VALUES ('a', 's', 't', 1, 1, TRUE, '[]', 0, 0)`,
		`INSERT INTO policies (account_id, script, enabled, policy_json, modified_on) VALUES ('a', 's', TRUE, '{"enabled":true}', 7)`,
	} {
		if _, err := s.writer.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.closePools(); err != nil {
		t.Fatal(err)
	}
	taken := backup(t, old)
	for name, url := range newDatabases(t) {
		done, err := restore(t, url, taken, false)
		if err != nil || done.Backup.Schema != 17 {
			t.Fatalf("%s: %+v, %v", name, done, err)
		}
		var text string
		target := opened(t, url)
		if err := target.reader.QueryRowContext(t.Context(), `SELECT policy_json FROM policy_revisions WHERE script = 's' AND revision = 1`).Scan(&text); err != nil || text != `{"enabled":true}` {
			t.Errorf("%s: the policy is %q, %v", name, text, err)
		}
	}
	// The old database is as it was.
	raw, err := sql.Open("sqlite", old)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	var schema int64
	if err := raw.QueryRowContext(t.Context(), `SELECT MAX(version_id) FROM goose_db_version`).Scan(&schema); err != nil || schema != 17 {
		t.Errorf("the backup left schema %d, %v", schema, err)
	}
}

// A copy for a rehearsal sends nothing to where the original does, also with a key that is
// younger than the backup; and without the keys there is no copy.
func TestRestoreDisablesJobs(t *testing.T) {
	keys := newKeys(t)
	source := filepath.Join(t.TempDir(), "control.db")
	s, err := Open(t.Context(), source, Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bootstrap(t.Context(), control.Account{}, forget); err != nil {
		t.Fatal(err)
	}
	on, off := mustJob(t, s), mustJob(t, s)
	off.Enabled = false
	if off, err = s.UpdateJob(t.Context(), off); err != nil {
		t.Fatal(err)
	}
	end := time.Now()
	for _, j := range []logjob.Job{on, off} {
		if _, err := s.CreateReplay(t.Context(), j.AccountID, j.ID, logjob.ReplayRequest{From: end.Add(-time.Hour), To: &end}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	taken := backup(t, source)
	younger, err := keys.Added()
	if err == nil {
		younger, err = younger.Promoted()
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, url := range newDatabases(t) {
		for _, wrong := range []*seal.Keys{nil, newKeys(t)} {
			if _, err := Restore(t.Context(), url, bytes.NewReader(taken), RestoreOptions{DisableJobs: true, Keys: wrong}); err == nil {
				t.Errorf("%s: restored with the keys %v", name, wrong.IDs())
			}
		}
		if _, err := Restore(t.Context(), url, bytes.NewReader(taken), RestoreOptions{DisableJobs: true, Keys: younger}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		target, err := Open(t.Context(), url, Options{Keys: younger})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		jobs, err := target.Jobs(t.Context())
		if err != nil || len(jobs) != 2 {
			t.Fatalf("%s: jobs %+v, %v", name, jobs, err)
		}
		for _, j := range jobs {
			if j.Enabled || j.DestinationConf != on.DestinationConf {
				t.Errorf("%s: job %d has become %+v", name, j.ID, j)
			}
			replays, err := target.Replays(t.Context(), j.AccountID, j.ID)
			if err != nil || len(replays) != 1 || replays[0].State != logjob.ReplayCanceled || replays[0].EndedOn == nil {
				t.Errorf("%s: the replays of job %d are %+v, %v", name, j.ID, replays, err)
			}
		}
		if moved := jobs[0].Revision - on.Revision; moved != 1 {
			t.Errorf("%s: the job is %d revisions further", name, moved)
		}
		if jobs[1].Revision != off.Revision {
			t.Errorf("%s: the job that was off already was changed", name)
		}
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Routers refuse snapshots that are older than theirs, and a new job must not get the
// offsets of one that the backup does not know: also where the database that gave both is
// no more, and also the second time.
func TestRestoreRaisesWhatIsCounted(t *testing.T) {
	clock := newClock()
	source := filepath.Join(t.TempDir(), "control.db")
	s := opened(t, source)
	if _, err := s.Bootstrap(t.Context(), control.Account{}, forget); err != nil {
		t.Fatal(err)
	}
	taken := backup(t, source)
	jobs := func(s *Store) int64 {
		values, err := counters(t.Context(), s.reader)
		if err != nil {
			t.Fatal(err)
		}
		return values["job_id"]
	}
	newest := int64(0)
	for range 3 {
		url := filepath.Join(t.TempDir(), "control.db")
		done, err := Restore(t.Context(), url, bytes.NewReader(taken), RestoreOptions{Now: clock.now})
		if err != nil {
			t.Fatal(err)
		}
		target := opened(t, url)
		snapshot, err := target.SnapshotAll(t.Context(), newest)
		if err != nil || snapshot.Revision != done.Revision || done.Revision <= newest {
			t.Errorf("after snapshot %d comes %d, and the restore said %d; %v", newest, snapshot.Revision, done.Revision, err)
		}
		if jobs(target) != jobs(s)+idsSkipped {
			t.Errorf("the last job is %d, and was %d", jobs(target), jobs(s))
		}
		for i := range 5 { // what is done after a restore, and lost again
			if err := target.CreateScript(t.Context(), control.FirstAccountID, fmt.Sprintf("s%d", i), deploy.ScriptUpdate{}); err != nil {
				t.Fatal(err)
			}
		}
		revision, err := target.revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		newest = revision
		clock.add(time.Second)
	}
	// In place, what is there counts, too.
	if _, err := s.writer.ExecContext(t.Context(), `UPDATE counters SET value = value + 1000000000000000`); err != nil {
		t.Fatal(err)
	}
	before, err := s.revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if done, err := restore(t, source, taken, true); err != nil || done.Revision <= before {
		t.Errorf("in place: %+v, %v, after revision %d", done, err, before)
	}
}
