package store

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

func mustPolicy(t testing.TB, s *Store, script string, p deploy.RollbackPolicy) deploy.PolicyRevision {
	t.Helper()
	saved, err := s.SavePolicy(t.Context(), testAccount, script, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// limited is an enabled policy that differs from others by its limit.
func limited(rate float64) deploy.RollbackPolicy {
	p := deploy.DefaultPolicy()
	p.Enabled, p.MaxFailureRate = true, &rate
	return p
}

func TestPoliciesAreKeptWithTheirRevisions(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		mustVersion(t, s, "shop")
		for script, source := range map[string]deploy.PolicySource{"shop": deploy.PolicyOfScript, accountDefault: deploy.PolicyOfAccount} {
			_, err := s.Policy(t.Context(), testAccount, script)
			wantKind(t, err, errs.NotFound)
			by := func(email string) context.Context {
				clock.add(time.Minute)
				return control.WithActor(t.Context(), control.Actor{Email: email})
			}
			p := limited(0.02)
			p.Ramp = []deploy.RampStep{{Percentage: 5000, BakeSeconds: 300}}
			saved, err := s.SavePolicy(by("ann@example.com"), testAccount, script, p, nil)
			first := deploy.PolicyRevision{Source: source, Revision: 1, Policy: &p, By: "ann@example.com", At: clock.now()}
			if diff := cmp.Diff(first, saved); diff != "" || err != nil {
				t.Fatalf("error %v, (-want +got)\n%s", err, diff)
			}
			held := first
			held.Since = held.At
			if got, err := s.Policy(t.Context(), testAccount, script); err != nil || !cmp.Equal(held, got) {
				t.Fatalf("error %v, (-want +got)\n%s", err, cmp.Diff(held, got))
			}
			if err := s.DeletePolicy(by("bob@example.com"), testAccount, script, nil); err != nil {
				t.Fatal(err)
			}
			ended := deploy.PolicyRevision{Source: source, Revision: 2, By: "bob@example.com", At: clock.now()}
			_, err = s.Policy(t.Context(), testAccount, script)
			wantKind(t, err, errs.NotFound)
			if err := s.DeletePolicy(by("bob@example.com"), testAccount, script, nil); err != nil { // of nothing, nothing comes
				t.Fatal(err)
			}
			q := limited(0.5)
			third, err := s.SavePolicy(by("ann@example.com"), testAccount, script, q, nil)
			if err != nil || third.Revision != 3 {
				t.Fatalf("%+v, error %v", third, err)
			}
			if again, err := s.SavePolicy(by("bob@example.com"), testAccount, script, q, nil); err != nil || !cmp.Equal(third, again) {
				t.Fatalf("saved again, error %v: %s", err, cmp.Diff(third, again))
			}
			list, err := s.PolicyRevisions(t.Context(), testAccount, script)
			if diff := cmp.Diff([]deploy.PolicyRevision{third, ended, first}, list); diff != "" || err != nil {
				t.Fatalf("error %v, (-want +got)\n%s", err, diff)
			}
			if err := s.DeletePolicy(by("ann@example.com"), testAccount, script, nil); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.SavePolicy(t.Context(), testAccount, "none", limited(0.1), nil)
		wantKind(t, err, errs.NotFound, "none")
		_, err = s.PolicyRevisions(t.Context(), testAccount, "none")
		wantKind(t, err, errs.NotFound, "none")
		_, err = s.Policy(t.Context(), testAccount, "none")
		wantKind(t, err, errs.NotFound, "none")
	})
}

func TestScriptsWithoutAPolicyFollowTheAccounts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		for _, script := range []string{"default", "off", "own"} {
			mustDeploy(t, s, script, full(mustVersion(t, s, script)))
		}
		f := func(want map[string]float64) {
			t.Helper()
			list, err := s.Watched(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]float64)
			for _, w := range list {
				got[w.Script] = *w.Policy.MaxFailureRate
				p, err := s.Policy(ctx, testAccount, w.Script)
				if err != nil || p.Source != w.PolicySource || p.Revision != w.PolicyRevision || !cmp.Equal(*p.Policy, w.Policy) || len(w.Deployments) != 1 {
					t.Errorf("watched %+v, policy %+v, error %v", w, p, err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		}
		f(map[string]float64{})
		off := limited(0.3)
		off.Enabled = false
		mustPolicy(t, s, "own", limited(0.1))
		mustPolicy(t, s, "off", off)
		f(map[string]float64{"own": 0.1})
		mustPolicy(t, s, accountDefault, limited(0.2))
		f(map[string]float64{"own": 0.1, "default": 0.2}) // who has its own, disabled, is left alone
		if err := s.DeletePolicy(ctx, testAccount, "own", nil); err != nil {
			t.Fatal(err)
		}
		f(map[string]float64{"own": 0.2, "default": 0.2})
		mustPolicy(t, s, accountDefault, off)
		f(map[string]float64{})
		if p, err := s.Policy(ctx, testAccount, "own"); err != nil || p.Source != deploy.PolicyOfAccount || p.Policy.Enabled {
			t.Errorf("%+v, error %v", p, err)
		}
	})
}

func TestSavingAPolicyMayBeRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		mustPolicy(t, s, accountDefault, limited(0.2))
		var seen []int64
		refuse := func(revision int64) error {
			seen = append(seen, revision)
			return errs.New(errs.Precondition, 0, "no")
		}
		f := func() {
			t.Helper()
			_, err := s.SavePolicy(ctx, testAccount, "shop", limited(0.1), refuse)
			wantKind(t, err, errs.Precondition)
			wantKind(t, s.DeletePolicy(ctx, testAccount, "shop", refuse), errs.Precondition)
		}
		f() // the account's default is not what would be replaced
		mustPolicy(t, s, "shop", limited(0.3))
		f()
		if p, err := s.Policy(ctx, testAccount, "shop"); err != nil || *p.Policy.MaxFailureRate != 0.3 || !cmp.Equal(seen, []int64{0, 0, 1, 1}) {
			t.Fatalf("%+v, error %v, checked %v", p, err, seen)
		}
	})
}

func TestMaskedTargetsAreTakenFromWhatIsKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		mustVersion(t, s, "other")
		p := limited(0.1)
		p.Notify = []deploy.NotifyTarget{{Type: deploy.NotifyWebhook, URL: "https://hooks.example.com/a", Secret: "s3cret and more of it"}, {Type: deploy.NotifySlack, URL: "https://hooks.slack.example/T0"}}
		f := func(script string) {
			t.Helper()
			if got := mustPolicy(t, s, script, p.Masked()); !cmp.Equal(*got.Policy, p) {
				t.Errorf("saved (-want +got)\n%s", cmp.Diff(p, *got.Policy))
			}
			if got, err := s.Policy(ctx, testAccount, script); err != nil || !cmp.Equal(*got.Policy, p) {
				t.Errorf("error %v, (-want +got)\n%s", err, cmp.Diff(p, *got.Policy))
			}
		}
		mustPolicy(t, s, accountDefault, p)
		f(accountDefault)
		f("shop") // as somebody copies the account's
		mustPolicy(t, s, "shop", limited(0.2))
		if err := s.DeletePolicy(ctx, testAccount, accountDefault, nil); err != nil {
			t.Fatal(err)
		}
		f("shop") // as somebody goes back to an earlier revision
		again := p.Masked()
		again.Notify[1].URL = strings.Replace(again.Notify[1].URL, "***", "***0", 1)
		_, err := s.SavePolicy(ctx, testAccount, "shop", again, nil)
		wantKind(t, err, errs.Invalid, "notify[1].url", "give it whole")
		// One script's are not another's.
		mustPolicy(t, s, "other", limited(0.1))
		if _, err := s.writer.ExecContext(ctx, `DELETE FROM policy_revisions WHERE script = ''`); err != nil {
			t.Fatal(err)
		}
		_, err = s.SavePolicy(ctx, testAccount, "other", p.Masked(), nil)
		wantKind(t, err, errs.Invalid, "notify[0].url")
		// A target beside the masked one that it is.
		twice := p.Masked()
		twice.Notify = append(twice.Notify, p.Notify[1])
		_, err = s.SavePolicy(ctx, testAccount, "shop", twice, nil)
		wantKind(t, err, errs.Invalid, "notify[2]")

		var told int
		if err := s.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM audit_log WHERE before_json LIKE '%s3cret%' OR after_json LIKE '%s3cret%' OR after_json LIKE '%/T0%'`).Scan(&told); err != nil || told != 0 {
			t.Errorf("%d entries of the audit log have a secret, error %v", told, err)
		}
	})
}

func TestOldRevisionsAreForgotten(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		mustVersion(t, s, "shop")
		mustPolicy(t, s, accountDefault, limited(0.5))
		for i := range deploy.PolicyRevisionsMax + 3 {
			mustPolicy(t, s, "shop", limited(0.1+0.001*float64(i)))
		}
		list, err := s.PolicyRevisions(t.Context(), testAccount, "shop")
		if n := len(list); err != nil || n != deploy.PolicyRevisionsMax || list[0].Revision != deploy.PolicyRevisionsMax+3 || list[n-1].Revision != 4 {
			t.Fatalf("%d revisions, error %v", n, err)
		}
		if list, err := s.PolicyRevisions(t.Context(), testAccount, accountDefault); err != nil || len(list) != 1 {
			t.Fatalf("%d revisions, error %v", len(list), err)
		}
	})
}

// A script that was deleted and made again had the policy of the one before it.
func TestPoliciesEndWithTheirScript(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		mustPolicy(t, s, "shop", limited(0.1))
		if err := s.DeleteScript(ctx, testAccount, "shop", false); err != nil {
			t.Fatal(err)
		}
		mustVersion(t, s, "shop")
		_, err := s.Policy(ctx, testAccount, "shop")
		wantKind(t, err, errs.NotFound)
		if list, err := s.PolicyRevisions(ctx, testAccount, "shop"); err != nil || len(list) != 0 {
			t.Fatalf("revisions %+v, error %v", list, err)
		}
	})
}

// TestPoliciesSurviveTheirMigration begins with a database as it was before policies
// had revisions, and ends with one again.
func TestPoliciesSurviveTheirMigration(t *testing.T) {
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		ctx := t.Context()
		dialect, driver, dsn := goose.DialectPostgres, "pgx", databaseURL
		if path, isFile := strings.CutPrefix(databaseURL, "sqlite://"); isFile {
			dialect, driver, dsn = goose.DialectSQLite3, "sqlite", path
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			dsn = (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String()
		}
		migrated := func(move func(p *goose.Provider) error, statements ...string) {
			t.Helper()
			db, err := sql.Open(driver, dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			p, err := goose.NewProvider(dialect, db, control.Migrations)
			if err == nil {
				err = move(p)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, statement := range statements {
				if _, err := db.ExecContext(ctx, statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
		}
		migrated(func(p *goose.Provider) error {
			_, err := p.UpTo(ctx, 17)
			return err
		},
			`INSERT INTO accounts (id, name, subdomain, max_versions, max_jobs, created_on) VALUES ('a', 'a', 'a', 2, 4, 0)`,
			`INSERT INTO scripts (account_id, name, tag, created_on, modified_on, logpush, tags_json, last_version, last_deployment)
				VALUES ('a', 'shop', 't', 0, 0, false, '[]', 0, 0)`,
			`INSERT INTO policies (account_id, script, enabled, policy_json, modified_on)
				VALUES ('a', 'shop', true, '{"enabled":true,"max_failure_rate":0.25,"min_requests":100,"look_back_seconds":300,"action":"rollback"}', 7000000)`)
		s, err := Open(ctx, databaseURL, Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := limited(0.25)
		want.MinRequests = 100
		got, err := s.Policy(ctx, "a", "shop")
		if diff := cmp.Diff(deploy.PolicyRevision{Source: deploy.PolicyOfScript, Revision: 1, Policy: &want, At: time.Unix(7, 0).UTC(), Since: time.Unix(7, 0).UTC()}, got); diff != "" || err != nil {
			t.Errorf("error %v, (-want +got)\n%s", err, diff)
		}
		if _, err = s.SavePolicy(ctx, "a", "shop", limited(0.5), nil); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		migrated(func(p *goose.Provider) error {
			_, err := p.DownTo(ctx, 17)
			return err
		})
		if s, err = Open(ctx, databaseURL, Options{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		if p, err := s.Policy(ctx, "a", "shop"); err != nil || *p.Policy.MaxFailureRate != 0.5 || p.Revision != 1 {
			t.Errorf("down and up again: %+v, error %v", p, err)
		}
	})
}

// A script whose own policy was deleted follows the account's from then on: what it did
// before was held against it, because the account's was older.
func TestAPolicyIsFollowedSinceTheScriptsOwnWasDeleted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		for _, script := range []string{"shop", "other"} {
			mustDeploy(t, s, script, full(mustVersion(t, s, script)))
		}
		f := func(want map[string]time.Time) {
			t.Helper()
			list, err := s.Watched(t.Context())
			got := make(map[string]time.Time)
			for _, w := range list {
				got[w.Script] = w.PolicySince
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("error %v, (-want +got)\n%s", err, diff)
			}
		}
		next := func() time.Time {
			clock.add(time.Minute)
			return clock.now()
		}
		byDefault := next()
		mustPolicy(t, s, accountDefault, limited(0.1))
		f(map[string]time.Time{"shop": byDefault, "other": byDefault})
		own := next()
		mustPolicy(t, s, "shop", limited(0.2))
		f(map[string]time.Time{"shop": own, "other": byDefault})
		deleted := next()
		if err := s.DeletePolicy(t.Context(), testAccount, "shop", nil); err != nil {
			t.Fatal(err)
		}
		f(map[string]time.Time{"shop": deleted, "other": byDefault})
		byDefault = next()
		mustPolicy(t, s, accountDefault, limited(0.3))
		f(map[string]time.Time{"shop": byDefault, "other": byDefault})
	})
}

// A control plane of an older release, which still ran beside, deleted a script and not its
// policies, which it does not know of: the next script of that name had them.
func TestANewScriptHasNoPolicies(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		for i, create := range []func(){
			func() { mustVersion(t, s, "shop") },
			func() {
				if err := s.CreateScript(ctx, testAccount, "shop", deploy.ScriptUpdate{}); err != nil {
					t.Fatal(err)
				}
			},
		} {
			mustVersion(t, s, "other")
			mustPolicy(t, s, "other", limited(0.1))
			for _, statement := range []string{`DELETE FROM scripts WHERE name = 'shop'`,
				`INSERT INTO policies SELECT account_id, 'shop', enabled, revision FROM policies WHERE script = 'other'`,
				`INSERT INTO policy_revisions SELECT account_id, 'shop', revision, policy_json, created_by, created_on FROM policy_revisions WHERE script = 'other'`} {
				if _, err := s.writer.ExecContext(ctx, statement); err != nil {
					t.Fatal(err)
				}
			}
			create()
			_, err := s.Policy(ctx, testAccount, "shop")
			wantKind(t, err, errs.NotFound)
			if list, err := s.PolicyRevisions(ctx, testAccount, "shop"); err != nil || len(list) != 0 {
				t.Errorf("case %d: revisions %+v, error %v", i, list, err)
			}
			mustVersion(t, s, "other") // an existing script keeps its own
			if p, err := s.Policy(ctx, testAccount, "other"); err != nil || p.Source != deploy.PolicyOfScript {
				t.Errorf("case %d: %+v, error %v", i, p, err)
			}
		}
	})
}

// The present of a script was shown from when the account's default was saved, though it began to
// follow that when its own policy was deleted, and is judged from then on.
func TestSinceWhenAPolicyIsFollowed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		p := deploy.DefaultPolicy()
		p.Enabled = true
		mustDeploy(t, s, "shop", full(mustVersion(t, s, "shop")))
		check := func(what string) {
			t.Helper()
			got, err := s.Policy(t.Context(), testAccount, "shop")
			list, listErr := s.Watched(t.Context())
			if err != nil || listErr != nil || len(list) != 1 || !got.Since.Equal(list[0].PolicySince) || !got.Since.Equal(clock.now()) {
				t.Errorf("%s: followed since %v, watched %+v, errors %v, %v; want %v", what, got.Since, list, err, listErr, clock.now())
			}
		}
		mustPolicy(t, s, "", p)
		check("the default")
		clock.add(time.Minute)
		mustPolicy(t, s, "shop", p)
		check("its own")
		clock.add(time.Minute)
		if err := s.DeletePolicy(t.Context(), testAccount, "shop", nil); err != nil {
			t.Fatal(err)
		}
		check("the default again")
	})
}
