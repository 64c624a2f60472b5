package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/seal"
	"tidegate/schema/control"
)

// accountDefault is the script of the policies of an account's default.
const accountDefault = ""

// fromFollowed is each script with the policy that it follows, its own or else the
// account's default, if that one is enabled.
const fromFollowed = ` FROM scripts s JOIN policies p ON p.account_id = s.account_id AND p.enabled
	AND p.script = COALESCE((SELECT o.script FROM policies o WHERE o.account_id = s.account_id AND o.script = s.name), '') `

// Policy returns the rollback policy that a script follows: its own or, if it has none,
// the account's default. For the script "" it is that default. What there is not is a
// not_found error.
func (s *Store) Policy(ctx context.Context, accountID, scriptName string) (deploy.PolicyRevision, error) {
	var p *deploy.PolicyRevision
	err := s.read(ctx, "read policy", func(t *sql.Tx) (err error) {
		if err := known(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		if p, err = followed(ctx, t, s.keys, accountID, scriptName); err != nil {
			return err
		}
		if p != nil {
			p.Since, err = followedSince(ctx, t, accountID, scriptName, p.At)
			return err
		}
		if scriptName == accountDefault {
			return errs.New(errs.NotFound, 0, "the account has no default rollback policy")
		}
		return errs.New(errs.NotFound, 0, "script %q has no rollback policy, and the account no default", scriptName)
	})
	if err != nil {
		return deploy.PolicyRevision{}, err
	}
	return *p, nil
}

// known is a not_found error for a script that does not exist. The account's default
// is always known.
func known(ctx context.Context, q querier, accountID, scriptName string) error {
	if scriptName == accountDefault {
		return nil
	}
	_, err := script(ctx, q, accountID, scriptName)
	return err
}

const selectRevisions = `SELECT r.account_id, r.script, r.revision, r.policy_json, r.created_by, r.created_on FROM policy_revisions r `

func scanRevision(row scanner, keys *seal.Keys) (deploy.PolicyRevision, error) {
	var r deploy.PolicyRevision
	var accountID, script string
	var text sql.NullString
	var created int64
	if err := row.Scan(&accountID, &script, &r.Revision, &text, &r.By, &created); err != nil {
		return r, err
	}
	r.Source, r.At = sourceOf(script), fromMicros(created)
	if !text.Valid {
		return r, nil
	}
	p, err := openPolicy(keys, text.String, accountID, script, r.Revision)
	r.Policy = &p
	return r, err
}

// openPolicy reads a policy, which is sealed because its targets have secrets.
func openPolicy(keys *seal.Keys, text, accountID, script string, revision int64) (deploy.RollbackPolicy, error) {
	plain, err := keys.Open(text, policyPlace(accountID, script, revision))
	if err != nil {
		return deploy.RollbackPolicy{}, err
	}
	return deploy.ReadPolicy([]byte(plain))
}

func policyPlace(accountID, script string, revision int64) string {
	return placeOf("policy_revisions", "policy_json", accountID, script, revision)
}

func sourceOf(script string) deploy.PolicySource {
	if script == accountDefault {
		return deploy.PolicyOfAccount
	}
	return deploy.PolicyOfScript
}

// followed returns the policy that a script follows, nil if there is none.
func followed(ctx context.Context, q querier, keys *seal.Keys, accountID, script string) (*deploy.PolicyRevision, error) {
	p, err := policy(ctx, q, keys, accountID, script)
	if err != nil || p != nil {
		return p, err
	}
	return policy(ctx, q, keys, accountID, accountDefault)
}

// followedSince is when a script began to follow a policy that was saved at a time: Watched
// says the same.
func followedSince(ctx context.Context, q querier, accountID, script string, saved time.Time) (time.Time, error) {
	var own int64 // when the script's own was last changed, or deleted
	err := q.QueryRowContext(ctx, `SELECT created_on FROM policy_revisions WHERE account_id = $1 AND script = $2 ORDER BY revision DESC LIMIT 1`,
		accountID, script).Scan(&own)
	if errors.Is(err, sql.ErrNoRows) {
		return saved, nil
	}
	if at := fromMicros(own); err == nil && at.After(saved) {
		return at, nil
	}
	return saved, err
}

// policy returns a script's own policy, or the account's default, nil if there is none.
func policy(ctx context.Context, q querier, keys *seal.Keys, accountID, script string) (*deploy.PolicyRevision, error) {
	r, err := scanRevision(q.QueryRowContext(ctx, selectRevisions+`JOIN policies p ON p.account_id = r.account_id AND p.script = r.script AND p.revision = r.revision
		WHERE r.account_id = $1 AND r.script = $2`, accountID, script), keys)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &r, err
}

// PolicyRevisions returns what is kept of the policies that a script had of its own, or
// for "" of the account's default, newest first: at most deploy.PolicyRevisionsMax.
func (s *Store) PolicyRevisions(ctx context.Context, accountID, scriptName string) ([]deploy.PolicyRevision, error) {
	var list []deploy.PolicyRevision
	err := s.read(ctx, "list revisions of a policy", func(t *sql.Tx) error {
		if err := known(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			r, err := scanRevision(row, s.keys)
			list = append(list, r)
			return err
		}, selectRevisions+`WHERE r.account_id = $1 AND r.script = $2 ORDER BY r.revision DESC`, accountID, scriptName)
	})
	return list, err
}

