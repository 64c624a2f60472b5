package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

const (
	codeNoScript       = 10007 // Cloudflare: the Worker does not exist
	codeRouteTaken     = 10020 // Cloudflare: the route is assigned already
	codeSecretsChanged = 10220 // Cloudflare: a rollback across changed secrets
)

func noScript(name string) error {
	return errs.New(errs.NotFound, codeNoScript, "script %q does not exist in this account", name)
}

const selectScripts = `SELECT s.account_id, s.name, s.tag, s.created_on, s.modified_on, s.logpush, s.logpush_set, s.tags_json, s.settings_json, s.migration_tag, d.created_on
	FROM scripts s LEFT JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment `

func scanScript(row scanner) (deploy.Script, error) {
	var s deploy.Script
	var created, modified int64
	var logpush, logpushSet bool
	var tags, settings string
	var deployed sql.NullInt64
	if err := row.Scan(&s.AccountID, &s.Name, &s.Tag, &created, &modified, &logpush, &logpushSet, &tags, &settings, &s.MigrationTag, &deployed); err != nil {
		return s, err
	}
	if logpushSet {
		s.Logpush = deploy.LogpushOf(logpush)
	}
	s.CreatedOn, s.ModifiedOn, s.DeployedOn = fromMicros(created), fromMicros(modified), fromNullMicros(deployed)
	return s, errors.Join(fromJSON(tags, &s.Tags), fromJSON(settings, &s.Settings))
}

// Scripts returns the scripts of an account in the order of their names.
func (s *Store) Scripts(ctx context.Context, accountID string) ([]deploy.Script, error) {
	var list []deploy.Script
	err := s.read(ctx, "list scripts", func(t *sql.Tx) error {
		err := each(ctx, t, func(row scanner) error {
			script, err := scanScript(row)
			list = append(list, script)
			return err
		}, selectScripts+`WHERE s.account_id = $1 ORDER BY s.name`, accountID)
		if err != nil {
			return err
		}
		routes, err := routesByScript(ctx, t, oneAccount(accountID))
		for i := range list {
			list[i].Routes = routes[scriptKey{accountID, list[i].Name}]
		}
		return err
	})
	return list, err
}

// Script returns one script, or a not_found error.
func (s *Store) Script(ctx context.Context, accountID, name string) (deploy.Script, error) {
	var found deploy.Script
	err := s.read(ctx, "read script", func(t *sql.Tx) (err error) {
		found, err = script(ctx, t, accountID, name)
		return err
	})
	return found, err
}

func script(ctx context.Context, q querier, accountID, name string) (deploy.Script, error) {
	found, err := scanScript(q.QueryRowContext(ctx,
		selectScripts+`WHERE s.account_id = $1 AND s.name = $2`, accountID, name))
	if errors.Is(err, sql.ErrNoRows) {
		return found, noScript(name)
	}
	if err != nil {
		return found, err
	}
	found.Routes, err = routes(ctx, q, accountID, name)
	return found, err
}

// scriptKey names a script among all accounts.
type scriptKey struct{ accountID, name string }

func routes(ctx context.Context, q querier, accountID, script string) ([]string, error) {
	var list []string
	err := each(ctx, q, func(row scanner) error {
		var pattern string
		err := row.Scan(&pattern)
		list = append(list, pattern)
		return err
	}, `SELECT pattern FROM routes WHERE account_id = $1 AND script = $2 ORDER BY pattern`, accountID, script)
	return list, err
}

func routesByScript(ctx context.Context, q querier, which accountFilter) (map[scriptKey][]string, error) {
	all := make(map[scriptKey][]string)
	err := each(ctx, q, func(row scanner) error {
		var key scriptKey
		var pattern string
		err := row.Scan(&key.accountID, &key.name, &pattern)
		all[key] = append(all[key], pattern)
		return err
	}, `SELECT account_id, script, pattern FROM routes
		WHERE account_id = COALESCE($1, account_id) ORDER BY pattern`, which)
	return all, err
}

// lockScript marks a script as modified and keeps other writers away from it
// until the transaction ends. It returns a not_found error when there is none.
func (t *tx) lockScript(ctx context.Context, accountID, name string) (lastVersion, lastDeployment int64, err error) {
	err = t.QueryRowContext(ctx, `UPDATE scripts SET modified_on = $1 WHERE account_id = $2 AND name = $3
		RETURNING last_version, last_deployment`, t.now.UnixMicro(), accountID, name).Scan(&lastVersion, &lastDeployment)
	if errors.Is(err, sql.ErrNoRows) {
		err = noScript(name)
	}
	return lastVersion, lastDeployment, err
}

