package store

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema/control"
)

// inSnapshot returns what gateways know of a script of the first account.
func inSnapshot(t *testing.T, s *Store, name string) (deploy.SnapshotScript, int64) {
	t.Helper()
	snap, err := s.SnapshotAll(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(snap.Scripts, func(sc deploy.SnapshotScript) bool { return sc.AccountID == testAccount && sc.Name == name })
	if i < 0 {
		t.Fatalf("script %s is not in the snapshot", name)
	}
	return snap.Scripts[i], snap.Revision
}

func mustTail(t *testing.T, s *Store, name string) deploy.Tail {
	t.Helper()
	query := "paid"
	tail, err := s.CreateTail(t.Context(), testAccount, name, []deploy.TailFilter{{Query: &query}})
	if err != nil {
		t.Fatal(err)
	}
	return tail
}

func TestTailLivesUntilItIsDeletedOrExpires(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		_, err := s.CreateTail(ctx, testAccount, "none", nil)
		wantKind(t, err, errs.NotFound, "none")
		_, err = s.Tails(ctx, testAccount, "none")
		wantKind(t, err, errs.NotFound)
		if sc, _ := inSnapshot(t, s, "shop"); sc.Tailed {
			t.Fatal("a script is tailed before anybody asked")
		}

		first := mustTail(t, s, "shop")
		clock.add(time.Minute)
		second := mustTail(t, s, "shop")
		if !first.ExpiresOn.Equal(first.CreatedOn.Add(deploy.TailLifetime)) || len(first.Secret) < 40 || first.Secret == second.Secret {
			t.Fatalf("tail %+v", first)
		}
		if list, err := s.Tails(ctx, testAccount, "shop"); err != nil || len(list) != 2 || list[0].ID != first.ID || *list[1].Filters[0].Query != "paid" {
			t.Fatalf("tails %+v, error %v", list, err)
		}
		if sc, _ := inSnapshot(t, s, "shop"); !sc.Tailed {
			t.Fatal("gateways do not know that the script is watched")
		}
		if got, err := s.OpenTail(ctx, second.Secret); err != nil || got.ID != second.ID || got.Script != "shop" || got.AccountID != testAccount {
			t.Fatalf("the secret opens %+v, error %v", got, err)
		}
		_, err = s.OpenTail(ctx, "wrong")
		wantKind(t, err, errs.NotFound)

		wantKind(t, s.DeleteTail(ctx, testAccount, "shop", "wrong"), errs.NotFound)
		if err := s.DeleteTail(ctx, testAccount, "shop", second.ID); err != nil {
			t.Fatal(err)
		}
		_, err = s.OpenTail(ctx, second.Secret)
		wantKind(t, err, errs.NotFound)
		if n, err := s.SweepFeeds(ctx); err != nil || n != 0 {
			t.Fatalf("swept %d live tails, error %v", n, err)
		}
		if sc, _ := inSnapshot(t, s, "shop"); !sc.Tailed {
			t.Fatal("one tail is left, and gateways think that there is none")
		}

		clock.add(deploy.TailLifetime - time.Minute)
		_, err = s.OpenTail(ctx, first.Secret)
		wantKind(t, err, errs.NotFound)
		wantKind(t, s.DeleteTail(ctx, testAccount, "shop", first.ID), errs.NotFound)
		if list, err := s.Tails(ctx, testAccount, "shop"); err != nil || len(list) != 0 {
			t.Fatalf("expired tails %+v, error %v", list, err)
		}
		_, before := inSnapshot(t, s, "shop")
		if n, err := s.SweepFeeds(ctx); err != nil || n != 1 {
			t.Fatalf("swept %d tails, error %v", n, err)
		}
		if sc, after := inSnapshot(t, s, "shop"); sc.Tailed || after <= before {
			t.Errorf("after the sweep gateways have revision %d after %d, tailed %v", after, before, sc.Tailed)
		}
	})
}

func TestTenTailsAScript(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		mustVersion(t, s, "shop")
		for range deploy.TailsMax {
			mustTail(t, s, "shop")
		}
		_, err := s.CreateTail(t.Context(), testAccount, "shop", nil)
		wantKind(t, err, errs.Invalid, "10 tails", "shop")
		clock.add(deploy.TailLifetime) // not swept yet
		mustTail(t, s, "shop")
	})
}

