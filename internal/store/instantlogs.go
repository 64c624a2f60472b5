package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/internal/seal"
)

const instantColumns = `id, sealed, account_id, zone, settings_json, created_on, expires_on, token_id, session_hash`

func scanInstantLogs(row scanner, keys *seal.Keys) (logjob.InstantLogs, error) {
	var l logjob.InstantLogs
	var hash, sealed, settings string
	var created, expires int64
	if err := row.Scan(&hash, &sealed, &l.AccountID, &l.Zone, &settings, &created, &expires, &l.Holder.TokenID, &l.Holder.Session); err != nil {
		return l, err
	}
	l.CreatedOn, l.ExpiresOn = fromMicros(created), fromMicros(expires)
	var err error
	if l.ID, err = keys.Open(sealed, instantPlace(l.AccountID, hash)); err != nil {
		return l, err
	}
	return l, fromJSON(settings, &l.InstantSettings)
}

func instantPlace(accountID, hash string) string {
	return placeOf("instant_logs", "sealed", accountID, hash)
}

// CreateInstantLogs begins a session with valid settings. Id and times are given
// here; it ends with the actor's session or token. It is forbidden while there is one of the same account and zone already.
func (s *Store) CreateInstantLogs(ctx context.Context, l logjob.InstantLogs) (logjob.InstantLogs, error) {
	err := s.write(ctx, "create instant logs", func(t *tx) error {
		// First, as where a session or a token ends: two orders would be a deadlock.
		who, until, err := t.opener(ctx, t.now.Add(logjob.InstantLifetime))
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM instant_logs WHERE ends_on <= $1`, t.now.UnixMicro()); err != nil {
			return err
		}
		l.ID, l.CreatedOn, l.ExpiresOn = newSecret(), t.now, until
		settings, err := toJSON(l.InstantSettings)
		if err != nil {
			return err
		}
		hash := hashOf(l.ID)
		sealed, err := t.keys.Seal(l.ID, instantPlace(l.AccountID, hash))
		if err != nil {
			return err
		}
		n, err := changed(ctx, t, `INSERT INTO instant_logs (`+instantColumns+`, ends_on) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT (account_id, zone) DO NOTHING`,
			hash, sealed, l.AccountID, l.Zone, settings, l.CreatedOn.UnixMicro(), l.ExpiresOn.UnixMicro(), who.TokenID, who.Session, earliest(t.now.Add(logjob.InstantIdle), until).UnixMicro())
		if err != nil {
			return err
		}
		if n == 0 {
			return liveInstantLogs(l.Zone)
		}
		return t.audit(ctx, l.AccountID, "instant_logs.create", cmp.Or(l.Zone, l.AccountID), nil, l.InstantSettings)
	})
	return l, err
}

func liveInstantLogs(zone string) error {
	of := "this account"
	if zone != "" {
		of = "zone " + zone
	}
	return errs.New(errs.Forbidden, codeQuota, "creating a new instant logs job is not allowed: exceeded max jobs allowed: "+
		"%s has a session, which ends %d minutes after the last listener left; list the sessions to connect to it", of, int(logjob.InstantIdle.Minutes()))
}

// InstantLogs returns the live sessions of an account and a zone; "" is the account itself.
// Their ids are for the actor.
func (s *Store) InstantLogs(ctx context.Context, accountID, zone string) ([]logjob.InstantLogs, error) {
	var list []logjob.InstantLogs
	err := each(ctx, s.reader, func(row scanner) error {
		l, err := scanInstantLogs(row, s.keys)
		l.ID = addressFor(ctx, l.ID, l.Holder)
		list = append(list, l)
		return err
	}, `SELECT `+instantColumns+` FROM instant_logs WHERE account_id = $1 AND zone = $2 AND ends_on > $3`, accountID, zone, s.now().UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("list instant logs: %w", err)
	}
	return list, nil
}

// OpenInstantLogs returns the live session that an address opens, with its id and whom the
// address was given to, or a not_found error. Whether they may still listen is not looked at.
func (s *Store) OpenInstantLogs(ctx context.Context, address string) (logjob.InstantLogs, error) {
	at := parseAddress(address)
	l, err := scanInstantLogs(s.reader.QueryRowContext(ctx, `SELECT `+instantColumns+` FROM instant_logs WHERE id = $1 AND ends_on > $2`,
		at.hash, s.now().UnixMicro()), s.keys)
	if err == nil {
		var ok bool
		if l.Holder, ok = at.opens(l.ID, l.Holder); !ok {
			l, err = logjob.InstantLogs{}, sql.ErrNoRows
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return l, noInstantLogs()
	}
	if err != nil {
		err = fmt.Errorf("open instant logs: %w", err)
	}
	return l, err
}

func noInstantLogs() error {
	return errs.New(errs.NotFound, 0, "there is no such session of instant logs: it has ended or never was")
}

// AwaitInstantLogsEnd returns nil when a session has ended, and otherwise the error of ctx. A
// deletion by another process is seen as soon as any other change.
func (s *Store) AwaitInstantLogsEnd(ctx context.Context, id string) error {
	for {
		_, changed := s.watch.state()
		if _, err := s.OpenInstantLogs(ctx, id); err != nil {
			if errs.KindOf(err) == errs.NotFound {
				return nil
			}
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// KeepInstantLogs says that somebody listens to a session now, or did until now.
// One that has ended is a not_found error.
func (s *Store) KeepInstantLogs(ctx context.Context, id string) error {
	now := s.now()
	n, err := changed(ctx, s.writer, `UPDATE instant_logs SET ends_on = CASE WHEN expires_on < $1 THEN expires_on ELSE $1 END
		WHERE id = $2 AND ends_on > $3`, now.Add(logjob.InstantIdle).UnixMicro(), hashOf(id), now.UnixMicro())
	if err != nil {
		return fmt.Errorf("keep instant logs: %w", err)
	}
	if n == 0 {
		return noInstantLogs()
	}
	return nil
}
