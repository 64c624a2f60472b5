package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// decisionsMax is the length of the list of decisions.
const decisionsMax = 100

// Policy returns the rollback policy of a script, or a not_found error.
func (s *Store) Policy(ctx context.Context, accountID, scriptName string) (deploy.RollbackPolicy, error) {
	var p *deploy.RollbackPolicy
	err := s.read(ctx, "read policy", func(t *sql.Tx) (err error) {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		if p, err = policy(ctx, t, accountID, scriptName); err == nil && p == nil {
			err = errs.New(errs.NotFound, 0, "script %q has no rollback policy", scriptName)
		}
		return err
	})
	if err != nil {
		return deploy.RollbackPolicy{}, err
	}
	return *p, nil
}

// policy returns nil when the script has none.
func policy(ctx context.Context, q querier, accountID, script string) (*deploy.RollbackPolicy, error) {
	var text string
	err := q.QueryRowContext(ctx, `SELECT policy_json FROM policies WHERE account_id = $1 AND script = $2`, accountID, script).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var p deploy.RollbackPolicy
	return &p, fromJSON(text, &p)
}

// SavePolicy replaces the rollback policy of a script.
func (s *Store) SavePolicy(ctx context.Context, accountID, script string, p deploy.RollbackPolicy) error {
	return s.changePolicy(ctx, "save policy", accountID, script, &p)
}

// DeletePolicy removes the rollback policy of a script, which may have none. A
// running ramp stays where it is.
func (s *Store) DeletePolicy(ctx context.Context, accountID, script string) error {
	return s.changePolicy(ctx, "delete policy", accountID, script, nil)
}

func (s *Store) changePolicy(ctx context.Context, what, accountID, script string, p *deploy.RollbackPolicy) error {
	return s.write(ctx, what, func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, script); err != nil {
			return err
		}
		old, err := policy(ctx, t, accountID, script)
		if err != nil {
			return err
		}
		var before, after any
		if old != nil {
			before = old
		}
		if p == nil {
			if _, err := t.ExecContext(ctx, `DELETE FROM policies WHERE account_id = $1 AND script = $2`, accountID, script); err != nil {
				return err
			}
			return t.audit(ctx, accountID, "policy.delete", script, before, nil)
		}
		text, err := toJSON(p)
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `INSERT INTO policies (account_id, script, enabled, policy_json, modified_on)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (account_id, script) DO UPDATE SET
			enabled = excluded.enabled, policy_json = excluded.policy_json, modified_on = excluded.modified_on`,
			accountID, script, p.Enabled, text, t.now.UnixMicro()); err != nil {
			return err
		}
		after = p
		return t.audit(ctx, accountID, "policy.save", script, before, after)
	})
}

// Decisions returns the newest rollback decisions about a script, newest first.
func (s *Store) Decisions(ctx context.Context, accountID, scriptName string) ([]deploy.RollbackDecision, error) {
	var list []deploy.RollbackDecision
	err := s.read(ctx, "list decisions", func(t *sql.Tx) error {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			d, err := scanDecision(row)
			list = append(list, d)
			return err
		}, `SELECT decision_json FROM decisions WHERE account_id = $1 AND script = $2
			ORDER BY decided_on DESC, id LIMIT $3`, accountID, scriptName, decisionsMax)
	})
	return list, err
}

func scanDecision(row scanner, also ...any) (deploy.RollbackDecision, error) {
	var text string
	var d deploy.RollbackDecision
	if err := row.Scan(append([]any{&text}, also...)...); err != nil {
		return d, err
	}
	return d, fromJSON(text, &d)
}

// Ramp returns the ramp of a script, or a not_found error.
func (s *Store) Ramp(ctx context.Context, accountID, scriptName string) (deploy.Ramp, error) {
	var r *deploy.Ramp
	err := s.read(ctx, "read ramp", func(t *sql.Tx) (err error) {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		if r, err = ramp(ctx, t, accountID, scriptName); err == nil && r == nil {
			err = noRamp(scriptName)
		}
		return err
	})
	if err != nil {
		return deploy.Ramp{}, err
	}
	return *r, nil
}

