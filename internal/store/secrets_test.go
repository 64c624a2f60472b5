package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/logjob"
	"tidegate/internal/seal"
)

// marker is what no database may hold in clear text.
const marker = "hunter2-in-the-clear"

// plant puts the marker wherever a secret can be, and returns a check that all of it can
// be read again.
func plant(t *testing.T, s *Store) (check func(t *testing.T, s *Store)) {
	t.Helper()
	lasting := plantLasting(t, s)
	ctx := t.Context()
	tail, err := s.CreateTail(ctx, testAccount, "shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	instant, err := s.CreateInstantLogs(ctx, logjob.InstantLogs{AccountID: testAccount})
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, s *Store) {
		t.Helper()
		lasting(t, s)
		tails, err := s.Tails(ctx, testAccount, "shop")
		if err != nil || len(tails) != 1 || tails[0].Secret != tail.Secret {
			t.Errorf("tails are %+v, error %v", tails, err)
		}
		if opened, err := s.OpenTail(ctx, tail.Secret); err != nil || opened.ID != tail.ID {
			t.Errorf("the tail is %+v, error %v", opened, err)
		}
		if opened, err := s.OpenInstantLogs(ctx, instant.ID); err != nil || opened.ID != instant.ID {
			t.Errorf("the session of instant logs is %+v, error %v", opened, err)
		}
	}
}

