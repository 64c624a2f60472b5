package store

import (
	"context"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// newToken makes one of the first account.
func newToken(t *testing.T, s *Store, name string, expiresOn time.Time) control.Token {
	t.Helper()
	token, _, err := s.CreateToken(t.Context(), control.Token{AccountID: testAccount, Name: name, Scopes: []control.Scope{control.ScriptsEdit}, ExpiresOn: expiresOn})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// rowsOf counts what is stored, ended or not.
func rowsOf(t *testing.T, s *Store, table string) int {
	t.Helper()
	var n int
	if err := s.reader.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSessionStandsForItsToken(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		token := newToken(t, s, "ci", time.Time{})
		made, secret, err := s.CreateSession(t.Context(), token.ID)
		if err != nil || made.Token.ID != token.ID || !made.ExpiresOn.Equal(clock.now().Add(control.SessionLifetime)) || len(secret) < 40 {
			t.Fatalf("made %+v with a secret of %d characters, error %v", made, len(secret), err)
		}
		got, err := s.OpenSession(t.Context(), secret)
		if err != nil || got.Token.ID != token.ID || got.Token.AccountID != testAccount || !got.Token.Rights().Allow(testAccount, control.ScriptsRead) || !got.ExpiresOn.Equal(made.ExpiresOn) {
			t.Fatalf("opened %+v, error %v", got, err)
		}
		for _, wrong := range []string{"", "wrong", hashSecret(secret)} {
			_, err = s.OpenSession(t.Context(), wrong)
			wantKind(t, err, errs.Unauthorized, "sign in again")
		}
		if err := s.EndSession(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		_, err = s.OpenSession(t.Context(), secret)
		wantKind(t, err, errs.Unauthorized)
		if err := s.EndSession(t.Context(), secret); err != nil {
			t.Errorf("to end it twice: %v", err)
		}
		_, _, err = s.CreateSession(t.Context(), "nope")
		wantKind(t, err, errs.Unauthorized)
		if text := auditText(t, s); !strings.Contains(text, "session.create") || strings.Contains(text, secret) {
			t.Errorf("audit log: %s", text)
		}
	})
}

func TestSessionsEnd(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		begin := func(token control.Token) string {
			t.Helper()
			_, secret, err := s.CreateSession(t.Context(), token.ID)
			if err != nil {
				t.Fatal(err)
			}
			return secret
		}
		is := func(secret string, open bool) {
			t.Helper()
			if _, err := s.OpenSession(t.Context(), secret); (err == nil) != open {
				t.Fatalf("open is %v, error %v", open, err)
			}
		}
		token, brief := newToken(t, s, "ci", time.Time{}), newToken(t, s, "brief", clock.now().Add(30*time.Minute))

		idle, used, expiring := begin(token), begin(token), begin(brief)
		clock.add(30*time.Minute - time.Microsecond)
		is(used, true)
		is(expiring, true)
		clock.add(time.Microsecond)
		is(expiring, false) // with its token
		clock.add(30 * time.Minute)
		is(idle, false)
		is(used, true)
		for range 22 {
			clock.add(30 * time.Minute)
			is(used, clock.now().Before(newClock().now().Add(control.SessionLifetime)))
		}
		is(used, false) // after 12 hours, although it was never idle

		one, other := begin(token), begin(token)
		if n := rowsOf(t, s, "sessions"); n != 2 {
			t.Errorf("%d rows are stored, and 2 sessions go on", n)
		}
		if err := s.DeleteToken(t.Context(), testAccount, token.ID); err != nil {
			t.Fatal(err)
		}
		is(one, false)
		is(other, false)
		if n := rowsOf(t, s, "sessions"); n != 0 {
			t.Errorf("%d rows are stored of a token that was deleted", n)
		}
	})
}

// A busy page asks many times a second.
func TestSessionUseIsWrittenOnceAMinute(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		token := newToken(t, s, "ci", time.Time{})
		_, secret, err := s.CreateSession(t.Context(), token.ID)
		if err != nil {
			t.Fatal(err)
		}
		used := func() time.Duration {
			t.Helper()
			if _, err := s.OpenSession(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			var micros int64
			if err := s.reader.QueryRowContext(t.Context(), `SELECT used_on FROM sessions`).Scan(&micros); err != nil {
				t.Fatal(err)
			}
			return fromMicros(micros).Sub(newClock().now())
		}
		clock.add(59 * time.Second)
		if got := used(); got != 0 {
			t.Errorf("written after %s", got)
		}
		clock.add(time.Second)
		if got := used(); got != time.Minute {
			t.Errorf("after a minute, the last use is %s", got)
		}
		clock.add(59 * time.Second)
		if got := used(); got != time.Minute {
			t.Errorf("written again after %s", got)
		}
		list, err := s.Tokens(t.Context(), testAccount)
		if err != nil || len(list) != 1 || !list[0].LastUsedOn.Equal(newClock().now().Add(time.Minute)) {
			t.Errorf("the token's last use: %+v, error %v", list, err)
		}
	})
}