// lockScripts is lockScript for a script and for others, which may be missing. It
// locks in the order of the names, so that no two transactions wait for each other.
func (t *tx) lockScripts(ctx context.Context, accountID, name string, others []string) (lastVersion, lastDeployment int64, err error) {
	names := append(slices.Clone(others), name)
	slices.Sort(names)
	for _, each := range slices.Compact(names) {
		version, deployment, err := t.lockScript(ctx, accountID, each)
		switch {
		case each == name && err == nil:
			lastVersion, lastDeployment = version, deployment
		case err != nil && (each == name || errs.KindOf(err) != errs.NotFound):
			return 0, 0, err
		}
	}
	return lastVersion, lastDeployment, nil
}

// createScript makes the script unless it is there, and reports whether it made it.
func (t *tx) createScript(ctx context.Context, accountID, name string) (bool, error) {
	n, err := changed(ctx, t, `INSERT INTO scripts
		(account_id, name, tag, created_on, modified_on, logpush, tags_json, last_version, last_deployment)
		VALUES ($1, $2, $3, $4, $4, TRUE, '[]', 0, 0) ON CONFLICT DO NOTHING`,
		accountID, name, newHexID(), t.now.UnixMicro())
	if err != nil || n == 0 {
		return false, err
	}
	// A control plane from before policies had revisions leaves those of what it deletes.
	return true, t.deletePolicies(ctx, accountID, name)
}

func (t *tx) auditCreated(ctx context.Context, accountID, name string) error {
	made, err := script(ctx, t, accountID, name)
	if err != nil {
		return err
	}
	return t.audit(ctx, accountID, "script.create", name, nil, made)
}

