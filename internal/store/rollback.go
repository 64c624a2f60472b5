package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// Decisions returns rollback decisions about a script, newest first: at most limit of
// them, beginning with the one that offset others are newer than. Their evidence has no
// series. total counts all.
func (s *Store) Decisions(ctx context.Context, accountID, scriptName string, limit, offset int) (list []deploy.RollbackDecision, total int, err error) {
	err = s.read(ctx, "list decisions", func(t *sql.Tx) error {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM decisions WHERE account_id = $1 AND script = $2`, accountID, scriptName).Scan(&total); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			d, err := scanDecision(row)
			list = append(list, d)
			return err
		}, `SELECT decision_json FROM decisions WHERE account_id = $1 AND script = $2
			ORDER BY decided_on DESC, id LIMIT $3 OFFSET $4`, accountID, scriptName, limit, offset)
	})
	return list, total, err
}

// Decision returns one decision about a script with all of its evidence, or a not_found
// error.
func (s *Store) Decision(ctx context.Context, accountID, scriptName, id string) (deploy.RollbackDecision, error) {
	var d deploy.RollbackDecision
	err := s.read(ctx, "read decision", func(t *sql.Tx) (err error) {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		var evidence sql.NullString
		d, err = scanDecision(t.QueryRowContext(ctx, `SELECT decision_json, evidence_json FROM decisions
			WHERE account_id = $1 AND script = $2 AND id = $3`, accountID, scriptName, id), &evidence)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errs.New(errs.NotFound, 0, "decision %q about script %q does not exist", id, scriptName)
		case err != nil || !evidence.Valid:
			return err
		}
		d.Evidence = nil
		return fromJSON(evidence.String, &d.Evidence)
	})
	return d, err
}

func scanDecision(row scanner, also ...any) (deploy.RollbackDecision, error) {
	var text string
	var d deploy.RollbackDecision
	if err := row.Scan(append([]any{&text}, also...)...); err != nil {
		return d, err
	}
	return d, fromJSON(text, &d)
}

// Ramp returns the newest ramp of a script beside the deployment that serves
// (deploy.Ramp.Beside), or a not_found error.
func (s *Store) Ramp(ctx context.Context, accountID, scriptName string) (shown deploy.Ramp, err error) {
	err = s.read(ctx, "read ramp", func(t *sql.Tx) error {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		r, err := ramp(ctx, t, accountID, scriptName)
		if err != nil {
			return err
		}
		if r == nil {
			return noRamp(scriptName)
		}
		var serving string
		err = t.QueryRowContext(ctx, `SELECT d.id FROM scripts s JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name
			AND d.number = s.last_deployment WHERE s.account_id = $1 AND s.name = $2`, accountID, scriptName).Scan(&serving)
		shown = r.Beside(serving)
		return err
	})
	return shown, err
}

func noRamp(script string) error {
	return errs.New(errs.NotFound, 0, "script %q has no ramp: one begins about a second after a new version was deployed while its policy names a ramp", script)
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

// ControlRamp changes a ramp as a person asks; see deploy.Ramp.Control for the actions
// and the refusals. A step that is skipped to is deployed with it, all or nothing. A ramp
// whose deployment no longer serves is a conflict. When
// ifDeployment is not empty and the ramp is not at the step of that deployment any more,
// nothing happens and the error is a conflict: whoever asked meant another step.
func (s *Store) ControlRamp(ctx context.Context, accountID, script, action, ifDeployment string) (deploy.Ramp, error) {
	var after deploy.Ramp
	var dropped []deploy.NotifyType
	err := s.write(ctx, action+" ramp", func(t *tx) error {
		_, lastDeployment, err := t.lockScript(ctx, accountID, script)
		if err != nil {
			return err
		}
		before, err := ramp(ctx, t, accountID, script)
		if err != nil {
			return err
		}
		if before == nil {
			return noRamp(script)
		}
		if ifDeployment != "" && ifDeployment != before.DeploymentID {
			return errs.New(errs.Conflict, 0, "the ramp of %q is at step %d by now, deployment %s: read it again", script, before.Step+1, before.DeploymentID).At("/deployment_id")
		}
		if after, err = before.Control(action, control.ActorFrom(ctx).Email, t.now); err != nil {
			return err
		}
		// Another deployment ended it, and what begins with that one is another ramp.
		current, err := t.currentDeployment(ctx, accountID, script, lastDeployment, before.DeploymentID)
		if err != nil {
			return err
		}
		skips := after.Step != before.Step
		if skips {
			if err := t.deployStep(ctx, accountID, script, lastDeployment, current, &after); err != nil {
				return err
			}
		}
		if err := t.saveRamp(ctx, accountID, script, &after); err != nil {
			return err
		}
		if after.LastChange.Action != deploy.RampPause { // a person has dealt with what alerts told of
			if err := t.endAlerts(ctx, accountID, script); err != nil {
				return err
			}
		}
		if after.State == deploy.RampDone {
			if dropped, err = t.tell(ctx, accountID, script, rampDone(&after, after.DeploymentID, t.now), true); err != nil {
				return err
			}
		}
		if err := t.audit(ctx, accountID, "ramp."+after.LastChange.Action, script, before, after); err != nil || !skips {
			return err
		}
		return t.publish(ctx)
	})
	if err == nil {
		s.countDropped(ctx, dropped)
	}
	return after, err
}

// deployStep deploys the step at which a ramp stands by now, and binds the ramp to that
// deployment. current is the one that serves.
func (t *tx) deployStep(ctx context.Context, accountID, script string, lastDeployment int64, current *deploy.Deployment, r *deploy.Ramp) error {
	d := deploy.Deployment{
		Versions:    r.Splits(current.Versions),
		Annotations: deploy.Annotations{Message: r.StepMessage() + ", skipped to by request", TriggeredBy: "deployment"},
		CodeUpdate:  current.CodeUpdate,
	}
	if _, err := t.checkSplits(ctx, accountID, script, d.Versions); err != nil {
		return err
	}
	if err := t.checkObjects(ctx, accountID, script, d.Versions); err != nil {
		return err
	}
	d, err := t.deploy(ctx, accountID, script, lastDeployment, current, d)
	r.DeploymentID = d.ID
	return err
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

// recordDecision keeps the series of the evidence apart, for Watched reads decisions all
// the time. A decision comes after those about the same deployment that are there, whatever the
// clock of who made it says: which is the newest tells what was known (checkUndecided).
func (t *tx) recordDecision(ctx context.Context, accountID, script string, d deploy.RollbackDecision) error {
	var evidence sql.NullString
	if slices.ContainsFunc(d.Evidence, func(e deploy.Evidence) bool { return len(e.Series) > 0 }) {
		whole, err := toJSON(d.Evidence)
		if err != nil {
			return err
		}
		evidence = sql.NullString{String: whole, Valid: true}
		d.Evidence = slices.Clone(d.Evidence)
		for i := range d.Evidence {
			d.Evidence[i].Series = nil
		}
	}
	text, err := toJSON(d)
	if err != nil {
		return err
	}
	var newest sql.NullInt64
	if err := t.QueryRowContext(ctx, `SELECT MAX(decided_on) FROM decisions WHERE account_id = $1 AND script = $2 AND from_deployment = $3`,
		accountID, script, d.FromDeployment).Scan(&newest); err != nil {
		return err
	}
	decidedOn := d.At.UnixMicro()
	if newest.Valid {
		decidedOn = max(decidedOn, newest.Int64+1)
	}
	_, err = t.ExecContext(ctx, `INSERT INTO decisions (id, account_id, script, decided_on, from_deployment, decision_json, evidence_json)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, d.ID, accountID, script, decidedOn, d.FromDeployment, text, evidence)
	return err
}

// ApplyDecision moves traffic to d, stores the ramp r and records decision, all or
// nothing; each may be nil and is then left as it is. When another deployment serves than
// the one that was judged, another policy is followed or none, another decision about it came
// first, or a person has changed the ramp meanwhile, nothing happens and the error is a conflict. Any version that exists may be put back: a script
// with many uploads and few deployments may have last served one that is older than
// the newest 100. The targets of the policy that holds are told of the decision, and of
// a ramp that is done without one.
func (s *Store) ApplyDecision(ctx context.Context, accountID, script string, judged deploy.Judged, d *deploy.Deployment, r *deploy.Ramp, decision *deploy.RollbackDecision) error {
	var dropped []deploy.NotifyType
	err := s.write(ctx, "apply decision about "+script, func(t *tx) error {
		_, lastDeployment, err := t.lockScript(ctx, accountID, script)
		if err != nil {
			return err
		}
		current, err := t.currentDeployment(ctx, accountID, script, lastDeployment, judged.DeploymentID)
		if err != nil {
			return err
		}
		if err := t.checkFollowed(ctx, accountID, script, judged); err != nil {
			return err
		}
		news := decision
		if r != nil {
			before, err := t.checkUntouched(ctx, accountID, script, judged.DeploymentID, d, r)
			if err != nil {
				return err
			}
			saved := *r
			if before != nil && before.DeploymentID == judged.DeploymentID {
				saved.LastChange = before.LastChange // of who held it meanwhile, where a rollback ends it
			}
			if err := t.saveRamp(ctx, accountID, script, &saved); err != nil {
				return err
			}
			if news == nil && r.State == deploy.RampDone && (before == nil || before.State != deploy.RampDone || before.DeploymentID != r.DeploymentID) {
				news = rampDone(r, judged.DeploymentID, t.now)
			}
		}
		if decision != nil {
			if err := t.checkUndecided(ctx, accountID, script, judged); err != nil {
				return err
			}
			if err := t.recordDecision(ctx, accountID, script, *decision); err != nil {
				return err
			}
		}
		if d != nil {
			if _, err := t.checkSplits(ctx, accountID, script, d.Versions); err != nil {
				return err
			}
			if err := t.checkObjects(ctx, accountID, script, d.Versions); err != nil {
				return err
			}
			if _, err := t.deploy(ctx, accountID, script, lastDeployment, current, *d); err != nil {
				return err
			}
		}
		if news != nil { // after the deployment, which ends alerts about those before
			if dropped, err = t.tell(ctx, accountID, script, news, r != nil && r.State == deploy.RampDone); err != nil {
				return err
			}
		}
		if d == nil {
			return nil
		}
		return t.publish(ctx)
	})
	if err == nil {
		s.countDropped(ctx, dropped)
	}
	return err
}

// checkFollowed refuses what was decided by a policy that the script does not follow any
// more: it was changed, disabled or deleted while the script was judged.
func (t *tx) checkFollowed(ctx context.Context, accountID, script string, judged deploy.Judged) error {
	if judged.PolicySource == "" {
		return nil
	}
	p, err := followed(ctx, t, t.keys, accountID, script)
	if err != nil {
		return err
	}
	if p == nil || !p.Policy.Enabled || p.Source != judged.PolicySource || p.Revision != judged.PolicyRevision {
		return errs.New(errs.Conflict, 0, "script %q does not follow revision %d of the rollback policy of its %s any more", script, judged.PolicyRevision, judged.PolicySource)
	}
	return nil
}

// checkUndecided refuses a decision that was made without knowing of the newest one: a
// controller that lost the lease may end what it had begun to judge, and would tell the same
// once more.
func (t *tx) checkUndecided(ctx context.Context, accountID, script string, judged deploy.Judged) error {
	if judged.PolicySource == "" {
		return nil
	}
	var newest string
	err := t.QueryRowContext(ctx, `SELECT id FROM decisions WHERE account_id = $1 AND script = $2 AND from_deployment = $3
		ORDER BY decided_on DESC, id LIMIT 1`, accountID, script, judged.DeploymentID).Scan(&newest)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if newest != judged.DecisionID {
		return errs.New(errs.Conflict, 0, "decision %q about deployment %s of script %q came first: read it again", newest, judged.DeploymentID, script)
	}
	return nil
}

// rampDone is a decision to tell of a ramp that is done without one.
func rampDone(r *deploy.Ramp, current string, now time.Time) *deploy.RollbackDecision {
	return &deploy.RollbackDecision{
		At: now, Verdict: deploy.VerdictPass, FromDeployment: current, VersionID: r.VersionID, BaselineVersionID: r.BaselineVersionID,
		Sentence: "the ramp reached its last step",
	}
}

// checkUntouched refuses any change of a ramp that a person changed since it was read, or
// holds: to its last step too, and though they resumed it meanwhile. Only the end of a
// ramp by a rollback passes what holds it, for to hold a ramp is not to keep a version
// that fails; it does not pass a resume, after which nothing from before counts. It
// returns the stored ramp, nil if there is none.
func (t *tx) checkUntouched(ctx context.Context, accountID, script, ifCurrent string, d *deploy.Deployment, r *deploy.Ramp) (*deploy.Ramp, error) {
	stored, err := ramp(ctx, t, accountID, script)
	if err != nil || stored == nil || stored.DeploymentID != ifCurrent {
		return stored, err
	}
	held := stored.State == deploy.RampPaused || stored.State == deploy.RampAborted
	touched := !changedAt(stored).Equal(changedAt(r))
	rollsBack := d != nil && r.State == deploy.RampAborted
	if (held || touched) && !rollsBack || !stored.ResumedAt.Equal(r.ResumedAt) {
		return nil, errs.New(errs.Conflict, 0, "somebody has changed the ramp of %s, which is %s by now: read it again", script, stored.State)
	}
	return stored, nil
}

// changedAt is when a person last changed a ramp, zero if never.
func changedAt(r *deploy.Ramp) time.Time {
	if r.LastChange == nil {
		return time.Time{}
	}
	return r.LastChange.At
}