func noRamp(script string) error {
	return errs.New(errs.NotFound, 0, "script %q has no ramp: deploy a new version while its policy names one", script)
}

// ramp returns nil when the script has none.
func ramp(ctx context.Context, q querier, accountID, script string) (*deploy.Ramp, error) {
	var text string
	err := q.QueryRowContext(ctx, `SELECT ramp_json FROM ramps WHERE account_id = $1 AND script = $2`, accountID, script).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r deploy.Ramp
	return &r, fromJSON(text, &r)
}

// ControlRamp changes the state of a ramp as a person asks; see deploy.Ramp.Control
// for the actions and the refusals.
func (s *Store) ControlRamp(ctx context.Context, accountID, script, action string) (deploy.Ramp, error) {
	var after deploy.Ramp
	err := s.write(ctx, action+" ramp", func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, script); err != nil {
			return err
		}
		before, err := ramp(ctx, t, accountID, script)
		if err != nil {
			return err
		}
		if before == nil {
			return noRamp(script)
		}
		if after, err = before.Control(action, control.ActorFrom(ctx).Email, t.now); err != nil {
			return err
		}
		if err := t.saveRamp(ctx, accountID, script, &after); err != nil {
			return err
		}
		return t.audit(ctx, accountID, "ramp."+action, script, before, after)
	})
	return after, err
}

func (t *tx) saveRamp(ctx context.Context, accountID, script string, r *deploy.Ramp) error {
	text, err := toJSON(r)
	if err != nil {
		return err
	}
	_, err = t.ExecContext(ctx, `INSERT INTO ramps (account_id, script, ramp_json) VALUES ($1, $2, $3)
		ON CONFLICT (account_id, script) DO UPDATE SET ramp_json = excluded.ramp_json`, accountID, script, text)
	return err
}

func (t *tx) recordDecision(ctx context.Context, accountID, script string, d deploy.RollbackDecision) error {
	text, err := toJSON(d)
	if err != nil {
		return err
	}
	_, err = t.ExecContext(ctx, `INSERT INTO decisions (id, account_id, script, decided_on, from_deployment, decision_json)
		VALUES ($1, $2, $3, $4, $5, $6)`, d.ID, accountID, script, d.At.UnixMicro(), d.FromDeployment, text)
	return err
}

