package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// Upload stores a version with its modules, and deploys it if that is asked for,
// in one transaction. Id, number, time and author are given here. The refusals are
// those that deploy.Upload names.
func (s *Store) Upload(ctx context.Context, accountID, script string, u deploy.Upload) (deploy.Version, error) {
	v := u.Version
	if err := checkContents(u); err != nil {
		return v, err
	}
	err := s.write(ctx, "upload a version of "+script, func(t *tx) error {
		if u.Create {
			if err := t.ensureScript(ctx, accountID, script); err != nil {
				return err
			}
		}
		var sources []string
		if u.Migrations != nil {
			sources = u.Migrations.Sources()
		}
		lastVersion, lastDeployment, err := t.lockScripts(ctx, accountID, script, sources)
		if err != nil {
			return err
		}
		current, err := t.currentDeployment(ctx, accountID, script, lastDeployment, "")
		if err != nil {
			return err
		}
		if err := t.checkBase(ctx, accountID, script, u, current); err != nil {
			return err
		}
		if v.Worker, err = t.migrate(ctx, accountID, script, u.Migrations, u.Version.Worker); err != nil {
			return err
		}
		who := control.ActorFrom(ctx)
		v.ID, v.Number, v.CreatedOn = uuid.NewString(), lastVersion+1, t.now
		v.Source, v.AuthorID, v.AuthorEmail = who.Source, who.TokenID, who.Email
		if err := t.insertVersion(ctx, accountID, script, v); err != nil {
			return err
		}
		if err := t.insertModules(ctx, v, u.Contents); err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "version.create", script+"/"+v.ID, nil, maskedVersion(v)); err != nil {
			return err
		}
		if err := t.updateScript(ctx, accountID, script, u.Settings); err != nil {
			return err
		}
		if u.Deploy {
			d := u.Deployment
			d.Versions = []deploy.Split{{VersionID: v.ID, Percentage: deploy.Full}}
			if _, err := t.deploy(ctx, accountID, script, lastDeployment, current, d); err != nil {
				return err
			}
		}
		return t.publish(ctx)
	})
	return v, err
}

// checkContents holds the contents to their names, before anything is locked.
func checkContents(u deploy.Upload) error {
	for want, content := range u.Contents {
		sum := sha256.Sum256(content)
		if got := hex.EncodeToString(sum[:]); got != want {
			return fmt.Errorf("upload a version: a module that is named %s has the SHA-256 %s", want, got)
		}
	}
	return nil
}

func (t *tx) ensureScript(ctx context.Context, accountID, script string) error {
	created, err := t.createScript(ctx, accountID, script)
	if err != nil || !created {
		return err
	}
	return t.auditCreated(ctx, accountID, script)
}

// checkBase refuses an upload that was made from another version than the newest,
// or that would release it.
func (t *tx) checkBase(ctx context.Context, accountID, script string, u deploy.Upload, current *deploy.Deployment) error {
	if u.Base == nil {
		return nil
	}
	var newest string
	err := t.QueryRowContext(ctx, `SELECT id FROM versions WHERE account_id = $1 AND script = $2 ORDER BY number DESC LIMIT 1`,
		accountID, script).Scan(&newest)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if newest != *u.Base {
		return errs.New(errs.Conflict, 0, "script %q was given another version meanwhile: try again", script)
	}
	if u.Serving != 0 && (current == nil || shareOf(current, newest) != deploy.Full) {
		return errs.New(errs.Conflict, u.Serving, "the latest version %s of script %q is not the one that has all traffic, and this change would deploy it: deploy it first, or upload a new version", newest, script)
	}
	return nil
}

func shareOf(d *deploy.Deployment, versionID string) deploy.Percentage {
	for _, split := range d.Versions {
		if split.VersionID == versionID {
			return split.Percentage
		}
	}
	return 0
}

// maskedVersion is a version for the audit log.
func maskedVersion(v deploy.Version) deploy.Version {
	if v.Worker != nil {
		v.Worker = v.Worker.Masked()
	}
	return v
}
