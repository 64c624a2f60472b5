package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// sessionsMax is how many sessions of one token or person, and how many links of one token,
// there are at a time. The oldest make room.
const sessionsMax = 100

// CreateSession begins a session of a token. The secret that opens it is returned this
// once; only its hash is kept. A token that was deleted or rolled meanwhile is unauthorized.
func (s *Store) CreateSession(ctx context.Context, tokenID string) (session control.Session, secret string, err error) {
	secret = newSecret()
	err = s.write(ctx, "create session", func(t *tx) error {
		if _, _, err := t.opener(ctx, t.now); err != nil {
			return err
		}
		session, err = t.insertSession(ctx, tokenID, secret)
		return err
	})
	return session, secret, err
}

// CreateSessionLink makes the code of a link that begins a session of a token, once. It
// is returned this once; only its hash is kept. A token that was deleted or rolled meanwhile
// is unauthorized.
func (s *Store) CreateSessionLink(ctx context.Context, tokenID string) (code string, expiresOn time.Time, err error) {
	code = newSecret()
	err = s.write(ctx, "create session link", func(t *tx) error {
		if _, _, err := t.opener(ctx, t.now); err != nil {
			return err
		}
		token, err := t.liveToken(ctx, tokenID, "")
		if err != nil {
			return err
		}
		if err := t.sweepSessions(ctx); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM session_links WHERE token_id = $1 AND hash NOT IN (
			SELECT hash FROM session_links WHERE token_id = $1 ORDER BY expires_on DESC, hash LIMIT $2)`, tokenID, sessionsMax-1); err != nil {
			return err
		}
		expiresOn = earliest(t.now.Add(control.SessionLinkLifetime), token.ExpiresOn)
		if _, err := t.ExecContext(ctx, `INSERT INTO session_links (hash, token_id, expires_on) VALUES ($1, $2, $3)`,
			hashSecret(code), tokenID, expiresOn.UnixMicro()); err != nil {
			return err
		}
		return t.audit(ctx, token.AccountID, "session_link.create", tokenID, nil, nil)
	})
	return code, expiresOn, err
}

// UseSessionLink begins a session by the code of a link, and ends the link. The error is
// unauthorized for a code that was used, has expired or never was, and does not say which.
func (s *Store) UseSessionLink(ctx context.Context, code string) (session control.Session, secret string, err error) {
	secret = newSecret()
	err = s.write(ctx, "use session link", func(t *tx) error {
		invalid := errs.New(errs.Unauthorized, 0, "the link is not valid: it was used, has expired or never was. Make another one, or sign in with an API token")
		var tokenID string
		err := t.QueryRowContext(ctx, `SELECT token_id FROM session_links WHERE hash = $1 AND expires_on > $2`, hashSecret(code), t.now.UnixMicro()).Scan(&tokenID)
		if errors.Is(err, sql.ErrNoRows) {
			return invalid
		}
		if err != nil {
			return err
		}
		if session, err = t.insertSession(ctx, tokenID, secret); err != nil { // first, since it takes the token's row
			return err
		}
		n, err := changed(ctx, t, `DELETE FROM session_links WHERE hash = $1`, hashSecret(code))
		if err == nil && n == 0 { // somebody else was first
			err = invalid
		}
		return err
	})
	return session, secret, err
}

func (t *tx) insertSession(ctx context.Context, tokenID, secret string) (control.Session, error) {
	token, err := t.liveToken(ctx, tokenID, "")
	if err != nil {
		return control.Session{}, err
	}
	if err := t.sweepSessions(ctx); err != nil {
		return control.Session{}, err
	}
	if _, err := t.ExecContext(ctx, `DELETE FROM sessions WHERE token_id = $1 AND hash NOT IN (
		SELECT hash FROM sessions WHERE token_id = $1 ORDER BY created_on DESC, hash LIMIT $2)`, tokenID, sessionsMax-1); err != nil {
		return control.Session{}, err
	}
	session := control.Session{Hash: hashSecret(secret), Token: token, ExpiresOn: earliest(t.now.Add(control.SessionLifetime), token.ExpiresOn)}
	if _, err := t.ExecContext(ctx, `INSERT INTO sessions (hash, token_id, created_on, used_on, expires_on) VALUES ($1, $2, $3, $3, $4)`,
		session.Hash, tokenID, t.now.UnixMicro(), session.ExpiresOn.UnixMicro()); err != nil {
		return control.Session{}, err
	}
	return session, t.auditSession(ctx, session, "session.create")
}

// CreatePersonSession begins a session of a person. The secret that opens it is returned
// this once; only its hash is kept. What is known of the person counts for all of their
// sessions from now on.
func (s *Store) CreatePersonSession(ctx context.Context, person control.Person) (session control.Session, secret string, err error) {
	secret = newSecret()
	err = s.write(ctx, "create session", func(t *tx) error {
		text, err := toJSON(person)
		if err != nil {
			return err
		}
		if err := t.sweepSessions(ctx); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM person_sessions WHERE person_id = $1 AND hash NOT IN (
			SELECT hash FROM person_sessions WHERE person_id = $1 ORDER BY created_on DESC, hash LIMIT $2)`, person.ID(), sessionsMax-1); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `UPDATE person_sessions SET person_json = $1 WHERE person_id = $2`, text, person.ID()); err != nil {
			return err
		}
		session = control.Session{Hash: hashSecret(secret), Person: &person, ExpiresOn: t.now.Add(control.SessionLifetime)}
		if _, err := t.ExecContext(ctx, `INSERT INTO person_sessions (hash, person_id, person_json, created_on, used_on, expires_on) VALUES ($1, $2, $3, $4, $4, $5)`,
			session.Hash, person.ID(), text, t.now.UnixMicro(), session.ExpiresOn.UnixMicro()); err != nil {
			return err
		}
		return t.auditSession(ctx, session, "session.create")
	})
	return session, secret, err
}

