package store

import (
	"context"
	"database/sql"
	"errors"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// Redaction returns the redaction rules of a script, without those of its account, or
// a not_found error where it has none. The account's own, for all of its scripts, are
// those of the script "".
func (s *Store) Redaction(ctx context.Context, accountID, script string) (deploy.Redaction, error) {
	var rules *deploy.Redaction
	err := s.read(ctx, "read redaction", func(t *sql.Tx) (err error) {
		if rules, err = redaction(ctx, t, accountID, script); err == nil && rules == nil {
			what := "this account has no redaction rules for all scripts"
			if script != "" {
				what = "script " + script + " has no redaction rules of its own"
			}
			err = errs.New(errs.NotFound, 0, "%s", what)
		}
		return err
	})
	if err != nil {
		return deploy.Redaction{}, err
	}
	return *rules, nil
}

// redaction returns nil where there are no rules.
func redaction(ctx context.Context, q querier, accountID, script string) (*deploy.Redaction, error) {
	var text string
	var err error
	if script == "" {
		err = q.QueryRowContext(ctx, `SELECT redaction_json FROM accounts WHERE id = $1`, accountID).Scan(&text)
	} else {
		err = q.QueryRowContext(ctx, `SELECT redaction_json FROM scripts WHERE account_id = $1 AND name = $2`, accountID, script).Scan(&text)
	}
	switch {
	case errors.Is(err, sql.ErrNoRows) && script != "":
		return nil, noScript(script)
	case err != nil || text == "":
		return nil, err
	}
	rules := &deploy.Redaction{}
	return rules, fromJSON(text, rules)
}

// SaveRedaction replaces the redaction rules of a script, or for "" those of the
// account, by valid ones. They hold as soon as gateways have the next snapshot.
func (s *Store) SaveRedaction(ctx context.Context, accountID, script string, rules deploy.Redaction) error {
	text, err := toJSON(rules)
	if err != nil {
		return err
	}
	return s.changeRedaction(ctx, "redaction.save", accountID, script, text, rules)
}

// DeleteRedaction removes redaction rules, of which there may be none.
func (s *Store) DeleteRedaction(ctx context.Context, accountID, script string) error {
	return s.changeRedaction(ctx, "redaction.delete", accountID, script, "", nil)
}

// changeRedaction writes, audits and publishes.
func (s *Store) changeRedaction(ctx context.Context, action, accountID, script, text string, after any) error {
	return s.write(ctx, action, func(t *tx) error {
		if script != "" {
			if _, _, err := t.lockScript(ctx, accountID, script); err != nil {
				return err
			}
		}
		old, err := redaction(ctx, t, accountID, script)
		if err != nil {
			return err
		}
		if script == "" {
			_, err = t.ExecContext(ctx, `UPDATE accounts SET redaction_json = $1 WHERE id = $2`, text, accountID)
		} else {
			_, err = t.ExecContext(ctx, `UPDATE scripts SET redaction_json = $1 WHERE account_id = $2 AND name = $3`, text, accountID, script)
		}
		if err != nil {
			return err
		}
		var before any
		target := script
		if old != nil {
			before = old
		}
		if script == "" {
			target = accountID
		}
		if err := t.audit(ctx, accountID, action, target, before, after); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

// addRedaction adds to the snapshot what gateways take out of each script's events:
// what the account says, then what the script adds.
func addRedaction(ctx context.Context, t *sql.Tx, which accountFilter, byKey map[scriptKey]*deploy.SnapshotScript) error {
	return each(ctx, t, func(row scanner) error {
		var key scriptKey
		var texts [2]string
		if err := row.Scan(&key.accountID, &key.name, &texts[0], &texts[1]); err != nil {
			return err
		}
		script := byKey[key]
		if script == nil {
			return nil
		}
		var rules deploy.Redaction
		for _, text := range texts {
			if text == "" {
				continue
			}
			var more deploy.Redaction
			if err := fromJSON(text, &more); err != nil {
				return err
			}
			rules = rules.With(more)
		}
		script.Redaction = &rules
		return nil
	}, `SELECT s.account_id, s.name, a.redaction_json, s.redaction_json FROM scripts s JOIN accounts a ON a.id = s.account_id
		WHERE s.account_id = COALESCE($1, s.account_id) AND (a.redaction_json <> '' OR s.redaction_json <> '')`, which)
}