func TestEndOfATailIsAwaited(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		mustVersion(t, s, "shop")
		deleted, expired, left := mustTail(t, s, "shop"), mustTail(t, s, "shop"), mustTail(t, s, "shop")
		expired.ExpiresOn = time.Now()
		await := func(ctx context.Context, tail deploy.Tail) <-chan error {
			end := make(chan error, 1)
			go func() { end <- s.AwaitTailEnd(ctx, tail) }()
			return end
		}
		ctx, cancel := context.WithCancel(t.Context())
		ends := []<-chan error{await(ctx, deleted), await(ctx, expired), await(ctx, left)}
		if err := s.DeleteTail(ctx, testAccount, "shop", deleted.ID); err != nil {
			t.Fatal(err)
		}
		if err := <-ends[0]; err != nil {
			t.Errorf("deleted: %v", err)
		}
		if err := <-ends[1]; err != nil {
			t.Errorf("expired: %v", err)
		}
		cancel()
		if err := <-ends[2]; !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
	})
}

// A feed lasts no longer than the token that opened it, and is not opened by one that is gone.
func TestFeedsEndWithTheirToken(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		mustVersion(t, s, "shop")
		token, _, err := s.CreateToken(t.Context(), control.Token{AccountID: testAccount, Name: "leaver", Scopes: []control.Scope{control.LogsEdit}, ExpiresOn: clock.now().Add(2 * time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		ctx := control.WithActor(t.Context(), control.Actor{TokenID: token.ID, Source: "api"})
		kept := mustTail(t, s, "shop")
		tail, err := s.CreateTail(ctx, testAccount, "shop", nil)
		if err != nil || !tail.ExpiresOn.Equal(token.ExpiresOn) {
			t.Fatalf("the tail is %+v, error %v; its token ends at %s", tail, err, token.ExpiresOn)
		}
		session, err := s.CreateInstantLogs(ctx, logjob.InstantLogs{AccountID: testAccount})
		if err != nil || !session.ExpiresOn.Equal(token.ExpiresOn) {
			t.Fatalf("the session is %+v, error %v; its token ends at %s", session, err, token.ExpiresOn)
		}
		ended := make(chan error, 2)
		go func() { ended <- s.AwaitTailEnd(ctx, tail) }()
		go func() { ended <- s.AwaitInstantLogsEnd(ctx, session.ID) }()
		if err := s.DeleteToken(t.Context(), testAccount, token.ID); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		_, err = s.OpenTail(ctx, tail.Secret)
		wantKind(t, err, errs.NotFound)
		_, err = s.OpenInstantLogs(ctx, session.ID)
		wantKind(t, err, errs.NotFound)
		if _, err := s.OpenTail(ctx, kept.Secret); err != nil {
			t.Errorf("a tail that no token opened: %v", err)
		}
		_, err = s.CreateTail(ctx, testAccount, "shop", nil)
		wantKind(t, err, errs.Unauthorized)
		_, err = s.CreateInstantLogs(ctx, logjob.InstantLogs{AccountID: testAccount})
		wantKind(t, err, errs.Unauthorized)
	})
}

// What was opened in a session, a person's or a token's, ends with it, and no other feed does.
func TestFeedsEndWithTheirSession(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		mustVersion(t, s, "shop")
		token := newToken(t, s, "ci", time.Time{})
		ada := person("ada")
		byPerson := func() (control.Session, string, error) { return s.CreatePersonSession(t.Context(), ada) }
		byToken := func() (control.Session, string, error) { return s.CreateSession(t.Context(), token.ID) }
		type opened struct {
			control.Session
			secret string
			ctx    context.Context
			tail   deploy.Tail
		}
		sessionOf := func(begin func() (control.Session, string, error)) opened {
			t.Helper()
			session, secret, err := begin()
			if err != nil {
				t.Fatal(err)
			}
			who := control.Actor{TokenID: session.Token.ID, Session: session.Hash}
			if session.Person != nil {
				who.TokenID = session.Person.ID()
			}
			if found, err := s.OpenSession(t.Context(), secret); err != nil || found.Hash != session.Hash {
				t.Fatalf("opened %+v, error %v; made %+v", found, err, session)
			}
			o := opened{session, secret, control.WithActor(t.Context(), who), deploy.Tail{}}
			if o.tail, err = s.CreateTail(o.ctx, testAccount, "shop", nil); err != nil {
				t.Fatal(err)
			}
			return o
		}
		lives := func(what string, tail deploy.Tail, want bool) {
			t.Helper()
			if _, err := s.OpenTail(t.Context(), tail.Secret); (err == nil) != want || err != nil && errs.KindOf(err) != errs.NotFound {
				t.Errorf("%s: it lives: %v, want %v; error %v", what, err == nil, want, err)
			}
		}
		direct, err := s.CreateTail(control.WithActor(t.Context(), control.Actor{TokenID: token.ID}), testAccount, "shop", nil)
		if err != nil {
			t.Fatal(err)
		}
		theirs := sessionOf(func() (control.Session, string, error) { return s.CreatePersonSession(t.Context(), person("grace")) })

		for name, begin := range map[string]func() (control.Session, string, error){"a person": byPerson, "a token": byToken} {
			one, other := sessionOf(begin), sessionOf(begin)
			logs, err := s.CreateInstantLogs(one.ctx, logjob.InstantLogs{AccountID: testAccount})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ended := make(chan error, 2)
			go func() { ended <- s.AwaitTailEnd(ctx, one.tail) }()
			go func() { ended <- s.AwaitInstantLogsEnd(ctx, logs.ID) }()
			if err := s.EndSession(t.Context(), one.secret); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := <-ended; err != nil {
					t.Errorf("%s who signs out: %v", name, err)
				}
			}
			lives(name+" who signed out", one.tail, false)
			lives(name+" in another browser", other.tail, true)
			_, err = s.CreateTail(one.ctx, testAccount, "shop", nil)
			wantKind(t, err, errs.Unauthorized, "sign in again")
			if err := s.EndSessionsOf(t.Context(), other.Session); err != nil {
				t.Fatal(err)
			}
			lives(name+" who signed out everywhere", other.tail, false)
			lives("somebody else's", theirs.tail, true)
			lives("one of no session", direct, true)

			idle := sessionOf(begin)
			clock.add(control.SessionIdle - time.Minute)
			if _, err := s.OpenSession(t.Context(), theirs.secret); err != nil {
				t.Fatal(err)
			}
			if n, err := s.SweepFeeds(t.Context()); err != nil || n != 0 {
				t.Errorf("%s: swept %d, error %v", name, n, err)
			}
			clock.add(time.Minute)
			if _, err := s.OpenSession(t.Context(), theirs.secret); err != nil {
				t.Fatal(err)
			}
			if n, err := s.SweepFeeds(t.Context()); err != nil || n != 1 {
				t.Errorf("%s who is idle: swept %d, error %v", name, n, err)
			}
			lives(name+" who was idle", idle.tail, false)
			lives("somebody else's, who was not", theirs.tail, true)
			lives("one of no session", direct, true)
		}
	})
}

// No feed is made for longer than its session may last.
func TestFeedsDoNotOutlastTheirSession(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		mustVersion(t, s, "shop")
		ada := person("ada")
		session, secret, err := s.CreatePersonSession(t.Context(), ada)
		if err != nil {
			t.Fatal(err)
		}
		for clock.now().Before(session.ExpiresOn.Add(-time.Hour)) {
			clock.add(time.Hour / 2)
			if _, err := s.OpenSession(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
		}
		ctx := control.WithActor(t.Context(), control.Actor{TokenID: ada.ID(), Session: session.Hash})
		tail, err := s.CreateTail(ctx, testAccount, "shop", nil)
		if err != nil || !tail.ExpiresOn.Equal(session.ExpiresOn) {
			t.Errorf("the tail ends at %s and its session at %s, error %v", tail.ExpiresOn, session.ExpiresOn, err)
		}
		clock.add(time.Hour)
		_, err = s.CreateTail(ctx, testAccount, "shop", nil)
		wantKind(t, err, errs.Unauthorized, "sign in again")
	})
}
