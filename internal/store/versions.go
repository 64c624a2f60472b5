package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/seal"
)

const versionColumns = `account_id, id, number, created_on, source, author_id, author_email, annotations_json, origin_json, worker_json`

func scanVersion(row scanner, keys *seal.Keys) (deploy.Version, error) {
	var v deploy.Version
	var accountID string
	var created int64
	var annotations string
	var origin, worker sql.NullString
	if err := row.Scan(&accountID, &v.ID, &v.Number, &created, &v.Source, &v.AuthorID, &v.AuthorEmail, &annotations, &origin, &worker); err != nil {
		return v, err
	}
	v.CreatedOn = fromMicros(created)
	return v, errors.Join(fromJSON(annotations, &v.Annotations), fromNullJSON(origin, &v.Origin), openWorker(keys, worker, &v.Worker, accountID, v.ID))
}

// openWorker leaves nil where the column is null. Bindings of the type secret_text are why
// it is sealed.
func openWorker(keys *seal.Keys, text sql.NullString, worker **deploy.Worker, accountID, versionID string) error {
	if !text.Valid {
		return nil
	}
	return openJSON(keys, text.String, worker, workerPlace(accountID, versionID))
}

func workerPlace(accountID, versionID string) string {
	return placeOf("versions", "worker_json", accountID, versionID)
}

// CreateVersion stores an origin version, its backend and annotations. Id, number,
// time and author are given here. A script that does not exist is made, because an
// origin has no other way to begin.
func (s *Store) CreateVersion(ctx context.Context, accountID, script string, v deploy.Version) (deploy.Version, error) {
	return s.Upload(ctx, accountID, script, deploy.Upload{Version: v, Create: true})
}

func (t *tx) insertVersion(ctx context.Context, accountID, script string, v deploy.Version) error {
	annotations, err := toJSON(v.Annotations)
	if err != nil {
		return err
	}
	origin, err := toNullJSON(v.Origin)
	if err != nil {
		return err
	}
	worker := sql.NullString{Valid: v.Worker != nil}
	if worker.Valid {
		if worker.String, err = sealJSON(t.keys, v.Worker, workerPlace(accountID, v.ID)); err != nil {
			return err
		}
	}
	var exported *deploy.Exports
	var implemented *[]deploy.DurableObjectNamespace
	if v.Worker != nil {
		exported = &v.Worker.Exports
		if v.HasDurableObjects() {
			implemented = &v.Worker.DurableObjects
		}
	}
	exports, err := toNullJSON(exported)
	if err != nil {
		return err
	}
	objects, err := toNullJSON(implemented)
	if err != nil {
		return err
	}
	_, err = t.ExecContext(ctx, `INSERT INTO versions
		(id, account_id, script, number, created_on, source, author_id, author_email, annotations_json, origin_json, worker_json, exports_json, objects_json)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		v.ID, accountID, script, v.Number, v.CreatedOn.UnixMicro(), v.Source, v.AuthorID, v.AuthorEmail, annotations, origin, worker, exports, objects)
	if err != nil {
		return err
	}
	_, err = t.ExecContext(ctx, `UPDATE scripts SET last_version = $1 WHERE account_id = $2 AND name = $3`, v.Number, accountID, script)
	return err
}

// Versions returns at most limit versions after the first offset ones, newest
// first, and how many there are in all. The deployable ones are the first
// deploy.DeployableVersions.
func (s *Store) Versions(ctx context.Context, accountID, scriptName string, limit, offset int) (list []deploy.Version, total int, err error) {
	err = s.read(ctx, "list versions", func(t *sql.Tx) error {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM versions WHERE account_id = $1 AND script = $2`,
			accountID, scriptName).Scan(&total)
		if err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			v, err := scanVersion(row, s.keys)
			list = append(list, v)
			return err
		}, `SELECT `+versionColumns+` FROM versions WHERE account_id = $1 AND script = $2
			ORDER BY number DESC LIMIT $3 OFFSET $4`, accountID, scriptName, limit, offset)
	})
	return list, total, err
}

// Version returns one version, or a not_found error.
func (s *Store) Version(ctx context.Context, accountID, scriptName, id string) (deploy.Version, error) {
	var v deploy.Version
	err := s.read(ctx, "read version", func(t *sql.Tx) (err error) {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		v, err = scanVersion(t.QueryRowContext(ctx,
			`SELECT `+versionColumns+` FROM versions WHERE account_id = $1 AND script = $2 AND id = $3`, accountID, scriptName, id), s.keys)
		if errors.Is(err, sql.ErrNoRows) {
			return noVersion(scriptName, id)
		}
		return err
	})
	return v, err
}

// VersionTags returns the tags of an account's versions by their ids. One that does not exist is
// absent.
func (s *Store) VersionTags(ctx context.Context, accountID string, ids []string) (map[string]string, error) {
	tags := make(map[string]string, len(ids))
	err := s.read(ctx, "read the tags of versions", func(t *sql.Tx) error {
		for some := range slices.Chunk(ids, tiesAtOnce) {
			args, marks := []any{accountID}, make([]string, len(some))
			for i, id := range some {
				args, marks[i] = append(args, id), fmt.Sprintf("$%d", i+2)
			}
			err := each(ctx, t, func(row scanner) error {
				var id, text string
				var annotations deploy.Annotations
				if err := row.Scan(&id, &text); err != nil {
					return err
				}
				err := fromJSON(text, &annotations)
				tags[id] = annotations.Tag
				return err
			}, `SELECT id, annotations_json FROM versions WHERE account_id = $1 AND id IN (`+strings.Join(marks, ", ")+`)`, args...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return tags, err
}

func noVersion(script, id string) error {
	return errs.New(errs.NotFound, 0, "version %q of script %q does not exist", id, script)
}

// DeleteVersion removes a version that no deployment names; the deployment that
// serves is one of them. Its number is not given again.
func (s *Store) DeleteVersion(ctx context.Context, accountID, script, id string) error {
	return s.write(ctx, "delete version", func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, script); err != nil {
			return err
		}
		v, err := scanVersion(t.QueryRowContext(ctx,
			`SELECT `+versionColumns+` FROM versions WHERE account_id = $1 AND script = $2 AND id = $3`, accountID, script, id), t.keys)
		if errors.Is(err, sql.ErrNoRows) {
			return noVersion(script, id)
		}
		if err != nil {
			return err
		}
		if err := t.checkUndeployed(ctx, accountID, script, id); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM versions WHERE id = $1`, id); err != nil {
			return err
		}
		if err := t.dropUnusedModules(ctx); err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "version.delete", script+"/"+id, maskedVersion(v), nil); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

func (t *tx) checkUndeployed(ctx context.Context, accountID, script, id string) error {
	return each(ctx, t, func(row scanner) error {
		d, err := scanDeployment(row)
		if err == nil && serves(&d, id) {
			err = errs.New(errs.Invalid, 0, "version %q cannot be deleted: deployment %s of script %q names it", id, d.ID, script)
		}
		return err
	}, `SELECT `+deploymentColumns+` FROM deployments d WHERE d.account_id = $1 AND d.script = $2 ORDER BY d.number DESC`, accountID, script)
}
