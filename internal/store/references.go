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
	"tidegate/internal/seal"
)

// codeScriptInUse is Cloudflare's: something still depends on the script.
const codeScriptInUse = 10064

// References returns what ties a script to others of its account, or a not_found
// error.
func (s *Store) References(ctx context.Context, accountID, name string) (deploy.References, error) {
	var found deploy.References
	err := s.read(ctx, "read references", func(t *sql.Tx) error {
		if _, err := script(ctx, t, accountID, name); err != nil {
			return err
		}
		all, err := ties(ctx, t, s.keys, accountID)
		found = all.References(name)
		return err
	})
	return found, err
}

// Ties returns what the references of all scripts of an account are found in, as of
// one moment.
func (s *Store) Ties(ctx context.Context, accountID string) (deploy.Ties, error) {
	var found deploy.Ties
	err := s.read(ctx, "read ties between scripts", func(t *sql.Tx) (err error) {
		found, err = ties(ctx, t, s.keys, accountID)
		return err
	})
	return found, err
}

// tiesAtOnce is how many versions one query reads, below what a database allows in
// parameters.
const tiesAtOnce = 500

// ties is Ties in a transaction.
func ties(ctx context.Context, q querier, keys *seal.Keys, accountID string) (deploy.Ties, error) {
	found := deploy.Ties{Deployed: make(map[string][]deploy.Version), Newest: make(map[string]deploy.Version)}
	deployed, err := deployedVersions(ctx, q, accountID)
	if err != nil {
		return found, err
	}
	newest, err := newestVersions(ctx, q, accountID)
	if err != nil {
		return found, err
	}
	both := maps.Clone(newest)
	maps.Copy(both, deployed)
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(both)), tiesAtOnce) {
		args, marks := make([]any, len(ids)), make([]string, len(ids))
		for i, id := range ids {
			args[i], marks[i] = id, fmt.Sprintf("$%d", i+1)
		}
		err := each(ctx, q, func(row scanner) error {
			v, err := scanVersion(row, keys)
			if name, serves := deployed[v.ID]; serves {
				found.Deployed[name] = append(found.Deployed[name], v)
			} else {
				found.Newest[newest[v.ID]] = v
			}
			return err
		}, `SELECT `+versionColumns+` FROM versions WHERE id IN (`+strings.Join(marks, ", ")+`)`, args...)
		if err != nil {
			return found, fmt.Errorf("read %d versions: %w", len(ids), err)
		}
	}
	found.Namespaces, err = scriptNamespaces(ctx, q, accountID)
	return found, err
}

// deployedVersions returns the names of scripts by the ids of the versions that serve.
func deployedVersions(ctx context.Context, q querier, accountID string) (map[string]string, error) {
	scripts := make(map[string]string)
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
	return scripts, err
}

// newestVersions returns the names of scripts by the id of their latest version. That
// need not have the last number that was given, because versions can be deleted.
func newestVersions(ctx context.Context, q querier, accountID string) (map[string]string, error) {
	scripts := make(map[string]string)
	err := each(ctx, q, func(row scanner) error {
		var id, name string
		err := row.Scan(&id, &name)
		scripts[id] = name
		return err
	}, `SELECT v.id, v.script FROM versions v
		JOIN (SELECT script, MAX(number) AS number FROM versions WHERE account_id = $1 GROUP BY script) newest
		ON newest.script = v.script AND newest.number = v.number
		WHERE v.account_id = $1`, accountID)
	return scripts, err
}

// checkUnused refuses to take a script away from others.
func (t *tx) checkUnused(ctx context.Context, accountID, name string) error {
	all, err := ties(ctx, t, t.keys, accountID)
	if err != nil {
		return err
	}
	if users := all.References(name).Dependents(); len(users) > 0 {
		return errs.New(errs.Conflict, codeScriptInUse,
			"script %q is in use by %s: deploy versions of those without a binding to it first, or say force=true", name, strings.Join(users, ", "))
	}
	return nil
}
