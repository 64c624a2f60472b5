package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// deploymentsMax is the length of the list of deployments: as far as a rollback
// reaches. Older ones stay readable by id.
const deploymentsMax = 100

const deploymentColumns = `d.id, d.created_on, d.source, d.author_email, d.strategy, d.splits_json, d.annotations_json, d.code_update_json`

func scanDeployment(row scanner, also ...any) (deploy.Deployment, error) {
	var d deploy.Deployment
	var created int64
	var splits, annotations, codeUpdate string
	dest := append([]any{&d.ID, &created, &d.Source, &d.AuthorEmail, &d.Strategy, &splits, &annotations, &codeUpdate}, also...)
	if err := row.Scan(dest...); err != nil {
		return d, err
	}
	d.CreatedOn = fromMicros(created)
	return d, errors.Join(fromJSON(splits, &d.Versions), fromJSON(annotations, &d.Annotations), fromJSON(codeUpdate, &d.CodeUpdate))
}

// Deploy makes d the deployment that serves. ifCurrent, unless it is empty, is
// the id of the deployment that must serve until then: another one is a conflict.
// An id, a time, a source and an author that d lacks are given here. Splits that
// name an unknown version, or one that neither serves nor is among the newest 100,
// are invalid. So is a rollback to other secrets, whose code 10220 names them, and
// what deploy.CheckDurableObjects refuses.
func (s *Store) Deploy(ctx context.Context, accountID, script string, d deploy.Deployment, ifCurrent string) (deploy.Deployment, error) {
	return s.deployVersions(ctx, accountID, script, d, ifCurrent, false)
}

// DeployForced is Deploy for who knows that secrets will change.
func (s *Store) DeployForced(ctx context.Context, accountID, script string, d deploy.Deployment, ifCurrent string) (deploy.Deployment, error) {
	return s.deployVersions(ctx, accountID, script, d, ifCurrent, true)
}

func (s *Store) deployVersions(ctx context.Context, accountID, script string, d deploy.Deployment, ifCurrent string, force bool) (deploy.Deployment, error) {
	err := s.write(ctx, "deploy "+script, func(t *tx) error {
		lastVersion, lastDeployment, err := t.lockScript(ctx, accountID, script)
		if err != nil {
			return err
		}
		current, err := t.currentDeployment(ctx, accountID, script, lastDeployment, ifCurrent)
		if err != nil {
			return err
		}
		numbers, err := t.checkSplits(ctx, accountID, script, d.Versions)
		if err != nil {
			return err
		}
		if err := checkAge(script, lastVersion, current, d.Versions, numbers); err != nil {
			return err
		}
		if err := t.checkObjects(ctx, accountID, script, d.Versions); err != nil {
			return err
		}
		if !force {
			if err := t.checkSecrets(ctx, accountID, script, current, d.Versions); err != nil {
				return err
			}
		}
		if d, err = t.deploy(ctx, accountID, script, lastDeployment, current, d); err != nil {
			return err
		}
		return t.publish(ctx)
	})
	return d, err
}

