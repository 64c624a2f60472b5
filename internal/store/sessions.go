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

// tokenSessionsMax is how many sessions, and how many links, of one token there are at a
// time. The oldest make room.
const tokenSessionsMax = 100

// CreateSession begins a session of a token. The secret that opens it is returned this
// once; only its hash is kept. A token that was deleted meanwhile is unauthorized.
func (s *Store) CreateSession(ctx context.Context, tokenID string) (session control.Session, secret string, err error) {
	secret = newSecret()
	err = s.write(ctx, "create session", func(t *tx) error {
		session, err = t.insertSession(ctx, tokenID, secret)
		return err
	})
	return session, secret, err
}

// CreateSessionLink makes the code of a link that begins a session of a token, once. It
// is returned this once; only its hash is kept. A token that was deleted meanwhile is
// unauthorized.
func (s *Store) CreateSessionLink(ctx context.Context, tokenID string) (code string, expiresOn time.Time, err error) {
	code = newSecret()
	err = s.write(ctx, "create session link", func(t *tx) error {
		token, err := t.liveToken(ctx, tokenID)
		if err != nil {
			return err
		}
		if err := t.sweepSessions(ctx); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM session_links WHERE token_id = $1 AND hash NOT IN (
			SELECT hash FROM session_links WHERE token_id = $1 ORDER BY expires_on DESC, hash LIMIT $2)`, tokenID, tokenSessionsMax-1); err != nil {
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
		used, err := t.ExecContext(ctx, `DELETE FROM session_links WHERE hash = $1`, hashSecret(code))
		if err != nil {
			return err
		}
		n, err := used.RowsAffected()
		if err == nil && n == 0 { // somebody else was first
			err = invalid
		}
		return err
	})
	return session, secret, err
}

func (t *tx) insertSession(ctx context.Context, tokenID, secret string) (control.Session, error) {
	token, err := t.liveToken(ctx, tokenID)
	if err != nil {
		return control.Session{}, err
	}
	if err := t.sweepSessions(ctx); err != nil {
		return control.Session{}, err
	}
	if _, err := t.ExecContext(ctx, `DELETE FROM sessions WHERE token_id = $1 AND hash NOT IN (
		SELECT hash FROM sessions WHERE token_id = $1 ORDER BY created_on DESC, hash LIMIT $2)`, tokenID, tokenSessionsMax-1); err != nil {
		return control.Session{}, err
	}
	session := control.Session{Token: token, ExpiresOn: earliest(t.now.Add(control.SessionLifetime), token.ExpiresOn)}
	if _, err := t.ExecContext(ctx, `INSERT INTO sessions (hash, token_id, created_on, used_on, expires_on) VALUES ($1, $2, $3, $3, $4)`,
		hashSecret(secret), tokenID, t.now.UnixMicro(), session.ExpiresOn.UnixMicro()); err != nil {
		return control.Session{}, err
	}
	return session, t.audit(asToken(ctx, token), token.AccountID, "session.create", tokenID, nil, nil)
}

// liveToken returns a token that has not expired, or an unauthorized error. It writes the
// row, which holds off who would delete it until the transaction has ended.
func (t *tx) liveToken(ctx context.Context, id string) (control.Token, error) {
	token, err := scanToken(t.QueryRowContext(ctx, `UPDATE tokens SET last_used_on = last_used_on
		WHERE id = $1 AND (expires_on IS NULL OR expires_on > $2) RETURNING `+tokenColumns,
		id, t.now.UnixMicro()))
	if errors.Is(err, sql.ErrNoRows) {
		err = invalidToken()
	}
	return token, err
}

// sweepSessions removes what has expired. There is no more of it than was made, so that
// whoever makes something cleans up.
func (t *tx) sweepSessions(ctx context.Context) error {
	if _, err := t.ExecContext(ctx, `DELETE FROM sessions WHERE expires_on <= $1 OR used_on <= $2`,
		t.now.UnixMicro(), t.now.Add(-control.SessionIdle).UnixMicro()); err != nil {
		return err
	}
	_, err := t.ExecContext(ctx, `DELETE FROM session_links WHERE expires_on <= $1`, t.now.UnixMicro())
	return err
}

// OpenSession returns the session that a secret opens, and notes that it is used, or an
// unauthorized error when there is none, or no longer.
func (s *Store) OpenSession(ctx context.Context, secret string) (control.Session, error) {
	var session control.Session
	var used, expires int64
	var err error
	hash := hashSecret(secret)
	session.Token, err = scanToken(s.reader.QueryRowContext(ctx, `SELECT t.id, t.account_id, t.name, t.email, t.scopes, t.created_on, t.expires_on, t.last_used_on,
		s.used_on, s.expires_on FROM sessions s JOIN tokens t ON t.id = s.token_id WHERE s.hash = $1`, hash), &used, &expires)
	now := s.now().UTC()
	session.ExpiresOn = fromMicros(expires)
	ended := !now.Before(session.ExpiresOn) || now.Sub(fromMicros(used)) >= control.SessionIdle
	if errors.Is(err, sql.ErrNoRows) || err == nil && ended {
		return control.Session{}, errs.New(errs.Unauthorized, 0, "the session has ended: sign in again")
	}
	if err != nil {
		return control.Session{}, fmt.Errorf("look up session: %w", err)
	}
	if now.Sub(fromMicros(used)) >= lastUsedResolution {
		if err := s.keepSession(ctx, hash, session.Token.ID, now); err != nil {
			// It may end too early, which is no reason to end it now.
			s.log.WarnContext(ctx, "session use not recorded", "token_id", session.Token.ID, "error", err)
		}
	}
	return session, nil
}

// keepSession notes that a session, and with it its token, was used.
func (s *Store) keepSession(ctx context.Context, hash, tokenID string, now time.Time) error {
	return s.write(ctx, "keep session", func(t *tx) error {
		// The token comes first, as where it is deleted: two orders would be a deadlock.
		if _, err := t.ExecContext(ctx, `UPDATE tokens SET last_used_on = $1 WHERE id = $2 AND (last_used_on IS NULL OR last_used_on < $1)`, now.UnixMicro(), tokenID); err != nil {
			return err
		}
		_, err := t.ExecContext(ctx, `UPDATE sessions SET used_on = $1 WHERE hash = $2 AND used_on < $1`, now.UnixMicro(), hash)
		return err
	})
}

// EndSession ends the session that a secret opens, if there is one. It is looked for first:
// anybody can ask, and only one transaction writes at a time.
func (s *Store) EndSession(ctx context.Context, secret string) error {
	hash := hashSecret(secret)
	token, err := scanToken(s.reader.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE id = (SELECT token_id FROM sessions WHERE hash = $1)`, hash))
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up session: %w", err)
	}
	return s.write(ctx, "end session", func(t *tx) error {
		ended, err := t.ExecContext(ctx, `DELETE FROM sessions WHERE hash = $1`, hash)
		if err != nil {
			return err
		}
		if n, err := ended.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return t.audit(asToken(ctx, token), token.AccountID, "session.delete", token.ID, nil, nil)
	})
}

// EndSessionsOf a token ends its sessions and its links. A token that was deleted meanwhile
// is unauthorized.
func (s *Store) EndSessionsOf(ctx context.Context, tokenID string) error {
	return s.write(ctx, "end sessions", func(t *tx) error {
		token, err := t.liveToken(ctx, tokenID)
		if err != nil {
			return err
		}
		for _, table := range []string{"sessions", "session_links"} {
			if _, err := t.ExecContext(ctx, `DELETE FROM `+table+` WHERE token_id = $1`, tokenID); err != nil {
				return err
			}
		}
		return t.audit(ctx, token.AccountID, "session.delete_all", tokenID, nil, nil)
	})
}

// asToken makes a token the actor: what begins and ends its sessions is its own doing, also
// where a link or a cookie stood for it.
func asToken(ctx context.Context, token control.Token) context.Context {
	return control.WithActor(ctx, control.Actor{TokenID: token.ID, Email: token.Email, Source: control.ActorFrom(ctx).Source})
}

// earliest of a time and an end, which is zero for none.
func earliest(t, end time.Time) time.Time {
	if !end.IsZero() && end.Before(t) {
		return end
	}
	return t
}
