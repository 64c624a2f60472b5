package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// tokensMax of one account, expired ones included: their list is not paged.
const tokensMax = 1000

// CreateToken makes a token of t.AccountID with the name, email, scopes and
// expiry of t. The secret is returned this once; only its hash is kept. A token of
// no account would be an operator's: see CreateOperatorToken. It is a conflict where the
// account has as many as it may, but for the platform, which could not start without one for routers,
// and unauthorized where the actor's session or token has ended: whoever deletes a token finds all
// that it has made in the list.
func (s *Store) CreateToken(ctx context.Context, token control.Token) (control.Token, string, error) {
	if token.AccountID == "" {
		return control.Token{}, "", errs.New(errs.Invalid, 0, "create token %q: it names no account", token.Name)
	}
	secret := newSecret()
	err := s.write(ctx, "create token", func(t *tx) error {
		who, _, err := t.opener(ctx, t.now)
		if err != nil {
			return err
		}
		// The account's row is locked from here on: two cannot both take the last place.
		var tokens int
		if _, err := t.ExecContext(ctx, `UPDATE accounts SET id = id WHERE id = $1`, token.AccountID); err != nil {
			return err
		}
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM tokens WHERE account_id = $1`, token.AccountID).Scan(&tokens); err != nil {
			return err
		}
		if tokens >= tokensMax && who.TokenID != "" {
			return errs.New(errs.Conflict, 0, "the account has %d API tokens, and more are not allowed: delete one first", tokens)
		}
		token.ID, token.CreatedOn = newHexID(), t.now
		if err := t.insertToken(ctx, token, secret); err != nil {
			return err
		}
		return t.audit(ctx, token.AccountID, "token.create", token.ID, nil, token)
	})
	return token, secret, err
}

func (t *tx) insertToken(ctx context.Context, token control.Token, secret string) error {
	scopes := make([]string, len(token.Scopes))
	for i, scope := range token.Scopes {
		scopes[i] = string(scope)
	}
	_, err := t.ExecContext(ctx, `INSERT INTO tokens (id, account_id, name, email, hash, scopes, created_on, expires_on)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		token.ID, sql.NullString{String: token.AccountID, Valid: token.AccountID != ""}, token.Name, token.Email,
		hashSecret(secret), strings.Join(scopes, " "), token.CreatedOn.UnixMicro(), nullMicros(token.ExpiresOn))
	return err
}

const tokenColumns = `id, account_id, name, email, scopes, created_on, expires_on, last_used_on`

// scanToken also scans what is selected beside its columns.
func scanToken(row scanner, also ...any) (control.Token, error) {
	var t control.Token
	var account sql.NullString
	var scopes string
	var created int64
	var expires, used sql.NullInt64
	dest := append([]any{&t.ID, &account, &t.Name, &t.Email, &scopes, &created, &expires, &used}, also...)
	err := row.Scan(dest...)
	t.AccountID = account.String
	for scope := range strings.FieldsSeq(scopes) {
		t.Scopes = append(t.Scopes, control.Scope(scope))
	}
	t.CreatedOn, t.ExpiresOn, t.LastUsedOn = fromMicros(created), fromNullMicros(expires), fromNullMicros(used)
	return t, err
}

// Authenticate returns the token that secret belongs to, or an unauthorized
// error when there is none or it has expired. The error does not say which.
func (s *Store) Authenticate(ctx context.Context, secret string) (control.Token, error) {
	token, err := scanToken(s.reader.QueryRowContext(ctx,
		`SELECT `+tokenColumns+` FROM tokens WHERE hash = $1`, hashSecret(secret)))
	now := s.now().UTC()
	if errors.Is(err, sql.ErrNoRows) || err == nil && !token.ExpiresOn.IsZero() && !now.Before(token.ExpiresOn) {
		return control.Token{}, invalidToken()
	}
	if err != nil {
		return control.Token{}, fmt.Errorf("look up token: %w", err)
	}
	token.Hash = hashSecret(secret)
	if now.Sub(token.LastUsedOn) >= lastUsedResolution {
		if _, err := s.writer.ExecContext(ctx, `UPDATE tokens SET last_used_on = $1 WHERE id = $2`, now.UnixMicro(), token.ID); err != nil {
			// The time of last use is a help to people, no reason to refuse the call.
			s.log.WarnContext(ctx, "token use not recorded", "token_id", token.ID, "error", err)
		}
	}
	return token, nil
}

// invalidToken does not say why.
func invalidToken() error { return errs.New(errs.Unauthorized, 0, "the API token is not valid") }

// Tokens returns the tokens of an account, oldest first.
func (s *Store) Tokens(ctx context.Context, accountID string) ([]control.Token, error) {
	return listTokens(ctx, s.reader, `account_id = $1`, accountID)
}

func listTokens(ctx context.Context, q querier, where string, args ...any) ([]control.Token, error) {
	var list []control.Token
	err := each(ctx, q, func(row scanner) error {
		t, err := scanToken(row)
		list = append(list, t)
		return err
	}, `SELECT `+tokenColumns+` FROM tokens WHERE `+where+` ORDER BY created_on, id`, args...)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return list, nil
}

// DeleteToken ends a token of an account, its sessions, and the feeds that it opened.
func (s *Store) DeleteToken(ctx context.Context, accountID, id string) error {
	return s.write(ctx, "delete token", func(t *tx) error {
		token, err := scanToken(t.QueryRowContext(ctx,
			`DELETE FROM tokens WHERE account_id = $1 AND id = $2 RETURNING `+tokenColumns, accountID, id))
		if errors.Is(err, sql.ErrNoRows) {
			return errs.New(errs.NotFound, 0, "token %q does not exist in this account", id)
		}
		if err != nil {
			return err
		}
		return t.afterDelete(ctx, token)
	})
}

// afterDelete records that a token was deleted, and ends what it opened. Its sessions and links
// refer to it, and are gone.
func (t *tx) afterDelete(ctx context.Context, token control.Token) error {
	if err := t.audit(ctx, token.AccountID, "token.delete", token.ID, token, nil); err != nil {
		return err
	}
	_, err := t.endFeeds(ctx, `token_id = $1`, token.ID)
	return err
}
