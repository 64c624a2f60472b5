package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

const versionColumns = `id, number, created_on, source, author_id, author_email, annotations_json, origin_json`

func scanVersion(row scanner, also ...any) (deploy.Version, error) {
	var v deploy.Version
	var created int64
	var annotations string
	var origin sql.NullString
	dest := append([]any{&v.ID, &v.Number, &created, &v.Source, &v.AuthorID, &v.AuthorEmail, &annotations, &origin}, also...)
	if err := row.Scan(dest...); err != nil {
		return v, err
	}
	v.CreatedOn = fromMicros(created)
	if err := fromJSON(annotations, &v.Annotations); err != nil {
		return v, err
	}
	if origin.Valid {
		return v, fromJSON(origin.String, &v.Origin)
	}
	return v, nil
}

// CreateVersion stores an upload: its backend and annotations. Id, number, time
// and author are given here. A script that does not exist is made, because an
// origin has no other way to begin.
func (s *Store) CreateVersion(ctx context.Context, accountID, script string, v deploy.Version) (deploy.Version, error) {
	err := s.write(ctx, "create version", func(t *tx) error {
		created, err := t.createScript(ctx, accountID, script)
		if err != nil {
			return err
		}
		if created {
			if err := t.audit(ctx, accountID, "script.create", script, nil, script); err != nil {
				return err
			}
		}
		last, _, err := t.lockScript(ctx, accountID, script)
		if err != nil {
			return err
		}
		who := control.ActorFrom(ctx)
		v.ID, v.Number, v.CreatedOn = uuid.NewString(), last+1, t.now
		v.Source, v.AuthorID, v.AuthorEmail = who.Source, who.TokenID, who.Email
		if err := t.insertVersion(ctx, accountID, script, v); err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "version.create", script+"/"+v.ID, nil, v); err != nil {
			return err
		}
		return t.publish(ctx)
	})
	return v, err
}

func (t *tx) insertVersion(ctx context.Context, accountID, script string, v deploy.Version) error {
	annotations, err := toJSON(v.Annotations)
	if err != nil {
		return err
	}
	var origin sql.NullString
	if v.Origin != nil {
		if origin.String, err = toJSON(v.Origin); err != nil {
			return err
		}
		origin.Valid = true
	}
	_, err = t.ExecContext(ctx, `INSERT INTO versions
		(id, account_id, script, number, created_on, source, author_id, author_email, annotations_json, origin_json)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		v.ID, accountID, script, v.Number, v.CreatedOn.UnixMicro(), v.Source, v.AuthorID, v.AuthorEmail, annotations, origin)
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
			v, err := scanVersion(row)
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
			`SELECT `+versionColumns+` FROM versions WHERE account_id = $1 AND script = $2 AND id = $3`, accountID, scriptName, id))
		if errors.Is(err, sql.ErrNoRows) {
			return errs.New(errs.NotFound, 0, "version %q of script %q does not exist", id, scriptName)
		}
		return err
	})
	return v, err
}