// deploy stores d, whose splits were checked, after current, nil if none. The
// script is locked.
func (t *tx) deploy(ctx context.Context, accountID, script string, lastDeployment int64, current *deploy.Deployment, d deploy.Deployment) (deploy.Deployment, error) {
	d = t.fillDeployment(ctx, d, current)
	splits, err := toJSON(d.Versions)
	if err != nil {
		return d, err
	}
	annotations, err := toJSON(d.Annotations)
	if err != nil {
		return d, err
	}
	codeUpdate, err := toJSON(d.CodeUpdate)
	if err != nil {
		return d, err
	}
	if _, err := t.ExecContext(ctx, `INSERT INTO deployments
		(id, account_id, script, number, created_on, source, author_email, strategy, splits_json, annotations_json, code_update_json)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		d.ID, accountID, script, lastDeployment+1, d.CreatedOn.UnixMicro(), d.Source, d.AuthorEmail, d.Strategy, splits, annotations, codeUpdate); err != nil {
		return d, err
	}
	if _, err := t.ExecContext(ctx, `UPDATE scripts SET last_deployment = $1 WHERE account_id = $2 AND name = $3`,
		lastDeployment+1, accountID, script); err != nil {
		return d, err
	}
	if err := t.endAlerts(ctx, accountID, script); err != nil {
		return d, err
	}
	var before any
	if current != nil {
		before = current
	}
	return d, t.audit(ctx, accountID, "deployment.create", script+"/"+d.ID, before, d)
}

func (t *tx) fillDeployment(ctx context.Context, d deploy.Deployment, current *deploy.Deployment) deploy.Deployment {
	who := control.ActorFrom(ctx)
	if d.ID == "" {
		d.ID = uuid.NewString()
	}
	if d.Source == "" {
		d.Source = who.Source
	}
	if d.AuthorEmail == "" {
		d.AuthorEmail = who.Email
	}
	if d.CodeUpdate == (deploy.CodeUpdate{}) {
		d.CodeUpdate = deploy.DefaultCodeUpdate()
	}
	d.Strategy = "percentage"
	d.CreatedOn = t.now
	// Clients find the serving deployment by its time, so a clock that stands still
	// or was set back must not put the new one behind the old.
	if current != nil && !d.CreatedOn.After(current.CreatedOn) {
		d.CreatedOn = current.CreatedOn.Add(time.Microsecond)
	}
	return d
}

// noDeploymentYet stands for the deployment of a script that was never deployed.
const noDeploymentYet = "none"

// currentDeployment returns nil when the script has never been deployed, and a
// conflict when another deployment serves than ifCurrent, unless that is empty.
func (t *tx) currentDeployment(ctx context.Context, accountID, script string, number int64, ifCurrent string) (*deploy.Deployment, error) {
	var current *deploy.Deployment
	serving := noDeploymentYet
	if number > 0 {
		d, err := scanDeployment(t.QueryRowContext(ctx, `SELECT `+deploymentColumns+` FROM deployments d
			WHERE d.account_id = $1 AND d.script = $2 AND d.number = $3`, accountID, script, number))
		if err != nil {
			return nil, fmt.Errorf("read the current deployment: %w", err)
		}
		current, serving = &d, d.ID
	}
	if ifCurrent == noDeploymentYet && current != nil {
		return nil, errs.New(errs.Conflict, 0, "script %q is deployed by now, deployment %s serves: read it again", script, serving)
	}
	if ifCurrent != "" && ifCurrent != serving {
		return nil, errs.New(errs.Conflict, 0, "deployment %s of script %q no longer serves, %s does: read it again", ifCurrent, script, serving)
	}
	return current, nil
}

// checkSplits returns the numbers of the versions, which exist.
func (t *tx) checkSplits(ctx context.Context, accountID, script string, splits []deploy.Split) ([]int64, error) {
	owner, err := account(ctx, t, accountID)
	if err != nil {
		return nil, err
	}
	if err := deploy.ValidateSplits(splits, owner.MaxVersions); err != nil {
		return nil, err
	}
	numbers := make([]int64, len(splits))
	for i, split := range splits {
		err := t.QueryRowContext(ctx, `SELECT number FROM versions WHERE account_id = $1 AND script = $2 AND id = $3`,
			accountID, script, split.VersionID).Scan(&numbers[i])
		if errors.Is(err, sql.ErrNoRows) {
			return nil, errs.New(errs.Invalid, 0, "versions[%d].version_id %q is not a version of script %q", i, split.VersionID, script).
				At(fmt.Sprintf("/versions/%d/version_id", i))
		}
		if err != nil {
			return nil, err
		}
	}
	return numbers, nil
}

// checkAge refuses the versions that are too old for a person to deploy.
func checkAge(script string, lastVersion int64, current *deploy.Deployment, splits []deploy.Split, numbers []int64) error {
	for i, split := range splits {
		if numbers[i] <= lastVersion-deploy.DeployableVersions && !serves(current, split.VersionID) {
			return errs.New(errs.Invalid, 0, "versions[%d].version_id %q is not deployable: it is version %d, and only the newest %d of script %q are",
				i, split.VersionID, numbers[i], deploy.DeployableVersions, script).At(fmt.Sprintf("/versions/%d/version_id", i))
		}
	}
	return nil
}

// checkSecrets refuses to go back to a version whose secrets are not those of a
// later version that serves: a person who rolls code back may not know that a
// secret was replaced since.
func (t *tx) checkSecrets(ctx context.Context, accountID, script string, current *deploy.Deployment, splits []deploy.Split) error {
	if current == nil || len(splits) != 1 {
		return nil
	}
	read := func(id string) (deploy.Version, error) {
		return scanVersion(t.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM versions WHERE account_id = $1 AND script = $2 AND id = $3`,
			accountID, script, id), t.keys)
	}
	target, err := read(splits[0].VersionID)
	if err != nil || target.Worker == nil {
		return err
	}
	var changed []string
	for _, split := range current.Versions {
		serving, err := read(split.VersionID)
		if err != nil {
			return err
		}
		if serving.Worker != nil && serving.Number > target.Number && split.Percentage > 0 {
			changed = append(changed, deploy.ChangedSecrets(serving.Worker, target.Worker)...)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	slices.Sort(changed)
	// Clients find the names behind the colon.
	return errs.New(errs.Invalid, codeSecretsChanged, "version %s of script %q has other secrets than the version that serves: deploy it with force=true if that is meant. The following secrets have changed: %s",
		target.ID, script, strings.Join(slices.Compact(changed), ", "))
}

// serves reports whether a version is part of the current deployment. Traffic can
// always be moved to such a one, however old: a rollback by hand must not fail
// because many versions were uploaded since.
func serves(current *deploy.Deployment, versionID string) bool {
	return current != nil && slices.ContainsFunc(current.Versions, func(s deploy.Split) bool { return s.VersionID == versionID })
}

// Deployments returns the newest deployments of a script, newest first: the
// first one serves.
func (s *Store) Deployments(ctx context.Context, accountID, scriptName string) ([]deploy.Deployment, error) {
	var list []deploy.Deployment
	err := s.read(ctx, "list deployments", func(t *sql.Tx) error {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			d, err := scanDeployment(row)
			list = append(list, d)
			return err
		}, `SELECT `+deploymentColumns+` FROM deployments d WHERE d.account_id = $1 AND d.script = $2
			ORDER BY d.number DESC LIMIT $3`, accountID, scriptName, deploymentsMax)
	})
	return list, err
}