// SavePolicy replaces the rollback policy of a script, or for "" the account's default,
// by a valid one. What of it is masked is taken from revisions that are kept, and
// invalid if they do not have it. check, unless it is nil, may refuse the change: it is
// given the revision of the policy that would be replaced, 0 if there is none. A policy that
// is held already stays the revision that it is.
func (s *Store) SavePolicy(ctx context.Context, accountID, script string, p deploy.RollbackPolicy, check func(revision int64) error) (saved deploy.PolicyRevision, err error) {
	err = s.write(ctx, "save policy", func(t *tx) error {
		old, err := t.lockPolicy(ctx, accountID, script, check)
		if err != nil {
			return err
		}
		if p.HasMasked() {
			targets, err := t.knownTargets(ctx, accountID, script)
			if err != nil {
				return err
			}
			if err := p.Unmask(targets); err != nil {
				return err
			}
			if err := p.Validate(); err != nil { // two that were masked may be one
				return err
			}
		}
		text, err := toJSON(p)
		if err != nil {
			return err
		}
		if same, err := isPolicy(old, text); err != nil || same {
			if same {
				saved = *old
			}
			return err
		}
		saved, err = t.addRevision(ctx, accountID, script, sql.NullString{String: text, Valid: true})
		if err != nil {
			return err
		}
		saved.Policy = &p
		if _, err := t.ExecContext(ctx, `INSERT INTO policies (account_id, script, enabled, revision) VALUES ($1, $2, $3, $4)
			ON CONFLICT (account_id, script) DO UPDATE SET enabled = excluded.enabled, revision = excluded.revision`,
			accountID, script, p.Enabled, saved.Revision); err != nil {
			return err
		}
		return t.auditPolicy(ctx, accountID, "policy.save", script, old, &saved)
	})
	return saved, err
}

// isPolicy reports whether a revision is of this policy. Saving it again is no change: a
// revision more would have its evidence begin anew, with every run of a pipeline that
// sets what is set already.
func isPolicy(r *deploy.PolicyRevision, text string) (bool, error) {
	if r == nil || r.Policy == nil {
		return false, nil
	}
	held, err := toJSON(r.Policy)
	return held == text, err
}

