package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// Operators' tokens are of no account: they open all of them, and everything in each. They have
// methods of their own, so that an account's id that is empty by mistake never means one.

// insertOperator makes the token with which a platform begins, or begins again.
func (t *tx) insertOperator(ctx context.Context) (token control.Token, secret string, err error) {
	secret = newSecret()
	token = control.Token{
		ID: newHexID(), Name: "operator", Email: "admin@localhost",
		Scopes: []control.Scope{control.Admin}, CreatedOn: t.now,
	}
	return token, secret, t.insertToken(ctx, token, secret)
}

// CreateOperatorToken makes an operator's token with the name, email and expiry of token. The
// rest is as for CreateToken. Two at a time may make one too many: only operators are counted.
func (s *Store) CreateOperatorToken(ctx context.Context, token control.Token) (control.Token, string, error) {
	secret := newSecret()
	err := s.write(ctx, "create operator's token", func(t *tx) error {
		if _, _, err := t.opener(ctx, t.now); err != nil {
			return err
		}
		var tokens int
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM tokens WHERE account_id IS NULL`).Scan(&tokens); err != nil {
			return err
		}
		if tokens >= tokensMax {
			return errs.New(errs.Conflict, 0, "there are %d operators' tokens, and more are not allowed: delete one first", tokens)
		}
		token.ID, token.AccountID, token.Scopes, token.CreatedOn = newHexID(), "", []control.Scope{control.Admin}, t.now
		if err := t.insertToken(ctx, token, secret); err != nil {
			return err
		}
		return t.audit(ctx, "", "token.create", token.ID, nil, token)
	})
	return token, secret, err
}

// OperatorTokens returns operators' tokens, oldest first.
func (s *Store) OperatorTokens(ctx context.Context) ([]control.Token, error) {
	return listTokens(ctx, s.reader, `account_id IS NULL`)
}

// DeleteOperatorToken ends an operator's token, its sessions, and the feeds that it opened. It may
// be the last one: operators can be people, and RecoverOperator makes another.
func (s *Store) DeleteOperatorToken(ctx context.Context, id string) error {
	return s.write(ctx, "delete operator's token", func(t *tx) error {
		token, err := scanToken(t.QueryRowContext(ctx, `DELETE FROM tokens WHERE account_id IS NULL AND id = $1 RETURNING `+tokenColumns, id))
		if errors.Is(err, sql.ErrNoRows) {
			return noOperatorToken(id)
		}
		if err != nil {
			return err
		}
		return t.afterDelete(ctx, token)
	})
}

func noOperatorToken(id string) error {
	return errs.New(errs.NotFound, 0, "operator's token %q does not exist", id)
}

// RollOperatorToken gives an operator's token another secret, which is returned this once. What
// the old one has opened ends as if the token were deleted: sessions, links and feeds. Who acts by
// a session or token that has ended meanwhile is unauthorized, as in CreateToken.
func (s *Store) RollOperatorToken(ctx context.Context, id string) (secret string, err error) {
	secret = newSecret()
	err = s.write(ctx, "roll operator's token", func(t *tx) error {
		if _, _, err := t.opener(ctx, t.now); err != nil {
			return err
		}
		token, err := scanToken(t.QueryRowContext(ctx, `UPDATE tokens SET hash = $1 WHERE account_id IS NULL AND id = $2 RETURNING `+tokenColumns,
			hashSecret(secret), id))
		if errors.Is(err, sql.ErrNoRows) {
			return noOperatorToken(id)
		}
		if err != nil {
			return err
		}
		if !token.ExpiresOn.IsZero() && !t.now.Before(token.ExpiresOn) {
			return errs.New(errs.Conflict, 0, "operator's token %q has expired, and another secret would open nothing: create a token in its place", id)
		}
		for _, table := range []string{"sessions", "session_links"} {
			if _, err := t.ExecContext(ctx, `DELETE FROM `+table+` WHERE token_id = $1`, id); err != nil {
				return err
			}
		}
		if err := t.audit(ctx, "", "token.roll", id, token, token); err != nil {
			return err
		}
		_, err = t.endFeeds(ctx, `token_id = $1`, id)
		return err
	})
	return secret, err
}

// RecoverOperator makes an operator's token in a database, for whoever has access to that and no
// operator's token any more. It ends all others: nobody could say which of them has been lost,
// and which somebody else has. Control planes may run. save gets the secret as that of Bootstrap
// does. The database stays as it is but for that: no migration runs.
func RecoverOperator(ctx context.Context, databaseURL string, save func(secret string) error) (ended []control.Token, err error) {
	if !isPostgres(databaseURL) {
		path, err := sqlitePath(databaseURL)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(path); err != nil { // else it would say that a file cannot be opened, and not which
			return nil, fmt.Errorf("open database: %w", err)
		}
	}
	s, dialect, err := connect(databaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.closePools()) }()
	err = s.write(ctx, "recover the operator's token", func(t *tx) error {
		tables, err := readTables(ctx, t, dialect)
		if err != nil {
			return err
		}
		schema, err := schemaOf(ctx, t, tables)
		if err != nil {
			return err
		}
		switch newest := newestSchema(); {
		case schema == 0:
			return errors.New("the database has no control state: the first start of a control plane makes the operator's token")
		case schema != newest:
			return fmt.Errorf("the database has schema %d, and this version's is %d: use the version that runs on it", schema, newest)
		}
		if ended, err = t.deleteOperatorTokens(ctx); err != nil {
			return err
		}
		for _, token := range ended {
			if err := t.afterDelete(ctx, token); err != nil {
				return err
			}
		}
		t.revision = 0 // nobody in this process waits for it
		token, secret, err := t.insertOperator(ctx)
		if err != nil {
			return err
		}
		if err := t.audit(ctx, "", "token.recover", token.ID, nil, token); err != nil {
			return err
		}
		return save(secret)
	})
	return ended, err
}

// deleteOperatorTokens looks again until there is none: while it waits for one that is in use, that
// one may make another.
func (t *tx) deleteOperatorTokens(ctx context.Context) (deleted []control.Token, err error) {
	for {
		before := len(deleted)
		err := each(ctx, t, func(row scanner) error {
			token, err := scanToken(row)
			deleted = append(deleted, token)
			return err
		}, `DELETE FROM tokens WHERE account_id IS NULL RETURNING `+tokenColumns)
		if err != nil || len(deleted) == before {
			return deleted, err
		}
	}
}