// DeploymentsSince returns the deployments of a script since a time, newest first, and so
// many of those before it; at most limit, the newest ones.
func (s *Store) DeploymentsSince(ctx context.Context, accountID, scriptName string, since time.Time, before, limit int) ([]deploy.Deployment, error) {
	var list []deploy.Deployment
	err := s.read(ctx, "list deployments since a time", func(t *sql.Tx) error {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			d, err := scanDeployment(row)
			list = append(list, d)
			return err
		}, `SELECT `+deploymentColumns+` FROM deployments d WHERE d.account_id = $1 AND d.script = $2
			AND d.number > (SELECT COALESCE(MAX(o.number), 0) FROM deployments o WHERE o.account_id = $1 AND o.script = $2 AND o.created_on < $3) - $4
			ORDER BY d.number DESC LIMIT $5`, accountID, scriptName, since.UnixMicro(), before, limit)
	})
	return list, err
}

// Deployment returns one deployment, or a not_found error.
func (s *Store) Deployment(ctx context.Context, accountID, scriptName, id string) (deploy.Deployment, error) {
	var d deploy.Deployment
	err := s.read(ctx, "read deployment", func(t *sql.Tx) (err error) {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		d, err = scanDeployment(t.QueryRowContext(ctx, `SELECT `+deploymentColumns+` FROM deployments d
			WHERE d.account_id = $1 AND d.script = $2 AND d.id = $3`, accountID, scriptName, id))
		if errors.Is(err, sql.ErrNoRows) {
			return noDeployment(scriptName, id)
		}
		return err
	})
	return d, err
}

func noDeployment(script, id string) error {
	return errs.New(errs.NotFound, 0, "deployment %q of script %q does not exist", id, script)
}

// DeleteDeployment removes a past deployment; the one that serves is refused, and those by
// which the version to go back to is found while the script follows an enabled policy.
func (s *Store) DeleteDeployment(ctx context.Context, accountID, script, id string) error {
	return s.write(ctx, "delete deployment", func(t *tx) error {
		_, lastDeployment, err := t.lockScript(ctx, accountID, script)
		if err != nil {
			return err
		}
		var number int64
		d, err := scanDeployment(t.QueryRowContext(ctx, `SELECT `+deploymentColumns+`, d.number FROM deployments d
			WHERE d.account_id = $1 AND d.script = $2 AND d.id = $3`, accountID, script, id), &number)
		if errors.Is(err, sql.ErrNoRows) {
			return noDeployment(script, id)
		}
		if err != nil {
			return err
		}
		if number == lastDeployment {
			return errs.New(errs.Invalid, 0, "deployment %q serves: deploy other versions before you delete it", id)
		}
		if err := t.checkBaseline(ctx, accountID, script, lastDeployment, id); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM deployments WHERE id = $1`, id); err != nil {
			return err
		}
		return t.audit(ctx, accountID, "deployment.delete", script+"/"+id, d, nil)
	})
}

// checkBaseline refuses to let another version become the one to go back to.
func (t *tx) checkBaseline(ctx context.Context, accountID, script string, lastDeployment int64, id string) error {
	p, err := followed(ctx, t, t.keys, accountID, script)
	if err != nil || p == nil || !p.Policy.Enabled {
		return err
	}
	var watched []deploy.Deployment
	err = each(ctx, t, func(row scanner) error {
		d, err := scanDeployment(row)
		watched = append(watched, d)
		return err
	}, `SELECT `+deploymentColumns+` FROM deployments d WHERE d.account_id = $1 AND d.script = $2 AND d.number > $3
		ORDER BY d.number DESC`, accountID, script, lastDeployment-deploy.WatchedDeployments)
	if err == nil && deploy.HoldsBaseline(watched, id) {
		err = errs.New(errs.Invalid, 0, "deployment %q is one of those by which the rollback policy of script %q finds the version to go back to: "+
			"disable the policy before you delete it", id, script)
	}
	return err
}