// liveToken returns a token that has not expired, or an unauthorized error; with the hash of a
// secret only if that still opens it. It writes the row, which holds off who would delete or roll it
// until the transaction has ended.
func (t *tx) liveToken(ctx context.Context, id, hash string) (control.Token, error) {
	token, err := scanToken(t.QueryRowContext(ctx, `UPDATE tokens SET last_used_on = last_used_on
		WHERE id = $1 AND (expires_on IS NULL OR expires_on > $2) AND ($3 = '' OR hash = $3) RETURNING `+tokenColumns,
		id, t.now.UnixMicro(), hash))
	if errors.Is(err, sql.ErrNoRows) {
		err = invalidToken()
	}
	return token, err
}

// sweepSessions removes what has expired. There is no more of it than was made, so that
// whoever makes something cleans up.
func (t *tx) sweepSessions(ctx context.Context) error {
	for _, table := range []string{"sessions", "person_sessions"} {
		if _, err := t.ExecContext(ctx, `DELETE FROM `+table+` WHERE expires_on <= $1 OR used_on <= $2`,
			t.now.UnixMicro(), t.now.Add(-control.SessionIdle).UnixMicro()); err != nil {
			return err
		}
	}
	_, err := t.ExecContext(ctx, `DELETE FROM session_links WHERE expires_on <= $1`, t.now.UnixMicro())
	return err
}

// OpenSession returns the session that a secret opens, and notes that it is used, or an
// unauthorized error when there is none, or no longer.
func (s *Store) OpenSession(ctx context.Context, secret string) (control.Session, error) {
	hash := hashSecret(secret)
	session, used, err := s.findSession(ctx, hash)
	now := s.now().UTC()
	ended := !now.Before(session.ExpiresOn) || now.Sub(used) >= control.SessionIdle
	if errors.Is(err, sql.ErrNoRows) || err == nil && ended {
		return control.Session{}, sessionEnded()
	}
	if err != nil {
		return control.Session{}, fmt.Errorf("look up session: %w", err)
	}
	if now.Sub(used) >= lastUsedResolution {
		if err := s.keepSession(ctx, hash, session, now); err != nil {
			// It may end too early, which is no reason to end it now.
			s.log.WarnContext(ctx, "session use not recorded", "error", err)
		}
	}
	return session, nil
}

func sessionEnded() error {
	return errs.New(errs.Unauthorized, 0, "the session has ended: sign in again")
}

