package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
	"tidegate/schema/control"
)

// deletionsActive of one account that are not done yet.
const deletionsActive = 20

// deletionsADay of one account: each is guarded for a day, and its tombstone stays.
const deletionsADay = 200

const deletionColumns = `id, account_id, script_name, before_on, state, requested_by, created_on, started_on, ended_on, checked_on, places_json, error, revision`

func scanDeletion(row scanner) (d schema.Deletion, err error) {
	var before, created int64
	var started, ended, checked sql.NullInt64
	var places string
	if err := row.Scan(&d.ID, &d.AccountID, &d.Script, &before, &d.State, &d.RequestedBy, &created, &started, &ended, &checked, &places, &d.Error, &d.Revision); err != nil {
		return d, err
	}
	d.Before, d.CreatedOn = fromMicros(before), fromMicros(created)
	d.StartedOn, d.EndedOn, d.CheckedOn = fromNullMicros(started), fromNullMicros(ended), fromNullMicros(checked)
	return d, fromJSON(places, &d.Places)
}

// CreateDeletion queues the deletion of what a tombstone covers. It is a conflict while
// the account has as many under way as it may.
func (s *Store) CreateDeletion(ctx context.Context, what schema.Tombstone) (d schema.Deletion, err error) {
	err = s.write(ctx, "create deletion", func(t *tx) error {
		// The account's row is locked from here on: two cannot both take the last place.
		n, err := changed(ctx, t, `UPDATE accounts SET name = name WHERE id = $1`, what.AccountID)
		if err != nil {
			return err
		}
		if n == 0 {
			return errs.New(errs.NotFound, 0, "account %s does not exist", what.AccountID)
		}
		var active int
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM deletions WHERE account_id = $1 AND state <> $2`, what.AccountID, schema.DeletionDone).Scan(&active); err != nil {
			return err
		}
		if active >= deletionsActive {
			return errs.New(errs.Conflict, 0, "%d deletions of this account are not done yet, and no more may be: wait for one of them", active)
		}
		var recent int
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM deletions WHERE account_id = $1 AND created_on > $2`, what.AccountID, t.now.Add(-24*time.Hour).UnixMicro()).Scan(&recent); err != nil {
			return err
		}
		if recent >= deletionsADay {
			return errs.New(errs.Conflict, 0, "%d deletions of this account were asked for within a day, and no more may be: delete all scripts at once, or wait", recent)
		}
		who := control.ActorFrom(ctx)
		d = schema.Deletion{ID: newHexID(), Tombstone: what, State: schema.DeletionQueued, RequestedBy: who.Email, CreatedOn: t.now, Places: []schema.DeletionPlace{}}
		if d.RequestedBy == "" {
			d.RequestedBy = who.TokenID
		}
		if _, err := t.ExecContext(ctx, `INSERT INTO deletions (id, account_id, script_name, before_on, state, requested_by, created_on, places_json, error, revision)
			VALUES ($1, $2, $3, $4, $5, $6, $7, '[]', '', 0)`,
			d.ID, d.AccountID, d.Script, d.Before.UnixMicro(), d.State, d.RequestedBy, d.CreatedOn.UnixMicro()); err != nil {
			return err
		}
		return t.audit(ctx, d.AccountID, "deletion.create", d.ID, nil, map[string]any{"script": d.Script, "all_scripts": d.Script == "", "before": d.Before})
	})
	return d, err
}

