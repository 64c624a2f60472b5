package store

import (
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema/control"
)

// TestNoAccountIsNotEveryAccount: an empty account id used to read the jobs and
// the snapshot of all accounts, and a token made with one was an operator's.
func TestNoAccountIsNotEveryAccount(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		v := mustVersion(t, s, "shop")
		d := mustDeploy(t, s, "shop", full(v))
		j, err := s.CreateJob(ctx, logjob.Job{AccountID: testAccount}, 1000)
		if err != nil {
			t.Fatal(err)
		}

		_, _, err = s.CreateToken(ctx, control.Token{Name: "ci", Scopes: []control.Scope{control.Admin}})
		wantKind(t, err, errs.Invalid, "ci", "no account")
		_, err = s.CreateJob(ctx, logjob.Job{}, 1000)
		wantKind(t, err, errs.NotFound)
		_, err = s.Account(ctx, "")
		wantKind(t, err, errs.NotFound)
		_, err = s.Job(ctx, "", j.ID)
		wantKind(t, err, errs.NotFound)
		_, err = s.Script(ctx, "", "shop")
		wantKind(t, err, errs.NotFound)
		_, err = s.Version(ctx, "", "shop", v.ID)
		wantKind(t, err, errs.NotFound)
		_, err = s.Deployment(ctx, "", "shop", d.ID)
		wantKind(t, err, errs.NotFound)
		wantKind(t, s.SetRoutes(ctx, "", "shop", nil), errs.NotFound)
		wantKind(t, s.DeleteScript(ctx, "", "shop", false), errs.NotFound)

		if list, err := s.Tokens(ctx, ""); err != nil || len(list) != 0 {
			t.Errorf("tokens %+v, error %v", list, err)
		}
		if list, err := s.AccountJobs(ctx, ""); err != nil || len(list) != 0 {
			t.Errorf("jobs %+v, error %v", list, err)
		}
		if list, err := s.Scripts(ctx, ""); err != nil || len(list) != 0 {
			t.Errorf("scripts %+v, error %v", list, err)
		}
		if snap, err := s.Snapshot(ctx, "", 0); err != nil || len(snap.Scripts) != 0 {
			t.Errorf("snapshot %+v, error %v", snap, err)
		}
		if snap, err := s.SnapshotAll(ctx, 0); err != nil || len(snap.Scripts) != 1 {
			t.Errorf("snapshot of all %+v, error %v", snap, err)
		}
		if list, err := s.Jobs(ctx); err != nil || len(list) != 1 {
			t.Errorf("all jobs %+v, error %v", list, err)
		}
	})
}

func TestAccountLimitsCanBeChanged(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := control.WithActor(t.Context(), control.Actor{Email: "operator@example.com"})
		splits := []deploy.Split{share(mustVersion(t, s, "shop"), 50), share(mustVersion(t, s, "shop"), 25), share(mustVersion(t, s, "shop"), 25)}
		_, err := s.Deploy(ctx, testAccount, "shop", deploy.Deployment{Versions: splits}, "")
		wantKind(t, err, errs.Invalid, "at most 2")

		three, one := 3, 1
		a, err := s.UpdateAccount(ctx, testAccount, control.AccountUpdate{MaxVersions: &three})
		if err != nil || a.MaxVersions != 3 || a.MaxJobs != defaultMaxJobs {
			t.Fatalf("account %+v, error %v", a, err)
		}
		mustDeploy(t, s, "shop", splits...)
		if a, err = s.UpdateAccount(ctx, testAccount, control.AccountUpdate{MaxJobs: &one}); err != nil || a.MaxVersions != 3 || a.MaxJobs != 1 {
			t.Fatalf("account %+v, error %v", a, err)
		}
		name := "Two"
		if a, err = s.UpdateAccount(ctx, testAccount, control.AccountUpdate{Name: &name}); err != nil || a.Name != name || a.MaxVersions != 3 || a.Subdomain != "dev" {
			t.Fatalf("account %+v, error %v", a, err)
		}
		if got, err := s.Account(ctx, testAccount); err != nil || got != a {
			t.Fatalf("account %+v, error %v", got, err)
		}
		if _, err := s.CreateJob(ctx, logjob.Job{AccountID: testAccount}, 1000); err != nil {
			t.Fatal(err)
		}
		_, err = s.CreateJob(ctx, logjob.Job{AccountID: testAccount}, 1000)
		wantKind(t, err, errs.Forbidden, "(1 in this account)")
		_, err = s.UpdateAccount(ctx, "nope", control.AccountUpdate{MaxJobs: &one})
		wantKind(t, err, errs.NotFound, "nope")
		if text := auditText(t, s); strings.Count(text, "account.update operator@example.com") != 3 {
			t.Errorf("audit log: %s", text)
		}
	})
}