// findSession looks for a token's, then for a person's. Whether it has ended is not looked at.
func (s *Store) findSession(ctx context.Context, hash string) (session control.Session, used time.Time, err error) {
	var usedOn, expiresOn int64
	session.Hash = hash
	session.Token, err = scanToken(s.reader.QueryRowContext(ctx, `SELECT t.id, t.account_id, t.name, t.email, t.scopes, t.created_on, t.expires_on, t.last_used_on,
		s.used_on, s.expires_on FROM sessions s JOIN tokens t ON t.id = s.token_id WHERE s.hash = $1`, hash), &usedOn, &expiresOn)
	if errors.Is(err, sql.ErrNoRows) {
		var person string
		if err = s.reader.QueryRowContext(ctx, `SELECT person_json, used_on, expires_on FROM person_sessions WHERE hash = $1`, hash).Scan(&person, &usedOn, &expiresOn); err == nil {
			err = fromJSON(person, &session.Person)
		}
	}
	session.ExpiresOn = fromMicros(expiresOn)
	return session, fromMicros(usedOn), err
}

// keepSession notes that a session, and with it its token, was used.
func (s *Store) keepSession(ctx context.Context, hash string, session control.Session, now time.Time) error {
	return s.write(ctx, "keep session", func(t *tx) error {
		if session.Person != nil {
			_, err := t.ExecContext(ctx, `UPDATE person_sessions SET used_on = $1 WHERE hash = $2 AND used_on < $1`, now.UnixMicro(), hash)
			return err
		}
		// The token comes first, as where it is deleted: two orders would be a deadlock.
		if _, err := t.ExecContext(ctx, `UPDATE tokens SET last_used_on = $1 WHERE id = $2 AND (last_used_on IS NULL OR last_used_on < $1)`, now.UnixMicro(), session.Token.ID); err != nil {
			return err
		}
		_, err := t.ExecContext(ctx, `UPDATE sessions SET used_on = $1 WHERE hash = $2 AND used_on < $1`, now.UnixMicro(), hash)
		return err
	})
}

// EndSession ends the session that a secret opens, if there is one, and the feeds that were
// opened in it. It is looked for first:
// anybody can ask, and only one transaction writes at a time.
func (s *Store) EndSession(ctx context.Context, secret string) error {
	hash := hashSecret(secret)
	session, _, err := s.findSession(ctx, hash)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up session: %w", err)
	}
	return s.write(ctx, "end session", func(t *tx) error {
		n, err := changed(ctx, t, `DELETE FROM `+tableOf(session)+` WHERE hash = $1`, hash)
		if err != nil || n == 0 {
			return err
		}
		if err := t.auditSession(ctx, session, "session.delete"); err != nil {
			return err
		}
		_, err = t.endFeeds(ctx, `session_hash = $1`, hash)
		return err
	})
}

// EndSessionsOf whoever a session is of: all of them, the feeds that were opened in them, and
// the links of a token. A token that was deleted meanwhile is unauthorized.
func (s *Store) EndSessionsOf(ctx context.Context, session control.Session) error {
	return s.write(ctx, "end sessions", func(t *tx) error {
		if session.Person != nil {
			if _, err := t.ExecContext(ctx, `DELETE FROM person_sessions WHERE person_id = $1`, session.Person.ID()); err != nil {
				return err
			}
			if err := t.auditSession(ctx, session, "session.delete_all"); err != nil {
				return err
			}
			return t.endFeedsOfSessions(ctx, session.Person.ID())
		}
		token, err := t.liveToken(ctx, session.Token.ID, "")
		if err != nil {
			return err
		}
		for _, table := range []string{"sessions", "session_links"} {
			if _, err := t.ExecContext(ctx, `DELETE FROM `+table+` WHERE token_id = $1`, token.ID); err != nil {
				return err
			}
		}
		if err := t.auditSession(ctx, control.Session{Token: token}, "session.delete_all"); err != nil {
			return err
		}
		return t.endFeedsOfSessions(ctx, token.ID)
	})
}

func tableOf(session control.Session) string {
	if session.Person != nil {
		return "person_sessions"
	}
	return "sessions"
}

// auditSession records what begins and ends sessions as the doing of their token or person,
// also where a link or a cookie stood for it. A person is of no account, as an operator is.
func (t *tx) auditSession(ctx context.Context, session control.Session, action string) error {
	who := control.Actor{TokenID: session.Token.ID, Email: session.Token.Email, Source: control.ActorFrom(ctx).Source}
	if p := session.Person; p != nil {
		who.TokenID, who.Email = p.ID(), p.Email
	}
	return t.audit(control.WithActor(ctx, who), session.Token.AccountID, action, who.TokenID, nil, nil)
}

// earliest of a time and an end, which is zero for none.
func earliest(t, end time.Time) time.Time {
	if !end.IsZero() && end.Before(t) {
		return end
	}
	return t
}
