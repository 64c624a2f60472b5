package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/internal/seal"
	"tidegate/schema/control"
)

const testAccount = control.FirstAccountID

// postgresEnv names a database in which the tests may make schemas of their own.
const postgresEnv = "TIDEGATE_TEST_POSTGRES"

// eachDatabase runs a test of the contract on every database that is at hand: on
// SQLite always, on PostgreSQL when the environment names one.
func eachDatabase(t *testing.T, test func(t *testing.T, databaseURL string)) {
	t.Helper()
	run := func(name, databaseURL string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, databaseURL)
		})
	}
	run("sqlite", "sqlite://"+filepath.Join(t.TempDir(), "dir with ?", "control.db"))
	if server := os.Getenv(postgresEnv); server != "" {
		run("postgres", newPostgresSchema(t, server))
	}
}

func newKeys(t testing.TB) *seal.Keys {
	t.Helper()
	keys, err := seal.New()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// emptyTables is a SQLite file with every table. It is made once: the migrations, which other tests run, take longer
// than most of these.
var emptyTables = sync.OnceValues(func() (content []byte, err error) {
	dir, err := os.MkdirTemp("", "tidegate-store-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "control.db")
	s, err := Open(context.Background(), path, Options{})
	if err == nil {
		err = s.Close() // which leaves nothing in the write-ahead log
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// eachStore is eachDatabase for tests that open it, with every table in it.
func eachStore(t *testing.T, test func(t *testing.T, open func(Options) *Store)) {
	t.Helper()
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		keys := newKeys(t)
		if path, isFile := strings.CutPrefix(databaseURL, "sqlite://"); isFile {
			content, err := emptyTables()
			if err == nil {
				err = os.MkdirAll(filepath.Dir(path), 0o700)
			}
			if err == nil {
				err = os.WriteFile(path, content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		test(t, func(opts Options) *Store {
			t.Helper()
			if opts.Keys == nil {
				opts.Keys = keys
			}
			s, err := Open(t.Context(), databaseURL, opts)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s
		})
	})
}

// newPostgresSchema makes an empty schema and returns a URL that uses it.
func newPostgresSchema(t testing.TB, server string) string {
	t.Helper()
	db, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), "DROP SCHEMA "+name+" CASCADE"); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("search_path", name)
	u.RawQuery = query.Encode()
	return u.String()
}

// bootstrapped opens a store with its first account.
func bootstrapped(t *testing.T, open func(Options) *Store, opts Options) *Store {
	t.Helper()
	s := open(opts)
	if created, err := s.Bootstrap(t.Context(), control.Account{}, forget); err != nil || !created {
		t.Fatalf("bootstrap: created %v, error %v", created, err)
	}
	return s
}

// forget lets go of the operator's secret.
func forget(string) error { return nil }

// clock is a time that the test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func mustVersion(t testing.TB, s *Store, script string) deploy.Version {
	t.Helper()
	v, err := s.CreateVersion(t.Context(), testAccount, script, deploy.Version{Origin: &deploy.Origin{URL: "http://127.0.0.1:9000"}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustDeploy(t testing.TB, s *Store, script string, splits ...deploy.Split) deploy.Deployment {
	t.Helper()
	d, err := s.Deploy(t.Context(), testAccount, script, deploy.Deployment{Versions: splits}, "")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func full(v deploy.Version) deploy.Split {
	return deploy.Split{VersionID: v.ID, Percentage: deploy.Full}
}

func share(v deploy.Version, percent int64) deploy.Split {
	return deploy.Split{VersionID: v.ID, Percentage: deploy.Percentage(percent * 1000)}
}

func wantKind(t *testing.T, err error, kind errs.Kind, parts ...string) {
	t.Helper()
	if errs.KindOf(err) != kind {
		t.Fatalf("error %v has kind %q, want %q", err, errs.KindOf(err), kind)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not name %q", err, part)
		}
	}
}

func TestBootstrapHappensOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := open(Options{})
		full := errors.New("the disk is full")
		if created, err := s.Bootstrap(t.Context(), control.Account{}, func(string) error { return full }); !errors.Is(err, full) || created {
			t.Fatalf("with a secret that could not be saved: created %v, error %v", created, err)
		}
		var secret string
		keep := func(s string) error { secret = s; return nil }
		created, err := s.Bootstrap(t.Context(), control.Account{}, keep)
		if err != nil || !created || len(secret) < 40 {
			t.Fatalf("first: secret of %d characters, created %v, error %v", len(secret), created, err)
		}
		created, err = s.Bootstrap(t.Context(), control.Account{}, func(string) error { t.Error("a second secret"); return nil })
		if err != nil || created {
			t.Fatalf("second: created %v, error %v", created, err)
		}
		token, err := s.Authenticate(t.Context(), secret)
		if err != nil || !token.Rights().Operator() {
			t.Fatalf("the secret opens %+v, error %v", token, err)
		}
		account, err := s.Account(t.Context(), testAccount)
		if err != nil || account.Name != "Tidegate" || account.Subdomain != "dev" || account.MaxVersions != 2 {
			t.Fatalf("account %+v, error %v", account, err)
		}
	})
}

func TestTokensExpireAndEnd(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		token, secret, err := s.CreateToken(t.Context(), control.Token{
			AccountID: testAccount, Name: "ci", Scopes: []control.Scope{control.ScriptsEdit},
			ExpiresOn: clock.now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Authenticate(t.Context(), secret)
		if err != nil || got.ID != token.ID || got.AccountID != testAccount || !got.Rights().Allow(testAccount, control.ScriptsRead) || got.Rights().Allow(testAccount, control.LogsRead) {
			t.Fatalf("token %+v, error %v", got, err)
		}
		list, err := s.Tokens(t.Context(), testAccount)
		if err != nil || len(list) != 1 || !list[0].LastUsedOn.Equal(clock.now()) {
			t.Fatalf("tokens %+v, error %v", list, err)
		}
		clock.add(time.Hour)
		_, err = s.Authenticate(t.Context(), secret)
		wantKind(t, err, errs.Unauthorized)
		_, err = s.Authenticate(t.Context(), "wrong")
		wantKind(t, err, errs.Unauthorized)

		other, err := s.CreateAccount(t.Context(), "Other")
		if err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.DeleteToken(t.Context(), other.ID, token.ID), errs.NotFound)
		if err := s.DeleteToken(t.Context(), testAccount, token.ID); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.DeleteToken(t.Context(), testAccount, token.ID), errs.NotFound)
	})
}

func TestAccountsGetUniqueSubdomains(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		for _, want := range []string{"caf-shop", "caf-shop-2", "caf-shop-3"} {
			a, err := s.CreateAccount(t.Context(), "Café & Shop!")
			if err != nil || a.Subdomain != want {
				t.Fatalf("account %+v, error %v; want subdomain %s", a, err, want)
			}
		}
		list, err := s.Accounts(t.Context())
		if err != nil || len(list) != 4 {
			t.Fatalf("%d accounts, error %v", len(list), err)
		}
		_, err = s.Account(t.Context(), "nope")
		wantKind(t, err, errs.NotFound, "nope")
	})
}

