package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/seal"
	"tidegate/schema/control"
)

// feeds are the tables of what people watch by an address of its own.
var feeds = []string{"tails", "instant_logs"}

const tailColumns = `id, account_id, script, sealed, filters_json, created_on, expires_on, token_id, session_hash`

func scanTail(row scanner, keys *seal.Keys) (deploy.Tail, error) {
	var tail deploy.Tail
	var sealed, filters string
	var created, expires int64
	if err := row.Scan(&tail.ID, &tail.AccountID, &tail.Script, &sealed, &filters, &created, &expires, &tail.Holder.TokenID, &tail.Holder.Session); err != nil {
		return tail, err
	}
	tail.CreatedOn, tail.ExpiresOn = fromMicros(created), fromMicros(expires)
	var err error
	if tail.Secret, err = keys.Open(sealed, tailPlace(tail.AccountID, tail.ID)); err != nil {
		return tail, err
	}
	return tail, fromJSON(filters, &tail.Filters)
}

func tailPlace(accountID, id string) string { return placeOf("tails", "sealed", accountID, id) }

// CreateTail begins to watch a script with valid filters. Id, secret and times are
// given here; it ends with the actor's session or token. A script that has deploy.TailsMax already is refused as invalid.
func (s *Store) CreateTail(ctx context.Context, accountID, name string, filters []deploy.TailFilter) (deploy.Tail, error) {
	tail := deploy.Tail{ID: newHexID(), AccountID: accountID, Script: name, Secret: newSecret(), Filters: filters}
	err := s.write(ctx, "create tail", func(t *tx) error {
		if err := t.lockTails(ctx, accountID, name); err != nil {
			return err
		}
		var live int
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM tails WHERE account_id = $1 AND script = $2 AND expires_on > $3`,
			accountID, name, t.now.UnixMicro()).Scan(&live); err != nil {
			return err
		}
		if live >= deploy.TailsMax {
			return errs.New(errs.Invalid, 0, "script %q is watched by %d tails, and more are not allowed: end one of them, or wait until it expires", name, live)
		}
		who, until, err := t.opener(ctx, t.now.Add(deploy.TailLifetime))
		if err != nil {
			return err
		}
		tail.CreatedOn, tail.ExpiresOn = t.now, until
		text, err := toJSON(filters)
		if err != nil {
			return err
		}
		sealed, err := t.keys.Seal(tail.Secret, tailPlace(accountID, tail.ID))
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `INSERT INTO tails (`+tailColumns+`, secret) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			tail.ID, accountID, name, sealed, text, tail.CreatedOn.UnixMicro(), tail.ExpiresOn.UnixMicro(), who.TokenID, who.Session, hashOf(tail.Secret)); err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "tail.create", name+"/"+tail.ID, nil, filters); err != nil {
			return err
		}
		return t.publish(ctx)
	})
	return tail, err
}

// opener returns who acts, and when something ends that is opened by them now: no later than their
// session, or else their token. The platform has neither. A session's row is written, as
// liveToken's, and not its token's: whoever deletes that comes by all of its sessions.
func (t *tx) opener(ctx context.Context, until time.Time) (who control.Actor, end time.Time, err error) {
	who = control.ActorFrom(ctx)
	switch {
	case who.TokenID == "":
		return who, until, nil
	case who.Session == "":
		token, err := t.liveToken(ctx, who.TokenID, who.TokenHash)
		return who, earliest(until, token.ExpiresOn), err
	}
	for _, table := range []string{"sessions", "person_sessions"} {
		var expires int64
		err := t.QueryRowContext(ctx, `UPDATE `+table+` SET used_on = used_on WHERE hash = $1 AND expires_on > $2 RETURNING expires_on`,
			who.Session, t.now.UnixMicro()).Scan(&expires)
		if !errors.Is(err, sql.ErrNoRows) {
			return who, earliest(until, fromMicros(expires)), err
		}
	}
	return who, until, sessionEnded()
}

// endFeeds ends those of which a condition is true, so that nobody watches by them any more,
// and returns how many there were.
func (t *tx) endFeeds(ctx context.Context, where string, args ...any) (ended int64, err error) {
	for _, table := range feeds {
		n, err := changed(ctx, t, `DELETE FROM `+table+` WHERE `+where, args...)
		if err != nil {
			return ended, err
		}
		ended += n
	}
	if ended == 0 {
		return 0, nil
	}
	return ended, t.publish(ctx) // which those who serve viewers wait for
}

// endFeedsOfSessions ends what a token or a person opened in sessions.
func (t *tx) endFeedsOfSessions(ctx context.Context, id string) error {
	_, err := t.endFeeds(ctx, `token_id = $1 AND session_hash <> ''`, id)
	return err
}