func TestSessionLinkBeginsOneSession(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		token := newToken(t, s, "ci", time.Time{})
		link := func(token control.Token) string {
			t.Helper()
			code, expiresOn, err := s.CreateSessionLink(t.Context(), token.ID)
			if err != nil || expiresOn.Sub(clock.now()) > control.SessionLinkLifetime || len(code) < 40 {
				t.Fatalf("a code of %d characters until %s, error %v", len(code), expiresOn, err)
			}
			return code
		}
		code := link(token)
		results := make(chan error, 10)
		var all sync.WaitGroup
		for range cap(results) {
			all.Go(func() {
				session, secret, err := s.UseSessionLink(t.Context(), code)
				if err == nil && session.Token.ID == token.ID {
					_, err = s.OpenSession(t.Context(), secret)
				}
				results <- err
			})
		}
		all.Wait()
		close(results)
		begun := 0
		for err := range results {
			if err == nil {
				begun++
				continue
			}
			wantKind(t, err, errs.Unauthorized, "used")
		}
		if begun != 1 || rowsOf(t, s, "sessions") != 1 {
			t.Errorf("%d sessions were begun by one link, %d are stored", begun, rowsOf(t, s, "sessions"))
		}

		late, gone := link(token), newToken(t, s, "gone", time.Time{})
		orphan := link(gone)
		if err := s.DeleteToken(t.Context(), testAccount, gone.ID); err != nil {
			t.Fatal(err)
		}
		_, _, err := s.UseSessionLink(t.Context(), orphan)
		wantKind(t, err, errs.Unauthorized)
		clock.add(control.SessionLinkLifetime)
		_, _, err = s.UseSessionLink(t.Context(), late)
		wantKind(t, err, errs.Unauthorized, "expired")
		link(token)
		if n := rowsOf(t, s, "session_links"); n != 1 {
			t.Errorf("%d links are stored, and 1 can be used", n)
		}
		_, _, err = s.CreateSessionLink(t.Context(), gone.ID)
		wantKind(t, err, errs.Unauthorized)
		text := auditText(t, s)
		if strings.Count(text, "session_link.create") != 4 || strings.Count(text, "session.create") != 1 || strings.Contains(text, code) {
			t.Errorf("audit log: %s", text)
		}
	})
}

// A token may be deleted at any moment: what its sessions and links are in the middle of is
// done, or unauthorized.
func TestTokensAreDeletedMidway(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		for range 20 {
			token := newToken(t, s, "ci", time.Time{})
			_, secret, err := s.CreateSession(t.Context(), token.ID)
			if err != nil {
				t.Fatal(err)
			}
			code, _, err := s.CreateSessionLink(t.Context(), token.ID)
			if err != nil {
				t.Fatal(err)
			}
			clock.add(2 * time.Minute) // the use is written
			var all sync.WaitGroup
			for _, try := range []func() error{
				func() error {
					return s.keepSession(t.Context(), hashSecret(secret), control.Session{Token: token}, clock.now())
				},
				func() error { _, _, err := s.UseSessionLink(t.Context(), code); return err },
				func() error { _, _, err := s.CreateSession(t.Context(), token.ID); return err },
				func() error { _, _, err := s.CreateSessionLink(t.Context(), token.ID); return err },
			} {
				all.Go(func() {
					if err := try(); err != nil && errs.KindOf(err) != errs.Unauthorized {
						t.Error(err)
					}
				})
			}
			all.Go(func() {
				if err := s.DeleteToken(t.Context(), testAccount, token.ID); err != nil {
					t.Error(err)
				}
			})
			all.Wait()
		}
		if sessions, links := rowsOf(t, s, "sessions"), rowsOf(t, s, "session_links"); sessions+links > 0 {
			t.Errorf("%d sessions and %d links of no token are left", sessions, links)
		}
	})
}