// plantLasting is plant without what no backup has.
func plantLasting(t *testing.T, s *Store) (check func(t *testing.T, s *Store)) {
	t.Helper()
	ctx := t.Context()
	v, err := s.Upload(ctx, testAccount, "shop", deploy.Upload{Create: true, Version: deploy.Version{
		Worker: &deploy.Worker{MainModule: "a.js", Bindings: []deploy.Binding{{Name: "KEY", Type: deploy.BindingSecretText, Text: marker}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	mustDeploy(t, s, "shop", full(v))
	job, err := s.CreateJob(ctx, logjob.Job{AccountID: testAccount, Dataset: "workers_trace_events", Name: "j", Enabled: true, DestinationConf: "s3://b?secret-access-key=" + marker}, 10)
	if err != nil {
		t.Fatal(err)
	}
	p := limited(0.5)
	p.Notify = []deploy.NotifyTarget{{Type: deploy.NotifyWebhook, URL: "https://a.example/" + marker, Secret: marker}}
	if _, err := s.SavePolicy(ctx, testAccount, "shop", p, nil); err != nil {
		t.Fatal(err)
	}
	decision := deploy.RollbackDecision{ID: "d", Verdict: deploy.VerdictFail, Action: deploy.ActionRollback}
	if err := s.write(ctx, "tell", func(t *tx) error { _, err := t.tell(ctx, testAccount, "shop", &decision, false); return err }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SaveAlertHook(ctx, testAccount, logjob.AlertHook{URL: "https://a.example/" + marker, Secret: marker}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SigningKey(ctx, "ownership"); err != nil {
		t.Fatal(err)
	}
	key, err := s.SigningKey(ctx, "ownership")
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, s *Store) {
		t.Helper()
		same := func(what, got, want string, err error) {
			t.Helper()
			if err != nil || got != want {
				t.Errorf("%s is %q, want %q, error %v", what, got, want, err)
			}
		}
		b, err := s.Bundle(ctx, testAccount, v.ID)
		same("the binding", fmt.Sprint(b.Worker.Bindings), fmt.Sprint(v.Worker.Bindings), err)
		j, err := s.Job(ctx, testAccount, job.ID)
		same("the destination", j.DestinationConf, job.DestinationConf, err)
		kept, err := s.Policy(ctx, testAccount, "shop")
		if err != nil || kept.Policy.Notify[0].Secret != marker {
			t.Errorf("the policy is %+v, error %v", kept, err)
		}
		told, err := s.Notifications(ctx, testAccount, "shop")
		if err != nil || len(told) != 1 || told[0].Target.Secret != marker {
			t.Errorf("told are %+v, error %v", told, err)
		}
		hook, err := s.AlertHook(ctx, testAccount)
		same("the alerts' URL", hook.URL, "https://a.example/"+marker, err)
		same("the alerts' secret", hook.Secret, marker, err)
		again, err := s.SigningKey(ctx, "ownership")
		same("the signing key", string(again), string(key), err)
		if _, err := s.Jobs(ctx); err != nil {
			t.Error(err)
		}
		if _, err := s.Watched(ctx); err != nil {
			t.Error(err)
		}
	}
}

// clearText returns the columns of the whole database in which a text is, whatever they are.
func clearText(t *testing.T, s *Store, text string) (found []string) {
	t.Helper()
	tables := `SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type = 'table'`
	if s.reader == s.writer {
		tables = `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()`
	}
	var columns [][2]string
	if err := each(t.Context(), s.reader, func(row scanner) error {
		var c [2]string
		err := row.Scan(&c[0], &c[1])
		columns = append(columns, c)
		return err
	}, tables); err != nil || len(columns) < 100 {
		t.Fatalf("%d columns, error %v", len(columns), err)
	}
	for _, c := range columns {
		var n int
		if err := s.reader.QueryRowContext(t.Context(), fmt.Sprintf(`SELECT COUNT(*) FROM %s WHERE CAST("%s" AS TEXT) LIKE $1`, c[0], c[1]), "%"+text+"%").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			found = append(found, c[0]+"."+c[1])
		}
	}
	return found
}

func countByKey(t *testing.T, databaseURL string) map[string]int64 {
	t.Helper()
	secrets, err := OpenSecrets(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := secrets.Close(); err != nil {
			t.Error(err)
		}
	}()
	counts, err := secrets.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byKey := map[string]int64{}
	for _, c := range counts {
		byKey[c.Key] += c.Values
	}
	return byKey
}

// openWith opens a database until the end of the test or a call of close.
func openWith(t *testing.T, databaseURL string, keys *seal.Keys) (s *Store, closeIt func()) {
	t.Helper()
	s, err := Open(t.Context(), databaseURL, Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	once := sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(once)
	return s, once
}

// The columns of an older release are in clear text: they are sealed at the start, also by
// several processes at once, and nothing of them is left in an SQLite file.
func TestSecretsOfOlderReleasesAreSealedAtTheStart(t *testing.T) {
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		old, closeOld := openWith(t, databaseURL, nil)
		bootstrapped(t, func(Options) *Store { return old }, Options{})
		check := plant(t, old)
		if found := clearText(t, old, marker); len(found) < 6 {
			t.Fatalf("before, the marker is in %v only", found)
		}
		closeOld()

		keys := newKeys(t)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				s, err := Open(context.WithoutCancel(t.Context()), databaseURL, Options{Keys: keys})
				if err == nil {
					err = s.Close()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		s, closeIt := openWith(t, databaseURL, keys) // alone, whatever was in the way of those
		if found := clearText(t, s, marker); len(found) > 0 {
			t.Errorf("the marker is in %v", found)
		}
		check(t, s)
		if counts := countByKey(t, databaseURL); len(counts) != 1 || counts[keys.Primary()] != 9 {
			t.Errorf("sealed by %v, want 9 by %s", counts, keys.Primary())
		}
		noMarkerInFile(t, databaseURL)
		closeIt()
		noMarkerInFile(t, databaseURL)
	})
}

// noMarkerInFile looks at every byte of an SQLite database, its free pages and its log.
func noMarkerInFile(t *testing.T, databaseURL string) {
	t.Helper()
	path, isFile := strings.CutPrefix(databaseURL, "sqlite://")
	if !isFile {
		return
	}
	files, err := filepath.Glob(strings.ReplaceAll(path, "?", `\?`) + "*")
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, error %v", files, err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), marker) {
			t.Errorf("%s holds the marker", filepath.Base(name))
		}
	}
}

func TestKeysAreRotated(t *testing.T) {
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		first := newKeys(t)
		s, closeIt := openWith(t, databaseURL, first)
		bootstrapped(t, func(Options) *Store { return s }, Options{})
		check := plant(t, s)
		noMarkerInFile(t, databaseURL)
		both, err := first.Added()
		if err == nil {
			both, err = both.Promoted()
		}
		if err != nil {
			t.Fatal(err)
		}
		secrets, err := OpenSecrets(t.Context(), databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := secrets.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := secrets.Forget(t.Context(), first.Primary()); err == nil || !strings.Contains(err.Error(), first.Primary()) {
			t.Errorf("a key that is needed was forgotten: %v", err)
		}
		closeIt()

		s, closeIt = openWith(t, databaseURL, both)
		check(t, s)
		if counts := countByKey(t, databaseURL); len(counts) != 1 || counts[both.Primary()] != 9 {
			t.Errorf("sealed by %v, want 9 by %s", counts, both.Primary())
		}
		closeIt()

		last, err := both.Retired()
		if err != nil {
			t.Fatal(err)
		}
		refusesKeys(t, databaseURL, last, first.Primary()) // whose end nobody has declared
		if err := secrets.Forget(t.Context(), first.Primary()); err != nil {
			t.Fatal(err)
		}
		if ids, err := secrets.Keys(t.Context()); err != nil || !slices.Equal(ids, []string{last.Primary()}) {
			t.Errorf("keys %v, error %v", ids, err)
		}
		s, _ = openWith(t, databaseURL, last)
		check(t, s)
	})
}

// A process that still runs on the old key when that is retired could seal what nobody can
// read once the key is thrown away.
func TestNobodySealsWithARetiredKey(t *testing.T) {
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		first := newKeys(t)
		old, _ := openWith(t, databaseURL, first)
		bootstrapped(t, func(Options) *Store { return old }, Options{})
		create := func(s *Store) error {
			_, err := s.CreateJob(t.Context(), logjob.Job{AccountID: testAccount, Name: "j", Dataset: "workers_trace_events", DestinationConf: "https://a"}, 100)
			return err
		}
		if err := create(old); err != nil {
			t.Fatal(err)
		}
		both, err := first.Added()
		if err == nil {
			both, err = both.Promoted()
		}
		if err != nil {
			t.Fatal(err)
		}
		s, _ := openWith(t, databaseURL, both)
		secrets, err := OpenSecrets(t.Context(), databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := secrets.Close(); err != nil {
				t.Error(err)
			}
		})

		// One write is under way: it is counted, or refused.
		sealed, forgotten := make(chan struct{}), make(chan error)
		go func() {
			<-sealed
			forgotten <- secrets.Forget(context.WithoutCancel(t.Context()), first.Primary())
		}()
		if err := old.write(t.Context(), "seal", func(q *tx) error {
			text, err := q.keys.Seal("{}", "place")
			if err == nil {
				_, err = q.ExecContext(t.Context(), `UPDATE jobs SET settings_json = $1`, text)
			}
			close(sealed)
			return err
		}); (err == nil) == (<-forgotten == nil) {
			t.Errorf("a write during the retirement: %v", err)
		}
		if _, err := s.writer.ExecContext(t.Context(), `DELETE FROM jobs`); err != nil {
			t.Fatal(err)
		}

		if err := secrets.Forget(t.Context(), first.Primary()); err != nil {
			t.Fatal(err)
		}
		if err := create(old); err == nil || !strings.Contains(err.Error(), first.Primary()) {
			t.Errorf("a retired key seals: %v", err)
		}
		if n := count(t, s, "jobs"); n != 0 {
			t.Errorf("%d jobs were made", n)
		}
		if err := create(s); err != nil {
			t.Error(err)
		}
		if again, err := Open(t.Context(), databaseURL, Options{Keys: first}); err == nil {
			_ = again.Close()
			t.Error("opened with a retired key")
		}
	})
}