// Deletions returns deletions of an account, newest first; total counts all of them.
func (s *Store) Deletions(ctx context.Context, accountID string, limit, offset int) (list []schema.Deletion, total int, err error) {
	err = s.read(ctx, "list deletions", func(t *sql.Tx) error {
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM deletions WHERE account_id = $1`, accountID).Scan(&total); err != nil {
			return err
		}
		list, err = deletions(ctx, t, `WHERE account_id = $1 ORDER BY created_on DESC, id LIMIT $2 OFFSET $3`, accountID, limit, offset)
		return err
	})
	return list, total, err
}

// Deletion returns one of an account's.
func (s *Store) Deletion(ctx context.Context, accountID, id string) (schema.Deletion, error) {
	d, err := scanDeletion(s.reader.QueryRowContext(ctx, `SELECT `+deletionColumns+` FROM deletions WHERE account_id = $1 AND id = $2`, accountID, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = errs.New(errs.NotFound, 0, "this account has no deletion %q", id)
	}
	if err != nil {
		return d, fmt.Errorf("read deletion: %w", err)
	}
	return d, nil
}

// OpenDeletions returns those of all accounts that are not done, or were not yet at a
// time, oldest first.
func (s *Store) OpenDeletions(ctx context.Context, doneSince time.Time) ([]schema.Deletion, error) {
	list, err := deletions(ctx, s.reader, `WHERE state <> $1 OR ended_on >= $2 ORDER BY created_on, id`, schema.DeletionDone, doneSince.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("list open deletions: %w", err)
	}
	return list, nil
}

// Tombstones returns what was ever to be deleted, of all accounts.
func (s *Store) Tombstones(ctx context.Context) (list []schema.Tombstone, err error) {
	err = each(ctx, s.reader, func(row scanner) error {
		var t schema.Tombstone
		var before int64
		err := row.Scan(&t.AccountID, &t.Script, &before)
		t.Before = fromMicros(before)
		list = append(list, t)
		return err
	}, `SELECT account_id, script_name, MAX(before_on) FROM deletions GROUP BY account_id, script_name`)
	if err != nil {
		return nil, fmt.Errorf("list tombstones: %w", err)
	}
	return list, nil
}

// SaveDeletion writes what has become of a deletion, and its end into the audit log. It
// is a conflict when the row's revision has moved on: somebody else is at it.
func (s *Store) SaveDeletion(ctx context.Context, d schema.Deletion) (schema.Deletion, error) {
	places, err := toJSON(d.Places)
	if err != nil {
		return d, err
	}
	err = s.write(ctx, "save deletion", func(t *tx) error {
		var before string
		if err := t.QueryRowContext(ctx, `SELECT state FROM deletions WHERE id = $1`, d.ID).Scan(&before); err != nil {
			return err
		}
		n, err := changed(ctx, t, `UPDATE deletions SET state = $1, started_on = $2, ended_on = $3, checked_on = $4, places_json = $5, error = $6, revision = revision + 1
			WHERE id = $7 AND revision = $8`, d.State, nullMicros(d.StartedOn), nullMicros(d.EndedOn), nullMicros(d.CheckedOn), places, said(d.Error), d.ID, d.Revision)
		if err != nil {
			return err
		}
		if n == 0 {
			return errs.New(errs.Conflict, 0, "deletion %s was changed meanwhile", d.ID)
		}
		d.Revision++
		if d.State != schema.DeletionDone || before == schema.DeletionDone {
			return nil
		}
		return t.audit(ctx, d.AccountID, "deletion.done", d.ID, nil, d.Places)
	})
	return d, err
}

// AccountLetters returns the dead letters of an account that wait, have a record from
// before a time, and were made before another, without their content.
func (s *Store) AccountLetters(ctx context.Context, accountID string, from, created time.Time) (list []logjob.DeadLetter, err error) {
	err = each(ctx, s.reader, func(row scanner) error {
		var object string
		l, err := scanLetter(row, &object)
		if err != nil {
			return err
		}
		list = append(list, l)
		return fromJSON(object, &list[len(list)-1].Object)
	}, `SELECT `+letterColumns+`, d.object_json FROM dead_letters d JOIN jobs j ON j.id = d.job_id
		WHERE j.account_id = $1 AND d.state = $2 AND d.from_on < $3 AND d.created_on < $4 ORDER BY d.created_on, d.id`,
		accountID, logjob.LetterNew, from.UnixMicro(), created.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("list the dead letters of account %s: %w", accountID, err)
	}
	return list, nil
}

func deletions(ctx context.Context, q querier, which string, args ...any) (list []schema.Deletion, err error) {
	err = each(ctx, q, func(row scanner) error {
		d, err := scanDeletion(row)
		list = append(list, d)
		return err
	}, `SELECT `+deletionColumns+` FROM deletions `+which, args...)
	return list, err
}