// A script that signs in, and never out, fills no database.
func TestSessionsOfOneTokenAreBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		token, other := newToken(t, s, "ci", time.Time{}), newToken(t, s, "other", time.Time{})
		_, kept, err := s.CreateSession(t.Context(), other.ID)
		if err != nil {
			t.Fatal(err)
		}
		var secrets, codes []string
		for range sessionsMax + 1 {
			clock.add(time.Second)
			_, secret, err := s.CreateSession(t.Context(), token.ID)
			if err != nil {
				t.Fatal(err)
			}
			code, _, err := s.CreateSessionLink(t.Context(), token.ID)
			if err != nil {
				t.Fatal(err)
			}
			secrets, codes = append(secrets, secret), append(codes, code)
		}
		if sessions, links := rowsOf(t, s, "sessions"), rowsOf(t, s, "session_links"); sessions != sessionsMax+1 || links != sessionsMax {
			t.Errorf("%d sessions and %d links are stored", sessions, links)
		}
		_, err = s.OpenSession(t.Context(), secrets[0])
		wantKind(t, err, errs.Unauthorized)
		_, _, err = s.UseSessionLink(t.Context(), codes[0])
		wantKind(t, err, errs.Unauthorized)
		for _, secret := range []string{secrets[1], secrets[sessionsMax], kept} {
			if _, err := s.OpenSession(t.Context(), secret); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestSignOutIsAudited(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		token, other := newToken(t, s, "ci", time.Time{}), newToken(t, s, "other", time.Time{})
		secrets := make([]string, 4)
		for i, of := range []string{token.ID, token.ID, token.ID, other.ID} {
			var err error
			if _, secrets[i], err = s.CreateSession(t.Context(), of); err != nil {
				t.Fatal(err)
			}
		}
		code, _, err := s.CreateSessionLink(t.Context(), token.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{secrets[0], secrets[0], "wrong"} { // of which one ends something
			if err := s.EndSession(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.EndSessionsOf(t.Context(), control.Session{Token: token}); err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets[:3] {
			_, err := s.OpenSession(t.Context(), secret)
			wantKind(t, err, errs.Unauthorized)
		}
		_, _, err = s.UseSessionLink(t.Context(), code)
		wantKind(t, err, errs.Unauthorized)
		if _, err := s.OpenSession(t.Context(), secrets[3]); err != nil {
			t.Errorf("the session of another token: %v", err)
		}
		list, _, err := s.AuditLog(t.Context(), testAccount, control.AuditFilter{}, 100, 0)
		if err != nil {
			t.Fatal(err)
		}
		ends := map[string]int{}
		for _, entry := range list {
			if strings.HasPrefix(entry.Action, "session.delete") && entry.Target == token.ID {
				ends[entry.Action]++
			}
		}
		if ends["session.delete"] != 1 || ends["session.delete_all"] != 1 || len(ends) != 2 {
			t.Errorf("audited: %v", ends)
		}
	})
}

func person(subject string, groups ...string) control.Person {
	return control.Person{Issuer: "https://id.example.com", Subject: subject, Email: subject + "@example.com", EmailVerified: true, Name: subject, Groups: groups}
}

func TestSessionsOfPeople(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		begin := func(p control.Person) string {
			t.Helper()
			made, secret, err := s.CreatePersonSession(t.Context(), p)
			if err != nil || made.Person == nil || !made.ExpiresOn.Equal(clock.now().Add(control.SessionLifetime)) || len(secret) < 40 {
				t.Fatalf("made %+v with a secret of %d characters, error %v", made, len(secret), err)
			}
			return secret
		}
		is := func(secret string, want *control.Person) {
			t.Helper()
			got, err := s.OpenSession(t.Context(), secret)
			if want == nil {
				wantKind(t, err, errs.Unauthorized, "sign in again")
				return
			}
			if err != nil || !reflect.DeepEqual(got.Person, want) || got.Token.ID != "" {
				t.Fatalf("opened %+v, error %v", got, err)
			}
		}
		ada, grace := person("ada", "platform", "on call"), person("grace")
		one, other, theirs := begin(ada), begin(ada), begin(grace)
		is(one, &ada)
		is(theirs, &grace)

		// What the provider has said last counts in all of somebody's sessions, and in nobody else's.
		changed := ada
		changed.Email, changed.Groups = "lovelace@example.com", []string{"on call"}
		third := begin(changed)
		is(one, &changed)
		is(theirs, &grace)

		clock.add(control.SessionIdle - time.Minute)
		is(one, &changed)
		clock.add(time.Minute)
		is(other, nil) // idle
		is(one, &changed)
		if err := s.EndSession(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		is(one, nil)
		for range 23 {
			clock.add(30 * time.Minute)
			_, _ = s.OpenSession(t.Context(), third) // it was idle
		}
		again, theirs := begin(ada), begin(grace)
		if n := rowsOf(t, s, "person_sessions"); n != 2 {
			t.Errorf("%d rows are stored, and 2 sessions go on", n)
		}
		if err := s.EndSessionsOf(t.Context(), control.Session{Person: &ada}); err != nil {
			t.Fatal(err)
		}
		is(again, nil)
		is(theirs, &grace)
		for range sessionsMax + 1 {
			clock.add(time.Second)
			begin(ada)
		}
		if n := rowsOf(t, s, "person_sessions"); n != sessionsMax+1 {
			t.Errorf("%d rows are stored of two people", n)
		}
	})
}

// A person is of no account, and an operator's token neither: who they were is for operators.
func TestSessionsOfNoAccountAreAudited(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ada := person("ada")
		if _, _, err := s.CreatePersonSession(t.Context(), ada); err != nil {
			t.Fatal(err)
		}
		newToken(t, s, "ci", time.Time{})
		f := func(accountID string, filter control.AuditFilter, want ...string) {
			t.Helper()
			list, total, err := s.AuditLog(t.Context(), accountID, filter, 100, 0)
			var got []string
			for _, entry := range list {
				got = append(got, entry.Action+" "+entry.Actor.Email)
			}
			if err != nil || total != len(want) || strings.Join(got, ", ") != strings.Join(want, ", ") {
				t.Errorf("%q with %+v: %v of %d, want %v; error %v", accountID, filter, got, total, want, err)
			}
		}
		f(testAccount, control.AuditFilter{Action: "session"})
		f(testAccount, control.AuditFilter{Action: "session", NoAccount: true}, "session.create ada@example.com")
		f(testAccount, control.AuditFilter{ActorID: ada.ID(), NoAccount: true}, "session.create ada@example.com")
		f("another", control.AuditFilter{Action: "token"})
		f("another", control.AuditFilter{Action: "token", NoAccount: true})
		f("", control.AuditFilter{Action: "session"}, "session.create ada@example.com")
	})
}