func refusesKeys(t *testing.T, databaseURL string, keys *seal.Keys, words ...string) {
	t.Helper()
	s, err := Open(t.Context(), databaseURL, Options{Keys: keys})
	if err == nil {
		_ = s.Close()
		t.Fatalf("opened with the keys %v", keys.IDs())
	}
	for _, word := range append(words, "--secrets-key-file") {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not say %q", err, word)
		}
	}
}

// Also a database without secrets knows its keys: two control planes with a key each would
// both start on an empty one, and neither could read what the other writes.
func TestOtherKeysThanTheDatabasesAreRefused(t *testing.T) {
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		keys := newKeys(t)
		_, closeIt := openWith(t, databaseURL, keys)
		refusesKeys(t, databaseURL, newKeys(t), keys.Primary())
		refusesKeys(t, databaseURL, nil, keys.Primary(), "no keys")
		closeIt()
		openWith(t, databaseURL, keys)
	})
}

// Sealed values may come without the list of their keys. Another key that was listed then
// would keep the right one out for ever.
func TestOtherKeysThanThoseOfValuesAreRefused(t *testing.T) {
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		keys := newKeys(t)
		s, closeIt := openWith(t, databaseURL, keys)
		bootstrapped(t, func(Options) *Store { return s }, Options{})
		check := plant(t, s)
		if _, err := s.writer.ExecContext(t.Context(), `DELETE FROM secret_keys`); err != nil {
			t.Fatal(err)
		}
		closeIt()
		refusesKeys(t, databaseURL, newKeys(t), keys.Primary())
		refusesKeys(t, databaseURL, nil, keys.Primary(), "no keys")
		secrets, err := OpenSecrets(t.Context(), databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		if ids, err := secrets.Keys(t.Context()); err != nil || !slices.Equal(ids, []string{keys.Primary()}) {
			t.Errorf("the keys are %v, error %v", ids, err)
		}
		if err := secrets.Close(); err != nil {
			t.Error(err)
		}
		s, _ = openWith(t, databaseURL, keys)
		check(t, s)
	})
}