// CreateScript makes a script without a version; one of that name is a conflict.
func (s *Store) CreateScript(ctx context.Context, accountID, name string, u deploy.ScriptUpdate) error {
	return s.write(ctx, "create script", func(t *tx) error {
		created, err := t.createScript(ctx, accountID, name)
		if err != nil {
			return err
		}
		if !created {
			return errs.New(errs.Conflict, 0, "script %q exists already", name)
		}
		if err := t.auditCreated(ctx, accountID, name); err != nil {
			return err
		}
		if err := t.updateScript(ctx, accountID, name, u); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

// FindScript returns the script of that name or, if there is none, that tag; else
// a not_found error.
func (s *Store) FindScript(ctx context.Context, accountID, nameOrTag string) (deploy.Script, error) {
	var found deploy.Script
	err := s.read(ctx, "find script", func(t *sql.Tx) error {
		name := nameOrTag
		err := t.QueryRowContext(ctx, `SELECT name FROM scripts WHERE account_id = $1 AND (name = $2 OR tag = $2)
			ORDER BY CASE WHEN name = $2 THEN 0 ELSE 1 END LIMIT 1`, accountID, nameOrTag).Scan(&name)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		found, err = script(ctx, t, accountID, name)
		return err
	})
	return found, err
}

// UpdateScript changes the members of u that are not nil, at once and without a version.
func (s *Store) UpdateScript(ctx context.Context, accountID, name string, u deploy.ScriptUpdate) error {
	return s.write(ctx, "update script", func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, name); err != nil {
			return err
		}
		if err := t.updateScript(ctx, accountID, name, u); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

// updateScript changes a script that is locked.
func (t *tx) updateScript(ctx context.Context, accountID, name string, u deploy.ScriptUpdate) error {
	if u.Empty() {
		return nil
	}
	before, err := script(ctx, t, accountID, name)
	if err != nil {
		return err
	}
	after := before
	if u.Tags != nil {
		after.Tags = append([]string{}, *u.Tags...)
	}
	if u.Logpush != nil {
		after.Logpush = *u.Logpush
	}
	after.Settings = maps.Clone(before.Settings)
	for member, value := range u.Settings {
		if string(value) == "null" {
			delete(after.Settings, member)
			continue
		}
		after.Settings[member] = value
	}
	tags, err := toJSON(after.Tags)
	if err != nil {
		return err
	}
	settings, err := toJSON(after.Settings)
	if err != nil {
		return err
	}
	if _, err := t.ExecContext(ctx, `UPDATE scripts SET tags_json = $1, settings_json = $2, logpush = $3, logpush_set = $4
		WHERE account_id = $5 AND name = $6`,
		tags, settings, after.Logpush.Enabled(), after.Logpush != deploy.LogpushUnset, accountID, name); err != nil {
		return err
	}
	return t.audit(ctx, accountID, "script.update", name, stateOf(before), stateOf(after))
}

// scriptState is what an update can change, for the audit log.
type scriptState struct {
	Tags     []string                   `json:"tags"`
	Logpush  deploy.Logpush             `json:"logpush"`
	Settings map[string]json.RawMessage `json:"settings"`
}

func stateOf(s deploy.Script) scriptState { return scriptState{s.Tags, s.Logpush, s.Settings} }

// SetRoutes replaces the routes of a script; they are kept in the spelling of
// deploy.Route. A route that another script has is a conflict, and so is one that
// shares its host with another account's: a host belongs to the first account that
// has a route on it, until that has none left there.
func (s *Store) SetRoutes(ctx context.Context, accountID, name string, patterns []string) error {
	wanted := make([]deploy.Route, len(patterns))
	written := make([]string, len(patterns))
	for i, pattern := range patterns {
		var err error
		if wanted[i], err = deploy.ParseRoute(pattern); err != nil {
			return err
		}
		written[i] = wanted[i].String()
	}
	return s.write(ctx, "set routes", func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, name); err != nil {
			return err
		}
		before, err := routes(ctx, t, accountID, name)
		if err != nil {
			return err
		}
		if err := t.checkHosts(ctx, accountID, wanted); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM routes WHERE account_id = $1 AND script = $2`, accountID, name); err != nil {
			return err
		}
		for _, pattern := range written {
			if err := t.insertRoute(ctx, accountID, name, pattern); err != nil {
				return err
			}
		}
		if err := t.audit(ctx, accountID, "script.routes", name, before, written); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

// lockHosts keeps other writers of routes, and of names that they are compared with, away
// until the transaction ends.
func (t *tx) lockHosts(ctx context.Context) error {
	_, err := t.ExecContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'routes'`)
	return err
}

// checkHosts locks hosts, and refuses one that another account has or that the actor may
// not claim for this one. The error does not say whose it is.
func (t *tx) checkHosts(ctx context.Context, accountID string, wanted []deploy.Route) error {
	if err := t.lockHosts(ctx); err != nil {
		return err
	}
	if control.ActorFrom(ctx).Bound {
		owner, err := account(ctx, t, accountID)
		if err != nil {
			return err
		}
		for i := range wanted {
			if err := wanted[i].CheckClaim(t.domain, owner.Subdomain); err != nil {
				return err
			}
		}
	}
	return each(ctx, t, func(row scanner) error {
		var pattern string
		if err := row.Scan(&pattern); err != nil {
			return err
		}
		theirs, err := deploy.ParseRoute(pattern)
		if err != nil {
			return err
		}
		for i := range wanted {
			if wanted[i].SharesHost(&theirs) {
				return errs.New(errs.Conflict, codeRouteTaken, "route %q is on a host that belongs to another account: use a host of your own", wanted[i].String())
			}
		}
		return nil
	}, `SELECT pattern FROM routes WHERE account_id <> $1
		UNION ALL SELECT hostname || '/*' FROM domains WHERE account_id <> $1`, accountID)
}

// DeleteScript removes a script with all that belongs to it, and the modules that
// no other version has. One that another script depends on (deploy.References) is a
// conflict, unless force says that it may break: the versions of the other one stay as
// they are, and what they call is no longer there.
func (s *Store) DeleteScript(ctx context.Context, accountID, name string, force bool) error {
	return s.write(ctx, "delete script", func(t *tx) error {
		// Locked, because a class that another script takes over meanwhile is not to be
		// told as deleted.
		if _, _, err := t.lockScript(ctx, accountID, name); err != nil {
			return err
		}
		before, err := script(ctx, t, accountID, name)
		if err != nil {
			return err
		}
		if !force {
			if err := t.checkUnused(ctx, accountID, name); err != nil {
				return err
			}
		}
		if err := t.deleteNamespaces(ctx, accountID, name); err != nil {
			return err
		}
		if err := t.deletePolicies(ctx, accountID, name); err != nil {
			return err
		}
		if err := t.endAlerts(ctx, accountID, name); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM scripts WHERE account_id = $1 AND name = $2`, accountID, name); err != nil {
			return fmt.Errorf("script %s: %w", name, err)
		}
		if err := t.dropUnusedModules(ctx); err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "script.delete", name, before, nil); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}