// lockTails keeps other makers of tails away until the transaction ends. To watch
// a script does not modify it. It returns a not_found error when there is none.
func (t *tx) lockTails(ctx context.Context, accountID, name string) error {
	err := t.QueryRowContext(ctx, `UPDATE scripts SET modified_on = modified_on WHERE account_id = $1 AND name = $2 RETURNING name`,
		accountID, name).Scan(&name)
	if errors.Is(err, sql.ErrNoRows) {
		err = noScript(name)
	}
	return err
}

// Tails returns the live tails of a script, oldest first, or a not_found error. Their secrets
// are for the actor.
func (s *Store) Tails(ctx context.Context, accountID, name string) ([]deploy.Tail, error) {
	var list []deploy.Tail
	err := s.read(ctx, "list tails", func(t *sql.Tx) error {
		if _, err := script(ctx, t, accountID, name); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			tail, err := scanTail(row, s.keys)
			tail.Secret = addressFor(ctx, tail.Secret, tail.Holder)
			list = append(list, tail)
			return err
		}, `SELECT `+tailColumns+` FROM tails WHERE account_id = $1 AND script = $2 AND expires_on > $3 ORDER BY created_on, id`,
			accountID, name, s.now().UnixMicro())
	})
	return list, err
}

// OpenTail returns the live tail that an address opens, with its secret and whom the address
// was given to, or a not_found error. Whether they may still watch is not looked at.
func (s *Store) OpenTail(ctx context.Context, address string) (deploy.Tail, error) {
	at := parseAddress(address)
	tail, err := scanTail(s.reader.QueryRowContext(ctx, `SELECT `+tailColumns+` FROM tails WHERE secret = $1 AND expires_on > $2`,
		at.hash, s.now().UnixMicro()), s.keys)
	if err == nil {
		var ok bool
		if tail.Holder, ok = at.opens(tail.Secret, tail.Holder); !ok {
			tail, err = deploy.Tail{}, sql.ErrNoRows
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return tail, errs.New(errs.NotFound, 0, "there is no such tail: it has expired, was deleted or never was")
	}
	if err != nil {
		err = fmt.Errorf("open tail: %w", err)
	}
	return tail, err
}

// AwaitTailEnd returns nil when a tail is deleted or has expired, and otherwise the
// error of ctx. A deletion by another process is seen as soon as any other change.
func (s *Store) AwaitTailEnd(ctx context.Context, tail deploy.Tail) error {
	expiry := time.NewTimer(tail.ExpiresOn.Sub(s.now()))
	defer expiry.Stop()
	for {
		_, changed := s.watch.state()
		if _, err := s.OpenTail(ctx, tail.Secret); err != nil {
			if errs.KindOf(err) == errs.NotFound {
				return nil
			}
			return err
		}
		select {
		case <-changed:
		case <-expiry.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// DeleteTail ends a tail, or returns a not_found error.
func (s *Store) DeleteTail(ctx context.Context, accountID, name, id string) error {
	return s.write(ctx, "delete tail", func(t *tx) error {
		if err := t.lockTails(ctx, accountID, name); err != nil {
			return err
		}
		var filters string
		err := t.QueryRowContext(ctx, `DELETE FROM tails WHERE account_id = $1 AND script = $2 AND id = $3 AND expires_on > $4 RETURNING filters_json`,
			accountID, name, id, t.now.UnixMicro()).Scan(&filters)
		if errors.Is(err, sql.ErrNoRows) {
			return errs.New(errs.NotFound, 0, "tail %q of script %q does not exist, or no longer", id, name)
		}
		if err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "tail.delete", name+"/"+id, json.RawMessage(filters), nil); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

// SweepFeeds removes the feeds that have expired, so that gateways stop copying for nobody, and
// those whose session has ended by itself, and returns how many there were.
func (s *Store) SweepFeeds(ctx context.Context) (ended int64, err error) {
	const over = `expires_on <= $1 OR session_hash <> '' AND session_hash NOT IN (
		SELECT hash FROM sessions WHERE expires_on > $1 AND used_on > $2 UNION ALL
		SELECT hash FROM person_sessions WHERE expires_on > $1 AND used_on > $2)`
	now := s.now().UTC()
	args := []any{now.UnixMicro(), now.Add(-control.SessionIdle).UnixMicro()}
	for _, table := range feeds { // a look first, because a write would wait for other writers each time
		var found int64
		if err := s.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+table+` WHERE `+over, args...).Scan(&found); err != nil {
			return 0, fmt.Errorf("sweep feeds: %w", err)
		}
		ended += found
	}
	if ended == 0 {
		return 0, nil
	}
	err = s.write(ctx, "sweep feeds", func(t *tx) error {
		ended, err = t.endFeeds(ctx, over, args...) // none: another process was first
		return err
	})
	return ended, err
}