// What is sealed goes through a backup as it is, into a database that has other keys too;
// then the keys of the backup open it, and no others.
func TestSealedSecretsAreRestored(t *testing.T) {
	eachDatabase(t, func(t *testing.T, source string) {
		keys := newKeys(t)
		s, closeIt := openWith(t, source, keys)
		bootstrapped(t, func(Options) *Store { return s }, Options{})
		check := plantLasting(t, s)
		closeIt()
		taken := backup(t, source)
		if strings.Contains(plain(t, taken), marker) {
			t.Error("the backup holds the marker")
		}
		if _, err := restore(t, source, taken, true); err != nil { // with the keys that are there
			t.Fatal(err)
		}
		s, closeIt = openWith(t, source, keys)
		check(t, s)
		closeIt()

		targets := newDatabases(t)
		for name, fresh := range newDatabases(t) {
			targets["fresh "+name] = fresh
		}
		for name, target := range targets {
			others := newKeys(t)
			if !strings.HasPrefix(name, "fresh") {
				own, closeIt := openWith(t, target, others)
				bootstrapped(t, func(Options) *Store { return own }, Options{})
				plant(t, own)
				closeIt()
			}
			if _, err := restore(t, target, taken, true); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			refusesKeys(t, target, others, keys.Primary())
			refusesKeys(t, target, nil, keys.Primary())
			s, closeIt := openWith(t, target, keys)
			check(t, s)
			closeIt()
		}
	})
}

// A restore replaces clear text, which is left in free pages until the next start.
func TestNothingOfReplacedClearTextIsLeft(t *testing.T) {
	source, target := filepath.Join(t.TempDir(), "source.db"), filepath.Join(t.TempDir(), "target.db")
	keys := newKeys(t)
	s, closeSource := openWith(t, source, keys)
	bootstrapped(t, func(Options) *Store { return s }, Options{})
	closeSource()
	old, closeOld := openWith(t, target, nil)
	bootstrapped(t, func(Options) *Store { return old }, Options{})
	plant(t, old)
	closeOld()
	if _, err := restore(t, target, backup(t, source), true); err != nil {
		t.Fatal(err)
	}
	_, closeTarget := openWith(t, target, keys)
	closeTarget()
	noMarkerInFile(t, "sqlite://"+target)
}

// What is sealed belongs to its row: whoever can write to the database, and not read its
// secrets, could otherwise have them shown as those of an account of their own.
func TestSealedValuesCannotBeSwapped(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		var jobs []logjob.Job
		for _, name := range []string{"a", "b"} {
			j, err := s.CreateJob(t.Context(), logjob.Job{AccountID: testAccount, Name: name, Dataset: "workers_trace_events", DestinationConf: "https://" + name}, 10)
			if err != nil {
				t.Fatal(err)
			}
			jobs = append(jobs, j)
		}
		if _, err := s.writer.ExecContext(t.Context(), `UPDATE jobs SET settings_json = (SELECT o.settings_json FROM jobs o WHERE o.id = $1) WHERE id = $2`, jobs[0].ID, jobs[1].ID); err != nil {
			t.Fatal(err)
		}
		if j, err := s.Job(t.Context(), testAccount, jobs[1].ID); err == nil {
			t.Errorf("read %+v", j)
		}
		if _, err := s.Job(t.Context(), testAccount, jobs[0].ID); err != nil {
			t.Error(err)
		}
	})
}

// A process that lacks a key leaves messages to those that have it.
func TestAMessageOfAnotherKeyIsNotGivenUp(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		plant(t, s)
		keys := s.keys
		s.keys = newKeys(t)
		if claimed, err := s.ClaimNotifications(t.Context(), 10, 0); err == nil {
			t.Errorf("claimed %+v", claimed)
		}
		s.keys = keys
		if claimed, err := s.ClaimNotifications(t.Context(), 10, 0); err != nil || len(claimed) != 1 || claimed[0].Target.Secret != marker || claimed[0].State != deploy.NotificationWaiting {
			t.Errorf("claimed %+v, error %v", claimed, err)
		}
	})
}

func TestSecretsOfADatabaseThatIsNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	if s, err := OpenSecrets(t.Context(), path); err == nil {
		_ = s.Close()
		t.Error("opened a file that is not there")
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE jobs (id BIGINT)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSecrets(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := s.Keys(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("an older release's database has the keys %v, error %v", ids, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