// A request that was under way when its token was deleted left another token behind, with the
// same rights and for good.
func TestATokenThatIsGoneMakesNone(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		token := newToken(t, s, "ci", clock.now().Add(time.Hour))
		session, secret, err := s.CreateSession(t.Context(), token.ID)
		if err != nil {
			t.Fatal(err)
		}
		byToken := control.WithActor(t.Context(), control.Actor{TokenID: token.ID})
		bySession := control.WithActor(t.Context(), control.Actor{TokenID: token.ID, Session: session.Hash})
		another := control.Token{AccountID: testAccount, Name: "another", Scopes: []control.Scope{control.Admin}}
		f := func(name string, ctx context.Context, want errs.Kind) {
			t.Helper()
			if _, _, err := s.CreateToken(ctx, another); errs.KindOf(err) != want || want == "" && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		f("by the token", byToken, "")
		f("by the session", bySession, "")
		if err := s.EndSession(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		f("by the session that ended", bySession, errs.Unauthorized)
		f("by its token", byToken, "")
		clock.add(time.Hour)
		f("by the token that expired", byToken, errs.Unauthorized)
		if err := s.DeleteToken(t.Context(), testAccount, token.ID); err != nil {
			t.Fatal(err)
		}
		f("by the token that was deleted", byToken, errs.Unauthorized)

		// And no account has any number of them, but for those of the platform itself.
		live := control.WithActor(t.Context(), control.Actor{TokenID: newToken(t, s, "live", time.Time{}).ID})
		if _, err := s.writer.ExecContext(t.Context(), `INSERT INTO tokens (id, account_id, name, email, hash, scopes, created_on)
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
			SELECT 'filler ' || i, CAST($1 AS TEXT), 'filler', '', 'filler ' || i, '', 0 FROM n
			WHERE i <= CAST($2 AS BIGINT) - (SELECT COUNT(*) FROM tokens WHERE account_id = $1) - 1`, testAccount, tokensMax); err != nil {
			t.Fatal(err)
		}
		f("the last one", live, "")
		f("one more", live, errs.Conflict)
		f("by the platform", t.Context(), "")
	})
}
