package store

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

func wantTokens(t *testing.T, s *Store, names ...string) []control.Token {
	t.Helper()
	list, err := s.OperatorTokens(t.Context())
	if err != nil || len(list) != len(names) {
		t.Fatalf("operators have %+v, error %v, want %q", list, err, names)
	}
	for i, token := range list {
		if token.Name != names[i] || token.AccountID != "" || len(token.Scopes) != 1 || token.Scopes[0] != control.Admin {
			t.Errorf("token %d is %+v, want %s", i, token, names[i])
		}
	}
	return list
}

// wantOpens checks whether a secret opens something, as a token or as a session.
func wantOpens(t *testing.T, err error, opens bool) {
	t.Helper()
	if opens && err != nil || !opens && errs.KindOf(err) != errs.Unauthorized {
		t.Errorf("opens: want %t, error %v", opens, err)
	}
}

func operatorAudit(t *testing.T, s *Store, action string) []control.AuditEntry {
	t.Helper()
	list, _, err := s.AuditLog(t.Context(), "", control.AuditFilter{Action: action}, 100, 0)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestOperatorTokensComeAndGo(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		clock.add(time.Second)
		made, secret, err := s.CreateOperatorToken(ctx, control.Token{AccountID: testAccount, Name: "ann", Email: "ann@example.com", ExpiresOn: clock.now().Add(time.Hour)})
		if err != nil || made.AccountID != "" {
			t.Fatalf("made %+v, error %v", made, err)
		}
		wantTokens(t, s, "operator", "ann")
		token, err := s.Authenticate(ctx, secret)
		wantOpens(t, err, true)
		if !token.Rights().Operator() || token.Email != "ann@example.com" {
			t.Errorf("the token is %+v", token)
		}
		// An account's methods do not reach it, whatever account is named.
		for _, account := range []string{testAccount, ""} {
			if list, err := s.Tokens(ctx, account); err != nil || len(list) != 0 {
				t.Errorf("tokens of account %q: %+v, error %v", account, list, err)
			}
			if err := s.DeleteToken(ctx, account, made.ID); errs.KindOf(err) != errs.NotFound {
				t.Errorf("deleted by account %q: %v", account, err)
			}
		}
		// Nor the other way round.
		own, _, err := s.CreateToken(ctx, control.Token{AccountID: testAccount, Name: "own", Scopes: []control.Scope{control.Admin}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteOperatorToken(ctx, own.ID); errs.KindOf(err) != errs.NotFound {
			t.Errorf("deleted an account's token: %v", err)
		}
		if _, err := s.RollOperatorToken(ctx, own.ID); errs.KindOf(err) != errs.NotFound {
			t.Errorf("rolled an account's token: %v", err)
		}
		_, session, err := s.CreateSession(ctx, made.ID)
		if err != nil {
			t.Fatal(err)
		}
		clock.add(time.Second)
		if err := s.DeleteOperatorToken(ctx, made.ID); err != nil {
			t.Fatal(err)
		}
		_, err = s.Authenticate(ctx, secret)
		wantOpens(t, err, false)
		_, err = s.OpenSession(ctx, session)
		wantOpens(t, err, false)
		wantTokens(t, s, "operator")
		if list := operatorAudit(t, s, "token"); len(list) != 2 || list[0].Action != "token.delete" || list[0].Before == "" || list[0].Target != made.ID || list[1].Action != "token.create" || list[1].After == "" {
			t.Errorf("the audit log has %+v", list)
		}
	})
}

func TestRolledTokenEndsWhatTheOldSecretOpened(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		made, old, err := s.CreateOperatorToken(ctx, control.Token{Name: "ann", Email: "ann@example.com", ExpiresOn: clock.now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		opened, err := s.Authenticate(ctx, old)
		if err != nil {
			t.Fatal(err)
		}
		as := control.WithActor(ctx, control.Actor{TokenID: made.ID, TokenHash: opened.Hash, Email: made.Email, Source: "api"})
		tail, err := s.CreateTail(as, testAccount, "shop", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, session, err := s.CreateSession(ctx, made.ID)
		if err != nil {
			t.Fatal(err)
		}
		link, _, err := s.CreateSessionLink(ctx, made.ID)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := s.RollOperatorToken(as, made.ID)
		if err != nil || secret == old {
			t.Fatalf("rolled: %v", err)
		}
		_, err = s.Authenticate(ctx, old)
		wantOpens(t, err, false)
		// Neither does it open what was asked for before, and has only now come whole.
		for what, call := range map[string]func() error{
			"a token":   func() error { _, _, err := s.CreateOperatorToken(as, control.Token{Name: "thief"}); return err },
			"a roll":    func() error { _, err := s.RollOperatorToken(as, made.ID); return err },
			"a tail":    func() error { _, err := s.CreateTail(as, testAccount, "shop", nil); return err },
			"a session": func() error { _, _, err := s.CreateSession(as, made.ID); return err },
			"a link":    func() error { _, _, err := s.CreateSessionLink(as, made.ID); return err },
			"a token of an account": func() error {
				_, _, err := s.CreateToken(as, control.Token{AccountID: testAccount, Name: "thief", Scopes: []control.Scope{control.Admin}})
				return err
			},
		} {
			if err := call(); errs.KindOf(err) != errs.Unauthorized {
				t.Errorf("%s by the secret before: %v", what, err)
			}
		}
		_, err = s.OpenSession(ctx, session)
		wantOpens(t, err, false)
		_, _, err = s.UseSessionLink(ctx, link)
		wantOpens(t, err, false)
		if tails, err := s.Tails(ctx, testAccount, "shop"); err != nil || len(tails) != 0 {
			t.Errorf("tail %s goes on: %+v, error %v", tail.ID, tails, err)
		}
		token, err := s.Authenticate(ctx, secret)
		wantOpens(t, err, true)
		if token.ID != made.ID || !token.ExpiresOn.Equal(made.ExpiresOn) || token.Name != made.Name {
			t.Errorf("rolled is %+v, was %+v", token, made)
		}
		if list := operatorAudit(t, s, "token.roll"); len(list) != 1 || list[0].Target != made.ID || list[0].Actor.TokenID != made.ID || list[0].After == "" {
			t.Errorf("the audit log has %+v", list)
		}
		clock.add(time.Hour)
		if _, err := s.RollOperatorToken(ctx, made.ID); errs.KindOf(err) != errs.Conflict {
			t.Errorf("rolled what has expired: %v", err)
		}
		if _, err := s.RollOperatorToken(as, made.ID); errs.KindOf(err) != errs.Unauthorized {
			t.Errorf("rolled by a token that has expired: %v", err)
		}
	})
}

func TestOperatorTokensAreBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		if err := s.write(t.Context(), "fill", func(tx *tx) error {
			for range tokensMax - 2 {
				if _, _, err := tx.insertOperator(t.Context()); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.CreateOperatorToken(t.Context(), control.Token{Name: "last"}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.CreateOperatorToken(t.Context(), control.Token{Name: "too many"}); errs.KindOf(err) != errs.Conflict {
			t.Errorf("one more: %v", err)
		}
	})
}

// Replacing a lost token was a statement of SQL, which nobody could see afterwards, and the
// sessions of the old one went on.
func TestRecoveredOperator(t *testing.T) {
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		s, err := Open(t.Context(), databaseURL, Options{Keys: newKeys(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		ctx := t.Context()
		var lost string
		if _, err := s.Bootstrap(ctx, control.Account{}, func(secret string) error { lost = secret; return nil }); err != nil {
			t.Fatal(err)
		}
		mustVersion(t, s, "shop")
		first := wantTokens(t, s, "operator")[0]
		_, session, err := s.CreateSession(ctx, first.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateTail(control.WithActor(ctx, control.Actor{TokenID: first.ID}), testAccount, "shop", nil); err != nil {
			t.Fatal(err)
		}
		_, other, err := s.CreateOperatorToken(ctx, control.Token{Name: "other"})
		if err != nil {
			t.Fatal(err)
		}
		_, kept, err := s.CreateToken(ctx, control.Token{AccountID: testAccount, Name: "routers", Scopes: []control.Scope{control.Routers}})
		if err != nil {
			t.Fatal(err)
		}

		full := errors.New("the disk is full")
		if _, err := RecoverOperator(ctx, databaseURL, func(string) error { return full }); !errors.Is(err, full) {
			t.Errorf("the error is %v", err)
		}
		_, err = s.Authenticate(ctx, lost)
		wantOpens(t, err, true)

		var secret string
		ended, err := RecoverOperator(ctx, databaseURL, func(text string) error { secret = text; return nil })
		if err != nil || len(ended) != 2 {
			t.Fatalf("ended %+v, error %v", ended, err)
		}
		for _, gone := range []string{lost, other} {
			_, err = s.Authenticate(ctx, gone)
			wantOpens(t, err, false)
		}
		_, err = s.OpenSession(ctx, session)
		wantOpens(t, err, false)
		if tails, err := s.Tails(ctx, testAccount, "shop"); err != nil || len(tails) != 0 {
			t.Errorf("tails go on: %+v, error %v", tails, err)
		}
		_, err = s.Authenticate(ctx, kept)
		wantOpens(t, err, true)
		token, err := s.Authenticate(ctx, secret)
		wantOpens(t, err, true)
		if !token.Rights().Operator() || !token.ExpiresOn.IsZero() {
			t.Errorf("the new one is %+v", token)
		}
		if list := operatorAudit(t, s, "token.recover"); len(list) != 1 || list[0].Target != token.ID || list[0].After == "" || list[0].Actor.Source != sourceSystem {
			t.Errorf("the audit log has %+v", list)
		}
		if list := operatorAudit(t, s, "token.delete"); len(list) != 2 || list[0].Before == "" {
			t.Errorf("the audit log has %+v", list)
		}
	})
}

func TestOperatorIsRecoveredOnlyWhereThereIsAPlatform(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.db")
	if _, err := RecoverOperator(t.Context(), missing, forget); err == nil {
		t.Error("a database that is missing was made")
	}
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		s, err := Open(t.Context(), databaseURL, Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		if _, err := s.writer.ExecContext(t.Context(), `DELETE FROM goose_db_version WHERE version_id = $1`, newestSchema()); err != nil {
			t.Fatal(err)
		}
		if _, err := RecoverOperator(t.Context(), databaseURL, forget); err == nil {
			t.Error("a database of another version was written to")
		}
	})
}