// The clock of a holder was an hour ahead. Nobody takes its lease while it extends it, and
// somebody does before the hour is over when it no longer does.
func TestLeaseOfAClockAheadIsTakenOverWhenItRests(t *testing.T) {
	const ttl = 50 * time.Millisecond
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := open(Options{Now: clock.now})
		acquire := func(holder string) bool {
			t.Helper()
			got, err := s.AcquireLease(t.Context(), "rollback", holder, ttl)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		ahead := func() bool {
			clock.add(time.Hour)
			defer clock.add(-time.Hour)
			return acquire("ahead")
		}
		for begun := time.Now(); time.Since(begun) < 3*ttl; clock.add(time.Millisecond) {
			if !ahead() {
				t.Fatal("another has the lease of who extends it")
			}
			if acquire("other") {
				t.Fatal("another took the lease of who extends it")
			}
			time.Sleep(time.Millisecond)
		}
		for deadline := time.Now().Add(time.Minute); !acquire("other"); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody takes the lease over")
			}
		}
		if acquire("third") {
			t.Error("two have the lease")
		}
	})
}

// Who fails to acquire a lease does not say again which one, nor for whom.
func TestLeaseErrorsNameLeaseAndHolder(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := open(Options{}).AcquireLease(ended, "rollback", "a", time.Minute); err == nil || !strings.HasPrefix(err.Error(), "acquire lease rollback for a: ") {
			t.Errorf("error %v", err)
		}
	})
}

func TestLeaseHasOneHolder(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := open(Options{Now: clock.now})
		acquire := func(holder string, want bool) {
			t.Helper()
			got, err := s.AcquireLease(t.Context(), "rollback", holder, time.Minute)
			if err != nil || got != want {
				t.Fatalf("%s acquires: %v, error %v; want %v", holder, got, err, want)
			}
		}
		acquire("a", true)
		acquire("b", false)
		clock.add(30 * time.Second)
		acquire("a", true) // extends
		clock.add(59 * time.Second)
		acquire("b", false)
		clock.add(time.Second)
		acquire("b", true) // ran out
		acquire("a", false)
		if err := s.ReleaseLease(t.Context(), "rollback", "a"); err != nil {
			t.Fatal(err)
		}
		acquire("a", false) // a could not release b's
		if err := s.ReleaseLease(t.Context(), "rollback", "b"); err != nil {
			t.Fatal(err)
		}
		acquire("a", true)

		clock.add(2 * time.Hour)
		var wins sync.Map
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if ok, err := s.AcquireLease(t.Context(), "rollback", fmt.Sprint("h", i), time.Minute); err != nil {
					t.Error(err)
				} else if ok {
					wins.Store(i, true)
				}
			})
		}
		all.Wait()
		n := 0
		wins.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("%d of 20 holders acquired one lease", n)
		}
	})
}