// ApplyDecision moves traffic to d, stores the ramp r and records decision, all or
// nothing; each may be nil and is then left as it is. When another deployment
// than ifCurrent serves, or a person has held the ramp meanwhile, nothing happens
// and the error is a conflict. Any version that exists may be put back: a script
// with many uploads and few deployments may have last served one that is older than
// the newest 100.
func (s *Store) ApplyDecision(ctx context.Context, accountID, script, ifCurrent string, d *deploy.Deployment, r *deploy.Ramp, decision *deploy.RollbackDecision) error {
	return s.write(ctx, "apply decision about "+script, func(t *tx) error {
		_, lastDeployment, err := t.lockScript(ctx, accountID, script)
		if err != nil {
			return err
		}
		current, err := t.currentDeployment(ctx, accountID, script, lastDeployment, ifCurrent)
		if err != nil {
			return err
		}
		if r != nil {
			if err := t.checkNotHeld(ctx, accountID, script, ifCurrent, d, r); err != nil {
				return err
			}
			if err := t.saveRamp(ctx, accountID, script, r); err != nil {
				return err
			}
		}
		if decision != nil {
			if err := t.recordDecision(ctx, accountID, script, *decision); err != nil {
				return err
			}
		}
		if d == nil {
			return nil
		}
		if _, err := t.checkSplits(ctx, accountID, script, d.Versions); err != nil {
			return err
		}
		if err := t.checkObjects(ctx, accountID, script, d.Versions); err != nil {
			return err
		}
		if _, err := t.deploy(ctx, accountID, script, lastDeployment, current, *d); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

// checkNotHeld refuses any change of a ramp that a person paused or aborted since
// it was read, to its last step too. Only the end of a ramp by a rollback passes:
// to hold a ramp is not to keep a version that fails.
func (t *tx) checkNotHeld(ctx context.Context, accountID, script, ifCurrent string, d *deploy.Deployment, r *deploy.Ramp) error {
	stored, err := ramp(ctx, t, accountID, script)
	if err != nil || stored == nil || stored.DeploymentID != ifCurrent {
		return err
	}
	held := stored.State == deploy.RampPaused || stored.State == deploy.RampAborted
	rollsBack := d != nil && r.State == deploy.RampAborted
	if held && !rollsBack {
		return errs.New(errs.Conflict, 0, "the ramp of %s is %s by now: read it again", script, stored.State)
	}
	return nil
}

// Watched returns every script with an enabled policy that has been deployed,
// and what the controller needs to judge it, as of one moment.
func (s *Store) Watched(ctx context.Context) ([]deploy.Watched, error) {
	var list []deploy.Watched
	err := s.read(ctx, "list watched scripts", func(t *sql.Tx) error {
		err := each(ctx, t, func(row scanner) error {
			var w deploy.Watched
			var policyText string
			var rampText sql.NullString
			if err := row.Scan(&w.AccountID, &w.Script, &policyText, &rampText); err != nil {
				return err
			}
			if err := fromJSON(policyText, &w.Policy); err != nil {
				return fmt.Errorf("policy of script %s: %w", w.Script, err)
			}
			if rampText.Valid {
				if err := fromJSON(rampText.String, &w.Ramp); err != nil {
					return fmt.Errorf("ramp of script %s: %w", w.Script, err)
				}
			}
			list = append(list, w)
			return nil
		}, `SELECT p.account_id, p.script, p.policy_json, r.ramp_json FROM policies p
			JOIN scripts s ON s.account_id = p.account_id AND s.name = p.script
			LEFT JOIN ramps r ON r.account_id = p.account_id AND r.script = p.script
			WHERE p.enabled AND s.last_deployment > 0 ORDER BY p.account_id, p.script`)
		if err != nil {
			return err
		}
		byScript := make(map[scriptKey]*deploy.Watched, len(list))
		for i := range list {
			byScript[scriptKey{list[i].AccountID, list[i].Script}] = &list[i]
		}
		if err := addDeployments(ctx, t, byScript); err != nil {
			return err
		}
		return addDecisions(ctx, t, byScript)
	})
	return list, err
}

func addDeployments(ctx context.Context, t *sql.Tx, watched map[scriptKey]*deploy.Watched) error {
	return each(ctx, t, func(row scanner) error {
		var key scriptKey
		d, err := scanDeployment(row, &key.accountID, &key.name)
		if w := watched[key]; w != nil {
			w.Deployments = append(w.Deployments, d)
		}
		return err
	}, `SELECT `+deploymentColumns+`, d.account_id, d.script FROM deployments d
		JOIN scripts s ON s.account_id = d.account_id AND s.name = d.script
		JOIN policies p ON p.account_id = d.account_id AND p.script = d.script
		WHERE p.enabled AND d.number > s.last_deployment - $1
		ORDER BY d.account_id, d.script, d.number DESC`, deploy.WatchedDeployments)
}

// addDecisions finds the newest decision about each current deployment.
func addDecisions(ctx context.Context, t *sql.Tx, watched map[scriptKey]*deploy.Watched) error {
	return each(ctx, t, func(row scanner) error {
		var key scriptKey
		d, err := scanDecision(row, &key.accountID, &key.name)
		if w := watched[key]; w != nil {
			w.LastDecision = &d
		}
		return err
	}, `SELECT x.decision_json, x.account_id, x.script FROM decisions x
		JOIN scripts s ON s.account_id = x.account_id AND s.name = x.script
		JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
		WHERE x.from_deployment = d.id ORDER BY x.decided_on`)
}
