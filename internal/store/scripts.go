package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const (
	codeNoScript   = 10007 // Cloudflare: the Worker does not exist
	codeRouteTaken = 10020 // Cloudflare: the route is assigned already
)

func noScript(name string) error {
	return errs.New(errs.NotFound, codeNoScript, "script %q does not exist in this account", name)
}

const scriptColumns = `account_id, name, tag, created_on, modified_on, logpush, tags_json`

func scanScript(row scanner) (deploy.Script, error) {
	var s deploy.Script
	var created, modified int64
	var tags string
	if err := row.Scan(&s.AccountID, &s.Name, &s.Tag, &created, &modified, &s.Logpush, &tags); err != nil {
		return s, err
	}
	s.CreatedOn, s.ModifiedOn = fromMicros(created), fromMicros(modified)
	return s, fromJSON(tags, &s.Tags)
}

// Scripts returns the scripts of an account in the order of their names.
func (s *Store) Scripts(ctx context.Context, accountID string) ([]deploy.Script, error) {
	var list []deploy.Script
	err := s.read(ctx, "list scripts", func(t *sql.Tx) error {
		err := each(ctx, t, func(row scanner) error {
			script, err := scanScript(row)
			list = append(list, script)
			return err
		}, `SELECT `+scriptColumns+` FROM scripts WHERE account_id = $1 ORDER BY name`, accountID)
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
		`SELECT `+scriptColumns+` FROM scripts WHERE account_id = $1 AND name = $2`, accountID, name))
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

// createScript makes the script unless it is there, and reports whether it made it.
func (t *tx) createScript(ctx context.Context, accountID, name string) (bool, error) {
	result, err := t.ExecContext(ctx, `INSERT INTO scripts
		(account_id, name, tag, created_on, modified_on, logpush, tags_json, last_version, last_deployment)
		VALUES ($1, $2, $3, $4, $4, TRUE, '[]', 0, 0) ON CONFLICT DO NOTHING`,
		accountID, name, newHexID(), t.now.UnixMicro())
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// SetTags replaces the tags of a script.
func (s *Store) SetTags(ctx context.Context, accountID, name string, tags []string) error {
	return s.write(ctx, "set tags", func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, name); err != nil {
			return err
		}
		before, err := script(ctx, t, accountID, name)
		if err != nil {
			return err
		}
		text, err := toJSON(tags)
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `UPDATE scripts SET tags_json = $1 WHERE account_id = $2 AND name = $3`, text, accountID, name); err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "script.tags", name, before.Tags, tags); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

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

// checkHosts keeps other writers of routes away until the transaction ends, and
// refuses a host that another account has. The error does not say which one.
func (t *tx) checkHosts(ctx context.Context, accountID string, wanted []deploy.Route) error {
	if _, err := t.ExecContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'routes'`); err != nil {
		return err
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

// DeleteScript removes a script with all that belongs to it. One that a deployed
// version of another script binds to is a conflict, unless force says that it may
// break.
func (s *Store) DeleteScript(ctx context.Context, accountID, name string, force bool) error {
	return s.write(ctx, "delete script", func(t *tx) error {
		before, err := script(ctx, t, accountID, name)
		if err != nil {
			return err
		}
		if !force {
			if err := t.checkUnused(ctx, accountID, name); err != nil {
				return err
			}
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM scripts WHERE account_id = $1 AND name = $2`, accountID, name); err != nil {
			return fmt.Errorf("script %s: %w", name, err)
		}
		if err := t.audit(ctx, accountID, "script.delete", name, before, nil); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}