func TestJobLifeCycle(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		j, err := s.CreateJob(ctx, logjob.Job{
			AccountID: testAccount, Dataset: "workers_trace_events", Name: "lake",
			DestinationConf: "https://example.com/?header_Authorization=very-secret",
			OutputOptions:   &logjob.OutputOptions{FieldNames: []string{"Outcome"}},
		}, 1000)
		if err != nil || j.ID != 1 || j.Revision != 1 || !j.EnabledAt.IsZero() {
			t.Fatalf("created %+v, error %v", j, err)
		}
		clock.add(time.Minute)
		stale := j
		j.Enabled = true
		if j, err = s.UpdateJob(ctx, j); err != nil || j.Revision != 2 || !j.EnabledAt.Equal(clock.now()) {
			t.Fatalf("updated %+v, error %v", j, err)
		}
		_, err = s.UpdateJob(ctx, stale)
		wantKind(t, err, errs.Conflict)

		until := clock.now()
		for _, d := range []logjob.Delivery{
			{JobID: j.ID, CompleteUntil: until},
			{JobID: j.ID, CompleteUntil: until.Add(-time.Hour)}, // a late report moves nothing back
			{JobID: j.ID, FailedAt: until.Add(time.Second), Message: "error 500"},
		} {
			if err := s.ReportDelivery(ctx, d); err != nil {
				t.Fatal(err)
			}
		}
		list, err := s.Jobs(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d jobs, error %v", len(list), err)
		}
		got := list[0]
		if got.LastComplete == nil || !got.LastComplete.Equal(until) || got.LastError == nil || *got.ErrorMessage != "error 500" ||
			got.Revision != 2 || got.AccountID != testAccount || got.OutputOptions.FieldNames[0] != "Outcome" {
			t.Fatalf("job %+v", got)
		}
		if err := s.ReportDelivery(ctx, logjob.Delivery{JobID: j.ID, CompleteUntil: until.Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
		if got, err = s.Job(ctx, testAccount, j.ID); err != nil || got.LastError != nil || got.ErrorMessage != nil {
			t.Fatalf("after a success: %+v, error %v", got, err)
		}
		wantKind(t, s.DeleteJob(ctx, testAccount, j.ID, stale.Revision), errs.Conflict)
		if err := s.DeleteJob(ctx, testAccount, j.ID, j.Revision); err != nil {
			t.Fatal(err)
		}
		_, err = s.Job(ctx, testAccount, j.ID)
		wantKind(t, err, errs.NotFound)
		wantKind(t, s.ReportDelivery(ctx, logjob.Delivery{JobID: j.ID, CompleteUntil: until}), errs.NotFound)
		if next, err := s.CreateJob(ctx, logjob.Job{AccountID: testAccount}, 1000); err != nil || next.ID != 2 {
			t.Fatalf("the next job has id %d, error %v: ids must not be used twice", next.ID, err)
		}
		if text := auditText(t, s); strings.Contains(text, "very-secret") || !strings.Contains(text, "job.delete") {
			t.Errorf("audit log: %s", text)
		}
	})
}

// auditText returns the whole audit log.
func auditText(t *testing.T, s *Store) string {
	t.Helper()
	var b strings.Builder
	err := each(t.Context(), s.reader, func(row scanner) error {
		var action, email, before, after string
		err := row.Scan(&action, &email, &before, &after)
		fmt.Fprintln(&b, action, email, before, after)
		return err
	}, `SELECT action, email, COALESCE(before_json, ''), COALESCE(after_json, '') FROM audit_log ORDER BY happened_on`)
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestJobQuota(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := open(Options{})
		if _, err := s.Bootstrap(t.Context(), control.Account{MaxJobs: 3}, forget); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		results := make(chan error, 10)
		for range 10 {
			all.Go(func() {
				_, err := s.CreateJob(t.Context(), logjob.Job{AccountID: testAccount}, 1000)
				results <- err
			})
		}
		all.Wait()
		close(results)
		created := 0
		for err := range results {
			if err == nil {
				created++
				continue
			}
			wantKind(t, err, errs.Forbidden, "exceeded max jobs allowed")
		}
		if created != 3 {
			t.Errorf("%d jobs created, want 3", created)
		}
	})
}
