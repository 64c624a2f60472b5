package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
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

// DeployedVersions returns the versions that serve, by the name of their script.
func (s *Store) DeployedVersions(ctx context.Context, accountID string) (map[string][]deploy.Version, error) {
	var deployed map[string][]deploy.Version
	err := s.read(ctx, "read deployed versions", func(t *sql.Tx) (err error) {
		deployed, err = deployedVersions(ctx, t, accountID)
		return err
	})
	return deployed, err
}

// deployedAtOnce is how many versions one query reads, below what a database allows
// in parameters.
const deployedAtOnce = 500

// deployedVersions is DeployedVersions in a transaction.
func deployedVersions(ctx context.Context, q querier, accountID string) (map[string][]deploy.Version, error) {
	scripts := make(map[string]string) // by the id of a version
	err := each(ctx, q, func(row scanner) error {
		var name, text string
		if err := row.Scan(&name, &text); err != nil {
			return err
		}
		var splits []deploy.Split
		err := fromJSON(text, &splits)
		for _, split := range splits {
			scripts[split.VersionID] = name
		}
		return err
	}, `SELECT s.name, d.splits_json FROM scripts s
		JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
		WHERE s.account_id = $1`, accountID)
	if err != nil {
		return nil, err
	}
	deployed := make(map[string][]deploy.Version)
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(scripts)), deployedAtOnce) {
		args, marks := make([]any, len(ids)), make([]string, len(ids))
		for i, id := range ids {
			args[i], marks[i] = id, fmt.Sprintf("$%d", i+1)
		}
		err := each(ctx, q, func(row scanner) error {
			v, err := scanVersion(row)
			name := scripts[v.ID]
			deployed[name] = append(deployed[name], v)
			return err
		}, `SELECT `+versionColumns+` FROM versions WHERE id IN (`+strings.Join(marks, ", ")+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("read %d deployed versions: %w", len(ids), err)
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