// DeletePolicy removes the rollback policy of a script, or for "" the account's default;
// there may be none. A running ramp stays where it is. check is that of SavePolicy.
func (s *Store) DeletePolicy(ctx context.Context, accountID, script string, check func(revision int64) error) error {
	return s.write(ctx, "delete policy", func(t *tx) error {
		old, err := t.lockPolicy(ctx, accountID, script, check)
		if err != nil || old == nil {
			return err
		}
		if _, err := t.addRevision(ctx, accountID, script, sql.NullString{}); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM policies WHERE account_id = $1 AND script = $2`, accountID, script); err != nil {
			return err
		}
		return t.auditPolicy(ctx, accountID, "policy.delete", script, old, nil)
	})
}

// lockPolicy keeps other writers away and returns what would be replaced, nil if there
// is none.
func (t *tx) lockPolicy(ctx context.Context, accountID, script string, check func(revision int64) error) (*deploy.PolicyRevision, error) {
	var err error
	if script == accountDefault {
		_, err = t.ExecContext(ctx, `UPDATE accounts SET id = id WHERE id = $1`, accountID)
	} else {
		_, _, err = t.lockScript(ctx, accountID, script)
	}
	if err != nil {
		return nil, err
	}
	old, err := policy(ctx, t, t.keys, accountID, script)
	if err != nil || check == nil {
		return old, err
	}
	var revision int64
	if old != nil {
		revision = old.Revision
	}
	return old, check(revision)
}

// knownTargets are those of what is kept of a script's policies, and of the account's
// default, which a script's may have been copied from.
func (t *tx) knownTargets(ctx context.Context, accountID, script string) ([]deploy.NotifyTarget, error) {
	var targets []deploy.NotifyTarget
	err := each(ctx, t, func(row scanner) error {
		r, err := scanRevision(row, t.keys)
		if r.Policy != nil {
			targets = append(targets, r.Policy.Notify...)
		}
		return err
	}, selectRevisions+`WHERE r.account_id = $1 AND r.script IN ($2, '') ORDER BY r.script DESC, r.revision DESC`, accountID, script)
	return targets, err
}

// addRevision numbers a policy, or its end if text is null, and forgets the oldest one
// beyond those that are kept. The policy is locked.
func (t *tx) addRevision(ctx context.Context, accountID, script string, text sql.NullString) (deploy.PolicyRevision, error) {
	r := deploy.PolicyRevision{Source: sourceOf(script), By: control.ActorFrom(ctx).Email, At: t.now}
	if err := t.QueryRowContext(ctx, `SELECT COALESCE(MAX(revision), 0) + 1 FROM policy_revisions WHERE account_id = $1 AND script = $2`,
		accountID, script).Scan(&r.Revision); err != nil {
		return r, err
	}
	if text.Valid {
		var err error
		if text.String, err = t.keys.Seal(text.String, policyPlace(accountID, script, r.Revision)); err != nil {
			return r, err
		}
	}
	if _, err := t.ExecContext(ctx, `INSERT INTO policy_revisions (account_id, script, revision, policy_json, created_by, created_on) VALUES ($1, $2, $3, $4, $5, $6)`,
		accountID, script, r.Revision, text, r.By, t.now.UnixMicro()); err != nil {
		return r, err
	}
	_, err := t.ExecContext(ctx, `DELETE FROM policy_revisions WHERE account_id = $1 AND script = $2 AND revision <= $3`,
		accountID, script, r.Revision-deploy.PolicyRevisionsMax)
	return r, err
}

func (t *tx) auditPolicy(ctx context.Context, accountID, action, script string, before, after *deploy.PolicyRevision) error {
	var texts [2]any
	for i, r := range []*deploy.PolicyRevision{before, after} {
		if r != nil {
			texts[i] = r.Policy.Masked()
		}
	}
	target := script
	if script == accountDefault {
		target = accountID
	}
	return t.audit(ctx, accountID, action, target, texts[0], texts[1])
}

// deletePolicies forgets all that there was of a script's.
func (t *tx) deletePolicies(ctx context.Context, accountID, script string) error {
	_, err := t.ExecContext(ctx, `DELETE FROM policies WHERE account_id = $1 AND script = $2`, accountID, script)
	if err != nil {
		return err
	}
	_, err = t.ExecContext(ctx, `DELETE FROM policy_revisions WHERE account_id = $1 AND script = $2`, accountID, script)
	return err
}
