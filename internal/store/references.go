package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// codeScriptInUse is Cloudflare's: something still depends on the script.
const codeScriptInUse = 10064

// References returns what ties a script to others of its account, or a not_found
// error. Only versions that serve count.
func (s *Store) References(ctx context.Context, accountID, name string) (deploy.References, error) {
	var found deploy.References
	err := s.read(ctx, "read references", func(t *sql.Tx) error {
		if _, err := script(ctx, t, accountID, name); err != nil {
			return err
		}
		deployed, err := deployedVersions(ctx, t, accountID)
		found = deploy.FindReferences(name, deployed)
		return err
	})
	return found, err
}

// deployedVersions returns the versions that serve, by the name of their script.
func deployedVersions(ctx context.Context, q querier, accountID string) (map[string][]deploy.Version, error) {
	serving := make(map[string][]deploy.Split)
	err := each(ctx, q, func(row scanner) error {
		var name, text string
		if err := row.Scan(&name, &text); err != nil {
			return err
		}
		var splits []deploy.Split
		err := fromJSON(text, &splits)
		serving[name] = splits
		return err
	}, `SELECT s.name, d.splits_json FROM scripts s
		JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
		WHERE s.account_id = $1`, accountID)
	if err != nil {
		return nil, err
	}
	deployed := make(map[string][]deploy.Version, len(serving))
	for name, splits := range serving {
		for _, split := range splits {
			v, err := scanVersion(q.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM versions WHERE id = $1`, split.VersionID))
			if err != nil {
				return nil, fmt.Errorf("version %s of script %s: %w", split.VersionID, name, err)
			}
			deployed[name] = append(deployed[name], v)
		}
	}
	return deployed, nil
}

// checkUnused refuses to take a script away from others.
func (t *tx) checkUnused(ctx context.Context, accountID, name string) error {
	deployed, err := deployedVersions(ctx, t, accountID)
	if err != nil {
		return err
	}
	if users := deploy.FindReferences(name, deployed).Dependents(); len(users) > 0 {
		return errs.New(errs.Conflict, codeScriptInUse,
			"script %q is in use by %s: deploy versions of those without a binding to it first, or say force=true", name, strings.Join(users, ", "))
	}
	return nil
}
