package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// Affinity returns the affinity rules of a script, or a not_found error.
func (s *Store) Affinity(ctx context.Context, accountID, name string) (deploy.Affinity, error) {
	var a *deploy.Affinity
	err := s.read(ctx, "read affinity", func(t *sql.Tx) (err error) {
		if _, err := script(ctx, t, accountID, name); err != nil {
			return err
		}
		if a, err = affinity(ctx, t, accountID, name); err == nil && a == nil {
			err = errs.New(errs.NotFound, 0, "script %q has no affinity rules", name)
		}
		return err
	})
	if err != nil {
		return deploy.Affinity{}, err
	}
	return *a, nil
}

// affinity returns nil when the script has none.
func affinity(ctx context.Context, q querier, accountID, script string) (*deploy.Affinity, error) {
	var text string
	err := q.QueryRowContext(ctx, `SELECT rules_json FROM affinity WHERE account_id = $1 AND script = $2`, accountID, script).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var a deploy.Affinity
	return &a, fromJSON(text, &a.Rules)
}

// SaveAffinity replaces the affinity rules of a script by valid ones.
func (s *Store) SaveAffinity(ctx context.Context, accountID, script string, a deploy.Affinity) error {
	return s.changeAffinity(ctx, "save affinity", accountID, script, func(t *tx) (action string, after any, err error) {
		text, err := toJSON(a.Rules)
		if err != nil {
			return "", nil, err
		}
		_, err = t.ExecContext(ctx, `INSERT INTO affinity (account_id, script, rules_json, modified_on) VALUES ($1, $2, $3, $4)
			ON CONFLICT (account_id, script) DO UPDATE SET rules_json = excluded.rules_json, modified_on = excluded.modified_on`,
			accountID, script, text, t.now.UnixMicro())
		return "affinity.save", a, err
	})
}

// DeleteAffinity removes the affinity rules of a script, which may have none.
func (s *Store) DeleteAffinity(ctx context.Context, accountID, script string) error {
	return s.changeAffinity(ctx, "delete affinity", accountID, script, func(t *tx) (action string, after any, err error) {
		_, err = t.ExecContext(ctx, `DELETE FROM affinity WHERE account_id = $1 AND script = $2`, accountID, script)
		return "affinity.delete", nil, err
	})
}

// changeAffinity writes, audits and publishes.
func (s *Store) changeAffinity(ctx context.Context, what, accountID, script string, write func(*tx) (action string, after any, err error)) error {
	return s.write(ctx, what, func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, script); err != nil {
			return err
		}
		old, err := affinity(ctx, t, accountID, script)
		if err != nil {
			return err
		}
		action, after, err := write(t)
		if err != nil {
			return err
		}
		var before any
		if old != nil {
			before = old
		}
		if err := t.audit(ctx, accountID, action, script, before, after); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

// addAffinity adds the rules of each script to the snapshot.
func addAffinity(ctx context.Context, t *sql.Tx, which accountFilter, byKey map[scriptKey]*deploy.SnapshotScript) error {
	return each(ctx, t, func(row scanner) error {
		var key scriptKey
		var text string
		if err := row.Scan(&key.accountID, &key.name, &text); err != nil {
			return err
		}
		script := byKey[key]
		if script == nil {
			return nil
		}
		if err := fromJSON(text, &script.Affinity); err != nil {
			return fmt.Errorf("affinity of script %s: %w", key.name, err)
		}
		return nil
	}, `SELECT account_id, script, rules_json FROM affinity WHERE account_id = COALESCE($1, account_id)`, which)
}
